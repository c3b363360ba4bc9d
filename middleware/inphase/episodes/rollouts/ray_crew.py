"""A crew on a Ray cluster: an actor per worker; needs `inphase[ray]`.

Actors alone are used, and Ray runs nothing again: what died is replaced by `RolloutWorkers`, which
knows which episodes it had. The job and each version of the weights are put into the object store
once, from where each machine fetches them once.
"""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inphase.episodes.episode import Episode, Job, Seat
from inphase.episodes.rollouts import worker_facts
from inphase.episodes.rollouts.crew import EpisodeTask, WorkerError, WorkerNews
from inphase.episodes.rollouts.local_crew import timed
from inphase.episodes.rollouts.worker_facts import WorkerFacts
from inphase.errors import InphaseError, install

_SAID_MAX = 300
_COLOUR = re.compile(r"\x1b\[\d+m")


@dataclass
class _RayWorker:
    """An actor, and the calls of it that are not through."""

    actor: Any
    version: int = 0
    """of the weights that it was given last"""
    calls: deque[tuple[Any, EpisodeTask | None]] = field(default_factory=deque)


class RayCrew:
    """See `crew.Crew`. address: "auto", "local", or of a cluster. Raises WorkerError where there is
    none, ScheduleError."""

    kind, ahead, can_kill = "Ray", 2, True

    def __init__(self, job: Job, address: str, workers: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise WorkerError(f"{error}; {install('ray')}") from error
        self._ray = ray
        path = job.schedule.path.resolve()
        job = job._replace(schedule=msgspec.structs.replace(job.schedule, path=path))
        self._facts = worker_facts.here(job)
        self._is_mine = not ray.is_initialized()
        if self._is_mine:
            _connect(ray, address, workers)
        self.count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._job = ray.put(job)
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Simulator)
        self._weights: tuple[int, Any] = 0, None
        self._workers: dict[int, _RayWorker] = {}
        self._names: list[str] = []
        """by worker, also of those that are gone"""

    def start(self) -> int:
        """It begins once the cluster has a core for it."""
        actor = self._actor.options(scheduling_strategy="SPREAD").remote(self._job)
        number = len(self._names)
        self._names.append(f"worker {number}, which has not started")
        self._workers[number] = _RayWorker(actor)
        self._workers[number].calls.append((actor.facts.remote(), None))
        return number

    def name(self, worker: int) -> str:
        """Its node and process, once it has said them."""
        return self._names[worker]

    def publish(self, version: int, weights: Any) -> None:
        """Into the object store; each worker takes them from there before its next task."""
        self._weights = version, self._ray.put(weights)

    def give(self, worker: int, task: EpisodeTask) -> None:
        """A call of its actor, which makes them in the order of the calls."""
        found = self._workers[worker]
        version, weights = self._weights
        if version != found.version:
            found.actor.load.remote(version, weights)
            found.version = version
        found.calls.append((found.actor.run.remote(task.number), task))

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """From all of them."""
        ray = self._ray
        first = {worker.calls[0][0]: n for n, worker in self._workers.items() if worker.calls}
        if not first:
            time.sleep(timeout_s)
            return []
        done, _ = ray.wait(list(first), num_returns=1, timeout=timeout_s)
        if done:
            done, _ = ray.wait(list(first), num_returns=len(first), timeout=0)
        return [self._report(first[call], call) for call in done]

    def _report(self, number: int, call: Any) -> WorkerNews:
        """Of a worker's first call: what comes back before the worker dies counts."""
        ray, task = self._ray, self._workers[number].calls[0][1]
        try:
            said: Any = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, InphaseError):
                raise cause from error
            raise WorkerError(f"{self._names[number]}: {error}") from error
        except ray.exceptions.RayError as error:  # the actor, its node, or what it gave is gone
            text = _in_short(error)
            self.kill(number)
            return WorkerNews(number, "died", text=text)
        self._workers[number].calls.popleft()
        if task is not None:
            return WorkerNews(number, "done", task, *said)
        self._meet(number, said)
        return WorkerNews(number, "ready")

    def _meet(self, number: int, facts: WorkerFacts) -> None:
        """Its first words. Raises WorkerError where it would run other episodes than the rest."""
        self._names[number] = facts.name
        if trouble := worker_facts.trouble(self._facts, facts):
            raise WorkerError(f"{facts.name}: {trouble}")

    def kill(self, worker: int) -> None:
        """Its process, wherever it is; no clean-up is run there."""
        self._ray.kill(self._workers.pop(worker).actor)

    def close(self) -> None:
        """End the actors, and the connection if it was made here."""
        for worker in list(self._workers):
            self.kill(worker)
        if self._is_mine:
            self._ray.shutdown()


class Simulator:
    """The actor: one worker on some node. Thread: Ray's one for its calls."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seat: Seat | None = None
        self._weights: tuple[int, Any] = 0, None

    def facts(self) -> WorkerFacts:
        """Its versions and files."""
        return worker_facts.here(self._job)

    def load(self, version: int, weights: Any) -> None:
        """The weights of the episodes from now on; their arrays are read-only."""
        self._weights = version, weights
        if self._seat is not None:
            self._seat.load(version, weights)

    def run(self, number: int) -> tuple[Episode, float]:
        """One episode, and how long it took."""
        if self._seat is None:
            self._seat = Seat(self._job)
            self._seat.load(*self._weights)
        return timed(self._seat, EpisodeTask(0, number, 0))


def _connect(ray: Any, address: str, workers: int | None) -> None:
    """To a cluster. Raises WorkerError with the remedy."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except Exception as error:  # of Ray, of gRPC, of a socket: what the address leads to
        raise WorkerError(
            f"address {address!r} leads to no Ray cluster: {_in_short(error)}; start one with "
            f"`ray start --head`, or give address='local'"
        ) from error


def _in_short(error: BaseException) -> str:
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return " ".join(lines)[:_SAID_MAX] or type(error).__name__
