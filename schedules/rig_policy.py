"""The rig's policy: the arm waves, the gimbal looks at where it was when an image was taken."""

import math

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame


class Watch:
    """Swings every joint of the arm by `amplitude` rad, one swing in `seconds`."""

    def __init__(self, amplitude: float = 0.4, seconds: float = 4.0) -> None:
        self.amplitude = amplitude
        self.rad_ns = 2 * math.pi / (seconds * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget where the robot was."""
        self.arm: NDArray[np.float64] | None = None
        self.gimbal = np.zeros(2)
        self.start_ns = 0

    def __call__(self, frame: Frame) -> dict[str, NDArray[np.float64]] | None:
        """Positions of all joints in rad; the measured ones until a command was taken."""
        joints, angles = frame["joints"], frame["angles"]
        if self.arm is None:
            if joints.status != "FRESH" or angles.sequence < 0:
                return None
            here, there = joints.value["position"].copy(), angles.value["position"].copy()
            taken = [frame.command[name].flags for name in ("arm", "gimbal")]
            if not (frame.intact and all("WRITTEN" in flags for flags in taken)):
                return {"arm": here, "gimbal": there}
            self.arm, self.gimbal, self.start_ns = here, there, frame.due_ns
        # starts with zero velocity: (1 - cos) / 2
        swing = 0.5 - 0.5 * math.cos((frame.due_ns - self.start_ns) * self.rad_ns)
        return {"arm": self.arm + self.amplitude * swing, "gimbal": self.gimbal + self._gaze(frame)}

    def _gaze(self, frame: Frame) -> NDArray[np.float64]:
        """How far the arm's first two joints had gone when the newest image was exposed."""
        assert self.arm is not None
        if frame["image"].sequence < 0:
            return np.zeros(2)
        try:
            joints = frame.at("image")["joints"]
        except LookupError:
            return np.zeros(2)
        return np.asarray(joints.value["position"][:2] - self.arm[:2])
