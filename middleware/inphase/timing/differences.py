"""In what two recordings differ: schedule, timing and content."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inphase.frames.record_layout import ABSENT
from inphase.recording import facts
from inphase.recording.recording import Recording
from inphase.timing import contents
from inphase.timing.contents import Contents
from inphase.timing.cycle_series import CycleSeries, Numbers
from inphase.timing.free_samples import FreeSamples
from inphase.timing.recorded_timing import RecordedTiming
from inphase.timing.schedule_changes import Change, changes
from inphase.timing.tally import Tally, critical_distance, distance

_STRETCH = 8192
_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


class TimingDifference(NamedTuple):
    """One time, in both: its counts, and quantiles in ns. None: there was none."""

    name: str
    counts: tuple[int, int]
    quantiles: tuple[dict[str, float] | None, dict[str, float] | None]
    distance: float | None
    """the statistic of Kolmogorov and Smirnov; None: one of the two has none"""
    is_other: bool
    """two samples of one distribution are not so far apart, but for one pair in 100 000"""

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return self._asdict()


@dataclass(frozen=True)
class Differences:
    """The outcome."""

    paths: tuple[str, str]
    facts: list[Change]
    """of the two files and the machines that made them"""
    schedule: list[Change]
    """keys of the schedules"""
    is_same_schedule: bool
    """to the letter"""
    timing: list[TimingDifference]
    content: Contents

    @property
    def are_equal(self) -> bool:
        """The same schedule, and the same frames and samples bit for bit. Facts do not count."""
        return self.is_same_schedule and self.content.is_same


def find(
    first: Path, second: Path, watch: Callable[[int, int], None] = lambda done, all_: None
) -> Differences:
    """Compare two recordings. watch: is told how many frames of how many are done. Raises
    RecordingError."""
    with Recording(first) as one, Recording(second) as other:
        total = 2 * len(one) + len(other)
        done = len(one) + len(other)
        tallies = (
            tallies_of(one, lambda at: watch(at, total)),
            tallies_of(other, lambda at: watch(len(one) + at, total)),
        )
        content = contents.compare(one, other, lambda at: watch(min(total, done + at), total))
        return Differences(
            (str(first), str(second)),
            list(_facts(one, other)),
            changes(one.schedule_text, other.schedule_text),
            one.schedule_text == other.schedule_text,
            list(_timing(*tallies)),
            content,
        )


def _facts(one: Recording, other: Recording) -> Iterator[Change]:
    both = (_facts_of(one), _facts_of(other))
    for key in dict.fromkeys([*both[0], *both[1]]):
        texts = [known.get(key, "not there") for known in both]
        if texts[0] != texts[1]:
            yield Change(key, *texts)


def _facts_of(recording: Recording) -> dict[str, str]:
    ends = {}
    if len(recording):
        cycles = [int(recording.frames(at, at + 1)["cycle"][0]) for at in (0, len(recording) - 1)]
        ends = {"cycles": f"{cycles[0]} to {cycles[1]}"}
    run = {key: text for key, text in recording.run.items() if key not in _OWN}
    return {
        "frames": str(len(recording)),
        **ends,
        "state": recording.state,
        **run,
        **recording.metadata.get(facts.RECORDER, {}),
    }


_OWN = ("epoch", "wall_offset_ns", "schedule_hash")
"""facts that are another in each run, or told elsewhere"""


# ---- timing ------------------------------------------------------------------------------------


def tallies_of(recording: Recording, watch: Callable[[int], None]) -> dict[str, Tally]:
    """Of every time that a recording has, by its name."""
    if not len(recording):
        return {}
    found: dict[str, Tally] = {}
    with ExitStack() as stack:
        timing = stack.enter_context(RecordedTiming(recording, watch=watch))
        found["wake"] = _of(timing.wake_late)
        for sensor in timing.sensors:
            name = sensor.facts.name
            if isinstance(sensor, FreeSamples):
                found[f"{name} acquisition to sample"] = _of_free(sensor)
            else:
                found[f"{name} trigger to sample"] = _of(sensor.took)
        found["latch to command"] = _of(timing.answers.inference)
        found["act"] = _of(timing.act_late)
    names = ["skew_ns", *(f"sensors.{name}.age_ns" for name in recording.layout.sensors)]
    columns = {name: Tally() for name in names}
    for frames in recording.stretches(_STRETCH):
        for name, tally in columns.items():
            column = frames[name]
            tally.add(column[column != ABSENT])
    found["skew"] = columns.pop("skew_ns")
    return found | {f"{name.split('.')[1]} age": tally for name, tally in columns.items()}


def _of(series: CycleSeries) -> Tally:
    made = Tally()
    for block in series.blocks():
        made.add(block)
    return made


def _of_free(sensor: FreeSamples) -> Tally:
    samples = sensor.read()
    is_known = samples["acquired_ns"] != ABSENT
    took: Numbers = np.maximum(0, samples["received_ns"] - samples["acquired_ns"])
    made = Tally()
    made.add(took[is_known])
    return made


def _timing(one: dict[str, Tally], other: dict[str, Tally]) -> Iterator[TimingDifference]:
    none = Tally()
    for name in dict.fromkeys([*one, *other]):
        pair = (one.get(name, none), other.get(name, none))
        counts = (pair[0].total, pair[1].total)
        apart = distance(*pair) if all(counts) else None
        if not any(counts):
            continue
        yield TimingDifference(
            name,
            counts,
            (_quantiles(pair[0]), _quantiles(pair[1])),
            apart,
            apart is None or apart > critical_distance(*counts),
        )


def _quantiles(found: Tally) -> dict[str, float] | None:
    if not found.total:
        return None
    return {key: found.quantile(share) for key, share in _SHARES.items()}
