"""The power of a gate on this machine: how often a slower robot would be seen, and a same one not.

No delay is injected. Pairs of runs are drawn from the measured rounds, with replacement, and one of
each pair has its times multiplied. So the rounds' own spread decides.
"""

from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from inphase.gate import comparison
from inphase.gate.measurement import Measurement, Round

SHARES = (0.0, 0.05, 0.1, 0.2, 0.5)
RUNS = 100
_SEED = 12


class Seen(NamedTuple):
    """How many of RUNS comparisons call a figure slower, by the share by which it is."""

    figure: str
    quantile: str
    of: dict[float, int]


class GatePower(NamedTuple):
    """Of a gate."""

    seen: list[Seen]
    any_slower: dict[float, int]
    """comparisons in which at least one figure was called slower; of share 0: false alarms"""


def power(measured: Measurement, limit: float) -> GatePower:
    """Draw and compare. limit: the share by which a time may grow."""
    draws = np.random.default_rng(_SEED)
    figures = [name for name in measured.rounds[0].figures if comparison.has(measured, name)]
    names = [(name, quantile) for name in figures for quantile in comparison.JUDGED]
    seen = {name: dict.fromkeys(SHARES, 0) for name in names}
    any_slower = dict.fromkeys(SHARES, 0)
    count = len(measured.rounds)
    for _ in range(RUNS):
        before, now = (
            replace(
                measured, rounds=[measured.rounds[i] for i in draws.integers(count, size=count)]
            )
            for _ in range(2)
        )
        for share in SHARES:
            slower = replace(now, rounds=[_slowed(one, 1 + share) for one in now.rounds])
            slow = [
                name
                for name in names
                if comparison.compare_figure(before, slower, *name, limit).verdict == "slower"
            ]
            for name in slow:
                seen[name][share] += 1
            any_slower[share] += bool(slow)
    return GatePower([Seen(*name, of) for name, of in seen.items()], any_slower)


def _slowed(one: Round, factor: float) -> Round:
    figures = {
        name: {quantile: factor * time for quantile, time in times.items()}
        for name, times in one.figures.items()
    }
    return replace(one, figures=figures)
