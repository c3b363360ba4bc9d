"""Workers that have every episode at once: they show what the choice of who runs what costs."""

import time
from collections import deque
from typing import Any

import numpy as np

from inphase import schedule as schedules
from inphase.episodes.episode import Job, nothing_of
from inphase.episodes.rollouts import crews
from inphase.episodes.rollouts.crew import Crew, EpisodeTask, WorkerNews
from inphase.episodes.rollouts.rollout_workers import RolloutWorkers

_SCHEDULE = "schedules/balance.toml"
_FEW, _MANY = 10, 2000


class _Instant:
    """See `crew.Crew`; one report at a time, which is what a busy learner sees least of."""

    kind, ahead, can_kill = "instant", 2, False

    def __init__(self, job: Job) -> None:
        self._job = job
        self._news: deque[WorkerNews] = deque()
        self._count = 0

    def start(self) -> int:
        """It is ready."""
        self._news.append(WorkerNews(self._count, "ready"))
        self._count += 1
        return self._count - 1

    def name(self, worker: int) -> str:
        """Its number."""
        return f"worker {worker}"

    def publish(self, version: int, weights: Any) -> None:
        """Nobody wants them."""

    def give(self, worker: int, task: EpisodeTask) -> None:
        """Done."""
        episode = nothing_of(self._job, task.number, task.version, "it was not run")
        self._news.append(WorkerNews(worker, "done", task, episode))

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """The next one."""
        return [self._news.popleft()] if self._news else []

    def kill(self, worker: int) -> None:
        """None hangs."""

    def close(self) -> None:
        """There is nothing."""


def choose_cost(episodes: int) -> float:
    """CPU seconds for each result and each 1000 workers."""
    few_s, many_s = (_per_result(workers, episodes) for workers in (_FEW, _MANY))
    return max(0.0, (many_s - few_s) * 1000 / (_MANY - _FEW))


def _per_result(many: int, episodes: int) -> float:
    before = crews.make

    def make(job: Job, *_: Any) -> tuple[Crew, int]:
        return _Instant(job), many

    crews.make = make
    try:
        workers = RolloutWorkers(schedules.load(_SCHEDULE), None, 1)
    finally:
        crews.make = before
    with workers:
        times = []
        for _ in range(3):
            source = workers.run(range(10**9))
            for _ in range(2 * many):  # all are busy
                next(source)
            began_s = time.process_time()
            for _ in range(episodes):
                next(source)
            times.append((time.process_time() - began_s) / episodes)
        return float(np.median(times))
