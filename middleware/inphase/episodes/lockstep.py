"""Lock step: the same schedule, core and policy on virtual time, in the caller's thread.

The core advances virtual time, the drivers' twins answer, and Python is entered once per policy
tick. Same schedule, seed, policy and versions give the same bytes.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from inphase.core.core import Core
from inphase.core.kept import Kept
from inphase.core.lockstep_config import LockStepConfig, NativePolicy
from inphase.core.own_frames import OwnFrames
from inphase.core.world_seam import World, WorldReading
from inphase.episodes.digest import Digest
from inphase.episodes.progress import Patience
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.record_layout import REASONS
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.policy import command_buffer, isolated, model_policy
from inphase.policy import turn as policies
from inphase.policy.remarks import Remarks
from inphase.policy.remote_socket import RemoteSocket
from inphase.recording.lockstep_recorder import run_recorded
from inphase.recording.recorder_process import RecorderOptions
from inphase.runtime import summary
from inphase.runtime.events import Events
from inphase.runtime.words import verdict
from inphase.runtime.words.policy_notices import PolicyNotices
from inphase.schedule import Schedule
from inphase.schedule.timing_model import TimingModel
from inphase.world import randomisation
from inphase.world.engines import make_world
from inphase.world.randomisation import KnobLike, Randomisation

if TYPE_CHECKING:
    from inphase.timing.replayed_timing import ReplayedTiming

PolicyCall = Callable[[Frame], Any]
_SILENT = REASONS.index("silent")
_LOG = logging.getLogger("inphase")
_LOOK = 127
"""at every 128th frame it is looked at what became of the policy's answers"""


