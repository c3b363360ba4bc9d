"""Arms of Franka Robotics over FCI, the Franka Control Interface of their controllers."""

from .arm import FrankaArm, FrankaOptions

__all__ = ["FrankaArm", "FrankaOptions"]
