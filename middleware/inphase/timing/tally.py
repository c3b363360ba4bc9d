"""Counts of durations in bounded memory, and the quantile function that they make.

The buckets are log-linear: a duration is known to a thousandth. The least and the most of each
bucket are kept, so that a duration that is always the same stays exact.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.timing.cycle_series import DOUBT, Numbers

_SUB_BITS = 10
_LARGEST = (1 << 44) - 1  # five hours
_BUCKETS = (45 - _SUB_BITS) << _SUB_BITS
_EXACT, _NOISE, _OF_TAIL = 0.001, 0.25, 0.05
"""By how much a probability may be off where knots are left out: always, by the root of the count,
and by which share of what lies beyond it."""
_KNOTS = 512


class Knots(NamedTuple):
    """A quantile function, linear in between. Its probabilities run from 0 to 1."""

    probabilities: NDArray[np.float64]
    values: NDArray[np.float64]
    """in ns"""

    @property
    def is_constant(self) -> bool:
        """True if it always gives the same."""
        return bool(self.values[0] == self.values[-1])


class Tally:
    """Durations in nanoseconds, 0 or more. Longer ones than five hours count as that, and doubted
    ones not at all."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._least = np.full(_BUCKETS, _LARGEST, np.int64)
        self._most = np.zeros(_BUCKETS, np.int64)

    def add(self, durations: Numbers) -> None:
        """Count them; those below 0 are none."""
        is_one = (durations >= 0) & (durations < DOUBT)
        ordered = np.sort(np.minimum(durations[is_one], _LARGEST))
        if not len(ordered):
            return
        buckets = _bucket_of(ordered)
        starts = np.flatnonzero(np.diff(buckets, prepend=-1))
        at = buckets[starts]
        ends = np.append(starts[1:], len(ordered))
        self._counts[at] += ends - starts
        self._least[at] = np.minimum(self._least[at], ordered[starts])
        self._most[at] = np.maximum(self._most[at], ordered[ends - 1])

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self._counts.sum())

    def moments(self) -> tuple[float, float]:
        """Mean and variance; of none they are 0."""
        at = np.flatnonzero(self._counts)
        counts = self._counts[at].astype(np.float64)
        if not len(at):
            return 0.0, 0.0
        middles = (self._least[at] + self._most[at]) / 2
        mean = float(np.average(middles, weights=counts))
        return mean, float(np.average((middles - mean) ** 2, weights=counts))

    def curve(self) -> Knots:
        """All that is known of them. At least one was counted."""
        at = np.flatnonzero(self._counts)
        above = np.cumsum(self._counts[at]) / self.total
        below = np.append(0.0, above[:-1])
        above[-1] = 1.0
        pairs = np.stack([below, above], axis=1).ravel()
        values = np.stack([self._least[at], self._most[at]], axis=1).ravel().astype(np.float64)
        return Knots(pairs, values)

    def quantile(self, probability: float) -> float:
        """The duration that so many do not exceed. At least one was counted."""
        return float(np.interp(probability, *self.curve()))


def distance(one: Tally, other: Tally) -> float:
    """Kolmogorov and Smirnov's statistic of two tallies: the largest difference of the shares that
    are no longer than a duration. Durations in one bucket count as equal."""
    shares = [np.cumsum(tally._counts) / tally.total for tally in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def critical_distance(one: int, other: int) -> float:
    """The statistic that samples of so many of one distribution stay below, but for one pair in a
    hundred thousand."""
    c = float(np.sqrt(-np.log(1e-5 / 2) / 2))
    return c * float(np.sqrt((one + other) / (one * other)))


def fewer(curve: Knots, total: int) -> Knots:
    """The same function with the knots that matter. No probability is off by more than a
    thousandth, or than a quarter of the noise of so many samples, nor by more than a twentieth of
    what lies beyond it."""
    share = 1.0
    while True:
        kept = _kept(curve, total, share)
        if len(kept) <= _KNOTS:
            return Knots(curve.probabilities[kept], curve.values[kept])
        share *= 2


def _kept(curve: Knots, total: int, share: float) -> NDArray[np.intp]:
    """Douglas and Peucker's choice of knots, with the distance counted in probability."""
    p, values = curve
    beyond = np.minimum(p, 1 - p)
    exact = max(_EXACT, _NOISE / total**0.5)
    allowed = share * np.maximum(np.minimum(exact, _OF_TAIL * beyond), 1.01 / total)
    is_kept = np.zeros(len(p), bool)
    is_kept[[0, -1]] = True
    left = [(0, len(p) - 1)]
    while left:
        low, high = left.pop()
        if high - low < 2 or values[low] == values[high]:
            continue
        inner = slice(low + 1, high)
        rise = (values[inner] - values[low]) / (values[high] - values[low])
        off = np.abs(p[low] + rise * (p[high] - p[low]) - p[inner]) / allowed[inner]
        worst = int(off.argmax())
        if off[worst] > 1:
            middle = low + 1 + worst
            is_kept[middle] = True
            left += [(low, middle), (middle, high)]
    return np.flatnonzero(is_kept)


def _bucket_of(durations: Numbers) -> NDArray[Any]:
    exponents = np.frexp(durations.astype(np.float64))[1]  # exact: they are below 2**53
    shift = np.maximum(exponents - 1 - _SUB_BITS, -1).astype(np.int64)
    is_small = shift < 0
    low = durations >> np.maximum(shift, 0) & ((1 << _SUB_BITS) - 1)
    return np.asarray(np.where(is_small, durations, ((shift + 1) << _SUB_BITS) + low))
