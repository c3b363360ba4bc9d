"""A recorded run once more through the core: its samples and commands, the core's own decisions.

The core is given what came from outside: the outcome of each sensor, each requested command, the
acts that could not be written, ends, emergency stops, power and arming, each in its cycle. States,
latches, ramps, limits and applied commands it decides again.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from inphase.core.trace import Trace
from inphase.devices.packets import Refusal
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.record_layout import ABSENT, ACT_FLAGS, REASONS, ROW
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.recording.recording import Recording
from inphase.schedule import Schedule
from inphase.schedule.tables import Policy
from inphase.timing.replayed_timing import ReplayedTiming

_STRETCH = 8192
_WRITTEN, _INVALID = (1 << ACT_FLAGS.index(name) for name in ("WRITTEN", "INVALID"))
_STAMPS = ("triggered_ns", "acquired_ns", "received_ns")
_ENDS = ("signal", "done", "request", "parent", "world")


@dataclass
class Decisions:
    """The outcome, in counts of frames."""

    compared: int = 0
    differ: dict[str, int] = field(default_factory=dict)
    """frames by what differs in them: `state`, `reason`, `skipped`, `NAME.flags`, `NAME.applied`"""
    first: str = ""
    """the first difference, in words"""


class _Outside:
    """The influences from outside, by the cycle before whose act the core is told."""

    def __init__(self, recording: Recording) -> None:
        self.actuators = [name for name, _, _ in recording.layout.actuators]
        self.answers: dict[int, NDArray[np.float64] | str] = {}
        """the requested command of all actuators, or why there was none"""
        self.unwritten: dict[int, int] = defaultdict(int)
        """a bit per actuator to which nothing was written"""
        self.events: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self._reason = (0, -1)
        self._is_on: dict[str, bool] = {}
        self._acted = -1
        for frames in recording.stretches(_STRETCH):
            for row in frames:
                self._take_reason(row)
                if row["acted_cycle"] > self._acted:
                    self._acted = int(row["acted_cycle"])
                    self._take_act(self._acted, row)

    def _take_reason(self, row: Any) -> None:
        """An end came before the latch of its cycle if that frame tells it, else in the act, as an
        emergency stop does."""
        before, self._reason = self._reason, (int(row["reason"]), int(row["reason_cycle"]))
        reason, cycle = self._reason
        if self._reason == before or reason >= len(REASONS):
            return
        name, detail = REASONS[reason], int(row["detail"])
        if name == "estop":
            self.events[cycle].append((name, detail))
        elif name in _ENDS:
            self.events[cycle - int(row["cycle"] == cycle)].append((name, detail))
        elif not reason:
            self.events[int(row["cycle"]) - 1].append(("arm", 0))

    def _take_act(self, cycle: int, row: Any) -> None:
        commands, refusal = [], "silent"
        for index, name in enumerate(self.actuators):
            at = f"actuators.{name}."
            flags, reason = int(row[f"{at}flags"]), int(row[f"{at}reason"])
            commands.append(row[f"{at}requested"].copy())
            if flags & _INVALID and 0 < reason < len(REASONS):
                refusal = REASONS[reason]
            if not flags & _WRITTEN:
                self.unwritten[cycle] |= 1 << index
            self._take_power(cycle, index, bool(np.isfinite(row[f"{at}applied"]).all()))
        is_whole = commands and all(np.isfinite(one).all() for one in commands)
        self.answers[cycle] = np.concatenate(commands) if is_whole else refusal

    def _take_power(self, cycle: int, index: int, is_on: bool) -> None:
        """Nothing is decided for an actuator that is off; the core looks for it before the latch,
        and for one that goes off in the act."""
        before = self._is_on.get(self.actuators[index])
        if is_on or before is not None:
            self._is_on[self.actuators[index]] = is_on
        if before is not None and is_on != before:
            self.events[cycle - 1 if is_on else cycle].append(("on" if is_on else "off", index))


class RecordedRun:
    """A policy that tells the core of its cycles, and answers as it was answered."""

    def __init__(self, recording: Recording, watch: Callable[[int], None]) -> None:
        self._recording = recording
        self._watch = watch
        self._outside = _Outside(recording)
        columns = [frames["cycle"].copy() for frames in recording.stretches(_STRETCH)]
        self.cycles = np.concatenate(columns)
        first = recording.frames(0, 1)[0]
        self.start_ns = int(first["due_ns"]) - int(first["cycle"]) * recording.layout.period_ns
        """of cycle 0"""
        self._newest = [-1] * len(recording.layout.sensors)
        self.place = 0
        """of the recorded frame that comes next"""
        self.found = Decisions()
        self.robot: LockStep | None = None

    def __call__(self, frame: Frame) -> Any:
        """The command of this cycle."""
        self.begin_turn(frame)
        answer = self._outside.answers.get(frame.cycle, "silent")
        return Refusal(answer) if isinstance(answer, str) else answer

    def begin_turn(self, frame: Frame) -> None:
        """Between a frame's latch and its act: tell the core what came up to the next latch."""
        self._take_frame(frame)
        self.give()
        for what, detail in self._outside.events.get(frame.cycle, ()):
            self._tell(what, detail)

    def _take_frame(self, frame: Frame) -> None:
        """Compare it with the recorded one of its cycle, and go on to the next of those."""
        while self.place < len(self.cycles) and self.cycles[self.place] <= frame.cycle:
            if self.cycles[self.place] == frame.cycle:
                self.compare(frame, self._recording[self.place])
            self.place += 1
        self._watch(self.place)

    def end(self) -> None:
        """After the last cycle: a frame that never came again is a difference."""
        assert self.robot is not None
        last = self.robot.newest()
        if last is not None and self.place < len(self.cycles):
            self._take_frame(last)
        missing = len(self.cycles) - self.found.compared
        if missing:
            self.found.differ["frame"] = missing
            self.found.first = self.found.first or f"{missing} frames did not come again"

    def _tell(self, what: str, detail: int) -> None:
        assert self.robot is not None
        core = self.robot.core
        if what == "off":
            core.enable(detail, False)
        elif what == "on":
            core.enable(detail, True)
            core.arm()  # power comes back for that
        elif what == "arm":
            core.arm()
        elif what == "estop":
            core.estop()
        else:
            core.stop(REASONS.index(what), detail)

    def give(self) -> None:
        """Tell the core of the next recorded frame's sensors, and of the act after it."""
        assert self.robot is not None
        if self.place == len(self.cycles):
            return
        frame, layout = self._recording[self.place], self._recording.layout
        rows = bytearray()
        values: list[NDArray[np.float64] | None] = []
        for sensor in self.robot.plan.sensors:  # a recording may have the draws of [randomise] too
            if sensor.name not in layout.indices:
                raise RecordingError(f"{self._recording.path} has no sensor {sensor.name}")
            index = layout.indices[sensor.name]
            row = dict(
                zip(ROW.names, ROW.unpack_from(frame.record, layout.record.row(index)), strict=True)
            )
            for stamp in _STAMPS:
                row[stamp] -= self.start_ns if row[stamp] != ABSENT else 0
            rows += ROW.pack(*row.values())
            values.append(self._numbers(frame, index, row["sequence"]))
        try:
            self.robot.core.given(bytes(rows), values, self._outside.unwritten[frame.cycle])
        except ValueError as error:  # the file is damaged, or another robot's
            raise RecordingError(f"{self._recording.path}, cycle {frame.cycle}: {error}") from error

    def _numbers(self, frame: Frame, sensor: int, sequence: int) -> NDArray[np.float64] | None:
        """The numbers of a new sample that the core looks at; None: it has none of them."""
        if sequence < 0 or sequence == self._newest[sensor]:
            return None
        self._newest[sensor] = sequence
        dtype = self._recording.layout.dtypes[sensor]
        if any(place[0].base != np.dtype("<f8") for place in (dtype.fields or {}).values()):
            return None
        try:
            return np.frombuffer(frame.payloads.view(sensor, sequence).tobytes(), "<f8")
        except FrameLost:
            return None

    def compare(self, frame: Frame, recorded: Frame) -> None:
        """A frame with the recorded one of its cycle."""
        self.found.compared += 1
        pairs: list[tuple[str, object, object]] = [
            (name, getattr(recorded, name), getattr(frame, name))
            for name in ("state", "reason", "skipped")
        ]
        for was, now in zip(recorded.command, frame.command, strict=True):
            pairs.append((f"{was.name}.flags", " ".join(was.flags), " ".join(now.flags)))
            applied = (f"{was.applied.tolist()}", f"{now.applied.tolist()}")
            pairs.append((f"{was.name}.applied", *applied))
        for name, before, after in pairs:
            if before != after:
                self.found.differ[name] = self.found.differ.get(name, 0) + 1
                text = f"cycle {frame.cycle}: {name} was {before or '-'}, is {after or '-'}"
                self.found.first = self.found.first or text


