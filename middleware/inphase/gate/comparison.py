"""A measurement against a baseline: what is slower, what is not, and what nobody can tell."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.gate import count_comparison, late_comparison
from inphase.gate.count_comparison import CountPair
from inphase.gate.late_comparison import LatePair
from inphase.gate.measurement import Measurement, Round

Verdict = Literal["slower", "faster", "the same", "undecided", "changed"]
JUDGED = ("p50", "p90")
"""quantiles that the rounds of a gate can tell; the tail is shown and not judged"""
_RESAMPLES = 2000
_SEED = 11
_CONFIDENCE = (0.005, 0.995)  # a gate judges a dozen figures, and one false alarm shuts it
LEAST_ROUNDS = 4
_MOST_STOLEN, _MOST_SKIPPED = 0.05, 0.05  # of a round's time, of its cycles


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
    """99 of 100 such comparisons lie between"""
    verdict: Verdict


class BaselineComparison(NamedTuple):
    """All of it."""

    compared: list[Compared]
    changes: list[str]
    """of what is exact: sentences"""
    notes: list[str]
    """why some of it was not compared"""
    counted: list[CountPair]
    """instructions and the like"""
    late: list[LatePair]
    """late moments, by cause"""
    lacks_times: bool
    """times were measured and none was judged, or nothing could be compared at all"""

    @property
    def is_slower(self) -> bool:
        """True where the gate is to stay shut."""
        return bool(self.changes) or any(one.verdict == "slower" for one in self.compared)

    @property
    def is_undecided(self) -> bool:
        """True where nothing is known to be worse, and something may be, or nothing at all was
        compared of what was measured."""
        verdicts = [one.verdict for one in self.compared] + [one.verdict for one in self.late]
        is_open = "undecided" in verdicts
        return not self.is_slower and (is_open or self.lacks_times)


def compare(before: Measurement, now: Measurement, limit: float) -> BaselineComparison:
    """Compare. limit: the share by which a time may grow, 0.1 for a tenth."""
    if before.schedule_hash != now.schedule_hash:
        note = (
            f"the baseline is of another schedule ({before.robot}, hash {before.schedule_hash}; "
            f"now {now.robot}, {now.schedule_hash}): nothing is compared; make a new baseline"
        )
        return BaselineComparison([], [], [note], [], [], lacks_times=True)
    changes = _changes(before, now)
    counted: list[CountPair] = []
    notes: list[str] = []
    if before.counts is not None and now.counts is not None:
        counted, notes = count_comparison.compare(before.counts, now.counts)
        changes += [count_comparison.sentence(pair) for pair in counted if pair.has_grown]
    else:
        notes += [f"{which}: {one.uncounted}" for which, one in _both(before, now) if one.uncounted]
    if not now.rounds:
        nothing = not counted and (before.exact is None or now.exact is None)
        return BaselineComparison([], changes, notes, counted, [], lacks_times=nothing)
    refused = _refused(before, now)
    if refused:
        return BaselineComparison([], changes, [*notes, refused], counted, [], lacks_times=True)
    notes += [
        f"{key} was {before.machine[key]} and is {now.machine[key]}"
        for key in ("kernel", "libc", "python")
        if before.machine[key] != now.machine[key]
    ]
    figures = [name for name in now.rounds[0].figures if has(before, name) and has(now, name)]
    found = [compare_figure(before, now, name, q, limit) for name in figures for q in JUDGED]
    reason = disturbed(before, now)
    if reason:
        notes.append(reason)
        found = [
            one._replace(verdict="undecided") if one.verdict == "slower" else one for one in found
        ]
    late = late_comparison.compare(before, now)
    if any(one.verdict == "undecided" for one in late):
        notes.append("late moments that are ours have grown beside those of a busier machine")
    changes += [late_comparison.sentence(one, now) for one in late if one.verdict == "more"]
    return BaselineComparison(found, changes, notes, counted, late, lacks_times=not found)


def _both(before: Measurement, now: Measurement) -> list[tuple[str, Measurement]]:
    return [("the baseline", before), ("now", now)]


def _refused(before: Measurement, now: Measurement) -> str:
    """Why no time of these two is compared, and the remedy; empty: times are."""
    differs = [key for key in ("processor", "cores") if before.machine[key] != now.machine[key]]
    if differs:
        return (
            f"the baseline is of another machine ({', '.join(differs)}): no time is compared; make "
            f"a baseline here"
        )
    for which, one in _both(before, now):
        if one.rounds and not one.is_realtime:
            return (
                f"{which} has no real-time rights, and no time of a robot is judged without: "
                f"inphase doctor says how to get them; --runs 0 judges counts alone"
            )
    if min(len(before.rounds), len(now.rounds)) < LEAST_ROUNDS:
        return f"fewer than {LEAST_ROUNDS} rounds tell nothing of times; give --runs 10"
    return ""


def disturbed(before: Measurement, now: Measurement) -> str:
    """Why one of the two was disturbed too much to call anything slower; empty: none was."""
    for which, one in _both(before, now):
        bad = [
            each
            for each in one.rounds
            if each.stolen_ms > _MOST_STOLEN * 1000 * one.seconds
            or each.skipped > _MOST_SKIPPED * max(each.cycles, 1)
        ]
        if len(bad) > len(one.rounds) / 2:
            stolen, skipped = sum(r.stolen_ms for r in bad), sum(r.skipped for r in bad)
            return (
                f"{which} was too disturbed to judge: in {len(bad)} of {len(one.rounds)} rounds "
                f"the host took {stolen:.0f} ms, and {skipped} cycles were skipped; run it again "
                f"on a quieter machine"
            )
    return ""


def has(measured: Measurement, figure: str) -> bool:
    """True if each round has that figure."""
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


def compare_figure(
    before: Measurement, now: Measurement, figure: str, quantile: str, limit: float
) -> Compared:
    """One quantile of one figure, of two measurements that may be compared."""
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


def markdown(found: BaselineComparison, now: Measurement) -> str:
    """Tables for a pull request."""
    parts = [f"**{now.robot}: {verdict(found)}**"]
    if found.compared:
        rows = [
            "| time | | before us | now us | ratio | 99 % | |",
            "| --- | --- | --: | --: | --: | --- | --- |",
        ]
        for one in found.compared:
            rows.append(
                f"| {one.figure} | {one.quantile} | {one.before_us:.1f} | {one.now_us:.1f} | "
                f"{one.ratio:.2f} | {one.low:.2f} to {one.high:.2f} | {one.verdict} |"
            )
        parts.append("\n".join(rows))
    if found.counted:
        rows = ["| in a cycle | before | now | change | |", "| --- | --: | --: | --: | --- |"]
        for pair in found.counted:
            said = "more" if pair.has_grown else "within bounds"
            rows.append(
                f"| {pair.name} | {pair.before:.10g} | {pair.now:.10g} | {pair.change} | {said} |"
            )
        parts.append("\n".join(rows))
    if found.late:
        rows = ["| late in 1000 cycles | before | now | |", "| --- | --: | --: | --- |"]
        rows += [f"| {o.cause} | {o.before:.3g} | {o.now:.3g} | {o.verdict} |" for o in found.late]
        parts.append("\n".join(rows))
    remarks = [f"- {text}" for text in (*found.changes, *found.notes)]
    if now.rounds and not now.is_realtime:
        remarks.append("- measured without real-time rights: no time of a robot is judged")
    remarks.append(f"- {', '.join(f'{key} {fact}' for key, fact in now.machine.items())}")
    return "\n\n".join([*parts, "\n".join(remarks)]) + "\n"


def verdict(found: BaselineComparison) -> str:
    """In a few words."""
    if found.is_slower:
        return "slower than the baseline"
    return "undecided" if found.is_undecided else "no slower than the baseline"
