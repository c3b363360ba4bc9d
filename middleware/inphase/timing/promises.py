"""The promises of a schedule, and if a recording keeps them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError, ScheduleError
from inphase.frames.record_layout import ABSENT, FRAME_FLAGS, STATUSES
from inphase.plan.plan import Plan
from inphase.plan.timing import SampleTiming
from inphase.recording.recording import Recording
from inphase.timing.schedule_changes import changes

Frames = NDArray[Any]
_STRETCH = 8192
_FRESH, _HELD, _MISSING = (STATUSES.index(name) for name in ("FRESH", "HELD", "MISSING"))
_STOPPING = 1 << FRAME_FLAGS.index("STOPPING")
_START_NS = 1_000_000_000
_NS_PER_US = 1000.0
IN_FILE = "in the file"
"""of this promise nothing may be broken"""


@dataclass
class Promise:
    """One thing that is to be so in every frame that it is about."""

    what: str
    of: str
    """the sensor, or "": the whole robot"""
    limit_us: float | None = None
    """of what is measured; None: it is so, or it is not"""
    worst_us: float | None = None
    """what was measured worst; None: nothing was measured"""
    count: int = 0
    """frames, or cycles, that it is about"""
    broken: int = 0
    """of these"""
    first_broken: int | None = None
    """the cycle"""
    in_a_row: int = 0
    """the longest time in which it was broken, in frames that it is about"""
    kept: bool = True
    _run: int = field(default=0, repr=False)

    def take(self, cycles: NDArray[np.int64], is_broken: NDArray[np.bool_]) -> None:
        """Some frames that it is about, in their order."""
        self.count += len(cycles)
        if not len(cycles):
            return
        places = np.flatnonzero(is_broken)
        self.broken += len(places)
        if len(places) and self.first_broken is None:
            self.first_broken = int(cycles[places[0]])
        edges = np.flatnonzero(np.diff(is_broken.astype(np.int8), prepend=0, append=0))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            self._run = self._run + stop - start if start == 0 else stop - start
            self.in_a_row = max(self.in_a_row, self._run)
        if not is_broken[-1]:
            self._run = 0

    def measure(
        self, cycles: NDArray[np.int64], values_ns: NDArray[np.int64], limit_ns: Any
    ) -> None:
        """Likewise, with what was measured in each. limit_ns: one, or one each."""
        if len(values_ns):
            self.worst_us = max(self.worst_us or 0.0, float(np.max(values_ns)) / _NS_PER_US)
        self.take(cycles, values_ns > limit_ns)

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}


class Judged(NamedTuple):
    """The outcome."""

    path: str
    robot: str
    schedule_hash: str
    frames: int
    state: str
    promises: list[Promise]

    @property
    def is_kept(self) -> bool:
        """True if every promise is kept."""
        return all(one.kept for one in self.promises)


def judge(
    recording: Recording,
    plan: Plan,
    *,
    allowed: float,
    slack_ns: int,
    watch: Callable[[int, int], None] = lambda done, all_: None,
) -> Judged:
    """Look at all frames. allowed: the share of frames in which a promise may be broken. slack_ns:
    by how much an offset in the cycle may be missed.

    Raises RecordingError for a file without a frame, ScheduleError for a schedule that is not the
    recording's.
    """
    refuse_another_schedule(recording, plan)
    if not len(recording):
        raise RecordingError(f"{recording.path} has no frame: it keeps no promise, and breaks none")
    looker = _Looker(recording, plan, slack_ns)
    before: Frames | None = None
    done = 0
    for frames in recording.stretches(_STRETCH):
        looker.take(frames, before)
        before = frames[-1:].copy()
        done += len(frames)
        watch(done, len(recording))
    found = looker.promises()
    for one in found:
        one.kept = one.broken <= allowed * one.count
        if one.what == IN_FILE:  # of a file that was cut nobody knows how many are missing
            one.kept = not one.broken and recording.state == "COMPLETE"
    hash_ = recording.layout.hash
    state = recording.state
    return Judged(str(recording.path), recording.layout.robot, hash_, len(recording), state, found)


def refuse_another_schedule(recording: Recording, plan: Plan) -> None:
    """Raise ScheduleError for a schedule that is not the recording's."""
    if plan.schedule.hash == recording.layout.hash:
        return
    found = changes(recording.schedule_text, plan.schedule.text)
    first = f"; first {found[0]}" if found else " in comments or spaces alone"
    raise ScheduleError(
        f"{recording.path} was recorded with another schedule (hash {recording.layout.hash}) than "
        f"{plan.schedule.path} ({plan.schedule.hash}). They differ in {len(found)} keys{first}; "
        f"give the one that it was recorded with, or none: then its own is taken"
    )


