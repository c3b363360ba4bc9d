"""Crews of this machine: the caller's own thread, threads, and processes."""

import contextlib
import multiprocessing
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Any

from inphase.core.lockstep_config import NativePolicy
from inphase.episodes.episode import Episode, Job, Seat
from inphase.episodes.rollouts.crew import EpisodeTask, WorkerNews
from inphase.errors import InphaseError
from inphase.host import process

_END_S = 5.0


def timed(seat: Seat, task: EpisodeTask) -> tuple[Episode, float]:
    """One episode, and how long it took on the wall clock."""
    began_s = time.perf_counter()
    episode = seat.run(task.number)
    return episode, time.perf_counter() - began_s


class CallersThread:
    """One worker, which runs an episode whenever it is waited for."""

    kind, ahead, can_kill = "the caller's thread", 1, False

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seat: Seat | None = None
        self._tasks: deque[EpisodeTask] = deque()

    def start(self) -> int:
        """There is one."""
        self._seat = Seat(self._job)
        return 0

    def name(self, worker: int) -> str:
        """This process."""
        return process_name()

    def publish(self, version: int, weights: Any) -> None:
        """Nobody else has them."""
        assert self._seat is not None
        self._seat.load(version, weights)

    def give(self, worker: int, task: EpisodeTask) -> None:
        """It is run at the next `wait`."""
        self._tasks.append(task)

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """Run the next task, whatever the timeout."""
        if not self._tasks:
            return [WorkerNews(0, "ready")]
        assert self._seat is not None
        task = self._tasks.popleft()
        return [WorkerNews(0, "done", task, *timed(self._seat, task))]

    def kill(self, worker: int) -> None:
        """It would be the caller."""
        raise AssertionError("the caller's thread is not killed")

    def close(self) -> None:
        """Give the world back."""
        if self._seat is not None:
            self._seat.close()


class Threads:
    """A thread per worker: for policies without Python, since the core runs without the GIL."""

    kind, ahead, can_kill = "threads", 2, False

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stopped = threading.Event()
        self._tasks: list[queue.SimpleQueue[EpisodeTask | None]] = []
        self._reports: queue.SimpleQueue[WorkerNews | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self) -> int:
        """A daemon: a world that hangs does not keep the program."""
        number = len(self._threads)
        self._tasks.append(queue.SimpleQueue())
        thread = threading.Thread(
            target=self._work, args=(number,), name="inphase episodes", daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return number

    def _work(self, number: int) -> None:
        try:
            with contextlib.closing(Seat(self._job, self._stopped.is_set)) as seat:
                self._reports.put(WorkerNews(number, "ready"))
                while (task := self._tasks[number].get()) is not None:
                    if not self._stopped.is_set():
                        self._reports.put(WorkerNews(number, "done", task, *timed(seat, task)))
        except BaseException as error:  # raised again in the caller's thread
            self._reports.put(error)

    def name(self, worker: int) -> str:
        """A thread of this process."""
        return f"thread {worker} of {process_name()}"

    def publish(self, version: int, weights: Any) -> None:
        """A policy without Python takes none."""
        raise ValueError(
            "weights are for a policy in Python with `load_weights`; this one runs in C, without it"
        )

    def give(self, worker: int, task: EpisodeTask) -> None:
        """Into its queue."""
        self._tasks[worker].put(task)

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """From all of them."""
        found: list[WorkerNews] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._checked(self._reports.get(timeout=timeout_s)))
            while True:
                found.append(self._checked(self._reports.get_nowait()))
        return found

    def _checked(self, report: WorkerNews | BaseException) -> WorkerNews:
        if isinstance(report, BaseException):
            raise report
        return report

    def kill(self, worker: int) -> None:
        """A thread cannot be."""
        raise AssertionError("a thread is not killed")

    def close(self) -> None:
        """Each ends at the next look of its episode."""
        self._stopped.set()
        for tasks in self._tasks:
            tasks.put(None)
        for thread in self._threads:
            thread.join()


