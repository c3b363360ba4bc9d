"""Feetech servos of the STS and SMS series on one serial bus (SO-100, SO-101 and relatives)."""

from .options import FeetechOptions
from .packets import packet
from .servos import FeetechServos

__all__ = ["FeetechOptions", "FeetechServos", "packet"]
