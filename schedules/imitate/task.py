"""The task of push.toml: the puck lies on the mark."""

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

NEAR_M = 0.015


def left(frame: Frame) -> float:
    """How far the puck is from the mark [m]."""
    scene = frame["scene"].value
    apart: NDArray[np.float64] = scene["puck"] - scene["mark"]
    return float(np.hypot(*apart))


def reward(frame: Frame) -> float:
    """0 on the mark, and less the further away the puck is."""
    return -left(frame)


def is_done(frame: Frame) -> bool:
    """The puck lies on the mark."""
    return frame["scene"].sequence >= 0 and left(frame) < NEAR_M