class LockStep:
    """A simulated robot on virtual time. `close` ends it. Thread: the caller's alone.

    - `call` overrides the schedule's policy; `native` is one without Python.
    - `isolate` runs the policy in a process of its own, with the same digest.
    - `digest=False` leaves out the digest.
    - `world`: the world to run in, which stays the caller's; else the schedule's is made.
    - `plan`: of the schedule, made before; a world has its own.
    - `episode`: the number of the episode, which with `seed` decides the draws.
    - `randomise`: knobs beside the schedule's, by path, as a curriculum moves them.
    - `timing`: of a recorded run, followed cycle by cycle in place of the timing model's.
    - `kept`: of the runs before, whose frames end with it.
    - `raises`: an exception of `call`, or of the schedule's policy in this process, ends the run.
      Else it is a cycle without a command, as on the robot.

    `messages` has the remarks on the policy, which the logger `inphase` got at once.

    Raises ScheduleError, also for a world that does not fit the schedule.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        seed: int = 0,
        call: PolicyCall | None = None,
        native: NativePolicy | None = None,
        isolate: bool = False,
        observe: bool = False,
        digest: bool = True,
        world: World | None = None,
        plan: Plan | None = None,
        episode: int = 0,
        randomise: Mapping[str, KnobLike] | None = None,
        raises: bool = False,
        timing: "ReplayedTiming | None" = None,
        kept: Kept | None = None,
    ) -> None:
        self._events = Events(_LOG.warning)
        self._raises, self.recorded_timing, self._kept = raises, timing, kept
        if world is not None:
            plan = world.plan
        elif plan is None:
            plan = planning.make(schedule)
        self.schedule, self._native = schedule, native
        self._own_world = None
        if world is None and schedule.world is not None:
            world = self._own_world = make_world(plan)
        self.world = world
        self.seed = randomisation.episode_seed(seed, episode)
        """of this episode"""
        self._randomisation: Randomisation | None = None
        if schedule.randomise or randomise:
            self._randomisation = Randomisation(plan, world, randomise)
        self._draws_cycles = self._randomisation is not None and self._randomisation.has_cycles
        plan, model, readings = self._begin_world(plan, seed, episode)
        self._model: model_policy.NativeModel | None = None
        if call is not None or native is not None:
            plan = plan if plan.client_policy else replace(plan, client_policy=True)
        elif plan.model is not None and policies.runs_in_c(schedule) and not isolate:
            self._model = model_policy.NativeModel(schedule, plan.model)
            self._native = self._model.native
        self.plan = plan
        trace = None if timing is None else timing.trace(plan)
        config = LockStepConfig(self.seed, model, readings, world, self._native, trace)
        self._made_with: dict[str, Any] = {"seed": seed, "episode": episode, "observe": observe}
        self.core, self.follower = self._make_core(config)
        if self._model is not None:
            self._model.follow(self.follower.reader)
        has_socket = call is None and native is None and not isolate
        socket = RemoteSocket(schedule, self.core.segment.path) if has_socket else None
        # nobody's any more: its store must not stay in memory for good
        ends = self.follower if kept is None else None
        self._end = weakref.finalize(self, _end, self.core, ends, self._model, socket)
        self.buffer = command_buffer.make_buffer(schedule, self.follower.layout.actuators)
        self._turn = self._make_turn(call, isolate, socket)
        self._digest = Digest(self.follower) if digest else None
        reasons = self.follower.reader.reasons
        self._notices = PolicyNotices(plan, self._events.tell, reasons, self.newest)
        self.started_s = time.perf_counter()

    def _begin_world(
        self, plan: Plan, seed: int, episode: int
    ) -> tuple[Plan, TimingModel, list[list[WorldReading | None] | None]]:
        """Draw what this episode randomises; the plan, the timing and the readings that follow."""
        readings: list[list[WorldReading | None] | None] = [None] * len(plan.sensors)
        if self.world is not None:
            readings = [*self.world.readings]
        if self._randomisation is None:
            if self.world is not None:
                self.world.begin({})
            return plan, plan.timing, readings
        timing = self._randomisation.begin(seed, episode)
        readings.append(self._randomisation.readings())
        return self._randomisation.told(plan), timing, readings

    def _make_core(self, config: LockStepConfig) -> tuple[Core, OwnFrames]:
        """The core, armed, every actuator enabled; and its frames."""
        epoch, made_with, timing = store.new_epoch(), self._made_with, self.recorded_timing
        if timing is not None:
            made_with = made_with | {"timing": str(timing.path)}
        description = self.plan.description(epoch, lockstep=made_with)
        core = Core(
            self.plan,
            epoch=epoch,
            description=description,
            observe=bool(made_with["observe"]),
            lockstep=config,
            kept=self._kept,
        )
        for index in range(len(self.plan.actuators)):
            core.enable(index, True)
        core.arm()
        if self._kept is None:
            return core, OwnFrames(core.segment.path)
        return core, self._kept.frames(epoch, len(description), lockstep=made_with)

    def _make_turn(
        self, call: PolicyCall | None, isolate: bool, socket: RemoteSocket | None
    ) -> "_Turn | None":
        remarks = Remarks(self._events.tell, self.schedule, is_virtual=True)
        if call is not None:
            begun = policies.begin(call, self.follower.layout)
            return policies.Turn(begun, self.buffer, self.schedule, remarks, raises=self._raises)
        if self._model is not None:
            return model_policy.ModelTurn(self._model, self.follower.reader, self.buffer)
        if self.schedule.policy is None or self._native is not None:
            return None
        if isolate:
            return isolated.IsolatedPolicy(
                self.schedule,
                self.follower,
                self.core.segment.path,
                self.buffer,
                self._events.tell,
            )
        assert socket is not None
        remote = socket.meet()
        return policies.make_turn(
            self.schedule,
            self.follower,
            self.buffer,
            self.plan.model,
            remarks,
            remote=remote,
            raises=self._raises,
            is_confined=False,
        )

    def step(self) -> Frame:
        """On to the frame that the policy takes next, with its turn; that frame.

        A policy whose inference outlasts cycles takes a frame every few cycles. Raises store.Lost
        when the core has stopped by itself, WorldError when the world failed.
        """
        frame = self.next()
        self.take_turn(frame)
        return frame

    def newest(self) -> Frame | None:
        """The newest frame; None before the first."""
        return self.follower.peek(self.core.frames - 1) if self.core.frames else None

    def take_turn(self, frame: Frame) -> None:
        """The policy's turn at the frame of `next`."""
        if self.follower.number & _LOOK == _LOOK:
            self._notices.look()
        if self._turn is None:
            self._answer(_SILENT)
            return
        trouble = self._turn.take(frame)
        self._answer(0 if trouble is None else REASONS.index(trouble))

    def next(self) -> Frame:
        """On to the frame that the policy takes next. Raises as `step`."""
        return self._frame(self._turn_to(0) if self._draws_cycles else self.core.turn(0))

    def _frame(self, number: int | None) -> Frame:
        if number is None:
            self.refuse_end()
        return self.follower.frame(number)

    def refuse_end(self) -> NoReturn:
        """Raise for a turn that gave no frame: WorldError, else store.Lost."""
        self._refuse_failure()
        raise store.Lost(f"the core has stopped: {self.stopped}")

    @property
    def is_bare(self) -> bool:
        """True if a turn is one call of C: nothing is drawn or hashed between cycles."""
        return not self._draws_cycles and self._digest is None

    def _turn_to(self, cycles: int) -> int | None:
        if not self._draws_cycles:
            return self.core.turn(cycles)
        while not cycles or self.cycles < cycles:
            before = self.cycles
            self._draw_cycle()
            number = self.core.turn(before + 1)
            if number is not None or self.cycles == before:
                return number
        return None

    def _draw_cycle(self) -> None:
        """Draw what changes in every cycle, for the next one."""
        if self._draws_cycles:
            assert self._randomisation is not None
            self._randomisation.cycle(self.seed, self.core.frames)

    def answer(self, command: Any) -> str | None:
        """Give the policy's answer to the frame of `next`; returns why it is not valid, one of
        REASONS.

        command: as a policy returns it. An invalid command is not posted.
        """
        trouble = self.buffer.fill(command)
        self._answer(REASONS.index(trouble) if trouble else 0)
        return trouble

    def turn(self, command: Any) -> Frame | str:
        """`answer`, then `next`, in one call of C; a command that is none is not answered, and why
        it is none is returned. Raises as `step`."""
        trouble = self.buffer.fill(command)
        if trouble is not None:
            return trouble
        if self._draws_cycles:
            self._answer(0)
            return self.next()
        if self._digest is not None:
            self._digest.follow(self.follower.number + 1)
        return self._frame(self.core.answer_turn(0, self.buffer.pointer, self.buffer.count, 0))

    def refuse(self, reason: str) -> None:
        """No command to the frame of `next`, and why, one of REASONS."""
        self._answer(REASONS.index(reason))

    def _answer(self, reason: int) -> None:
        self.core.answer(reason, self.buffer.pointer, self.buffer.count)
        if self._digest is not None:
            self._digest.follow(self.follower.number + 1)

    def run(self, cycles: int) -> int:
        """Run cycles as fast as can be; how many were run: fewer when the core stops by itself.

        Raises WorldError when the world failed.
        """
        before = self.cycles
        if self._turn is not None and self._draws_cycles:
            for _ in self.frames(cycles):
                pass
        elif self._turn is not None and self._model is None:
            self._run_policy(self._turn, before + cycles)
        else:
            # the digest reads the rings before they come round
            batch = 1 if self._draws_cycles else self.plan.depth // 2
            while (left := before + cycles - self.cycles) > 0:
                self._draw_cycle()
                if self.core.run(min(batch, left)) == 0:
                    break
                if self._digest is not None:
                    self._digest.follow(self.core.frames)
        self._refuse_failure()
        return self.cycles - before

    def frames(self, cycles: int) -> Iterator[Frame]:
        """Run cycles as `run` does, and give each frame that the policy took, after its turn; where
        that is none of Python's, each frame. The first of them is run at the call.

        Raises WorldError when the world failed, and with `raises` the policy's exceptions.
        """
        frames = self._frames(cycles)
        first = next(frames, None)
        return frames if first is None else chain([first], frames)

    def _frames(self, cycles: int) -> Iterator[Frame]:
        until = self.cycles + cycles
        if self._turn is not None:
            while (number := self._turn_to(until)) is not None:
                frame = self.follower.frame(number)
                self.take_turn(frame)
                yield frame
        else:
            while self.cycles < until:
                self._draw_cycle()
                if self.core.run(1) == 0:
                    break
                if self._digest is not None:
                    self._digest.follow(self.core.frames)
                yield self.follower.frame(self.core.frames - 1)
        self._refuse_failure()

    def _run_policy(self, turn: "_Turn", until: int) -> None:
        """With one call of C per turn."""
        core, follower, take = self.core, self.follower, turn.take
        core.answers_of(self.buffer.pointer, self.buffer.count, until)
        layout, memory, records = follower.layout, follower.memory, follower.records
        mask, digest, number = follower.mask, self._digest, core.turn(until)

        # Python 3.11 speeds up no loop that jumps back on a condition
        while True:
            if number is None or number < 0:
                return
            if number & _LOOK == _LOOK:
                self._notices.look()
            follower.newest = number
            trouble = take(Frame(layout, memory[records[number & mask]], follower))
            if digest is not None:
                digest.follow(number + 1)
            number = core.answered() if trouble is None else core.refused(REASONS.index(trouble))

    @property
    def messages(self) -> list[str]:
        """The remarks so far."""
        self._notices.look()
        return self._events.kept

    def inference(self) -> dict[str, int] | None:
        """How long the policy's newest calls took on this machine: quantiles, in nanoseconds.

        None: there was none, or it is no function in this process.
        """
        took = self._turn.took_ns if isinstance(self._turn, policies.Turn) else ()
        if not took:
            return None
        values, last = np.sort(np.array(took)), len(took) - 1
        at = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
        return {"count": len(took)} | {n: int(values[int(part * last)]) for n, part in at.items()}

    @property
    def draws(self) -> dict[str, float | list[float]]:
        """The draws of this episode, by path."""
        return {} if self._randomisation is None else self._randomisation.draws

    @property
    def cycles(self) -> int:
        """Run so far."""
        return self.core.cycles

    def _refuse_failure(self) -> None:
        """Raise WorldError when the world has failed."""
        failure = self.core.world_failure()
        if failure is not None:
            assert self.world is not None
            raise self.world.explain(failure)

    @property
    def stopped(self) -> str | None:
        """Why the core has stopped by itself, one of REASONS; None while it runs on."""
        status = self.follower.reader.status()
        return REASONS[status["reason"]] if status["reason"] else None

    def digest(self) -> str:
        """SHA-256 over all frames so far: every field of every record and every sample."""
        assert self._digest is not None
        return self._digest.value(self.core.frames)

    def close(self) -> None:
        """End it, and remove its store."""
        if isinstance(self._turn, isolated.IsolatedPolicy):
            self._turn.close()
        self._end()
        if self._own_world is not None:
            self._own_world.close()

    def __enter__(self) -> "LockStep":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_Turn = policies.Turn | isolated.IsolatedPolicy | model_policy.ModelTurn


