"""DYNAMIXEL X-series servos on one serial bus (ROBOTIS e-manual, Protocol 2.0)."""

from .options import ServoOptions
from .packets import packet
from .servos import Servos

__all__ = ["ServoOptions", "Servos", "packet"]
