"""Many episodes in lock step, on all cores or on a cluster: what came of each, whoever ran it.

    for episode in inphase.rollout("arm.toml", "my_policy.py:Reach", episodes=200, seed=1):
        print(episode.number, episode.reward, episode.draws)

Each episode follows from the seed and its number alone.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inphase.core.lockstep_config import NativePolicy
from inphase.episodes.episode import Episode
from inphase.episodes.rollouts.rollout_progress import RolloutProgress
from inphase.episodes.rollouts.rollout_workers import RolloutWorkers
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule
from inphase.world.randomisation import KnobLike


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
    address: str | None = None,
    timeout_s: float | None = None,
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
    record: sensors and fields to keep; "reward" keeps each step's. address: None is this machine;
    "auto" and "ray://HOST:10001" are a Ray cluster, see `RolloutWorkers`. timeout_s: of an
    episode on the wall clock; a worker that hangs is killed then.

    Processes start by importing the caller's main module: a script needs
    `if __name__ == "__main__":`. ^C ends them. An episode whose world, [task] or worker fails says
    so in its `error`. Raises ScheduleError, WorldError for a world that cannot be made, ValueError.
    """
    limit = max(1, episodes)
    if address is None:
        limit = min(workers or len(os.sched_getaffinity(0)), limit)
    elif workers is not None:
        limit = min(workers, limit)
    with RolloutWorkers(
        schedule,
        policy,
        seed,
        cycles=cycles,
        workers=limit if address is None or workers is not None else None,
        randomise=randomise,
        record=record,
        address=address,
        timeout_s=timeout_s,
    ) as crew:
        found = []
        with _bar(episodes) as tell:
            for episode in crew.run(range(episodes)):
                found.append(episode)
                tell(crew.progress)
    return sorted(found, key=lambda episode: episode.number)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[RolloutProgress], None]]:
    """A bar on stderr where that is a terminal; what tells it how far they are."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda progress: bar.update(
            task, completed=progress.episodes, description=f"waits for {progress.bottleneck}"
        )
