"""The policy of cable.toml and its task: a plug into a socket, with a cable behind it."""

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

Array = NDArray[np.float64]

DEEP_M = 0.04
"""behind the mouth, from which on it is plugged in"""
BESIDE_M = 0.012
"""off the socket's axis, at most: half of its width"""
BEFORE_M = 0.02
"""in front of the mouth, where the plug is brought into line"""
IN_LINE_M = 0.0015
STRAIGHT_M = np.array([0.0915, 0.0, 0.25])
"""of the tip from the gantry's zero, as long as nothing bends"""
STEP_M = 0.0012
"""of a cycle"""


def places(frame: Frame) -> tuple[Array, Array]:
    """Tip and mouth [m], as they were measured."""
    found = frame["places"].value
    return found["tip"].copy(), found["socket"].copy()


def depth(frame: Frame) -> float:
    """The tip's way into the socket [m], 0 outside of it: the reward of a cycle."""
    if frame["places"].sequence < 0:
        return 0.0
    tip, mouth = places(frame)
    off = tip - mouth
    return float(max(0.0, off[0])) if np.hypot(*off[1:]) < BESIDE_M else 0.0


def is_plugged(frame: Frame) -> bool:
    """The measure of success: the tip is deep enough, and within the socket."""
    return depth(frame) >= DEEP_M


class Plug:
    """Brings the tip in front of the mouth, and pushes while it stays in line.

    blind: it takes the tip to be where the hand is, as if nothing bent or sagged.
    """

    def __init__(self, blind: bool = False) -> None:
        self._blind = blind
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._asked: Array | None = None

    def __call__(self, frame: Frame) -> Array:
        """The gantry's positions [m]."""
        tip, mouth = places(frame)
        if self._asked is None:
            self._asked = frame["hand"].value["position"].copy()
        if self._blind:
            tip = self._asked + STRAIGHT_M
        off = mouth - tip
        is_in_line = np.abs(off[1:]).max() < IN_LINE_M or off[0] < 0
        off[0] += DEEP_M + 0.015 if is_in_line else -BEFORE_M
        if not is_in_line and off[0] < 0 and not self._blind:
            off[0] = max(off[0], -STEP_M)
        self._asked = self._asked + np.clip(0.2 * off, -STEP_M, STEP_M)
        return self._asked


class Blind(Plug):
    """The same without a look at the tip."""

    def __init__(self) -> None:
        super().__init__(blind=True)
