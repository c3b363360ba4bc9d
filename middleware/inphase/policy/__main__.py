"""The process of a policy: `python -m inphase.policy`."""

from inphase.policy.policy_process import main

if __name__ == "__main__":
    main()
