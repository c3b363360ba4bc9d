"""Arms of Universal Robots over RTDE, the real-time data exchange of their controllers."""

from .arm import Arm, ArmOptions

__all__ = ["Arm", "ArmOptions"]
