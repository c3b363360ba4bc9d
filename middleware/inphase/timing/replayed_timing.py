"""The timing of a recorded run for lock step to follow, cycle by cycle."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inphase.core.trace import NONE, STOOD, FreeTrace, Times, Trace, TriggeredTrace
from inphase.errors import RecordingError, ScheduleError, ScheduleFault
from inphase.frames.frame import Frame
from inphase.frames.record_layout import ABSENT
from inphase.plan.plan import Plan
from inphase.recording.recording import Recording
from inphase.schedule import Schedule
from inphase.timing import cycle_series
from inphase.timing.cycle_series import DOUBT, INVALID, LATE, OFFLINE, UNTOLD, CycleSeries
from inphase.timing.free_samples import FreeSamples
from inphase.timing.recorded_timing import RecordedTiming, TriggeredTiming
from inphase.world.randomisation import SENSOR

_ROOM = 1 << 32  # see RecordedTiming.left_out


class ReplayedTiming:
    """Read from a file, for a plan.

    It takes the place of what a timing model says of sensors, wakes and inference. After its last
    cycle it begins again. path: of the recording. most: so many cycles are asked for at most.

    Raises RecordingError, and ScheduleError for a schedule whose cycle and sensors are not those of
    the recording.
    """

    def __init__(self, path: Path, plan: Plan, most: int) -> None:
        self.path = path
        self.remarks: list[str] = []
        """facts that a person is told"""
        with Recording(path) as recording:
            faults = list(_faults(recording, plan.schedule))
            if faults:
                raise ScheduleError.of(faults)
            if recording.layout.hash != plan.schedule.hash:
                self.remarks.append(
                    f"{path} was recorded with another schedule ({recording.layout.hash}); its "
                    f"cycle and its sensors are the same"
                )
            every = self.repeats_after(plan.schedule)
            with RecordedTiming(recording, most + 2 * every) as timing:
                self._read(timing, every)

    def repeats_after(self, schedule: Schedule) -> int:
        """Cycles after which all triggers and turns of the policy repeat."""
        policy = 1 if schedule.policy is None else schedule.policy.every
        return math.lcm(policy, *(sensor.every for sensor in schedule.sensor.values()))

    def _read(self, timing: RecordedTiming, every: int) -> None:
        first = -(-timing.first // every) * every
        cycles = (timing.first + timing.cycles - first) // every * every
        if cycles <= 0:
            raise RecordingError(
                f"{self.path} has {timing.cycles} cycles: the timing of the schedule repeats after "
                f"{every}, so that its timing cannot begin again"
            )
        self._first, self.cycles = first, cycles
        self._sensors = {one.facts.name: self._sensor(timing, one) for one in timing.sensors}
        self._trace = Trace(
            cycles,
            self._wake(timing),
            self._latched(timing),
            self._known(timing.act_late),
            self._inference(timing),
            (),
        )

    def trace(self, plan: Plan) -> Trace:
        """For a core of this plan, which may have the draws of [randomise] as a sensor more."""
        nothing = np.zeros(self.cycles, np.int64)
        at_once = TriggeredTrace(nothing, nothing)
        sensors = tuple(self._sensors.get(one.name, at_once) for one in plan.sensors)
        return replace(self._trace, sensors=sensors)

    def _of(self, series: CycleSeries) -> Times:
        start = self._first - series.first
        return np.ascontiguousarray(series.all(start + self.cycles)[start:])

    def _known(self, series: CycleSeries) -> Times:
        """Lateness, where a frame tells it; else none."""
        return np.maximum(0, self._of(series))

    def _latched(self, timing: RecordedTiming) -> Times:
        found = self._known(timing.latched)
        starts = (self._first + np.arange(self.cycles)) * timing.schedule.period_ns
        return np.asarray(np.maximum(0, found - starts))

    def _wake(self, timing: RecordedTiming) -> Times:
        """A late wake that left cycles out is one to the middle of the last of them: when it was is
        not recorded."""
        found = self._known(timing.wake_late)
        left_out = self._of(timing.left_out)
        places = np.flatnonzero(left_out > 0)
        counts = left_out[places] % _ROOM
        found[places] = (2 * counts - 1) * timing.schedule.period_ns // 2
        missing = int(np.count_nonzero(self._of(timing.latched) == UNTOLD) - counts.sum())
        if missing > 0:
            self.remarks.append(
                f"{missing} of its cycles are not in {self.path}: they wake and act on time there"
            )
        return found

    def _inference(self, timing: RecordedTiming) -> Times:
        return np.maximum(NONE, self._of(timing.answers.inference))

    def _sensor(
        self, timing: RecordedTiming, sensor: TriggeredTiming | FreeSamples
    ) -> TriggeredTrace | FreeTrace:
        if isinstance(sensor, FreeSamples):
            return self._free(timing, sensor)
        codes = self._of(sensor.took)
        refused, gone = (int(np.count_nonzero(codes == c)) for c in (INVALID, OFFLINE))
        if refused or gone:
            self.remarks.append(
                f"{sensor.facts.name} was INVALID in {refused} and OFFLINE in {gone} cycles of "
                f"{self.path}: there it gives no sample here, and is LATE, then MISSING"
            )
        low_ns, high_ns = timing.late_bounds_ns(sensor.facts)
        codes[codes == LATE] = (low_ns + high_ns) // 2
        codes[codes >= DOUBT] -= DOUBT
        stood = codes == cycle_series.STOOD
        took = np.where(codes < 0, NONE, codes)
        took[stood] = STOOD
        return TriggeredTrace(took, self._known(sensor.trigger_late))

    def _free(self, timing: RecordedTiming, sensor: FreeSamples) -> FreeTrace:
        """A sample of an unknown acquisition counts as acquired when it came."""
        samples = sensor.read()
        start_ns = self._first * timing.schedule.period_ns
        received = samples["received_ns"] - start_ns
        acquired = np.where(
            samples["acquired_ns"] == ABSENT, received, samples["acquired_ns"] - start_ns
        )
        is_in = (acquired >= 0) & (acquired < self.cycles * timing.schedule.period_ns)
        acquired, received = acquired[is_in], received[is_in]
        order = np.argsort(acquired, kind="stable")
        acquired = np.ascontiguousarray(acquired[order])
        return FreeTrace(acquired, np.ascontiguousarray(np.maximum(acquired, received[order])))

    def note(self, summary: dict[str, Any], newest: Frame | None) -> None:
        """Put it into the summary of a run up to its newest frame: facts, and events for a
        person."""
        again = 0 if newest is None else newest.cycle // self.cycles
        summary["timing"] = {
            "recording": str(self.path),
            "cycles": self.cycles,
            "again": again,
        }
        summary["events"] += self.remarks
        if again:
            summary["events"].append(
                f"the timing of {self.path} has {self.cycles} cycles: it was used up and began "
                f"again {again} times"
            )


def _faults(recording: Recording, schedule: Schedule) -> Iterable[ScheduleFault]:
    """The keys that a timing of this recording does not fit to."""
    period_ns = recording.layout.period_ns
    if schedule.cycle.period_ns != period_ns:
        key = "cycle.rate_hz" if schedule.cycle.rate_hz is not None else "cycle.period_us"
        yield schedule.fault(
            key,
            f"a cycle of {schedule.cycle.period_ns} ns; {recording.path} has cycles of {period_ns} "
            f"ns: its timing is for that rate",
        )
    drawn = set() if SENSOR in schedule.sensor else {SENSOR}
    recorded = {
        str(one["name"]): one
        for one in recording.description["sensors"]
        if one["name"] not in drawn
    }
    if recorded.keys() != schedule.sensor.keys():
        yield schedule.fault(
            "sensor",
            f"{', '.join(schedule.sensor)}; {recording.path} has the timing of "
            f"{', '.join(recorded)}: give the same sensors",
        )
        return
    for name, sensor in schedule.sensor.items():
        for key, here in (
            ("latched", sensor.free_running),
            ("latency_cycles", sensor.latency_cycles),
            *((("every", sensor.every), ("trigger_ns", sensor.trigger_ns))
              if not sensor.free_running else ()),
        ):  # fmt: skip
            there = recorded[name].get(key)
            if there != here:
                shown = "trigger_us" if key in ("trigger_ns", "latched") else key
                yield schedule.fault(
                    f"sensor.{name}.{shown}",
                    f"{key} is {here} here and {there} in {recording.path}: its timing is for that",
                )
