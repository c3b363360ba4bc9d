"""A person's keys as commands: each jogs a joint; the robot stands while none is pressed."""

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import ServiceError
from inphase.frames.frame import Frame

UP, DOWN = "qwertyuiop", "asdfghjkl;"
"""the keys of the channels, one above the other on a keyboard"""
_BACK = " \n"
_MOVES_NS = 150_000_000  # after a key: one that is held comes again sooner
_SITS_NS = 2_000_000_000  # after the last one: then whoever drove before drives on


class Jog:
    """A policy that gives a command while somebody is at the keys, and none without.

    fd: of the keys, which does not block. actuators: of the robot's description. speed: of a joint
    whose key is held, in its unit per second. Raises ServiceError for what keys do not jog.
    """

    def __init__(self, fd: int, actuators: Sequence[dict[str, Any]], speed: float) -> None:
        self._fd = fd
        self._speed = speed
        modes = [one["mode"] for one in actuators for _ in range(one["channels"])]
        if wrong := sorted({*modes} - {"position", "velocity"}):
            raise ServiceError(
                f"keys jog positions and velocities, and the robot has {wrong[0]}s too; give a "
                f"POLICY"
            )
        self._positions = np.array([mode == "position" for mode in modes])
        self._sits_until_ns = 0
        self._moves_until_ns = np.zeros(len(modes), np.int64)
        self._way = np.zeros(len(modes))
        self._target: NDArray[np.float64] | None = None
        self._before_ns = 0

    def help(self) -> str:
        """The keys, for a person."""
        count = min(len(self._way), len(UP))
        pairs = [f"{UP[n]}/{DOWN[n]} joint {n + 1}" for n in range(count)]
        return f"{', '.join(pairs)}; space hands back, ^C ends it"

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        """The command of this frame; None: nobody is at the keys."""
        now_ns = time.monotonic_ns()
        self._hear(now_ns)
        if now_ns >= self._sits_until_ns:
            self._target = None
            return None
        if self._target is None:
            here = np.concatenate([act.applied for act in frame.command])
            if not np.all(np.isfinite(here)):
                return None  # it does not know yet where it is
            self._target, self._before_ns = here, frame.due_ns
        seconds = (frame.due_ns - self._before_ns) * 1e-9
        self._before_ns = frame.due_ns
        speeds = np.where(self._moves_until_ns > now_ns, self._way * self._speed, 0.0)
        self._target = np.where(self._positions, self._target + speeds * seconds, speeds)
        return self._target.copy()

    def _hear(self, now_ns: int) -> None:
        """The keys that were pressed since the last frame."""
        try:
            pressed = os.read(self._fd, 64).decode(errors="replace")
        except BlockingIOError:
            return
        for key in pressed:
            if key in _BACK:
                self._sits_until_ns = 0
            for keys, way in ((UP, 1.0), (DOWN, -1.0)):
                channel = keys.find(key)
                if 0 <= channel < len(self._way):
                    self._sits_until_ns = now_ns + _SITS_NS
                    self._way[channel] = way
                    self._moves_until_ns[channel] = now_ns + _MOVES_NS