class Processes:
    """A process per worker: for policies in Python, and for worlds that may have to be killed.

    Weights lie in memory of this process, once; the workers read them there.
    """

    kind, ahead, can_kill = "processes", 2, True

    def __init__(self, job: Job) -> None:
        check_pickles(job.policy)
        self._job = job
        self._workers: dict[int, tuple[Any, Connection]] = {}
        self._names: list[str] = []
        """by worker, also of those that are gone"""
        self._weights: dict[int, int] = {}
        """version -> descriptor of its memory"""
        self._given: dict[int, deque[EpisodeTask]] = {}

    def start(self) -> int:
        """Spawned: a fork of a program with threads is none that runs."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(self._job, theirs), daemon=True)
        child.start()
        theirs.close()
        number = len(self._names)
        self._names.append(f"process {child.pid}")
        self._workers[number] = child, ours
        self._given[number] = deque()
        return number

    def name(self, worker: int) -> str:
        """Its pid."""
        return self._names[worker]

    def publish(self, version: int, weights: Any) -> None:
        """Those of before stay until no task wants them."""
        wanted = {task.version for given in self._given.values() for task in given}
        for old in [old for old in self._weights if old not in wanted]:
            os.close(self._weights.pop(old))
        memory = os.memfd_create("inphase-weights", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(memory), "wb") as file:
            pickle.dump(weights, file, protocol=5)
        self._weights[version] = memory

    def give(self, worker: int, task: EpisodeTask) -> None:
        """A few bytes, which never fill a pipe."""
        self._given[worker].append(task)
        with contextlib.suppress(OSError):  # a dead one is reported by `wait`
            self._workers[worker][1].send((task, self._weights.get(task.version)))

    def wait(self, timeout_s: float) -> list[WorkerNews]:
        """From all of them; a pipe that has ended is a worker that died."""
        numbers = {line: number for number, (_, line) in self._workers.items()}
        ready: Any = wait(list(numbers), timeout_s)
        return [self._receive(numbers[line], line) for line in ready]

    def _receive(self, number: int, line: Connection) -> WorkerNews:
        try:
            said = line.recv()
        except (EOFError, OSError):
            child, _ = self._workers[number]
            child.join(_END_S)
            self._forget(number)
            return WorkerNews(number, "died", text=f"it ended with exit code {child.exitcode}")
        if isinstance(said, BaseException):
            raise said
        if said is None:
            return WorkerNews(number, "ready")
        return WorkerNews(number, "done", self._given[number].popleft(), *said)

    def _forget(self, number: int) -> None:
        child, line = self._workers.pop(number)
        self._given.pop(number)
        line.close()
        child.kill()
        child.join()

    def kill(self, worker: int) -> None:
        """By SIGKILL."""
        self._forget(worker)

    def close(self) -> None:
        """Worlds on virtual time need no clean-up."""
        children = [child for child, _ in self._workers.values()]
        for child in children:
            child.kill()
        for number in list(self._workers):
            self._forget(number)
        for memory in self._weights.values():
            os.close(memory)
        self._weights.clear()


def _serve(job: Job, line: Connection) -> None:
    """In a worker process: an episode per task, until the pipe ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    process.end_with_parent(parent.pid)
    loaded = 0
    try:
        seat = Seat(job)
        line.send(None)
        while True:
            task, memory = line.recv()
            if memory is not None and task.version != loaded:
                with open(f"/proc/{parent.pid}/fd/{memory}", "rb") as file:  # noqa: PTH123
                    seat.load(task.version, pickle.load(file))
                loaded = task.version
            line.send(timed(seat, task))
    except (EOFError, KeyboardInterrupt):
        return
    except BaseException as error:
        if not isinstance(error, InphaseError):
            error.add_note(f"in {process_name()}:\n{traceback.format_exc()}")
        with contextlib.suppress(OSError):
            line.send(portable(error))


def portable(error: BaseException) -> BaseException:
    """The same, or what it says, where it cannot go to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def process_name() -> str:
    """This process, for a person."""
    return f"process {os.getpid()}"


def is_python(policy: Any) -> bool:
    """True if a policy needs the GIL."""
    import numpy as np

    return policy is not None and not isinstance(policy, NativePolicy | np.ndarray)


def check_pickles(policy: Any) -> None:
    """Refuse what a worker process could not have. Raises ValueError."""
    hint = 'name it ("file.py:name"), define it in a module, or run with workers=1'
    try:
        pickle.dumps(policy)
    except Exception as error:
        raise ValueError(
            f"policy {policy!r} cannot go to worker processes: {error}; {hint}"
        ) from error
    is_main = getattr(policy, "__module__", type(policy).__module__) == "__main__"
    if is_main and not isinstance(policy, str) and not hasattr(sys.modules["__main__"], "__file__"):
        raise ValueError(
            f"policy {policy!r} cannot go to worker processes: it was defined interactively; {hint}"
        )