def _end(
    core: Core,
    follower: OwnFrames | None,
    model: model_policy.NativeModel | None,
    socket: RemoteSocket | None,
) -> None:
    if socket is not None:
        socket.close()
    if follower is not None:
        follower.close()
    core.close()
    if model is not None:
        model.close()


def run(
    described: Schedule,
    cycles: int,
    *,
    seed: int = 0,
    episode: int = 0,
    isolate: bool = False,
    observe: bool = False,
    record: Path | None = None,
    timing: Path | None = None,
    recorder: RecorderOptions | None = None,
) -> dict[str, Any]:
    """Run a schedule in lock step; its summary, with `digest` and `cycles_per_s`. record: a file
    that is made, with all its frames. timing: a recording whose timing is followed.

    Raises ScheduleError, RecordingError.
    """
    plan = planning.make(described)
    followed = None
    if timing is not None:
        from inphase.timing.replayed_timing import ReplayedTiming  # of the extra `record`

        followed = ReplayedTiming(timing, plan, cycles)
    options: dict[str, Any] = {"isolate": isolate, "observe": observe, "timing": followed}
    with LockStep(described, seed=seed, episode=episode, plan=plan, **options) as robot:
        with Patience(robot.core.segment.path, cycles):
            if record is None:
                robot.run(cycles)
                return sum_up(robot)
            recording = run_recorded(
                robot.follower, robot.run, cycles, record, described, options=recorder
            )
        return sum_up(robot) | {"recording": recording}


def sum_up(robot: LockStep) -> dict[str, Any]:
    """The summary of a run in lock step up to now."""
    from importlib import metadata  # imported where it is used: as slow as a quarter of NumPy

    result = summary.make(robot.plan, robot.follower.reader)
    result["inference_ns"] = robot.inference() or result["inference_ns"]
    shortfalls = summary.shortfalls(result)
    result["events"] = [*robot.messages, *shortfalls]
    if robot.recorded_timing is not None:
        robot.recorded_timing.note(result, robot.newest())
    if robot.stopped is None:
        result["stopped"] = {"cycle": robot.cycles, "reason": "done", "detail": 0}
    result["seed"] = robot.seed
    result["digest"] = robot.digest()
    result["versions"] = {name: metadata.version(name) for name in ("inphase", "numpy")}
    if robot.world is not None:
        result["versions"] |= dict([robot.world.version.split()])
    result["draws"] = robot.draws
    result["cycles_per_s"] = robot.cycles / (time.perf_counter() - robot.started_s)
    result["verdict"] = verdict.of(robot.plan, result, shortfalls)
    return result
