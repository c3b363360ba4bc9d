"""The contract of a crew: workers that run episodes, one after the other, until they are closed.

A crew starts workers, hands them tasks and reports what became of them. It decides nothing: which
episode goes to whom, what is run again and what is given up is `RolloutWorkers`' matter.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from inphase.episodes.episode import Episode
from inphase.errors import WorldError


class WorkerError(WorldError):
    """A worker cannot run these episodes: other versions or files, or it does not start."""


class EpisodeTask(NamedTuple):
    """One episode that a worker is to run."""

    serial: int
    """of this run of it; no two tasks of a crew have the same"""
    number: int
    """of the episode"""
    version: int
    """of the weights that it is run with"""


@dataclass(frozen=True)
class WorkerNews:
    """The news of a worker, or of a task of it."""

    worker: int
    kind: Literal["ready", "done", "died"]
    task: EpisodeTask | None = None
    episode: Episode | None = None
    took_s: float = 0.0
    """on the wall clock, in the worker"""
    text: str = ""
    """of one that died: what is known of its end"""


class Crew(Protocol):
    """Workers of one kind. Thread: one at a time."""

    kind: str
    """for a person"""
    ahead: int
    """tasks that a worker is given at once: the next one waits there while it runs the first"""
    can_kill: bool
    """False: a worker that hangs stays, because it is a thread"""

    def start(self) -> int:
        """Begin a worker; its number. Its first report is `ready` or `died`."""

    def name(self, worker: int) -> str:
        """The node and process of a worker, for a person."""

    def publish(self, version: int, weights: Any) -> None:
        """The weights of the tasks of this version, which are given from now on."""

    def give(self, worker: int, task: EpisodeTask) -> None:
        """A task for a worker, behind those that it has."""

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """The reports that have come; it waits for the first one. Raises what a worker raised
        where no episode can be run: ScheduleError, WorldError."""

    def kill(self, worker: int) -> None:
        """End a worker at once. Nothing more is reported of it."""

    def close(self) -> None:
        """End all workers."""
