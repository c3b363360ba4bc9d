"""A policy that goes to the newest action: LeRobot gives some 30 a second, a robot wants more."""

import threading
import time

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame
from inphase.frames.shaping import NotThere

Array = NDArray[np.float64]
_SLOWEST_S = 0.1  # between two actions: a longer pause is none of their rate


class Reaching:
    """Goes from action to action on a line, in the time that lies between two of them.

    modes: of each actuator, and its channels, in their order. Joints in position mode begin where
    the arm is, and go to the first action at `catch_up` (rad/s or m/s). An action older than
    `hold_s` is none: the command is missing, and the robot comes to rest as its schedule says.

    Thread: `aim` one, calls another.
    """

    def __init__(self, modes: list[tuple[str, int, str]], hold_s: float, catch_up: float) -> None:
        self._names = [name for name, _, _ in modes]
        self._cuts = np.cumsum([count for _, count, _ in modes])[:-1]
        self._placed = np.concatenate([np.full(n, mode == "position") for _, n, mode in modes])
        self._hold_ns, self._catch_up = round(hold_s * 1e9), catch_up
        self._lock = threading.Lock()
        self._aims: tuple[Array, Array, int, int] | None = None
        """from, to, when it was said, and for how long the way there is"""
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next frame."""
        self._at: Array | None = None
        self._due_ns = 0
        self._is_there = False

    def aim(self, action: Array) -> None:
        """The newest action: a number for each channel."""
        now_ns = time.monotonic_ns()
        with self._lock:
            before = self._aims
            if before is None or now_ns - before[2] > self._hold_ns:
                self._aims = (action, action, now_ns, 1)
                return
            took_ns = min(now_ns - before[2], round(_SLOWEST_S * 1e9))
            self._aims = (_between(before, now_ns), action, now_ns, max(took_ns, 1))

    def __call__(self, frame: Frame) -> dict[str, Array]:
        """A command for each actuator. Raises NotThere while there is no action, and while motion
        is latched."""
        with self._lock:
            aims = self._aims
        now_ns = time.monotonic_ns()
        if aims is None or now_ns - aims[2] > self._hold_ns or frame.reason != "none":
            self.reset()
            raise NotThere("there is no action")
        wanted = _between(aims, now_ns)
        if not self._is_there:
            wanted = self._nearer(frame, wanted)
        return dict(zip(self._names, np.split(wanted, self._cuts), strict=True))

    def _nearer(self, frame: Frame, wanted: Array) -> Array:
        """The way to the first action."""
        if self._at is None:
            here = np.concatenate([frame.command[name].applied for name in self._names])
            self._at, self._due_ns = np.where(np.isfinite(here), here, wanted), frame.due_ns
        most = self._catch_up * (frame.due_ns - self._due_ns) / 1e9
        self._due_ns = frame.due_ns
        self._at = self._at + np.clip(wanted - self._at, -most, most)
        found = np.where(self._placed, self._at, wanted)
        self._is_there = bool((found == wanted).all())
        return found


def _between(aims: tuple[Array, Array, int, int], now_ns: int) -> Array:
    start, end, said_ns, took_ns = aims
    return start + (end - start) * min(1.0, (now_ns - said_ns) / took_ns)
