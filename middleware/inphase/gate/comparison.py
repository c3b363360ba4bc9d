"""A measurement against a baseline: what is slower, what is not, and what nobody can tell."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.gate.measurement import Measurement, Round

Verdict = Literal["slower", "faster", "the same", "undecided", "changed"]
JUDGED = ("p50", "p90")
"""quantiles that the rounds of a gate can tell; the tail is shown and not judged"""
_RESAMPLES = 2000
_SEED = 11
_CONFIDENCE = (0.025, 0.975)
_LEAST_ROUNDS = 4


class Compared(NamedTuple):
    """One figure of both."""

    figure: str
    quantile: str
    before_us: float
    now_us: float
    ratio: float
    """of now and before, each as a multiple of its own bare wakes"""
    low: float
    high: float
    """95 of 100 such comparisons lie between"""
    verdict: Verdict


class BaselineComparison(NamedTuple):
    """All of it."""

    compared: list[Compared]
    changes: list[str]
    """of what is exact: sentences"""
    notes: list[str]
    """why some of it was not compared"""

    @property
    def is_slower(self) -> bool:
        """True where the gate is to stay shut."""
        return bool(self.changes) or any(one.verdict == "slower" for one in self.compared)

    @property
    def is_undecided(self) -> bool:
        """True where nothing is known to be worse, and something may be, or no time was
        compared."""
        is_open = any(one.verdict == "undecided" for one in self.compared)
        return not self.is_slower and (is_open or not self.compared)


def compare(before: Measurement, now: Measurement, limit: float) -> BaselineComparison:
    """Compare. limit: the share by which a figure may grow, 0.1 for a tenth."""
    notes = []
    if before.schedule_hash != now.schedule_hash:
        notes.append(
            f"the baseline is of another schedule ({before.robot}, hash {before.schedule_hash}; "
            f"now {now.robot}, {now.schedule_hash}): nothing is compared; make a new baseline"
        )
        return BaselineComparison([], [], notes)
    changes = _changes(before, now)
    differs = [key for key in ("processor", "cores") if before.machine[key] != now.machine[key]]
    if differs or before.is_realtime != now.is_realtime:
        what = ", ".join(differs) or "real-time rights"
        notes.append(
            f"the baseline is of another machine ({what}): only what is exact is compared; make a "
            f"baseline here"
        )
        return BaselineComparison([], changes, notes)
    if min(len(before.rounds), len(now.rounds)) < _LEAST_ROUNDS:
        notes.append(f"fewer than {_LEAST_ROUNDS} rounds tell nothing of times; give --runs 10")
        return BaselineComparison([], changes, notes)
    notes += [
        f"{key} was {before.machine[key]} and is {now.machine[key]}"
        for key in ("kernel", "libc", "python")
        if before.machine[key] != now.machine[key]
    ]
    figures = [name for name in now.rounds[0].figures if _has(before, name) and _has(now, name)]
    found = [_compare(before, now, name, q, limit) for name in figures for q in JUDGED]
    return BaselineComparison(found, changes, notes)


def _has(measured: Measurement, figure: str) -> bool:
    return all(figure in one.figures for one in measured.rounds)


def _changes(before: Measurement, now: Measurement) -> list[str]:
    """Sentences on exact numbers that became worse, or differ where neither is better."""
    old, new = before.exact, now.exact
    if old is None or new is None:
        return []
    found = [
        f"on virtual time {key} was {old[key]} and is {new[key]}"
        for key in ("missed", "refused")
        if new[key] > old[key]
    ]
    for sensor, statuses in new["statuses"].items():
        was = old["statuses"].get(sensor, {}).get("FRESH", 0)
        if statuses["FRESH"] < was:
            found.append(
                f"on virtual time {sensor} was FRESH in {was} cycles and is in {statuses['FRESH']}"
            )
    for quantile, value in new["skew_us"].items():
        if value > old["skew_us"][quantile]:
            found.append(
                f"on virtual time the {quantile} of skew was {old['skew_us'][quantile]:.3f} us and "
                f"is {value:.3f} us"
            )
    return found


def _multiples(rounds: list[Round], figure: str, quantile: str) -> NDArray[np.float64]:
    """The figure in each round, as a multiple of what its own bare wakes took."""
    return np.array(
        [one.figures[figure][quantile] / np.mean([b["p50"] for b in one.bare]) for one in rounds]
    )


def _median_us(rounds: list[Round], figure: str, quantile: str) -> float:
    return float(np.median([one.figures[figure][quantile] for one in rounds]))


def _compare(
    before: Measurement, now: Measurement, figure: str, quantile: str, limit: float
) -> Compared:
    old, new = (_multiples(one.rounds, figure, quantile) for one in (before, now))
    draws = np.random.default_rng(_SEED)
    ratios = np.median(draws.choice(new, (_RESAMPLES, new.size)), axis=1) / np.median(
        draws.choice(old, (_RESAMPLES, old.size)), axis=1
    )
    low, high = map(float, np.quantile(ratios, _CONFIDENCE))
    return Compared(
        figure,
        quantile,
        _median_us(before.rounds, figure, quantile),
        _median_us(now.rounds, figure, quantile),
        float(np.median(new) / np.median(old)),
        low,
        high,
        judge(low, high, limit),
    )


def judge(low: float, high: float, limit: float) -> Verdict:
    """By where the ratio lies: all of it beyond the limit, none of it, or nobody can tell."""
    if low > 1 + limit:
        return "slower"
    if high > 1 + limit:
        return "undecided"
    return "faster" if high < 1 - limit else "the same"


def markdown(found: BaselineComparison) -> str:
    """A table for a pull request."""
    head = "| figure | | before us | now us | ratio | 95 % | |"
    lines = "| --- | --- | --: | --: | --: | --- | --- |"
    rows = [
        f"| {one.figure} | {one.quantile} | {one.before_us:.1f} | {one.now_us:.1f} | "
        f"{one.ratio:.2f} | {one.low:.2f} to {one.high:.2f} | {one.verdict} |"
        for one in found.compared
    ]
    said = [f"- {text}" for text in (*found.changes, *found.notes)]
    parts = ["\n".join([head, lines, *rows])] if rows else []
    return "\n\n".join([*parts, *(["\n".join(said)] if said else [])]) + "\n"
