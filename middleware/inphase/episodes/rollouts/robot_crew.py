"""Robots as workers: they run episodes in real time, beside the simulators, and are never retried.

Each has a thread of this process, which runs the policy. The robot itself is in a runtime process,
or behind a service's lease. Its runtime and its guard stop it, whatever becomes of this process.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from inphase import schedule as schedules
from inphase.episodes.clients.client import Client, RunnerClient
from inphase.episodes.clients.remote_client import RemoteClient
from inphase.episodes.episode import (
    Episode,
    EpisodeWatch,
    Job,
    Limit,
    TaskError,
    failed,
    give_weights,
    nothing_of,
    policy_maker,
    reduced,
    reducer,
)
from inphase.episodes.rollouts.crew import EpisodeTask, WorkerError, WorkerNews
from inphase.episodes.step_info import StepInfo
from inphase.errors import InphaseError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.policy import turn as policies
from inphase.policy.remarks import Remarks
from inphase.schedule import Schedule

_LOG = logging.getLogger("inphase")
_END_S = 30.0
_LOST = (InphaseError, store.Lost, TimeoutError, ValueError, OSError)


@dataclass(frozen=True)
class RobotWorker:
    """A robot that runs episodes in real time, beside the simulators.

    schedule: of the robot. backend: "simulate" is a simulated one behind the same runtime,
    "hardware" the robot itself, "remote" one that a service keeps up, under its lease: service and
    key are those of `inphase.connect`.
    """

    schedule: Path | str | Schedule
    backend: Literal["simulate", "hardware", "remote"] = "hardware"
    service: str = ""
    key: str | None = None


class Robots:
    """A thread for each robot. Not a whole `crew.Crew`: a robot is never killed or begun again."""

    def __init__(self, job: Job, robots: list[RobotWorker]) -> None:
        self.stopped = threading.Event()
        self.news: queue.SimpleQueue[WorkerNews] = queue.SimpleQueue()
        self._weights: tuple[int, Any] = 0, None
        self._hands = [_RobotThread(self, job, -1 - at, one) for at, one in enumerate(robots)]

    def start(self) -> list[int]:
        """Begin them all; their numbers, which are negative."""
        for hand in self._hands:
            hand.thread.start()
        return [hand.number for hand in self._hands]

    def name(self, worker: int) -> str:
        """The robot's."""
        return self._hands[-1 - worker].name

    def publish(self, version: int, weights: Any) -> None:
        """For the tasks that are given from now on."""
        self._weights = version, weights

    def give(self, worker: int, task: EpisodeTask) -> None:
        """With the newest weights."""
        self._hands[-1 - worker].tasks.put((task, *self._weights))

    def close(self) -> None:
        """Each ends its episode at the next frame, and its robot ramps down."""
        self.stopped.set()
        for hand in self._hands:
            hand.tasks.put(None)
        for hand in self._hands:
            if hand.thread.is_alive():
                hand.thread.join(_END_S)


