"""The times of all cycles, also of those between the frames that the page is sent."""

from bisect import bisect_right
from collections import deque
from typing import Any

from inphase.frames.layout import Layout
from inphase.frames.record_layout import ABSENT

EDGES_US = tuple(digit * 10.0**power for power in range(6) for digit in (1, 2, 5))  # 1 us to 0.5 s
_FIELDS = ("cycle", "due_ns", "woke_ns", "latched_ns", "inferred_ns", "answered_cycle")
_KEPT = 1024  # latches that an answer may be to
_RATE_FRAMES = 64


class CycleTimes:
    """Counts how late cycles woke, when frames were complete, and when their commands were there.
    Thread: one at a time."""

    def __init__(self, layout: Layout) -> None:
        self._looked_at = layout.record.only(_FIELDS)
        self._latched_ns: dict[int, int] = {}
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RATE_FRAMES)
        self._bins = {name: [0] * (len(EDGES_US) + 1) for name in ("wake", "latch", "command")}
        self._worst_us = dict.fromkeys(self._bins, 0.0)

    def take(self, record: bytes) -> None:
        """A frame's record."""
        cycle, due_ns, woke_ns, latched_ns, inferred_ns, answered = self._looked_at.unpack_from(
            record
        )
        self._latched_ns[cycle] = latched_ns
        if len(self._latched_ns) > _KEPT:
            del self._latched_ns[next(iter(self._latched_ns))]
        self._count("wake", woke_ns - due_ns)
        self._count("latch", latched_ns - due_ns)
        if inferred_ns != ABSENT and answered in self._latched_ns:
            self._count("command", inferred_ns - self._latched_ns[answered])

    def tick(self, cycle: int, latched_ns: int) -> None:
        """The page is sent this frame."""
        self._recent.append((cycle, latched_ns))

    def _count(self, name: str, time_ns: int) -> None:
        time_us = time_ns / 1e3
        self._bins[name][bisect_right(EDGES_US, time_us)] += 1
        self._worst_us[name] = max(self._worst_us[name], time_us)

    def worst(self) -> dict[str, float]:
        """The longest times since this was asked last, in microseconds."""
        found = {name: round(value, 1) for name, value in self._worst_us.items()}
        self._worst_us = dict.fromkeys(self._bins, 0.0)
        return found

    def counted(self) -> dict[str, Any]:
        """How many cycles were in which bin so far, and cycles per second of late."""
        rate_hz = None
        if len(self._recent) > 1:
            (first, first_ns), (last, last_ns) = self._recent[0], self._recent[-1]
            rate_hz = (last - first) * 1e9 / max(1, last_ns - first_ns)
        return {"edges_us": EDGES_US, "bins": self._bins, "rate_hz": rate_hz}
