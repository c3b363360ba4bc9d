"""`python -m inphase`: the command line."""

from inphase.command.cli import main

if __name__ == "__main__":
    main()
