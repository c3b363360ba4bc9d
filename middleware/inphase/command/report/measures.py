"""One pass over the frames of a recording: all that its report shows, in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from inphase.command.report.host_times import HostTimes
from inphase.command.report.joints import Joints
from inphase.command.report.lateness import Late, latest, wake_late
from inphase.command.report.numbers import Quantity, Values, difference, in_slots, known
from inphase.command.report.waterfall import Waterfall
from inphase.core.late_moment import LateMoment
from inphase.frames.record_layout import (
    ABSENT,
    ACT_FLAGS,
    FRAME_FLAGS,
    REASONS,
    STATES,
    STATUSES,
    name_of,
)
from inphase.recording.recording import Recording
from inphase.timing.recorded_schedule import RecordedSchedule

Frames = NDArray[Any]
SLOTS = 800
"""parts of the run in the pictures over time"""
_STRETCH = 8192
_EVENTS = 200
SEVERITY = ("FRESH", "HELD", "RECOVERING", "LATE", "MISSING", "INVALID", "FROZEN", "OFFLINE")
"""statuses, the worst one last"""
_RANK = np.array([SEVERITY.index(name) for name in STATUSES], np.int8)
WAKE, SKEW, COMMAND, INFERENCE, ACT = "wake", "skew", "latch to command", "inference", "act"
SAMPLE, AGE = "trigger to sample", "age"


class Event(NamedTuple):
    """A moment at which the robot's state or reason changed."""

    cycle: int
    at_s: float
    text: str


@dataclass
class Measures:
    """Of all frames of a recording. Its quantities have files: a context manager."""

    recording: Recording
    schedule: RecordedSchedule
    frames: int
    per_slot: int
    quantities: dict[tuple[str, str], Quantity]
    waterfall: Waterfall
    joints: dict[str, Joints]
    host: HostTimes
    late: dict[tuple[int, str, str], LateMoment]
    """late moments whose fault was looked for, by cycle, phase and sensor"""
    slot_s: NDArray[np.float64]
    """start of each slot, after the first frame"""
    worst_status: dict[str, NDArray[np.int8]]
    """per sensor and slot, a place in SEVERITY"""
    statuses: dict[str, NDArray[np.int64]]
    """per sensor, by number of the status"""
    not_in_time: dict[str, Values]
    """per sensor and slot, the share of frames that are neither FRESH nor HELD"""
    flags: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FRAME_FLAGS, 0))
    """of the frames, how many had it"""
    act_flags: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACT_FLAGS, 0))
    """of the acts, in how many one of the actuators had it"""
    reasons: dict[str, int] = field(default_factory=dict)
    """of acts without a command of their own"""
    acts: int = 0
    answers_without_latch: int = 0
    """commands of which it is not known which frame they answer"""
    skipped: int = 0
    missing_frames: int = 0
    """between the first and the last frame"""
    worst: list[Late] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    more_events: int = 0
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    """number, cycle, due_ns, state and reason of the first and the last frame"""

    @property
    def seconds(self) -> float:
        """From the first to the last frame's place on the grid, and a cycle."""
        return (self.last["due_ns"] - self.first["due_ns"] + self.schedule.period_ns) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for quantity in self.quantities.values():
            quantity.close()


