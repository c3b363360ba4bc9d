"""A table of a timing model, and the distributions in it."""

import math
from typing import Any, NamedTuple

import numpy as np

from inphase.timing.tally import Knots, Tally, fewer

MANY = 20
"""fewer than this measure nothing"""
NS_PER_MS = 1e6


class Fitted(NamedTuple):
    """One table of the model."""

    name: tuple[str, ...]
    values: dict[str, Any]
    """by key; None: it is not measured"""
    remarks: list[str]


def distribution(found: Tally, *, less: Tally | None = None) -> Any:
    """As a timing model has it, in ms; None: too few. less: something that was added to each of
    them, and is none of theirs."""
    if found.total < MANY:
        return None
    curve = found.curve()
    if less is not None and less.total:
        curve = without(curve, found, less)
    curve = fewer(curve, found.total)
    if curve.is_constant:
        return ms(curve.values[0])
    pairs = zip(curve.probabilities.tolist(), curve.values.tolist(), strict=True)
    return {"quantiles": [[float(f"{p:.9g}"), ms(value)] for p, value in pairs]}


def without(curve: Knots, found: Tally, less: Tally) -> Knots:
    """Durations without a part of them that is independent, by mean and variance: their own shape
    is kept."""
    mean, variance = found.moments()
    other_mean, other_variance = less.moments()
    share = math.sqrt(max(0.0, 1 - other_variance / variance)) if variance > 0 else 1.0
    values = mean - other_mean + share * (curve.values - mean)
    return Knots(curve.probabilities, np.maximum(0.0, values))


def ms(value_ns: float) -> float:
    """In a model's unit."""
    return round(value_ns) / NS_PER_MS


def share(value: float) -> float:
    """A probability with as many digits as anybody wants."""
    return float(f"{min(1.0, value):.6g}")
