"""Workers that stay up for a whole training: episodes, as they end, and weights for the next ones.

    with inphase.RolloutWorkers("arm.toml", "policies.py:Net", seed=1, cycles=500) as workers:
        for episode in workers.run(range(1000)):
            ...
            workers.publish(weights)  # for the episodes that begin from now on

An episode follows from seed, number and weights, whoever runs it. Each number is given back once.
"""

import contextlib
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from inphase import schedule as schedules
from inphase.episodes.episode import Episode, Job, Reduce, nothing_of
from inphase.episodes.rollouts import crews
from inphase.episodes.rollouts.crew import EpisodeTask, WorkerError, WorkerNews
from inphase.episodes.rollouts.robot_crew import Robots, RobotWorker
from inphase.episodes.rollouts.rollout_progress import RolloutProgress
from inphase.schedule import Schedule
from inphase.world.randomisation import KnobLike

_LOOK_S, _GLANCE_S = 0.25, 0.02
"""how long simulators are waited for; where there are robots, which are looked at in between"""
_GRACE_S = 5.0
"""after `timeout_s` an episode ends by itself; a worker that is not back by then hangs"""
_DEATHS_MAX = 3
"""of workers with the same episode, or one after the other without any episode between"""


@dataclass
class _Hand:
    """A worker, and what it has to do; the first task is the one that it runs."""

    tasks: deque[EpisodeTask] = field(default_factory=deque)
    since_s: float = 0.0
    """monotonic: the first task was begun not before"""


