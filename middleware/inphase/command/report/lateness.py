"""The cycles of a run that lost most time in one phase, and who was waited for.

The core's own list is not in a recording; this one is made of the frames' stamps. A phase counts
from its time, or from the end of the phase before where that came later: so a late wake is not
blamed on the act.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.command.report.numbers import Values, difference
from inphase.frames.record_layout import FRAME_FLAGS, STATUSES
from inphase.timing.recorded_schedule import RecordedSchedule

WORST, OF_A_KIND = 50, 5
"""cycles in the list, and those of each phase and sensor that are there however short they are"""
OVERRUN = "overrun"
"""the phase of a cycle that waited for the end of the one before"""
_OVERRUN = 1 << FRAME_FLAGS.index("OVERRUN")
_IN_TIME = (STATUSES.index("FRESH"), STATUSES.index("HELD"))


class Late(NamedTuple):
    """The phase of a cycle that lost most time."""

    cycle: int
    late_ns: int
    """lost in that phase; of read: from the trigger to the read deadline or the latch, without a
    good sample; of latch: from the deadline on"""
    phase: str
    sensor: str
    """that was waited for, or whose trigger came late; "": none"""
    frame_flags: int
    status: int
    """of that sensor; -1: none"""
    skipped: int
    """grid points that were left out just before"""
    ended_ns: int
    """when the lost time was over"""


class _Moments(NamedTuple):
    """One phase of each cycle: how much time it lost."""

    phase: str
    sensor: str
    late: Values
    ended_ns: NDArray[np.int64]
    """when it was over; any number where no time is known"""


def latest(
    before: list[Late], frames: NDArray[Any], schedule: RecordedSchedule, *, is_end: bool = False
) -> list[Late]:
    """The latest cycles of those before and of these frames, the latest one first.

    The last frame only tells the act of the one before it; is_end: it is the last of all, and
    counts too. Else it comes again as the first frame of the next call.
    """
    kinds = _moments(frames, schedule)
    late = np.nan_to_num(np.vstack([one.late for one in kinds]), nan=0.0)
    if not is_end:
        late = late[:, :-1]
    kind, most = late.argmax(axis=0), late.max(axis=0, initial=0)
    found = list(before)
    for number, one in enumerate(kinds):
        rows = np.flatnonzero((kind == number) & (most > 0))
        rows = rows[np.argsort(-most[rows], kind="stable")][:WORST]
        found += [_late(int(most[row]), one, frames, row) for row in rows.tolist()]
    return _chosen(found)


def _chosen(found: Iterable[Late]) -> list[Late]:
    """The latest of each kind, then as many of the others as there is room for."""
    ordered = sorted(found, key=lambda late: (-late.late_ns, late.cycle))
    seen: Counter[tuple[str, str]] = Counter()
    first: list[Late] = []
    others: list[Late] = []
    for late in ordered:
        seen[late.phase, late.sensor] += 1
        is_first = seen[late.phase, late.sensor] <= OF_A_KIND
        (first if is_first else others).append(late)
    kept = [*first, *others[: max(0, WORST - len(first))]]
    return sorted(kept, key=lambda late: (-late.late_ns, late.cycle))


def _late(late_ns: int, one: _Moments, frames: NDArray[Any], row: int) -> Late:
    frame = frames[row]
    status = int(frame[f"sensors.{one.sensor}.status"]) if one.sensor else -1
    return Late(
        int(frame["cycle"]),
        late_ns,
        one.phase,
        one.sensor,
        int(frame["flags"]),
        status,
        int(frame["skipped"]),
        int(one.ended_ns[row]),
    )


def wake_late(frames: NDArray[Any], period_ns: int) -> Values:
    """How late each cycle began. Where grid points were left out just before, it counts from the
    first of them: a frame's own due time is that of the point that the thread was in time for."""
    return difference(frames["woke_ns"], frames["due_ns"]) + frames["skipped"] * float(period_ns)


def _moments(frames: NDArray[Any], schedule: RecordedSchedule) -> list[_Moments]:
    due, cycles, woke = frames["due_ns"], frames["cycle"], frames["woke_ns"]
    began = wake_late(frames, schedule.period_ns)
    is_overrun = (frames["flags"] & _OVERRUN != 0) & (frames["skipped"] > 0)
    found = [
        _Moments("wake", "", np.where(is_overrun, np.nan, began), woke),
        _Moments(OVERRUN, "", np.where(is_overrun, began, np.nan), woke),
    ]
    # nobody waits for a sample after the deadline: then the thread itself did not run
    read_end = frames["latched_ns"]
    if schedule.read_deadline_ns is not None:
        deadline = np.maximum(due + schedule.read_deadline_ns, woke)
        found.append(_Moments("latch", "", difference(read_end, deadline), read_end))
        read_end = np.minimum(read_end, deadline)
    for sensor in schedule.sensors:
        if sensor.trigger_ns is None:
            continue
        at = f"sensors.{sensor.name}."
        since = np.maximum(due + sensor.trigger_ns, woke)
        triggered = difference(frames[f"{at}triggered_ns"], since)
        triggered[frames[f"{at}cycle"] != cycles] = np.nan
        found.append(_Moments("trigger", sensor.name, triggered, frames[f"{at}triggered_ns"]))
        waited = difference(read_end, since)
        waited[np.isin(frames[f"{at}status"], _IN_TIME)] = np.nan
        found.append(_Moments("read", sensor.name, waited, read_end))
    if schedule.act_ns is not None:
        found.append(_Moments("act", "", _act(frames, schedule.act_ns), _after(frames["acted_ns"])))
    return found


def _act(frames: NDArray[Any], act_ns: int) -> Values:
    """How late each frame's act was, after its time and the latch; the next frame tells it."""
    late = difference(
        _after(frames["acted_ns"]), np.maximum(frames["due_ns"] + act_ns, frames["latched_ns"])
    )
    late[_after(frames["acted_cycle"]) != frames["cycle"]] = np.nan
    late[-1:] = np.nan
    return late


def _after(column: NDArray[np.int64]) -> NDArray[np.int64]:
    """The next frame's number; the last frame's own number where there is none."""
    return np.concatenate([column[1:], column[-1:]])
