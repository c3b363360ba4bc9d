"""The robot's clock as a client sees it: offset and drift, with an uncertainty, from round trips.

A request that leaves at `sent` and comes back at `back` by the client's clock met the robot's clock
somewhere between: half of the round trip is what the offset may be wrong by. The shortest round
trips say most. Nothing is joined by clocks: commands name cycles.
"""

from collections import deque
from dataclasses import dataclass

_KEPT = 64
_DRIFT_MAX = 1e-4
"""of two monotonic clocks, more than any that are sold"""


@dataclass(frozen=True)
class Offset:
    """The robot's clock less the client's, at an instant of the client's."""

    at_ns: int
    offset_ns: int
    uncertainty_ns: int
    """the offset lies within so much to both sides"""


class RobotClock:
    """Maps stamps of the robot to the client's monotonic clock. Thread: one."""

    def __init__(self) -> None:
        self._heard: deque[Offset] = deque(maxlen=_KEPT)

    def hear(self, sent_ns: int, robot_ns: int, back_ns: int) -> None:
        """A round trip. One that ended before it began is no measurement."""
        if back_ns < sent_ns:
            return
        half_ns = (back_ns - sent_ns + 1) // 2
        self._heard.append(Offset(back_ns, robot_ns - (sent_ns + half_ns), half_ns))

    def at(self, now_ns: int) -> Offset | None:
        """The offset at a time of the client's clock; None: nothing is known yet.

        The tightest of the newest round trips, each widened by what two clocks may have drifted
        apart since.
        """
        if not self._heard:
            return None
        best = min(self._heard, key=lambda one: self._widened(one, now_ns))
        return Offset(now_ns, best.offset_ns, self._widened(best, now_ns))

    @staticmethod
    def _widened(one: Offset, now_ns: int) -> int:
        return one.uncertainty_ns + int(abs(now_ns - one.at_ns) * _DRIFT_MAX)

    def to_local(self, robot_ns: int, now_ns: int) -> tuple[int, int] | None:
        """A stamp of the robot's as one of the client's, with its uncertainty; None: not known."""
        offset = self.at(now_ns)
        if offset is None:
            return None
        return robot_ns - offset.offset_ns, offset.uncertainty_ns
