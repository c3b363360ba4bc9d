"""Many episodes in lock step, on all cores: what came of each, whoever ran it.

    for episode in inphase.rollout("arm.toml", "my_policy.py:Reach", episodes=200, seed=1):
        print(episode.number, episode.reward, episode.draws)

A policy in Python runs in worker processes, everything else in threads, since the core runs without
the GIL. Each episode follows from the seed and its number alone.
"""

import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_EXCEPTION,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.core.lockstep_config import NativePolicy
from inphase.episodes.episode import Episode, Job, Seat
from inphase.host import process
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule
from inphase.world.randomisation import KnobLike

_SHARE_MAX = 8  # episodes that a worker is given at once
_SHARES = 4  # at least so many per worker, so that all end at about the same time


def rollout(
    schedule: Path | str | Schedule,
    policy: PolicyCall | NativePolicy | NDArray[np.float64] | str | None,
    episodes: int,
    seed: int,
    *,
    cycles: int | None = None,
    workers: int | None = None,
    randomise: Mapping[str, KnobLike] | None = None,
    record: Sequence[str] = (),
) -> list[Episode]:
    """Run episodes 0 to `episodes - 1` of a seed; returns their results, in order.

    policy is one of these; by default it is the schedule's, if it has one:

    - its name: "file.py:name" beside the schedule, or "module:name",
    - a callable, which with more than one worker has to be picklable,
    - an array with a command per frame,
    - a NativePolicy.

    A class is made anew for each episode, an object with `reset` is reset, and one without is
    copied. cycles: of each episode, else the [task]'s. workers: processes or threads, one per core
    by default; with 1 all is done in the caller's thread. randomise: knobs beside the schedule's.
    record: sensors and fields to keep.

    Processes start by importing the caller's main module: a script needs
    `if __name__ == "__main__":`. ^C ends them. An episode whose world fails says so in its `error`.
    Raises ScheduleError, WorldError for a world that cannot be made, ValueError.
    """
    loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
    length = cycles if cycles is not None else loaded.task.cycles
    if length is None:
        raise ValueError(f"say how many cycles an episode has: cycles=, or [task] in {loaded.path}")
    job = Job(loaded, _named(loaded, policy), seed, length, randomise, tuple(record))
    count = max(1, min(workers or len(os.sched_getaffinity(0)), episodes))
    if count == 1:
        with contextlib.closing(Seat(job)) as seat:
            return [seat.run(number) for number in range(episodes)]
    with _progress(episodes) as advance:
        run_all = _run_in_processes if _is_python(job.policy) else _run_in_threads
        found = run_all(job, episodes, count, advance)
    return sorted(found, key=lambda episode: episode.number)


def _named(schedule: Schedule, policy: Any) -> Any:
    """The schedule's own policy by its name; None: a model, which LockStep makes."""
    if policy is None and schedule.policy is not None:
        return schedule.policy.call
    return policy


def _is_python(policy: Any) -> bool:
    return policy is not None and not isinstance(policy, NativePolicy | np.ndarray)


# ---- workers -----------------------------------------------------------------------------------


def _run_in_processes(
    job: Job, episodes: int, count: int, advance: Callable[[int], None]
) -> list[Episode]:
    _check_pickles(job.policy)
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (job,))

    def stop() -> None:
        children = set(multiprocessing.active_children()) - before
        for child in children:
            child.terminate()
        for child in children:
            child.join()

    size = max(1, min(_SHARE_MAX, episodes // (count * _SHARES)))
    shares = [range(at, min(at + size, episodes)) for at in range(0, episodes, size)]
    with pool:
        futures = [pool.submit(_run_share, share) for share in shares]
        for future in futures:
            future.add_done_callback(lambda done: advance(_through(done)))
        return _collect(pool, futures, stop)


def _through(future: Future[list[Episode]]) -> int:
    """How many episodes are through with this; none where it failed."""
    return 0 if future.cancelled() or future.exception() else len(future.result())


_jobs: list[Job] = []  # of a worker process: the one that it was started for
_seats: list[Seat] = []


def _begin(job: Job) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    process.end_with_parent(parent.pid)
    _jobs.append(job)


def _run_share(numbers: range) -> list[Episode]:
    """In a worker process, which keeps its world from one share to the next."""
    if not _seats:
        _seats.append(Seat(_jobs[0]))
    return [_seats[0].run(number) for number in numbers]


def _check_pickles(policy: Any) -> None:
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


def _run_in_threads(
    job: Job, episodes: int, count: int, advance: Callable[[int], None]
) -> list[Episode]:
    stopped = threading.Event()
    numbers = iter(range(episodes))

    def work() -> list[Episode]:
        found = []
        with contextlib.closing(Seat(job, stopped.is_set)) as seat:
            while not stopped.is_set() and (number := next(numbers, None)) is not None:
                found.append(seat.run(number))
                advance(1)
        return found

    with ThreadPoolExecutor(count, "inphase episodes") as pool:
        return _collect(pool, [pool.submit(work) for _ in range(count)], stopped.set)


def _collect(
    pool: Executor, futures: list[Future[list[Episode]]], stop: Callable[[], None]
) -> list[Episode]:
    """The results of all; ^C, or one that cannot be run at all, ends the others."""
    try:
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()  # raises what it raised
        return [episode for future in futures for episode in future.result()]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal; what tells it how many more are through."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("episodes", total=total)
        yield lambda more: bar.advance(task, more)
