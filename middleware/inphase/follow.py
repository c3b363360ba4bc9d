"""For schedules: the policy of an arm that follows a leader, `call = "inphase.follow:Follow"`."""

from inphase.policy.follow import Follow

__all__ = ["Follow"]
