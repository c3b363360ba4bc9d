"""The page that the sentinel writes: struct sentinel_page of native/src/sentinel_page.h.

tests/test_attribution.py compares each offset with the header.
"""

import mmap
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

POINTS = 3
LOOKED = 6
"""threads that are looked at: the cycle thread, then those that it waits for"""
_I4, _I8, _U4, _U8 = "<i4", "<i8", "<u4", "<u8"
WAKE = np.dtype([("point_ns", _I8), ("woke_ns", _I8)])
LOOK = np.dtype(
    [
        (name, _I8)
        for name in (
            "began_ns",
            "ended_ns",
            "ran_ns",
            "waited_ns",
            "minor",
            "major",
            "core_ns",
            "stolen_ns",
            "interrupt_ns",
            "softirq_ns",
            "state",
            "cpu",
        )
    ]
)
TURN = np.dtype([("at_ns", _I8), *((name, _I4) for name in ("process", "thread", "cpu", "unused"))])
PAGE = np.dtype(
    [
        ("period_ns", _I8),
        ("origin_ns", _I8),
        ("after_ns", _I8, POINTS),
        ("priority", _I4),
        ("cpu", _I4),
        ("process", _I4, LOOKED),
        ("thread", _I4, LOOKED),
        ("go", _U4),
        ("priority_errno", _I4),
        ("cpu_errno", _I4),
        ("wakes", _U8),
        ("since_ns", _I8),
        ("used_ns", _I8),
        ("every", _I8),
        ("turns_errno", _I4),
        ("looks", _U8, LOOKED),
        ("turns", _U8),
        ("lost_ns", _I8),
        ("wake", WAKE, 4096),
        ("look", LOOK, (LOOKED, 1024)),
        ("turn", TURN, 65536),
    ],
    align=True,
)


class Rows(NamedTuple):
    """Everything the page held at one moment, each in order of time."""

    wakes: NDArray[Any]
    looks: list[NDArray[Any]]
    """of each thread"""
    turns: dict[int, NDArray[Any]]
    """of each core; the time before the first one is not known"""


class SentinelPage:
    """The memory, made here and written by the sentinel. Thread: one at a time. `close` ends it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("inphase-sentinel", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, PAGE.itemsize)
        self._memory = mmap.mmap(self.fd, PAGE.itemsize)
        self.head = np.ndarray((), PAGE, self._memory)

    def begin(self, **values: Any) -> None:
        """Say what is to be watched: fields of the page, which the sentinel waits for."""
        for name, value in values.items():
            self.head[name] = value
        self.head["go"] = 1

    def rows(self) -> Rows:
        """A copy of all rows that are whole."""
        head = self.head
        turns = _ring(head["turn"], head["turns"])
        turns = turns[turns["at_ns"] > int(head["lost_ns"])]
        return Rows(
            _ring(head["wake"], head["wakes"]),
            [_ring(*of_thread) for of_thread in zip(head["look"], head["looks"], strict=True)],
            {cpu: turns[turns["cpu"] == cpu] for cpu in set(turns["cpu"].tolist())},
        )

    def close(self) -> None:
        """Unmap it."""
        del self.head
        self._memory.close()
        os.close(self.fd)


def _ring(ring: NDArray[Any], count: NDArray[Any]) -> NDArray[Any]:
    """Its rows in order, without the oldest ones, which were written again meanwhile."""
    size, until = len(ring), int(count)
    rows = np.concatenate([ring[until % size :], ring[: until % size]])
    again = int(count) - until + 1  # and one that is just being written
    return rows[max(0, size - until, min(size, again) if until + again > size else 0) :]
