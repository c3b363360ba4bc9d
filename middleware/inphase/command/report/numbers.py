"""The numbers of one quantity over a run: all of them in a file, their course in memory."""

import tempfile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import ABSENT

Values = NDArray[np.float64]
"""one per frame, in ns; NaN: none"""
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Quantiles(NamedTuple):
    """Of all numbers, in ns: each is one of them, the first that so many do not exceed."""

    total: int
    min: int
    p50: int
    p90: int
    p99: int
    p999: int
    max: int


class Quantity:
    """The numbers of one kind. They are written to a file without a name: memory holds one
    stretch of them, and later one quantity."""

    def __init__(self, name: str, part: str, meaning: str, slots: int) -> None:
        """part: the sensor, or "". slots: parts of the run, of equal numbers of frames."""
        self.name = name
        self.part = part
        self.meaning = meaning
        self.median = np.full(slots, np.nan)
        """per slot, in ns; NaN: none"""
        self.largest = np.full(slots, np.nan)
        """likewise"""
        self.count = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (close is its end)

    def add(self, values: Values, first_slot: int, per_slot: int) -> None:
        """The values of a stretch of frames that begins with a slot."""
        known = values[~np.isnan(values)]
        self.count += len(known)
        self._file.write(known.astype(np.int64).tobytes())
        rows = np.sort(in_slots(values, per_slot), axis=1)  # NaN last
        counts = np.count_nonzero(~np.isnan(rows), axis=1)
        places = np.arange(len(rows))
        slots = slice(first_slot, first_slot + len(rows))
        last = np.maximum(counts - 1, 0)
        self.median[slots] = rows[places, last // 2]
        self.largest[slots] = rows[places, last]

    def all(self) -> NDArray[np.int64]:
        """Every number, in order."""
        self._file.seek(0)
        return np.frombuffer(self._file.read(), np.int64)

    def close(self) -> None:
        """Its file is gone."""
        self._file.close()


def in_slots(values: Values, per_slot: int) -> Values:
    """The values in rows of one slot each; NaN fills the last."""
    rows = -(-len(values) // per_slot)
    padded = np.full(rows * per_slot, np.nan)
    padded[: len(values)] = values
    return padded.reshape(rows, per_slot)


def quantiles(numbers: NDArray[np.int64]) -> Quantiles | None:
    """Of the numbers; None: there is none."""
    count = len(numbers)
    if not count:
        return None
    ranks = [max(0, int(np.ceil(share * count)) - 1) for share in SHARES.values()]
    ordered = np.partition(numbers, sorted({0, *ranks, count - 1}))
    return Quantiles(count, *(int(ordered[rank]) for rank in (0, *ranks, count - 1)))


def known(stamps: NDArray[np.int64]) -> Values:
    """Numbers that may be absent as float64, exact below 2**53: absent is NaN."""
    return np.where(stamps == ABSENT, np.nan, stamps.astype(np.float64))


def difference(later: NDArray[np.int64], earlier: NDArray[np.int64]) -> Values:
    """Of two stamps; NaN where one is absent. It is exact, however long the machine is up."""
    absent = (later == ABSENT) | (earlier == ABSENT)
    return np.where(absent, np.nan, (later - earlier).astype(np.float64))
