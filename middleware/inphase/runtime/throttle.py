"""A bound for the work of a process that is to be in nobody's way: it leaves frames out."""

import time
from collections.abc import Callable

_LOOK_S = 0.5
_MOST = 64


class Throttle:
    """Says which frames are sent, so that the process takes at most `share` of a core.

    Under pressure every second frame is left out, then more; once there is room, fewer. At least
    every 64th is sent. Thread: one. clock, used: seconds, of the wall and of this process.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._share = share
        self._clock, self._used = clock, used
        self._looked_s, self._used_s = clock(), used()
        self.stride = 1
        """one frame of so many is sent"""

    def sends(self, number: int) -> bool:
        """True for a frame of that number that is to be sent."""
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_S:
            used_s = self._used()
            share = (used_s - self._used_s) / (now_s - self._looked_s)
            self._looked_s, self._used_s = now_s, used_s
            if share > self._share:
                self.stride = min(2 * self.stride, _MOST)
            elif 2 * share < 0.8 * self._share:  # twice as many frames cost twice as much, at most
                self.stride = max(self.stride // 2, 1)
        return number % self.stride == 0
