"""Distributions of the timing model and of randomised knobs, as quantile functions.

A distribution is written in a schedule as a number, or as a table with one kind:

    0.3                                          always this
    { uniform = [0.1, 0.4] }                     low, high
    { normal = [30, 2], low = 24, high = 40 }    mean, standard deviation
    { lognormal = [30, 0.2], high = 90 }         median, sigma of the logarithm
    { exponential = 2, high = 20 }               mean
    { values = [29.8, 30.4, 31.0] }              what was measured, each as likely
    { histogram = { edges = [0, 1, 2, 5], counts = [10, 80, 3] } }
    { quantiles = [[0, 0.2], [0.5, 0.3], [1, 0.9]] }     pairs of probability and value

A draw below `low` or above `high` is set to it. The three kinds with tails need `high`, the
normal one `low` as well: a latency without a bound is no latency.

Quantiles use + - * / and square roots alone, which are the same on every machine, so that a draw
is too. C does the drawing (native/src/draw.c): between knots a quantile lies on the line.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from inphase.schedule.table import Table

_LN2 = 0.6931471805599453
_KNOTS_MAX = 4096

# where quantiles of a smooth distribution are kept: dense, and further out in the tails
_TAIL = [2.0**-k for k in range(20, 8, -1)]
_PROBABILITIES = [
    0.0,
    *_TAIL,
    *(i / 256 for i in range(1, 256)),
    *(1 - p for p in _TAIL[::-1]),
    1.0,
]


class Histogram(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts between edges; within a bin every value is as likely."""

    edges: Annotated[list[float], Meta(min_length=2, max_length=_KNOTS_MAX)]
    """Edges of the bins, each above the one before it."""
    counts: Annotated[list[Annotated[float, Meta(ge=0)]], Meta(min_length=1)]
    """Count of each bin, one fewer than edges."""


class Shape(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A distribution as a schedule has it; exactly one of the kinds is set."""

    uniform: tuple[float, float] | None = None
    """`[low, high]`: every value between them is as likely."""
    normal: tuple[float, float] | None = None
    """`[mean, standard deviation]`; needs `low` and `high`."""
    lognormal: tuple[float, float] | None = None
    """`[median, sigma of the logarithm]`; needs `high`."""
    exponential: float | None = None
    """Mean; needs `high`."""
    values: Annotated[list[float], Meta(min_length=1, max_length=_KNOTS_MAX // 2)] | None = None
    """Measured values, each as likely."""
    histogram: Histogram | None = None
    """Counts of measured values."""
    quantiles: (
        Annotated[list[tuple[float, float]], Meta(min_length=1, max_length=_KNOTS_MAX)] | None
    ) = None
    """Pairs of probability and value, from 0 to 1, with lines between them."""
    low: float | None = None
    """A draw below it is set to it."""
    high: float | None = None
    """A draw above it is set to it."""


KINDS = ("uniform", "normal", "lognormal", "exponential", "values", "histogram", "quantiles")
Spec = float | Shape
"""The forms of a number that is drawn, in a schedule."""


@dataclass(frozen=True)
class Distribution:
    """A quantile function: `values[i]` at `probabilities[i]`, linear in between."""

    probabilities: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        """The least that it can give."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The most that it can give."""
        return self.values[-1]

    @property
    def is_constant(self) -> bool:
        """True if it always gives the same."""
        return self.low == self.high

    @property
    def middle(self) -> float:
        """Its median."""
        return self.quantile(0.5)

    def quantile(self, probability: float) -> float:
        """The value at a probability in 0..1, by the same arithmetic as C's inphase_quantile."""
        low, high = 0, len(self.values)
        while high - low > 1:
            middle = low + (high - low) // 2
            if self.probabilities[middle] <= probability:
                low = middle
            else:
                high = middle
        if low + 1 == len(self.values):
            return self.values[low]
        (p, after), (value, following) = (
            self.probabilities[low : low + 2],
            self.values[low : low + 2],
        )
        return value + (following - value) * ((probability - p) / (after - p))

    def scaled(self, factor: float) -> "Distribution":
        """The same in another unit; factor above 0."""
        return Distribution(self.probabilities, tuple(value * factor for value in self.values))

    def shifted(self, amount: float) -> "Distribution":
        """The same, further on by an amount."""
        return Distribution(self.probabilities, tuple(value + amount for value in self.values))


def constant(value: float) -> Distribution:
    """Always this."""
    return Distribution((0.0,), (value,))


def make(spec: Spec) -> Distribution:
    """The quantile function of what a schedule says. Raises ValueError with what to do."""
    if not isinstance(spec, Shape):
        return constant(_finite(float(spec)))
    kinds = [kind for kind in KINDS if getattr(spec, kind) is not None]
    if len(kinds) != 1:
        raise ValueError(
            f"exactly one kind of distribution is needed, got {', '.join(kinds) or 'none'}; "
            f"give one of {', '.join(KINDS)}"
        )
    for bound in (spec.low, spec.high):
        if bound is not None:
            _finite(bound)
    if spec.low is not None and spec.high is not None and spec.low > spec.high:
        raise ValueError(f"low = {spec.low:g} is above high = {spec.high:g}; swap them")
    try:
        made = _MAKERS[kinds[0]](spec)
    except OverflowError as error:
        raise ValueError(
            f"{kinds[0]} reaches beyond all numbers; give smaller numbers for its middle and width"
        ) from error
    values = [_clamp(value, spec.low, spec.high) for value in made.values]
    if len(set(values)) == 1:
        return constant(values[0])
    return Distribution(made.probabilities, tuple(values))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"not finite, got {value}; give a finite number")
    return value