class _Looker:
    """Goes through the frames."""

    def __init__(self, recording: Recording, plan: Plan, slack_ns: int) -> None:
        self._cycle = plan.schedule.cycle
        self._plan = plan
        self._slack_ns = slack_ns
        self._file = Promise(IN_FILE, "")
        self._grid = Promise("on the grid", "")
        self._wake = Promise("wake", "", slack_ns / _NS_PER_US)
        self._act = Promise("act", "", (slack_ns + self._write_ns()) / _NS_PER_US)
        self._commands = Promise("command", "")
        self._skew = Promise("skew", "")
        self._fresh = {timing.sensor: Promise("fresh", timing.sensor) for timing in plan.timings}
        self._age = {
            name: Promise("age", name, sensor.max_age_ns / _NS_PER_US)
            for name, sensor in plan.schedule.sensor.items()
        }
        self._gap = {
            timing.sensor: Promise("gap", timing.sensor, 1.5 * timing.interval_ns / _NS_PER_US)
            for timing in plan.timings
            if timing.free_running and timing.interval_ns > self._cycle.period_ns
        }
        self._seen: dict[str, bool] = dict.fromkeys(self._fresh, False)
        self._acquired: dict[str, int] = {}
        """of the last sample of each sensor that has gaps"""
        self._commanded = False
        self._start_ns: int | None = None
        self._has_actuators = bool(plan.actuators)

    def _write_ns(self) -> int:
        """The commands' time on the wire: those of one bus follow each other."""
        by_bus: dict[str, int] = {}
        for command in self._plan.commands:
            by_bus[command.bus] = by_bus.get(command.bus, 0) + command.write_ns
        return max(by_bus.values(), default=0)

    def promises(self) -> list[Promise]:
        """All of them that are about anything."""
        found = [self._file, self._grid, self._wake, *self._fresh.values(), *self._age.values()]
        found += [*self._gap.values(), self._skew, self._commands, self._act]
        return [one for one in found if one.count]

    def take(self, frames: Frames, before: Frames | None) -> None:
        """Some frames in a row; before: the frame before them."""
        if self._start_ns is None:
            self._start_ns = int(frames["due_ns"][0])
        cycles = frames["cycle"]
        lost = np.diff(frames["number"], prepend=frames["number"][:1] - 1 if before is None
                       else before["number"]) - 1  # fmt: skip
        self._file.take(cycles, np.zeros(len(cycles), bool))
        self._file.count += int(lost.sum())
        self._file.broken += int(lost.sum())
        if lost.any() and self._file.first_broken is None:
            self._file.first_broken = int(cycles[lost > 0][0])
        skipped = frames["skipped"].astype(np.int64)
        self._grid.take(cycles, skipped > 0)
        self._grid.count += int(skipped.sum())
        self._grid.broken += int(skipped.sum() - np.count_nonzero(skipped))
        late = frames["woke_ns"] - frames["due_ns"]
        self._wake.measure(cycles, late, self._slack_ns)
        for timing in self._plan.timings:
            self._take_sensor(timing, frames)
            if timing.sensor in self._gap:
                self._take_gaps(self._gap[timing.sensor], timing, frames, before)
        self._take_skew(frames)
        self._take_acts(frames, before)

    def _take_sensor(self, timing: SampleTiming, frames: Frames) -> None:
        """From the first fresh sample on, which is to come within a second."""
        sensor = self._plan.schedule.sensor[timing.sensor]
        at = f"sensors.{timing.sensor}."
        status, cycles = frames[f"{at}status"], frames["cycle"]
        since = cycles - sensor.latency_cycles
        is_due = np.ones(len(frames), bool)
        if not timing.free_running:
            is_due = (since >= 0) & (since % sensor.every == 0)
        if not self._seen[timing.sensor]:
            is_first = (status == _FRESH) & is_due
            first = int(is_first.argmax()) if is_first.any() else len(frames)
            assert self._start_ns is not None
            is_late = frames["due_ns"] - self._start_ns >= _START_NS
            is_due &= (np.arange(len(frames)) >= first) | is_late
            self._seen[timing.sensor] = bool(is_first.any())
        is_wrong = status != _FRESH
        if timing.free_running and not self._is_in_each_frame(timing):
            is_wrong &= status != _HELD
        self._fresh[timing.sensor].take(cycles[is_due], is_wrong[is_due])
        if self._seen[timing.sensor]:
            age = frames[f"{at}age_ns"]
            is_known = (age != ABSENT) & (frames[f"{at}sequence"] >= 0)
            self._age[timing.sensor].measure(cycles[is_known], age[is_known], sensor.max_age_ns)

    def _take_gaps(
        self, gap: Promise, timing: SampleTiming, frames: Frames, before: Frames | None
    ) -> None:
        """From a sample of a free-running sensor to the next one. Every sample is in a frame, since
        the sensor is slower than the cycle."""
        at = f"sensors.{timing.sensor}."
        frames = frames if before is None else np.concatenate([before, frames])
        is_new = np.diff(frames[f"{at}sequence"], prepend=-1) > 0
        is_new &= frames[f"{at}acquired_ns"] != ABSENT
        last = self._acquired.get(timing.sensor)
        stamps = frames[f"{at}acquired_ns"][is_new]
        cycles = frames["cycle"][is_new]
        if before is not None and last is not None:
            is_later = stamps > last
            stamps, cycles = stamps[is_later], cycles[is_later]
        if not len(stamps):
            return
        self._acquired[timing.sensor] = int(stamps[-1])
        between = np.diff(stamps) if last is None else np.diff(stamps, prepend=last)
        gap.measure(cycles[-len(between) :], between, 3 * timing.interval_ns // 2)

    def _is_in_each_frame(self, timing: SampleTiming) -> bool:
        return 0 < timing.interval_ns <= self._cycle.period_ns

    def _take_skew(self, frames: Frames) -> None:
        """Of the fresh samples of a frame, against what their offsets and stated times give."""
        low = np.full(len(frames), np.iinfo(np.int64).max // 4)
        high = -low
        is_known = frames["skew_ns"] != ABSENT
        for timing in self._plan.timings:
            at = f"sensors.{timing.sensor}."
            is_in = (frames[f"{at}status"] == _FRESH) & (frames[f"{at}acquired_ns"] != ABSENT)
            bounds = self._acquisition(timing)
            if bounds is None:
                is_known &= ~is_in
                continue
            low[is_in] = np.minimum(low[is_in], bounds[0])
            high[is_in] = np.maximum(high[is_in], bounds[1])
        limit = high - low + self._slack_ns
        known = frames["skew_ns"][is_known]
        self._skew.measure(frames["cycle"][is_known], known, limit[is_known])
        if is_known.any():
            most = float(limit[is_known].max()) / _NS_PER_US
            self._skew.limit_us = max(self._skew.limit_us or 0.0, most)

    def _acquisition(self, timing: SampleTiming) -> tuple[int, int] | None:
        """When a fresh sample of a frame is acquired, from the frame's due time; None: nobody
        states it."""
        sensor = self._plan.schedule.sensor[timing.sensor]
        # it was in time, so it took no longer than to its deadline
        latest_ns = min(timing.worst_ns, timing.deadline_ns - timing.trigger_ns)
        may_ns = max(0, latest_ns - timing.typical_ns)
        if timing.free_running:
            if not timing.interval_ns:
                return None
            deadline_ns = self._cycle.read_deadline_ns
            return deadline_ns - timing.worst_ns - timing.interval_ns, deadline_ns
        if timing.acquired_ns is None:
            return None
        early_ns = sensor.latency_cycles * self._cycle.period_ns
        at_ns = timing.acquired_ns - early_ns
        return at_ns, at_ns + may_ns

    def _take_acts(self, frames: Frames, before: Frames | None) -> None:
        """From the first command on, up to the final ramp."""
        acted = frames["acted_cycle"]
        is_new = np.diff(acted, prepend=acted[:1] - 1 if before is None else before["acted_cycle"])
        is_act = (is_new != 0) & (acted >= 0) & (frames["acted_ns"] != ABSENT)
        due = frames["due_ns"] - (frames["cycle"] - acted) * self._cycle.period_ns
        late = np.maximum(0, frames["acted_ns"] - due - self._cycle.act_ns)
        limit = self._slack_ns + self._write_ns()
        self._act.measure(acted[is_act], late[is_act], limit)
        if not self._has_actuators:
            return
        is_act = (is_new != 0) & (acted >= 0) & (frames["flags"] & _STOPPING == 0)
        has_one = np.zeros(len(frames), bool)
        for name in self._names(frames):
            has_one |= np.isfinite(frames[f"actuators.{name}.requested"]).any(axis=-1)
        if not self._commanded and has_one.any():
            is_act &= np.arange(len(frames)) >= int(np.argmax(has_one))
        if self._commanded or has_one.any():
            self._commanded = True
            self._commands.take(acted[is_act], ~has_one[is_act])

    def _names(self, frames: Frames) -> Iterator[str]:
        yield from (actuator.name for actuator in self._plan.actuators)
