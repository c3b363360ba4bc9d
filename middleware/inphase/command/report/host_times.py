"""The stretches of a run of which it is known what the host did to the cycle thread."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNKNOWN = -1


class HostTime(NamedTuple):
    """Counts of a stretch of time; None: unknown."""

    lasted_ns: int
    page_faults: int
    preemptions: int | None
    waited_ns: int | None
    stolen_ns: int | None


class HostTimes:
    """Of a recording; `around` finds those of a moment."""

    def __init__(self, rows: NDArray[Any]) -> None:
        """rows: as `Recording.host` gives them, in order of time."""
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def around(self, from_ns: int, until_ns: int) -> HostTime | None:
        """All that was counted in stretches that touch this one; None: part of it lies in none."""
        rows = self._rows
        # stretches overlap by the time of a reading
        first = int(np.searchsorted(rows["until_ns"], from_ns))
        stop = int(np.searchsorted(rows["from_ns"], until_ns, side="right"))
        found = rows[first:stop]
        if not len(found) or found["from_ns"][0] > from_ns or found["until_ns"][-1] < until_ns:
            return None
        if (found["from_ns"][1:] > found["until_ns"][:-1]).any():
            return None
        return HostTime(
            int(found["until_ns"][-1] - found["from_ns"][0]),
            int(found["page_faults"].sum()),
            _sum(found["preemptions"]),
            _sum(found["waited_ns"]),
            _sum(found["stolen_ns"]),
        )


def _sum(counts: NDArray[np.int64]) -> int | None:
    return None if (counts == _UNKNOWN).any() else int(counts.sum())