def _clamp(value: float, low: float | None, high: float | None) -> float:
    if low is not None and value < low:
        return low
    if high is not None and value > high:
        return high
    return value


def _uniform(spec: Shape) -> Distribution:
    assert spec.uniform is not None
    low, high = map(_finite, spec.uniform)
    if low > high:
        raise ValueError(f"uniform = [{low:g}, {high:g}] runs backwards; give [low, high]")
    return Distribution((0.0, 1.0), (low, high))


def _bounded(spec: Shape, kind: str, *, below: bool) -> tuple[float, float]:
    """The bounds that a distribution with tails needs."""
    missing = ["high"] if spec.high is None else []
    if below and spec.low is None:
        missing.insert(0, "low")
    if missing:
        raise ValueError(f"{kind} has no bound; give {' and '.join(missing)}")
    assert spec.high is not None
    return (spec.low if spec.low is not None else 0.0), spec.high


def _normal(spec: Shape) -> Distribution:
    assert spec.normal is not None
    mean, deviation = map(_finite, spec.normal)
    if deviation < 0:
        raise ValueError(f"a standard deviation of {deviation:g} is below 0; give 0 or more")
    low, high = _bounded(spec, "normal", below=True)
    inner = tuple(mean + deviation * quantile for quantile in _normal_quantiles())
    return Distribution(tuple(_PROBABILITIES), (min(low, inner[0]), *inner, max(high, inner[-1])))


def _lognormal(spec: Shape) -> Distribution:
    assert spec.lognormal is not None
    median, sigma = map(_finite, spec.lognormal)
    if median <= 0 or sigma < 0:
        raise ValueError(
            f"lognormal = [{median:g}, {sigma:g}] needs a median above 0 and a sigma of 0 or more"
        )
    _, high = _bounded(spec, "lognormal", below=False)
    inner = tuple(median * _exp(sigma * quantile) for quantile in _normal_quantiles())
    return Distribution(tuple(_PROBABILITIES), (0.0, *inner, max(high, inner[-1])))


def _exponential(spec: Shape) -> Distribution:
    assert spec.exponential is not None
    mean = _finite(spec.exponential)
    if mean < 0:
        raise ValueError(f"a mean of {mean:g} is below 0; give 0 or more")
    _, high = _bounded(spec, "exponential", below=False)
    inner = tuple(-mean * _log(1 - p) for p in _PROBABILITIES[1:-1])
    return Distribution(tuple(_PROBABILITIES), (0.0, *inner, max(high, inner[-1])))


