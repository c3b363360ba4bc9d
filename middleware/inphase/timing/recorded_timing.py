"""The timing of a recorded run, cycle by cycle: what was late by how much, and what never came.

Everything is made of the stamps in the frames. A sample of a trigger may be told by a later frame,
an act and an answer are told by the frame after them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError
from inphase.frames.record_layout import ABSENT, FRAME_FLAGS, STATUSES
from inphase.recording.recording import Recording
from inphase.timing.answers import Answers
from inphase.timing.cycle_series import (
    DOUBT,
    INVALID,
    LATE,
    NONE,
    OFFLINE,
    STOOD,
    UNTOLD,
    CycleSeries,
)
from inphase.timing.free_samples import FreeSamples
from inphase.timing.recorded_schedule import RecordedSchedule, SensorFacts

Frames = NDArray[Any]
_STRETCH = 8192
_LATEST = 4096
"""cycles after which a sample or an act is told at the latest, where not all are wanted"""
_CYCLES_MAX = 1 << 31
_OVERRUN = 1 << FRAME_FLAGS.index("OVERRUN")
_UNSAMPLED = {"FROZEN": STOOD, "OFFLINE": OFFLINE, "INVALID": INVALID}


@dataclass(frozen=True)
class TriggeredTiming:
    """A sensor that is triggered, by the cycle of its trigger."""

    facts: SensorFacts
    took: CycleSeries
    """from the trigger to the sample's last byte, or NONE, STOOD, LATE, OFFLINE, INVALID"""
    trigger_late: CycleSeries
    """of the trigger, after its offset"""


