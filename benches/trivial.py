"""The trivial policy: a constant command of six joints."""

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

_COMMAND = np.zeros(6)


def hold(frame: Frame) -> NDArray[np.float64]:
    """Always the same positions."""
    return _COMMAND
