"""One episode in lock step: what it is made from, how it is run, and what came of it."""

import copy
import math
import time
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
from inphase.frames.store_follower import StoreFollower
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.schedule import Schedule
from inphase.schedule.import_by_name import place_of, resolve_call
from inphase.world.engines import make_world
from inphase.world.randomisation import KnobLike

_SLICE = 10_000  # cycles after which a thread looks whether it is to stop

REWARD = "reward"
"""among what is recorded: the reward of each step; 0.0 for the first frame"""

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
    """why it failed, with its number and seed: the world, the [task] or `reduce` did, it took too
    long, or its worker died with it"""
    version: int = 0
    """of the weights that its policy had; 0: none were published"""
    real: bool = False
    """True if a robot ran it in real time: it does not follow from seed and number"""
    worker: str = field(default="", compare=False)
    """which ran it: node and process"""


Reduce = Callable[[Episode, Any], Mapping[str, Any]]
"""of an episode and its policy; arrays by name, which are sent in place of `recorded`"""


class Job(NamedTuple):
    """The part that all episodes of a run share."""

    schedule: Schedule
    policy: Any
    seed: int
    cycles: int
    randomise: Mapping[str, KnobLike] | None = None
    record: Sequence[str] = ()
    timeout_s: float | None = None
    """of an episode on the wall clock"""
    reduce: Reduce | str | None = None


class Seat:
    """The place of one worker, which runs episodes one after the other: its world and its policies.

    Its maker closes it. Thread: any; all of it in one.
    """

    def __init__(self, job: Job, stopped: Stopped = lambda: False) -> None:
        self._job = job
        self._stopped = stopped
        self._make_policy = policy_maker(job)
        self._reduce = reducer(job)
        plan = planning.make(job.schedule)
        self._plan = plan if job.policy is None else replace(plan, client_policy=True)
        self._kept = Kept()
        has_world = job.schedule.world is not None
        self._world = make_world(self._plan) if has_world else None
        self._version, self._weights = 0, None

    def load(self, version: int, weights: Any) -> None:
        """The weights of the policy, from the next episode on."""
        self._version, self._weights = version, weights

    def run(self, number: int) -> Episode:
        """One episode."""
        job, policy, error = self._job, self._make_policy(), None
        if self._version:
            give_weights(policy, job.policy, self._weights)
        is_native = isinstance(policy, NativePolicy)
        limit = Limit(job.timeout_s, self._stopped)
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
            watch = EpisodeWatch(job, robot.plan, robot.follower)
            try:
                watch.run(robot, job.cycles, limit)
            except (WorldError, TaskError) as failure:
                error = str(failure)
            if limit.is_over:
                error = f"stopped after timeout_s = {job.timeout_s:g} in cycle {robot.cycles}"
            episode = _sum_up(job, number, robot, watch, error)
        episode = replace(episode, version=self._version)
        return reduced(self._reduce, episode, policy)

    def close(self) -> None:
        """End the world, and give its memory back."""
        self._kept.close()
        if self._world is not None:
            self._world.close()


def where(number: int, seed: int) -> str:
    """The name of an episode in an `error`."""
    return f"episode {number} of seed {seed}"


def failed(episode: Episode, text: str) -> Episode:
    """The same, as one that failed."""
    error = f"{where(episode.number, episode.seed)}: {text}"
    return replace(episode, error=error, digest="", recorded={})


def nothing_of(job: Job, number: int, version: int, text: str) -> Episode:
    """An episode of which nothing came back."""
    blank = Episode(
        number=number,
        seed=job.seed,
        cycles=0,
        digest="",
        reward=0.0,
        terminated=False,
        missed=0,
        invalid=0,
        reasons={},
        statuses={},
        draws={},
        version=version,
    )
    return failed(blank, text)


def reduced(reduce: Reduce | None, episode: Episode, policy: Any) -> Episode:
    """The arrays that `reduce` makes of it, in place of what was recorded; None: as it is."""
    if reduce is None:
        return episode
    if episode.error is not None:
        return replace(episode, recorded={})
    try:
        made = {name: np.asarray(one) for name, one in reduce(episode, policy).items()}
    except Exception as error:
        return failed(episode, f"reduce raised {error!r}{place_of(error)}")
    for name, array in made.items():
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            return failed(episode, f"reduce gave numbers that are not finite: {name!r}")
    return replace(episode, recorded=made)


