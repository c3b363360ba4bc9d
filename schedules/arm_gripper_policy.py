"""Take: the arm goes to and fro, and the gripper closes at one end and opens at the other."""

import math

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

OPEN_M, CLOSED_M = 0.08, 0.0


class Take:
    """Moves the arm by `reach` rad and back in `seconds`, and stands still at both ends.

    The gripper closes while the arm stands at the far end, and opens while it stands at the near
    one. While one of the two moves, the other keeps its goal.
    """

    def __init__(self, reach: float = 0.5, seconds: float = 8.0) -> None:
        self.reach = reach
        self.round_ns = seconds * 1e9
        self.reset()

    def reset(self) -> None:
        """Forget where the robot was."""
        self.arm: NDArray[np.float64] | None = None
        self.gripper = np.zeros(1)
        self.start_ns = 0

    def __call__(self, frame: Frame) -> dict[str, NDArray[np.float64]] | None:
        """Positions of the joints in rad, and the opening in m; the measured ones until a command
        was taken."""
        joints, fingers = frame["joints"], frame["fingers"]
        if self.arm is None:
            if joints.status != "FRESH" or fingers.status != "FRESH":
                return None
            here, opening = joints.value["position"].copy(), fingers.value["position"].copy()
            taken = [frame.command[name].flags for name in ("arm", "gripper")]
            if not (frame.intact and all("WRITTEN" in flags for flags in taken)):
                return {"arm": here, "gripper": opening}
            self.arm, self.gripper, self.start_ns = here, opening, frame.due_ns
        part = (frame.due_ns - self.start_ns) / self.round_ns % 1.0
        if 0.30 <= part < 0.5:
            self.gripper = np.array([CLOSED_M])
        elif part >= 0.80:
            self.gripper = np.array([OPEN_M])
        return {"arm": self.arm + self.reach * _way(part), "gripper": self.gripper}


def _way(part: float) -> float:
    """0 to 1 in the first quarter of a round, back in the third; at rest in the others."""
    if part < 0.25:
        return 0.5 - 0.5 * math.cos(math.pi * part / 0.25)
    if part < 0.5:
        return 1.0
    if part < 0.75:
        return 0.5 + 0.5 * math.cos(math.pi * (part - 0.5) / 0.25)
    return 0.0
