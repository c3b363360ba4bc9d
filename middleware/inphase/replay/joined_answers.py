"""Another policy beside a recording whose commands were joined of answers, or interpolated.

The policy is asked about each frame whose answer the recording tells. Its answers come when the
recorded ones came, and the core makes commands of them, as it did then: in a run of the recorded
cycles, with the recorded outcomes of all sensors.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import structs

from inphase.episodes.lockstep import LockStep
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.record_layout import ABSENT, REASONS
from inphase.plan import plan as planning
from inphase.recording.recording import Recording
from inphase.replay.asked_policy import AskedPolicy
from inphase.replay.command_differences import Commands, Comparison
from inphase.replay.state_machine import (
    AnsweredAtOnce,
    RecordedRun,
    refuse_later_start,
    without_remarks,
)
from inphase.schedule import Schedule

_STRETCH = 8192


class _JoinedRun(RecordedRun):
    """The recorded run with the answers of another policy."""

    def __init__(
        self,
        recording: Recording,
        asked: AskedPolicy,
        act_ns: int,
        tolerance: float,
        watch: Callable[[int], None],
    ) -> None:
        super().__init__(recording, watch)
        self.commands = Comparison()
        self._asked = asked
        self._tolerance = tolerance
        self._shown = 0
        self._posted = self._posted_ns(act_ns)
        self._last_told = max(self._posted, default=-1)

    def _posted_ns(self, act_ns: int) -> dict[int, int]:
        """When the answers came that acts tell, since the start, by the cycle of their frame."""
        found: dict[int, int] = {}
        period_ns = self._recording.layout.period_ns
        for frames in self._recording.stretches(_STRETCH):
            answered, posted = frames["answered_cycle"], frames["inferred_ns"]
            rows = np.flatnonzero((answered >= 0) & (posted != ABSENT))
            # the act that tells it found it, however late that act looked
            latest = frames["acted_cycle"][rows] * period_ns + act_ns
            times = np.minimum(posted[rows] - self.start_ns, latest)
            for cycle, time in zip(answered[rows].tolist(), times.tolist(), strict=True):
                found.setdefault(cycle, time)
        return found

    def take(self, frame: Frame) -> None:
        """A frame of the run, before its act."""
        self.begin_turn(frame)
        while self._shown < self.place:
            self._ask(self._asked.show(self._shown))
            self._shown += 1

    def _ask(self, frame: Frame) -> None:
        """Ask the policy about a recorded frame, and let its answer come in time."""
        assert self.robot is not None
        if frame.cycle % self._asked.every or frame.cycle > self._last_told:
            return
        posted_ns = self._posted.get(frame.cycle)
        if posted_ns is None:
            self.commands.unasked += 1
            return
        trouble = self._asked.ask(frame)
        if trouble is not None:
            self.commands.reasons[trouble] = self.commands.reasons.get(trouble, 0) + 1
        reason = REASONS.index(trouble) if trouble else 0
        buffer = self._asked.buffer
        self.robot.core.post(frame.cycle, posted_ns, reason, buffer.pointer, buffer.count)

    def compare(self, frame: Frame, recorded: Frame) -> None:
        """The command before this frame with the recorded one of its cycle."""
        cycle = recorded.command.cycle
        answer: Commands | None = {act.name: act.requested for act in frame.command}
        is_of_it = frame.command.cycle == cycle
        if not (is_of_it and answer and all(np.isfinite(one).all() for one in answer.values())):
            answer = None
        was = {act.name: act.requested for act in recorded.command}
        self.commands.take(cycle, was, answer, self._tolerance)


def compare_joined(
    recording: Recording,
    described: Schedule,
    asked: AskedPolicy,
    tolerance: float,
    watch: Callable[[int], None],
) -> Comparison:
    """Ask a policy about a recording, and compare the commands that the core makes of its answers.

    described: the recorded schedule; its drivers are those of the caller's folder. Raises
    RecordingError for a recording that does not begin with cycle 0, ScheduleError.
    """
    refuse_later_start(recording)
    assert described.policy is not None
    keys = structs.replace(described.policy, call=None, model=None)  # this caller answers
    described = structs.replace(
        described, policy=keys, path=Path.cwd() / described.path.name, randomise={}
    )
    plan = planning.make(described)
    run = _JoinedRun(recording, asked, described.cycle.act_ns, tolerance, watch)
    last = int(run.cycles[-1])
    timing = AnsweredAtOnce(recording.path, plan, last + 1)
    with (
        without_remarks(),
        LockStep(
            described, call=lambda frame: None, plan=plan, timing=timing, digest=False
        ) as robot,
    ):
        run.robot = robot
        run.give()
        while run.place < len(run.cycles):
            try:
                run.take(robot.next())
            except store.Lost:
                break
        run.end()
    return run.commands