class _RobotThread:
    def __init__(self, crew: Robots, job: Job, number: int, robot: RobotWorker) -> None:
        given = robot.schedule
        loaded = given if isinstance(given, Schedule) else schedules.load(given)
        self.number = number
        self.name = f"robot {loaded.name}"
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="inphase robot", daemon=True)
        self._crew, self._job, self._robot = crew, job._replace(schedule=loaded), robot
        if job.randomise:
            raise WorkerError(
                f"{self.name}: knobs are randomised in lock step alone; leave randomise= out"
            )
        self._make_policy: Callable[[], Any] = policy_maker(self._job)
        self._reduce = reducer(self._job)
        if job.policy is None or not callable(self._make_policy()):
            raise WorkerError(f"{self.name}: a robot as worker wants a policy in Python")

    def _client(self) -> Client:
        robot, schedule = self._robot, self._job.schedule
        if robot.backend == "remote":
            return RemoteClient(schedule, service=robot.service, key=robot.key)
        return RunnerClient(schedule, simulate=robot.backend == "simulate")

    def _work(self) -> None:
        tell = self._crew.news.put
        tell(WorkerNews(self.number, "ready"))
        client = None
        while (given := self.tasks.get()) is not None:
            task, version, weights = given
            began_s, lost = time.perf_counter(), None
            try:
                client = client or self._client()
                episode = self._run(client, task, version, weights)
            except _LOST as error:
                lost = f"{type(error).__name__}: {error}"
                blank = nothing_of(self._job, task.number, task.version, lost)
                episode = replace(blank, real=True)
            took_s = time.perf_counter() - began_s
            tell(WorkerNews(self.number, "done", task, episode, took_s))
            if lost is not None:
                tell(WorkerNews(self.number, "died", text=lost))
                break
        if client is not None:
            client.close()

    def _run(self, client: Client, task: EpisodeTask, version: int, weights: Any) -> Episode:
        """One episode in real time. Raises what loses the robot."""
        policy = self._make_policy()
        if version:
            give_weights(policy, self._job.policy, weights)
        run = RealEpisode(self._job, client)
        try:
            run.run(task.number, policy, Limit(self._job.timeout_s, self._crew.stopped.is_set))
        except TaskError as error:
            return failed(run.episode(task, version), str(error))
        return reduced(self._reduce, run.episode(task, version), policy)


@dataclass
class RealEpisode:
    """One episode of a robot that is called in real time."""

    job: Job
    client: Client
    missed: int = 0
    invalid: int = 0
    cycles: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    error: str | None = None

    def run(self, number: int, policy: Any, limit: Limit) -> None:
        """From where the robot stands, for so many cycles. It stops at a frame, when it is to.
        Raises what `Client` raises, TaskError."""
        job, client = self.job, self.client
        plan = client.plan
        frame = client.begin(job.seed, number, None, tuple(one.name for one in plan.sensors))
        self._watch = EpisodeWatch(job, plan, client.follower)
        self._statuses: dict[str, Counter[str]] = {one.name: Counter() for one in plan.sensors}
        self._infos = StepInfo(client.follower)
        self._remarks = Remarks(_LOG.warning, client.schedule)
        call = policies.begin(policy, client.follower.layout)
        first, is_first = frame.cycle, True
        while True:
            self._watch.take(frame, is_first)
            self._count(frame, is_first)
            is_first = False
            self.cycles = frame.cycle - first + 1
            if frame.reason != "none":
                self.error = f"motion is latched: {frame.reason}"
            elif limit():
                self.error = "stopped, for its time was over or its workers were closed"
            if self.error or self._watch.terminated or self.cycles >= job.cycles:
                return
            frame = self._turn(call, frame)

    def _turn(self, call: Callable[[Frame], Any], frame: Frame) -> Frame:
        """A policy that raises gives no command, as on any robot; the cycle decides."""
        try:
            command = call(frame)
        except Exception as error:  # whatever it is; it is told
            self._remarks.raised(error, frame)
            self.reasons["raised"] += 1
            return self.client.next()
        if command is None:
            self.reasons["silent"] += 1
            return self.client.next()
        following = self.client.turn(command)
        if isinstance(following, str):
            self.reasons[following] += 1
            return self.client.next()
        return following

    def _count(self, frame: Frame, is_first: bool) -> None:
        info = self._infos.info(frame.record, self._infos.unpack(frame.record))
        for name, status in info["status"].items():
            self._statuses[name][status] += 1
        if not is_first:
            self.missed += info["missed"]
            self.invalid += info["invalid"]

    def episode(self, task: EpisodeTask, version: int) -> Episode:
        """The result."""
        made = Episode(
            number=task.number,
            seed=self.job.seed,
            cycles=self.cycles,
            digest="",
            reward=self._watch.reward,
            terminated=self._watch.terminated,
            missed=self.missed,
            invalid=self.invalid,
            reasons=dict(self.reasons),
            statuses={name: dict(counted) for name, counted in self._statuses.items()},
            draws={},
            recorded=self._watch.recorded(),
            version=version,
            real=True,
        )
        return made if self.error is None else failed(made, self.error)