def measure(recording: Recording, progress: Callable[[int], None]) -> Measures:
    """All frames. progress: is told how many are done."""
    found = _start(recording)
    stretch = max(1, _STRETCH // found.per_slot) * found.per_slot
    before: Frames | None = None
    done = 0
    for frames in recording.stretches(stretch):
        _Stretch(found, frames, before, done).take()
        found.waterfall.take(frames)
        done += len(frames)
        before = frames[-_kept(found.schedule) :].copy()
        progress(done)
    if before is not None:
        found.worst = latest(found.worst, before[-1:], found.schedule, is_end=True)
    found.waterfall.finish(recording, [late.cycle for late in found.worst])
    return found


def _kept(schedule: RecordedSchedule) -> int:
    """Frames before a stretch of which a command in it may be the answer."""
    return min(4096, schedule.latency_cycles + 64)


def _start(recording: Recording) -> Measures:
    schedule = RecordedSchedule.of(recording)
    frames = len(recording)
    per_slot = max(1, -(-frames // SLOTS))
    slots = -(-frames // per_slot)
    meanings = {
        (WAKE, ""): "how late a cycle began, counted from the first grid point that it left out",
        **{
            (SAMPLE, one.name): "from the trigger of a sample to its last byte"
            for one in schedule.sensors
        },
        (SKEW, ""): "largest difference of acquisition between the fresh samples of a frame",
        **{(AGE, one.name): "age of the sample at the latch" for one in schedule.sensors},
        (COMMAND, ""): "from the latch of a frame to the command that answers it",
        (INFERENCE, ""): "of that time, what the policy itself took: from taking the frame",
        (ACT, ""): "when the writes of an act were done, after the act offset",
    }
    return Measures(
        recording,
        schedule,
        frames,
        per_slot,
        {key: Quantity(*key, meaning, slots) for key, meaning in meanings.items()},
        Waterfall(schedule, frames),
        {name: Joints(channels, slots) for name, channels, _ in recording.layout.actuators},
        HostTimes(recording.host()),
        _late(recording.late(), schedule),
        np.zeros(slots),
        {one.name: np.zeros(slots, np.int8) for one in schedule.sensors},
        {one.name: np.zeros(len(STATUSES), np.int64) for one in schedule.sensors},
        {one.name: np.zeros(slots) for one in schedule.sensors},
    )


class _Stretch:
    """Some frames in a row, and those before them."""

    def __init__(
        self, found: Measures, frames: Frames, before: Frames | None, first_row: int
    ) -> None:
        self.found = found
        self.frames = frames
        self.first_row = first_row
        self.slot = first_row // found.per_slot
        self.before = before
        self.is_new_act = self._differs("acted_cycle") & (frames["acted_cycle"] >= 0)

    def _differs(self, name: str) -> NDArray[np.bool_]:
        """From the frame before; true in the first of all."""
        column = self.frames[name]
        differs = np.ones(len(column), bool)
        differs[1:] = column[1:] != column[:-1]
        if self.before is not None:
            differs[0] = column[0] != self.before[name][-1]
        return differs

    def take(self) -> None:
        """Measure them."""
        frames, found = self.frames, self.found
        self._ends()
        self._add(WAKE, "", wake_late(frames, found.schedule.period_ns))
        self._add(SKEW, "", known(frames["skew_ns"]))
        for sensor in found.schedule.sensors:
            self._sensor(sensor.name)
        self._add(COMMAND, "", self._latch_to_command())
        self._add(INFERENCE, "", self._inference())
        self._add(ACT, "", self._act_late())
        self._commands()
        self._counts()
        self._events()
        with_last = frames if self.before is None else np.concatenate([self.before[-1:], frames])
        found.worst = latest(found.worst, with_last, found.schedule)
        starts = frames["due_ns"][:: found.per_slot] - found.first["due_ns"]
        found.slot_s[self.slot : self.slot + len(starts)] = starts / 1e9

    def _add(self, name: str, part: str, values: Values) -> None:
        self.found.quantities[name, part].add(values, self.slot, self.found.per_slot)

    def _ends(self) -> None:
        names = ("number", "cycle", "due_ns", "state", "reason", "flags")
        if not self.found.first:
            self.found.first = {name: int(self.frames[name][0]) for name in names}
        self.found.last = {name: int(self.frames[name][-1]) for name in names}

    def _sensor(self, name: str) -> None:
        frames, found = self.frames, self.found
        at = f"sensors.{name}."
        took = difference(frames[f"{at}received_ns"], frames[f"{at}triggered_ns"])
        took[~self._differs(f"{at}sequence")] = np.nan
        self._add(SAMPLE, name, took)
        self._add(AGE, name, known(frames[f"{at}age_ns"]))
        status = frames[f"{at}status"]
        # a status that this version does not know counts as the worst
        status = np.minimum(status, len(STATUSES) - 1)
        found.statuses[name] += np.bincount(status, minlength=len(STATUSES))
        worst = np.maximum.reduceat(_RANK[status], np.arange(0, len(frames), found.per_slot))
        slots = slice(self.slot, self.slot + len(worst))
        found.worst_status[name][slots] = worst
        is_wrong = (_RANK[status] > SEVERITY.index("HELD")).astype(np.float64)
        found.not_in_time[name][slots] = np.nanmean(in_slots(is_wrong, found.per_slot), axis=1)

    def _latch_to_command(self) -> Values:
        """NaN where no new command came, and where it is not known which frame it answers."""
        frames, values = self.frames, np.full(len(self.frames), np.nan)
        is_new = self._differs("inferred_ns") & (frames["inferred_ns"] != ABSENT)
        answered = frames["answered_cycle"]
        names = ["cycle", "latched_ns"]
        parts = [frames[names]] if self.before is None else [self.before[names], frames[names]]
        cycles = np.concatenate([part["cycle"] for part in parts])
        latches = np.concatenate([part["latched_ns"] for part in parts])
        places = np.minimum(np.searchsorted(cycles, answered), len(cycles) - 1)
        waited = frames["inferred_ns"] - latches[places]
        is_known = is_new & (answered >= 0) & (cycles[places] == answered) & (waited >= 0)
        values[is_known] = waited[is_known]
        self.found.answers_without_latch += int(np.count_nonzero(is_new & ~is_known))
        return values

    def _inference(self) -> Values:
        """NaN where no new command came, and where the policy does not say when it took a frame."""
        values = known(self.frames["inference_ns"])
        values[~self._differs("inferred_ns")] = np.nan
        return values

    def _act_late(self) -> Values:
        """NaN where nothing was acted, and where the schedule does not say when."""
        frames, schedule = self.frames, self.found.schedule
        if schedule.act_ns is None:
            return np.full(len(frames), np.nan)
        due_ns = frames["due_ns"] - (frames["cycle"] - frames["acted_cycle"]) * schedule.period_ns
        late = difference(frames["acted_ns"], due_ns + schedule.act_ns)
        late[~self.is_new_act] = np.nan
        return late

    def _commands(self) -> None:
        found = self.found
        any_flags = np.zeros(len(self.frames), np.uint32)
        reason = np.zeros(len(self.frames), np.uint32)
        for name, joints in found.joints.items():
            at = f"actuators.{name}."
            any_flags |= self.frames[f"{at}flags"]
            reason = np.maximum(reason, self.frames[f"{at}reason"])
            joints.add(
                self.frames[f"{at}requested"],
                self.frames[f"{at}applied"],
                self.is_new_act,
                self.slot,
                found.per_slot,
            )
        acts = any_flags[self.is_new_act]
        found.acts += len(acts)
        for bit, flag in enumerate(ACT_FLAGS):
            found.act_flags[flag] += int(np.count_nonzero(acts >> bit & 1))
        missed = 1 << ACT_FLAGS.index("MISSED") | 1 << ACT_FLAGS.index("INVALID")
        numbers, counts = np.unique(
            reason[self.is_new_act & (any_flags & missed != 0)], return_counts=True
        )
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            name = name_of(number, REASONS)
            found.reasons[name] = found.reasons.get(name, 0) + count

    def _counts(self) -> None:
        frames, found = self.frames, self.found
        for bit, flag in enumerate(FRAME_FLAGS):
            found.flags[flag] += int(np.count_nonzero(frames["flags"] >> bit & 1))
        found.skipped += int(frames["skipped"].sum())
        numbers = frames["number"]
        found.missing_frames += int(numbers[-1] - numbers[0]) - (len(numbers) - 1)
        if self.before is not None:
            found.missing_frames += int(numbers[0] - self.before["number"][-1]) - 1

    def _events(self) -> None:
        """Changes of the state, of its reason, and of what is latched."""
        frames, found = self.frames, self.found
        changed = self._differs("state") | self._differs("reason")
        for row in np.flatnonzero(changed).tolist():
            if len(found.events) == _EVENTS:
                found.more_events += 1
                continue
            one = frames[row]
            text = name_of(int(one["state"]), STATES)
            if one["reason"]:
                text += f", because of {name_of(int(one['reason']), REASONS)}"
            at_s = (int(one["due_ns"]) - found.first["due_ns"]) / 1e9
            found.events.append(Event(int(one["cycle"]), at_s, text))


def _late(rows: NDArray[Any], schedule: RecordedSchedule) -> dict[tuple[int, str, str], LateMoment]:
    found = {}
    for row in rows:
        late = LateMoment.of(row)
        known = 0 <= late.sensor < len(schedule.sensors)
        sensor = schedule.sensors[late.sensor].name if known else ""
        found[late.cycle, late.phase, sensor] = late
    return found
