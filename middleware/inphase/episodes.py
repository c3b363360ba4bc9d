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
    FIRST_COMPLETED,
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

from inphase import process, store
from inphase import schedule as schedules
from inphase.core import NativePolicy
from inphase.episode import Episode, Job, run_share
from inphase.policy import PolicyCall
from inphase.randomisation import KnobLike
from inphase.schedule import Schedule

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
    """Run episodes 0 to `episodes - 1` of a seed; what came of each, in order.

    policy: its name ("file.py:name" beside the schedule, or "module:name"); a callable, which with
    more than one worker has to be picklable; an array with a command per frame; a NativePolicy; or
    None for the schedule's, or none where it has none. A class is made anew for each episode, an
    object with `reset` is reset, and one without is copied. cycles: of each episode, else the
    [task]'s. workers: processes or threads, one per core by default; with 1 all is done in the
    caller's thread. randomise: knobs beside the schedule's. record: sensors and fields to keep.

    Processes start by importing the caller's main module: a script needs `if __name__ ==
    "__main__":`. ^C ends them. An episode whose world fails says so in its `error`.
    Raises ScheduleError, WorldError for a world that cannot be made, ValueError.
    """
    loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
    length = cycles if cycles is not None else loaded.task.cycles
    if length is None:
        raise ValueError(f"say how many cycles an episode has: cycles=, or [task] in {loaded.path}")
    job = Job(loaded, _named(loaded, policy), seed, length, randomise, tuple(record))
    count = max(1, min(workers or len(os.sched_getaffinity(0)), episodes))
    if count == 1:
        return run_share(job, range(episodes))
    size = max(1, min(_SHARE_MAX, episodes // (count * _SHARES)))
    shares = [range(at, min(at + size, episodes)) for at in range(0, episodes, size)]
    if _is_python(job.policy):
        return _run_in_processes(job, shares, count)
    return _run_in_threads(job, shares, count)


def _named(schedule: Schedule, policy: Any) -> Any:
    """The schedule's own policy by its name."""
    if policy is None and schedule.policy is not None:
        return schedule.policy.call
    return policy


def _is_python(policy: Any) -> bool:
    return policy is not None and not isinstance(policy, NativePolicy | np.ndarray)


# ---- workers -----------------------------------------------------------------------------------


def _run_in_processes(job: Job, shares: list[range], count: int) -> list[Episode]:
    _check_pickles(job.policy)
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=process.end_with_parent)

    def stop() -> None:
        children = set(multiprocessing.active_children()) - before
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        store.clean_leftovers(job.schedule.name)

    with pool:
        futures = [pool.submit(run_share, job, share) for share in shares]
        return _collect(pool, futures, shares, stop)


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


def _run_in_threads(job: Job, shares: list[range], count: int) -> list[Episode]:
    stopped = threading.Event()
    with ThreadPoolExecutor(count, "inphase episodes") as pool:
        futures = [pool.submit(run_share, job, share, stopped.is_set) for share in shares]
        return _collect(pool, futures, shares, stopped.set)


def _collect(
    pool: Executor,
    futures: list[Future[list[Episode]]],
    shares: list[range],
    stop: Callable[[], None],
) -> list[Episode]:
    """What came of all shares; ^C, or one that cannot be run at all, ends the others."""
    sizes = dict(zip(futures, map(len, shares), strict=True))
    pending = set(futures)
    try:
        with _progress(sum(sizes.values())) as advance:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    advance(sizes[future])
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    return [episode for future in futures for episode in future.result()]


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