class RecordedTiming:
    """All of a recording, or its first frames; a context manager. Thread: one at a time."""

    def __init__(
        self,
        recording: Recording,
        most: int | None = None,
        watch: Callable[[int], None] = lambda frames: None,
    ) -> None:
        """most: so many frames at most. watch: is told how many frames are done. Raises
        RecordingError for a file without a frame."""
        self.recording = recording
        self.schedule = RecordedSchedule.of(recording)
        self.first, self.cycles = _extent(recording, most)
        self.frames = 0
        """frames that were looked at"""
        self.start_ns = 0
        """of the grid: when its cycle 0 was due"""
        self._series: list[CycleSeries] = []
        self.wake_late = self._make()
        """of the cycle thread at the start of each cycle that has a frame"""
        self.act_late = self._make()
        """of an act's writes, after the act offset or the latch"""
        self.left_out = self._make()
        """by the first cycle of those that were left out in a row: how many; by a late wake alone
        or, as a number from 2**32 on, by a cycle that took too long"""
        self.latched = self._make()
        """of each frame's latch, on the grid's clock"""
        self.sensors = [self._sensor(one) for one in self.schedule.sensors]
        self.answers = Answers(self.schedule, self.latched, self._make())
        for frames, before in _stretches(recording, self.first + self.cycles):
            self._take(frames, before)
            watch(self.frames)

    def _make(self) -> CycleSeries:
        made = CycleSeries(self.first, self.cycles)
        self._series.append(made)
        return made

    def _sensor(self, facts: SensorFacts) -> "TriggeredTiming | FreeSamples":
        if facts.is_free:
            return FreeSamples(facts)
        return TriggeredTiming(facts, self._make(), self._make())

    def _take(self, frames: Frames, before: Frames | None) -> None:
        """Some frames in a row; before: the frame before them."""
        period_ns = self.schedule.period_ns
        if before is None:
            self.start_ns = int(frames["due_ns"][0]) - int(frames["cycle"][0]) * period_ns
        self.frames += len(frames)
        # times on the grid's clock, so that sums of them stay small
        cycles = frames["cycle"]
        latched = frames["latched_ns"] - self.start_ns
        self.latched.put(cycles, latched)
        self.wake_late.put(cycles, np.maximum(0, frames["woke_ns"] - frames["due_ns"]))
        self._take_left_out(frames)
        self._take_acts(frames, before)
        self.answers.take(frames, before, self.start_ns)
        for sensor in self.sensors:
            if isinstance(sensor, FreeSamples):
                sensor.take(frames, before, self.start_ns)
            else:
                self._take_sensor(sensor, frames, before)

    def _take_left_out(self, frames: Frames) -> None:
        some = frames[frames["skipped"] > 0]
        counts = some["skipped"].astype(np.int64)
        too_long = (some["flags"] & _OVERRUN != 0).astype(np.int64) << 32
        self.left_out.put(some["cycle"] - counts, counts + too_long)

    def _take_acts(self, frames: Frames, before: Frames | None) -> None:
        if self.schedule.act_ns is None:
            return
        is_new = differs(frames, before, "acted_cycle") & (frames["acted_ns"] != ABSENT)
        acted = frames[is_new]
        cycles = acted["acted_cycle"]
        due = self.start_ns + cycles * self.schedule.period_ns + self.schedule.act_ns
        self.act_late.put(cycles, np.maximum(0, acted["acted_ns"] - due))

    def _take_sensor(self, sensor: TriggeredTiming, frames: Frames, before: Frames | None) -> None:
        facts, at = sensor.facts, f"sensors.{sensor.facts.name}."
        # the frames in which one was due say what became of it, as far as they know
        triggers = frames["cycle"] - facts.latency_cycles
        is_due = (triggers >= 0) & (triggers % facts.every == 0)
        is_due &= self.latched.at(triggers) != UNTOLD  # in a cycle left out nobody triggered
        status = frames[f"{at}status"][is_due]
        told = np.full(len(status), NONE, np.int64)
        for name, code in _UNSAMPLED.items():
            told[status == STATUSES.index(name)] = code
        sensor.took.put(triggers[is_due], told)
        # a sample is in the first frame that names it
        is_new = differs(frames, before, f"{at}sequence") & (frames[f"{at}sequence"] >= 0)
        is_known = (frames[f"{at}cycle"] >= 0) & (frames[f"{at}triggered_ns"] != ABSENT)
        self._take_doubted(sensor, frames[is_new & is_due & ~is_known])
        fresh = frames[is_new & is_known]
        cycles, triggered = fresh[f"{at}cycle"], fresh[f"{at}triggered_ns"]
        sensor.took.put(cycles, np.maximum(0, fresh[f"{at}received_ns"] - triggered))
        offset_ns = facts.trigger_ns or 0
        due = self.start_ns + cycles * self.schedule.period_ns + offset_ns
        sensor.trigger_late.put(cycles, np.maximum(0, triggered - due))
        self._take_late(sensor, frames, before)

    def _take_doubted(self, sensor: TriggeredTiming, frames: Frames) -> None:
        """Samples of a line that is in doubt: their triggers are not told, but the frames that had
        to wait for them."""
        facts = sensor.facts
        cycles = frames["cycle"] - facts.latency_cycles
        offset_ns = self.start_ns + (facts.trigger_ns or 0)
        triggered = np.maximum(offset_ns + cycles * self.schedule.period_ns, frames["woke_ns"])
        took = frames[f"sensors.{facts.name}.received_ns"] - triggered
        sensor.took.put(cycles[took >= 0], took[took >= 0] + DOUBT)

    def _take_late(self, sensor: TriggeredTiming, frames: Frames, before: Frames | None) -> None:
        """A sample that no frame names came after its frame, and was overtaken by the next one."""
        at = f"sensors.{sensor.facts.name}."
        numbers = frames[f"{at}sequence"]
        last = numbers[:1] if before is None else before[f"{at}sequence"]
        is_passed = np.diff(numbers, prepend=last) > 1
        missed = frames[f"{at}cycle"][is_passed] - sensor.facts.every
        missed = missed[sensor.took.at(missed) == NONE]
        sensor.took.put(missed, LATE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for series in self._series:
            series.close()
        for sensor in self.sensors:
            if isinstance(sensor, FreeSamples):
                sensor.close()

    def late_bounds_ns(self, facts: SensorFacts) -> tuple[int, int]:
        """Between these times after its trigger a sample came that is LATE."""
        trigger_ns = facts.trigger_ns or 0
        next_ns = facts.every * self.schedule.period_ns
        deadline_ns = self.schedule.read_deadline_ns or 0
        due_ns = facts.latency_cycles * self.schedule.period_ns + deadline_ns - trigger_ns
        return min(due_ns, next_ns), next_ns


def differs(frames: Frames, before: Frames | None, name: str) -> NDArray[np.bool_]:
    """From the frame before; true in the first of all."""
    column = frames[name]
    found = np.ones(len(column), bool)
    found[1:] = column[1:] != column[:-1]
    if before is not None and len(column):
        found[0] = column[0] != before[name][0]
    return found


def _extent(recording: Recording, most: int | None) -> tuple[int, int]:
    """The first cycle, and how many there are up to the last."""
    if not len(recording):
        raise RecordingError(f"{recording.path} has no frame: nothing can be said of its timing")
    ends = (0, min(len(recording), most or len(recording)) - 1)
    first, last = (int(recording.frames(at, at + 1)["cycle"][0]) for at in ends)
    cycles = last - first + 1
    if not 0 < cycles <= _CYCLES_MAX:
        raise RecordingError(f"{recording.path}: its frames go from cycle {first} to cycle {last}")
    return first, cycles


def _stretches(recording: Recording, stop: int) -> Iterator[tuple[Frames, Frames | None]]:
    """Parts of the frames with the frame before each, up to those that tell of cycle `stop`."""
    before: Frames | None = None
    for frames in recording.stretches(_STRETCH):
        yield frames, before
        before = frames[-1:].copy()
        if int(before["cycle"][0]) > stop + _LATEST:
            return