class AnsweredAtOnce(ReplayedTiming):
    """Each frame is taken and answered at once: an answer that came too late is none."""

    def repeats_after(self, schedule: Schedule) -> int:
        """It never begins again, so that its last cycles are not left out."""
        return 1

    def trace(self, plan: Plan) -> Trace:
        """For a core of this plan."""
        found = super().trace(plan)
        return replace(found, inference=np.zeros_like(found.inference))


@contextmanager
def without_remarks() -> Iterator[None]:
    """The policy's faults were said in the run."""
    log = logging.getLogger("inphase")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def refuse_later_start(recording: Recording) -> None:
    """Raise RecordingError where the state before the first frame is not known."""
    if not len(recording) or recording[0].cycle != 0:
        raise RecordingError(
            f"{recording.path} does not begin with cycle 0, so that the state before it is not "
            f"known; record with inphase run --record, and take the first of several files"
        )


def decide_again(
    recording: Recording, described: Schedule, watch: Callable[[int], None] = lambda frames: None
) -> Decisions:
    """Run a recording through the core again, of the wall clock or of lock step.

    watch: is told how many frames are done. Raises RecordingError for a recording that does not
    begin with cycle 0, ScheduleError.
    """
    refuse_later_start(recording)
    # the outcomes of all devices are given, and each command is that of its cycle
    described = structs.replace(described, world=None, randomise={})
    if described.policy is not None:
        described = structs.replace(described, policy=Policy())  # called in each cycle
    plan = planning.make(described)
    recorded = RecordedRun(recording, watch)
    cycles = int(recorded.cycles[-1]) + 1
    timing = AnsweredAtOnce(recording.path, plan, cycles)
    with (
        without_remarks(),
        LockStep(
            described, call=recorded, plan=plan, timing=timing, digest=False, raises=True
        ) as robot,
    ):
        recorded.robot = robot
        recorded.give()
        robot.run(cycles)
        recorded.end()
    return recorded.found