def _values(spec: Shape) -> Distribution:
    assert spec.values is not None
    ordered = sorted(map(_finite, spec.values))
    share = len(ordered)
    probabilities: list[float] = []
    values: list[float] = []
    for index, value in enumerate(ordered):
        probabilities += [index / share, (index + 1) / share]
        values += [value, value]
    return Distribution(tuple(probabilities), tuple(values))


def _histogram(spec: Shape) -> Distribution:
    assert spec.histogram is not None
    edges, counts = spec.histogram.edges, spec.histogram.counts
    if len(edges) != len(counts) + 1:
        raise ValueError(
            f"{len(edges)} edges for {len(counts)} counts; give one edge more than counts"
        )
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError("edges do not ascend; sort them")
    total = math.fsum(counts)
    if not (total > 0 and math.isfinite(total) and all(map(math.isfinite, edges))):
        raise ValueError(f"the counts sum up to {total:g}; give counts of which one is above 0")
    probabilities: list[float] = [0.0]
    values: list[float] = []
    below = 0.0
    for index, count in enumerate(counts):
        if count == 0:
            continue
        if values and values[-1] != edges[index]:  # an empty bin is jumped over
            probabilities.append(probabilities[-1])
            values.append(edges[index])
        elif not values:
            values.append(edges[index])
        below += count
        probabilities.append(below / total)
        values.append(edges[index + 1])
    probabilities[-1] = 1.0
    return Distribution(tuple(probabilities), tuple(values))


def _quantiles(spec: Shape) -> Distribution:
    assert spec.quantiles is not None
    pairs = spec.quantiles
    if pairs[0][0] != 0 or pairs[-1][0] != 1:
        raise ValueError(
            f"quantiles run from {pairs[0][0]:g} to {pairs[-1][0]:g}; give the values at 0 and at 1"
        )
    for (p, value), (next_p, next_value) in pairwise(pairs):
        if not (p <= next_p and _finite(value) <= _finite(next_value)):
            raise ValueError(
                f"quantiles descend from [{p:g}, {value:g}] to [{next_p:g}, {next_value:g}]; sort "
                f"them"
            )
    return Distribution(tuple(p for p, _ in pairs), tuple(value for _, value in pairs))


_MAKERS = {
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "exponential": _exponential,
    "values": _values,
    "histogram": _histogram,
    "quantiles": _quantiles,
}


# ---- mathematics that is the same on every machine ----------------------------------------------


def _log(x: float) -> float:
    """Natural logarithm of x > 0: 2 artanh((m - 1) / (m + 1)) + e ln 2, with x = m * 2^e."""
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa *= 2
        exponent -= 1
    t = (mantissa - 1) / (mantissa + 1)
    square, power, total = t * t, t, 0.0
    for k in range(1, 30, 2):
        total += power / k
        power *= square
    return 2 * total + exponent * _LN2


def _exp(x: float) -> float:
    """e^x: Taylor's series of what is left over multiples of ln 2."""
    whole = math.floor(x / _LN2 + 0.5)
    rest = x - whole * _LN2
    total, term = 1.0, 1.0
    for k in range(1, 20):
        term *= rest / k
        total += term
    return math.ldexp(total, whole)


@cache
def _normal_quantiles() -> tuple[float, ...]:
    """Between the outermost of the probabilities that are kept."""
    return tuple(map(_normal_quantile, _PROBABILITIES[1:-1]))


def _normal_quantile(p: float) -> float:
    """Of the standard normal distribution (Wichura 1988, algorithm AS 241, PPND7), 0 < p < 1."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        top = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        bottom = ((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0
        return q * top / bottom
    r = math.sqrt(-_log(p if q < 0 else 1 - p))
    if r <= 5:
        r -= 1.6
        top = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
        bottom = (0.12021132975 * r + 0.73700164250) * r + 1.0
    else:
        r -= 5
        top = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150
        bottom = (0.012258202635 * r + 0.24197894225) * r + 1.0
    return -top / bottom if q < 0 else top / bottom
