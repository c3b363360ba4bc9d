"""The cycles of a run that lost most time in one phase, and who was waited for.

The core's own list is not in a recording; this one is made of the frames' stamps. A phase counts
from its time, or from the end of the phase before where that came later: so a late wake is not
blamed on the act.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.command.report.numbers import Values, difference
from inphase.command.report.recorded_schedule import RecordedSchedule
from inphase.frames.record_layout import FRAME_FLAGS, STATUSES

WORST = 50
"""cycles in the list"""
PHASES = ("wake", "trigger", "read", "act")
OVERRUN = "overrun"
"""the phase of a cycle that waited for the end of the one before"""
_OVERRUN = 1 << FRAME_FLAGS.index("OVERRUN")
_IN_TIME = (STATUSES.index("FRESH"), STATUSES.index("HELD"))


class Late(NamedTuple):
    """The phase of a cycle that lost most time."""

    cycle: int
    late_ns: int
    """lost in that phase; of read: from the trigger to the latch, without a good sample"""
    phase: str
    sensor: str
    """that was waited for, or whose trigger came late; "": none"""
    frame_flags: int
    status: int
    """of that sensor; -1: none"""
    skipped: int
    """grid points that were left out just before"""


class _Moments(NamedTuple):
    """One moment of each cycle: its phase, and how late it was."""

    cycles: NDArray[np.int64]
    late: Values
    phase: int
    sensor: str


def latest(
    before: list[Late], frames: NDArray[Any], schedule: RecordedSchedule, count: int = WORST
) -> list[Late]:
    """The latest cycles of those before and of these frames, the latest one first; the first of
    the frames may be one that was seen before."""
    found = {late.cycle: late for late in before}
    rows = {int(cycle): row for row, cycle in enumerate(frames["cycle"].tolist())}
    for moments in _moments(frames, schedule):
        late = np.nan_to_num(moments.late, nan=0.0)
        few = min(count, len(late))
        for place in np.argpartition(late, len(late) - few)[len(late) - few :].tolist():
            cycle, late_ns = int(moments.cycles[place]), int(late[place])
            if late_ns <= 0 or (cycle in found and found[cycle].late_ns >= late_ns):
                continue
            found[cycle] = _late(cycle, late_ns, moments, frames, rows.get(cycle))
    ordered = sorted(found.values(), key=lambda late: (-late.late_ns, late.cycle))
    return ordered[:count]


def _late(
    cycle: int, late_ns: int, moments: _Moments, frames: NDArray[Any], row: int | None
) -> Late:
    """row: None: the cycle's own frame is not among these."""
    flags = skipped = 0
    status = -1
    if row is not None:
        flags, skipped = int(frames["flags"][row]), int(frames["skipped"][row])
        if moments.sensor:
            status = int(frames[f"sensors.{moments.sensor}.status"][row])
    phase = PHASES[moments.phase]
    if phase == "wake" and flags & _OVERRUN and skipped:
        phase = OVERRUN
    return Late(cycle, late_ns, phase, moments.sensor, flags, status, skipped)


def wake_late(frames: NDArray[Any], period_ns: int) -> Values:
    """How late each cycle began. Where grid points were left out just before, it counts from the
    first of them: a frame's own due time is that of the point that the thread was in time for."""
    return difference(frames["woke_ns"], frames["due_ns"]) + frames["skipped"] * float(period_ns)


def _moments(frames: NDArray[Any], schedule: RecordedSchedule) -> list[_Moments]:
    due, cycles, woke = frames["due_ns"], frames["cycle"], frames["woke_ns"]
    found = [_Moments(cycles, wake_late(frames, schedule.period_ns), PHASES.index("wake"), "")]
    for sensor in schedule.sensors:
        if sensor.trigger_ns is None:
            continue
        at = f"sensors.{sensor.name}."
        since = np.maximum(due + sensor.trigger_ns, woke)
        triggered = difference(frames[f"{at}triggered_ns"], since)
        triggered[frames[f"{at}cycle"] != cycles] = np.nan
        found.append(_Moments(cycles, triggered, PHASES.index("trigger"), sensor.name))
        waited = difference(frames["latched_ns"], since)
        waited[np.isin(frames[f"{at}status"], _IN_TIME)] = np.nan
        found.append(_Moments(cycles, waited, PHASES.index("read"), sensor.name))
    if schedule.act_ns is not None:
        found.append(
            _Moments(
                frames["acted_cycle"],
                _act(frames, schedule.act_ns, schedule.period_ns),
                PHASES.index("act"),
                "",
            )
        )
    return found


def _act(frames: NDArray[Any], act_ns: int, period_ns: int) -> Values:
    """How late the act was that each frame tells of, after its time and its own frame's latch."""
    acted = frames["acted_cycle"]
    since = frames["due_ns"] - (frames["cycle"] - acted) * period_ns + act_ns
    is_next = acted[1:] == frames["cycle"][:-1]
    since[1:][is_next] = np.maximum(since[1:], frames["latched_ns"][:-1])[is_next]
    late = difference(frames["acted_ns"], since)
    late[acted < 0] = np.nan
    return late
