"""One episode in lock step: what it is made from, how it is run, and what came of it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.core.kept import Kept
from inphase.core.lockstep_config import NativePolicy
from inphase.episodes import observation
from inphase.episodes.lockstep import LockStep
from inphase.episodes.observation import Observer
from inphase.episodes.task import TaskRun
from inphase.errors import ScheduleError, WorldError
from inphase.frames.frame import Frame
from inphase.plan import plan as planning
from inphase.schedule import Schedule
from inphase.schedule.import_by_name import resolve_call
from inphase.world.mujoco import world as mujoco_world
from inphase.world.randomisation import KnobLike

_SLICE = 10_000  # cycles after which a thread looks whether it is to stop

Stopped = Callable[[], bool]


@dataclass(frozen=True)
class Episode:
    """The result of one episode."""

    number: int
    seed: int
    """of the run: with `number` it says all that was drawn"""
    cycles: int
    """that were run"""
    digest: str
    """of all its frames; empty where it failed"""
    reward: float
    """sum of the [task]'s rewards; 0.0 without"""
    terminated: bool
    """by the [task], before its cycles were over"""
    missed: int
    """cycles without a command of the policy, and"""
    invalid: int
    """with one that was refused"""
    reasons: dict[str, int]
    """why, and how often"""
    statuses: dict[str, dict[str, int]]
    """per sensor, in how many frames it had which status"""
    draws: dict[str, float | list[float]]
    """what was drawn, by path"""
    recorded: dict[str, NDArray[Any]] = field(default_factory=dict)
    """"sensor.field" to an array with a row per frame that the policy took; and "cycle", which"""
    error: str | None = None
    """why it failed, with its number and seed: the world did"""


class Job(NamedTuple):
    """The part that all episodes of a run share."""

    schedule: Schedule
    policy: Any
    seed: int
    cycles: int
    randomise: Mapping[str, KnobLike] | None
    record: Sequence[str]


class Seat:
    """The place of one worker, which runs episodes one after the other: its world and its policies.

    Its maker closes it. Thread: any; all of it in one.
    """

    def __init__(self, job: Job, stopped: Stopped = lambda: False) -> None:
        self._job = job
        self._stopped = stopped
        self._make_policy = _policy_maker(job)
        plan = planning.make(job.schedule)
        self._plan = plan if job.policy is None else replace(plan, client_policy=True)
        self._kept = Kept()
        has_world = job.schedule.world is not None
        self._world = mujoco_world.MujocoWorld(self._plan) if has_world else None

    def run(self, number: int) -> Episode:
        """One episode."""
        job, policy, error = self._job, self._make_policy(), None
        is_native = isinstance(policy, NativePolicy)
        with LockStep(
            job.schedule,
            seed=job.seed,
            call=None if is_native else policy,
            native=policy if is_native else None,
            world=self._world,
            plan=self._plan,
            episode=number,
            randomise=job.randomise,
            kept=self._kept,
        ) as robot:
            watch = _Watch(job, robot)
            try:
                watch.run(job.cycles, self._stopped)
            except WorldError as failure:
                error = f"episode {number} of seed {job.seed}: {failure}"
            return _sum_up(job, number, watch, error)

    def close(self) -> None:
        """End the world, and give its memory back."""
        self._kept.close()
        if self._world is not None:
            self._world.close()


def _sum_up(job: Job, number: int, watch: "_Watch", error: str | None) -> Episode:
    robot = watch.robot
    reader = robot.follower.reader
    counts = reader.counts()
    return Episode(
        number=number,
        seed=job.seed,
        cycles=robot.cycles,
        digest=robot.digest() if error is None else "",
        reward=watch.reward,
        terminated=watch.terminated,
        missed=counts["missed"],
        invalid=counts["invalid"],
        reasons=reader.reasons(),
        statuses={
            sensor.name: {status: n for status, n in counted.items() if n}
            for sensor, counted in zip(robot.plan.sensors, reader.statuses(), strict=True)
        },
        draws=robot.draws,
        recorded=watch.recorded(),
        error=error,
    )


class _Watch:
    """Looks at one episode's frames: the task, and what is recorded."""

    def __init__(self, job: Job, robot: LockStep) -> None:
        self.robot = robot
        self._task = TaskRun(job.schedule)
        self._parts = observation.choose(robot.plan, job.record) if job.record else []
        self._observer = Observer(self._parts, robot.follower)
        self._rows: list[list[NDArray[Any]]] = [[] for _ in self._parts]
        self._cycles: list[int] = []
        self.reward = 0.0
        self.terminated = False

    def run(self, cycles: int, stopped: Stopped) -> None:
        """The whole episode. Raises WorldError."""
        robot = self.robot
        if not (self._task.judges or self._parts):
            while robot.cycles < cycles and not stopped():
                if robot.run(min(_SLICE, cycles - robot.cycles)) == 0:
                    return
            return
        is_first = True
        for frame in robot.frames(cycles):
            self._record(frame)
            if is_first:
                self._task.begin(frame)
                is_first = False
                continue
            self.reward += self._task.reward(frame)
            self.terminated = self._task.terminated(frame)
            if self.terminated or stopped():
                return

    def _record(self, frame: Frame) -> None:
        if not self._parts:
            return
        values = self._observer.values([sample.sequence for sample in frame.samples.values()])
        self._cycles.append(frame.cycle)
        for part, rows in zip(self._parts, self._rows, strict=True):
            rows.append(values[part.sensor][part.field])

    def recorded(self) -> dict[str, NDArray[Any]]:
        """An array per field, with a row per frame, and the frames' cycles."""
        if not self._parts:
            return {}
        arrays: dict[str, NDArray[Any]] = {"cycle": np.array(self._cycles, np.int64)}
        for part, rows in zip(self._parts, self._rows, strict=True):
            empty = np.empty((0, *part.shape), part.dtype)
            arrays[part.name] = np.stack(rows) if rows else empty
        return arrays


# ---- policies ----------------------------------------------------------------------------------


def _policy_maker(job: Job) -> Callable[[], Any]:
    """Gives each episode a policy of its own. Raises ScheduleError."""
    found, args = job.policy, {}
    if isinstance(found, str):
        own = job.schedule.policy
        args = dict(own.args) if own is not None and own.call == found else {}
        found = resolve_call(found, job.schedule.path.parent)
    if found is None or isinstance(found, NativePolicy):
        return lambda: found
    if isinstance(found, np.ndarray):
        commands = np.array(found, np.float64)
        return lambda: _OpenLoop(commands)
    if not callable(found):
        raise ScheduleError(f"policy {job.policy!r} is not callable; name a function of a frame")

    def make() -> Any:
        if isinstance(found, type):
            return found(**args)
        if callable(getattr(found, "reset", None)):
            return found  # LockStep resets it
        return copy.deepcopy(found)  # a plain function is its own copy

    return make


class _OpenLoop:
    """A command after the other, and then none."""

    def __init__(self, commands: NDArray[np.float64]) -> None:
        self._commands = iter(commands)

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        return next(self._commands, None)
