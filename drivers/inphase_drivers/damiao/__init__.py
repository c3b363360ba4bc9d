"""Damiao motors in MIT mode on one CAN bus: position, velocity, gains and torque in one frame."""

from .motors import DamiaoMotors
from .options import DamiaoOptions

__all__ = ["DamiaoMotors", "DamiaoOptions"]