class RolloutWorkers:
    """Simulators that run episodes of one schedule and one seed, until they are closed.

    schedule, policy, seed, cycles, workers, randomise, record: as of `inphase.rollout`.
    address: where they are. None is this machine; "auto" is the Ray cluster that it belongs to,
    "local" a new one of this machine, "ray://HOST:10001" another one (extra `ray`).
    timeout_s: of an episode on the wall clock. It is ended then, with an `error`; a worker that
    hangs is killed and replaced. staleness: an episode is run again whose weights are more than so
    many versions old when it is given back; None: none is. reduce: a function, or its name, that
    each worker calls with an episode and its policy. The arrays that it returns, by name, are sent
    as `recorded`: a gradient, for instance.

    robots: run episodes of the same numbers in real time, in threads of this process. Those are
    `real`, have no digest, and are never run again. A robot that is lost does not come back.

    A policy in Python that takes weights has a method `load_weights(weights)`, which is called
    before each episode. They are whatever the caller publishes; arrays are read-only there.

    Thread: one at a time. `close` ends the workers. Raises ScheduleError, WorldError, ValueError.
    """

    def __init__(
        self,
        schedule: Path | str | Schedule,
        policy: Any,
        seed: int,
        *,
        cycles: int | None = None,
        workers: int | None = None,
        randomise: Mapping[str, KnobLike] | None = None,
        record: Sequence[str] = (),
        address: str | None = None,
        timeout_s: float | None = None,
        staleness: int | None = None,
        reduce: Reduce | str | None = None,
        robots: Sequence[RobotWorker] = (),
    ) -> None:
        self.job = make_job(
            schedule,
            policy,
            seed,
            cycles=cycles,
            randomise=randomise,
            record=tuple(record),
            timeout_s=timeout_s,
            reduce=reduce,
        )
        self.staleness = staleness
        self._robots = Robots(self.job, list(robots))
        self._crew, self.count = crews.make(self.job, address, workers, bool(robots))
        self.version = 0
        """of the weights that were published last"""
        self._hands: dict[int, _Hand] = {}
        self._serial = 0
        self._open: set[int] = set()
        """serials of tasks whose episode is still wanted"""
        self._hungry: dict[int, None] = {}
        """workers that take another task, in the order in which they came to do so"""
        self._looked_s = 0.0
        """monotonic: when hung workers were looked for"""
        self._deaths: dict[int, int] = {}
        """episode -> workers that died with it"""
        self._idle_deaths = 0
        self._progress = RolloutProgress(self.count)
        try:
            for _ in range(self.count):
                self._start()
        except BaseException:
            self._crew.close()
            raise
        self._robots_up = 0
        for number in self._robots.start():
            self._hands[number] = _Hand()
            self._robots_up += 1

    @property
    def progress(self) -> RolloutProgress:
        """Counts of all so far, and what holds it up."""
        return replace(self._progress)

    def publish(self, weights: Any) -> int:
        """Weights for the episodes that are begun from now on; their version.

        They go once to each machine. Raises ValueError where the policy is none of Python.
        """
        self._crew.publish(self.version + 1, weights)
        self._robots.publish(self.version + 1, weights)
        self.version += 1
        return self.version

    def run(self, numbers: Iterable[int]) -> Iterator[Episode]:
        """Run the episodes of these numbers; each is given as soon as it is through.

        numbers: taken as workers become free, so they may be endless. While the caller has an
        episode, workers run those that they were given before, one or two each. An episode that
        cannot be run has an `error`. Ends the episodes of a `run` that was not read to its end.
        Raises WorkerError where workers do not start, and ScheduleError.
        """
        self._drop()
        wanted = _Numbers(iter(numbers))
        progress, began_s = self._progress, time.perf_counter()
        while True:
            self._fill(wanted)
            if wanted.is_over and not self._open:
                return
            for report in self._wait():
                episode = self._heed(report, wanted.again)
                if episode is None:
                    continue
                waited_s = time.perf_counter() - began_s
                progress.waited(waited_s, episode)
                began_s = time.perf_counter()
                yield episode
                progress.held_s += time.perf_counter() - began_s
                began_s = time.perf_counter()
            for episode in self._kill_hung(wanted.again):
                yield episode

    def _wait(self) -> list[WorkerNews]:
        """The news of simulators and robots."""
        found: list[WorkerNews] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._robots.news.get_nowait())
        if found:
            return found
        return self._crew.wait(_GLANCE_S if self._robots_up else _LOOK_S)

    # ---- tasks -------------------------------------------------------------------------------

    def _drop(self) -> None:
        """Forget the tasks of a run that was given up: their reports are nobody's."""
        for hand in self._hands.values():
            hand.tasks = deque(task._replace(number=-1) for task in hand.tasks)
        self._open.clear()

    def _fill(self, wanted: "_Numbers") -> None:
        """Give each worker that is ready as much as it takes, the idle ones first.

        A look at every worker after each episode would hold a learner of thousands up.
        """
        if wanted.is_over:
            return
        for depth in range(self._crew.ahead):
            for worker in list(self._hungry):
                hand = self._hands[worker]
                if len(hand.tasks) == depth:
                    number = wanted.next()
                    if number is None:
                        return
                    self._give(worker, hand, number)
                if len(hand.tasks) >= (1 if worker < 0 else self._crew.ahead):
                    del self._hungry[worker]

    def _give(self, worker: int, hand: _Hand, number: int) -> None:
        self._serial += 1
        task = EpisodeTask(self._serial, number, self.version)
        if not hand.tasks:
            hand.since_s = time.monotonic()
        hand.tasks.append(task)
        self._open.add(task.serial)
        (self._robots if worker < 0 else self._crew).give(worker, task)

    def _heed(self, report: WorkerNews, again: deque[int]) -> Episode | None:
        """Draw the consequences of a report; the episode that it brings."""
        hand = self._hands.get(report.worker)
        if hand is None:
            return None
        if report.kind == "ready":
            self._hungry[report.worker] = None
            return None
        if report.kind == "died":
            return self._bury(report, hand, again)
        assert report.task is not None and report.episode is not None
        mine = hand.tasks.popleft()
        assert mine.serial == report.task.serial
        self._open.discard(mine.serial)
        self._hungry[report.worker] = None
        hand.since_s = time.monotonic()
        self._idle_deaths = 0
        if report.worker >= 0:
            self._progress.busy_s += report.took_s
        if mine.number < 0:
            return None
        if self._is_stale(mine) and report.worker >= 0:
            self._progress.stale += 1
            again.append(mine.number)
            return None
        return self._given(report.episode, self._name(report.worker))

    def _name(self, worker: int) -> str:
        return (self._robots if worker < 0 else self._crew).name(worker)

    def _given(self, episode: Episode, name: str) -> Episode:
        if episode.error is not None:
            episode = replace(episode, error=f"{episode.error} ({name})")
            self._progress.errors += 1
        self._deaths.pop(episode.number, None)
        self._progress.episodes += 1
        return replace(episode, worker=name)

    def _is_stale(self, task: EpisodeTask) -> bool:
        return self.staleness is not None and self.version - task.version > self.staleness

    def _forget(self, worker: int) -> _Hand:
        """A worker is gone, and nobody waits for its tasks."""
        hand = self._hands.pop(worker)
        self._open.difference_update(task.serial for task in hand.tasks)
        self._hungry.pop(worker, None)
        return hand

    # ---- workers that die ----------------------------------------------------------------------

    def _start(self) -> None:
        self._hands[self._crew.start()] = _Hand()

    def _bury(self, report: WorkerNews, hand: _Hand, again: deque[int]) -> Episode | None:
        """A worker died: another takes its place and its episodes. One that kills its workers has
        an error."""
        name = self._name(report.worker)
        self._forget(report.worker)
        if report.worker < 0:
            self._progress.robots_lost += 1
            self._robots_up -= 1
            return None
        self._progress.died += 1
        if not hand.tasks:
            self._idle_deaths += 1
            if self._idle_deaths > _DEATHS_MAX + self.count:
                raise WorkerError(f"workers do not stay up: {name}: {report.text}")
        self._start()
        killer = hand.tasks.popleft() if hand.tasks else None
        again.extend(task.number for task in hand.tasks if task.number >= 0)
        if killer is None or killer.number < 0:
            return None
        deaths = self._deaths[killer.number] = self._deaths.get(killer.number, 0) + 1
        if deaths < _DEATHS_MAX:
            again.appendleft(killer.number)
            self._progress.again += 1
            return None
        text = f"{deaths} workers died with it, the last one: {report.text}"
        return self._given(nothing_of(self.job, killer.number, killer.version, text), name)

    def _kill_hung(self, again: deque[int]) -> Iterator[Episode]:
        """Workers whose episode takes too long are killed; the episodes, which have an error."""
        if self.job.timeout_s is None or not self._crew.can_kill:
            return
        if time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        late_s = self._looked_s - self.job.timeout_s - _GRACE_S
        hung = [
            worker
            for worker, hand in self._hands.items()
            if worker >= 0 and hand.tasks and hand.since_s < late_s
        ]
        for worker in hung:
            hand, name = self._forget(worker), self._crew.name(worker)
            self._crew.kill(worker)
            self._progress.hung += 1
            self._start()
            task = hand.tasks.popleft()
            again.extend(one.number for one in hand.tasks if one.number >= 0)
            if task.number >= 0:
                text = (
                    f"it hung, and its worker was killed after timeout_s = {self.job.timeout_s:g}"
                )
                yield self._given(nothing_of(self.job, task.number, task.version, text), name)

    def close(self) -> None:
        """End the workers; robots ramp down first."""
        self._robots.close()
        self._crew.close()
        self._hands.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Numbers:
    """The episodes that are still to be given to somebody."""

    def __init__(self, source: Iterator[int]) -> None:
        self._source = source
        self._has_ended = False
        self.again: deque[int] = deque()
        """that were given before, and have to be run again: these first"""

    def next(self) -> int | None:
        """None: there is none."""
        if self.again:
            return self.again.popleft()
        number = None if self._has_ended else next(self._source, None)
        self._has_ended = number is None
        return number

    @property
    def is_over(self) -> bool:
        """True if all were given; known once `next` has said so."""
        return self._has_ended and not self.again


def make_job(
    schedule: Path | str | Schedule,
    policy: Any,
    seed: int,
    *,
    cycles: int | None,
    **more: Any,
) -> Job:
    """Make the part that all episodes share. Raises ScheduleError, ValueError."""
    loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
    length = cycles if cycles is not None else loaded.task.cycles
    if length is None:
        raise ValueError(f"say how many cycles an episode has: cycles=, or [task] in {loaded.path}")
    if policy is None and loaded.policy is not None:
        policy = loaded.policy.call  # by its name; None: a model, which LockStep makes
    return Job(loaded, policy, seed, length, **more)
