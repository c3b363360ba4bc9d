"""The demo's policy: a slow wave around the pose in which the robot was found."""

import math

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame


class Wave:
    """Swings every joint by `amplitude` rad around its start, one swing in `seconds`."""

    def __init__(self, amplitude: float = 0.4, seconds: float = 4.0) -> None:
        self.amplitude = amplitude
        self.rad_ns = 2 * math.pi / (seconds * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget where the robot was."""
        self.start: NDArray[np.float64] | None = None
        self.start_ns = 0

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        """Positions of all joints in rad; the measured ones until a command was taken."""
        joints = frame["joints"]
        if self.start is None:
            if joints.status != "FRESH":
                return None
            here = joints.value["position"].copy()
            if not joints.intact or "WRITTEN" not in frame.command["arm"].flags:
                return here
            self.start, self.start_ns = here, frame.due_ns
        # starts with zero velocity: (1 - cos) / 2
        swing = 0.5 - 0.5 * math.cos((frame.due_ns - self.start_ns) * self.rad_ns)
        return self.start + self.amplitude * swing