class Limit:
    """Says when an episode is to stop: as its worker does, and when its time is over."""

    def __init__(self, timeout_s: float | None, stopped: Stopped) -> None:
        self._until_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._stopped = stopped
        self.is_over = False

    def __call__(self) -> bool:
        self.is_over = self._until_s is not None and time.monotonic() > self._until_s
        return self.is_over or self._stopped()


class TaskError(Exception):
    """A function of the [task] raised."""


def _sum_up(
    job: Job, number: int, robot: LockStep, watch: "EpisodeWatch", error: str | None
) -> Episode:
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
        error=None if error is None else f"{where(number, job.seed)}: {error}",
    )


class EpisodeWatch:
    """Looks at one episode's frames: the task, and what is recorded."""

    def __init__(self, job: Job, plan: Plan, follower: StoreFollower) -> None:
        self._task = TaskRun(job.schedule)
        fields = [one for one in job.record if one != REWARD]
        self._parts = observation.choose(plan, fields) if fields else []
        self._rewards: list[float] | None = [] if REWARD in job.record else None
        self._observer = Observer(self._parts, follower)
        self._rows: list[list[NDArray[Any]]] = [[] for _ in self._parts]
        self._cycles: list[int] = []
        self.reward = 0.0
        self.terminated = False

    def run(self, robot: LockStep, cycles: int, stopped: Stopped) -> None:
        """The whole episode. Raises WorldError, TaskError."""
        if not (self._task.judges or self._is_recorded):
            while robot.cycles < cycles and not stopped():
                if robot.run(min(_SLICE, cycles - robot.cycles)) == 0:
                    return
            return
        is_first = True
        for frame in robot.frames(cycles):
            self.take(frame, is_first)
            is_first = False
            if self.terminated or stopped():
                return

    def take(self, frame: Frame, is_first: bool) -> None:
        """Record a frame and judge it. Raises TaskError."""
        self._record(frame)
        reward = self._judge(frame, is_first)
        self.reward += reward
        if self._rewards is not None:
            self._rewards.append(reward)

    def _judge(self, frame: Frame, is_first: bool) -> float:
        """The reward of the step that led to this frame."""
        try:
            if is_first:
                self._task.begin(frame)
                return 0.0
            reward = self._task.reward(frame)
            self.terminated = self._task.terminated(frame)
        except Exception as error:
            text = f"a function of the [task] raised {error!r} in cycle {frame.cycle}"
            raise TaskError(text + place_of(error)) from error
        if not math.isfinite(reward):
            raise TaskError(f"the [task]'s reward is {reward} in cycle {frame.cycle}")
        return reward

    @property
    def _is_recorded(self) -> bool:
        return bool(self._parts) or self._rewards is not None

    def _record(self, frame: Frame) -> None:
        if not self._is_recorded:
            return
        values = self._observer.values([sample.sequence for sample in frame.samples.values()])
        self._cycles.append(frame.cycle)
        for part, rows in zip(self._parts, self._rows, strict=True):
            rows.append(values[part.sensor][part.field])

    def recorded(self) -> dict[str, NDArray[Any]]:
        """An array per field, with a row per frame, and the frames' cycles."""
        if not self._is_recorded:
            return {}
        arrays: dict[str, NDArray[Any]] = {"cycle": np.array(self._cycles, np.int64)}
        for part, rows in zip(self._parts, self._rows, strict=True):
            empty = np.empty((0, *part.shape), part.dtype)
            arrays[part.name] = np.stack(rows) if rows else empty
        if self._rewards is not None:
            arrays[REWARD] = np.array(self._rewards)
        return arrays


# ---- policies ----------------------------------------------------------------------------------


def policy_maker(job: Job) -> Callable[[], Any]:
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


def give_weights(policy: Any, name: Any, weights: Any) -> None:
    """Weights for a policy, before its episode. Raises ScheduleError."""
    take = getattr(policy, "load_weights", None)
    if not callable(take):
        raise ScheduleError(
            f"policy {name!r} takes no weights; give it a method load_weights(weights)"
        )
    take(weights)


def reducer(job: Job) -> Reduce | None:
    """The function of that name. Raises ScheduleError."""
    found: Any = job.reduce
    if isinstance(found, str):
        found = resolve_call(found, job.schedule.path.parent)
    if found is not None and not callable(found):
        raise ScheduleError(f"reduce {job.reduce!r} is not callable; name a function")
    return found  # type: ignore[no-any-return]


class _OpenLoop:
    """A command after the other, and then none."""

    def __init__(self, commands: NDArray[np.float64]) -> None:
        self._commands = iter(commands)

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        return next(self._commands, None)
