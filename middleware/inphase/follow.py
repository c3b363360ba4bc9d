"""For schedules: policies by which a person moves an arm, `call = "inphase.follow:Follow"`."""

from inphase.policy.follow import Follow, Steer

__all__ = ["Follow", "Steer"]
