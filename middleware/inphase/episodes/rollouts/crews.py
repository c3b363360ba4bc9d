"""Which crew runs a job, and how many workers it has."""

import os

from inphase.episodes.episode import Job
from inphase.episodes.rollouts.crew import Crew
from inphase.episodes.rollouts.local_crew import CallersThread, Processes, Threads, is_python


def make(job: Job, address: str | None, workers: int | None, has_robots: bool) -> tuple[Crew, int]:
    """The crew, which has no worker yet, and how many it is to have.

    A policy in Python runs in processes, and so does what may have to be killed; everything else in
    threads. With robots nothing runs in the caller's thread: it would hold their policies up.

    Raises ValueError, WorkerError.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers has to be 1 or more, got {workers}")
    if address is not None:
        from inphase.episodes.rollouts.ray_crew import RayCrew  # of the extra `ray`

        crew = RayCrew(job, address, workers)
        return crew, crew.count
    count = workers or len(os.sched_getaffinity(0))
    is_alone = count == 1 and not has_robots
    if job.timeout_s is not None or (not is_alone and is_python(job.policy)):
        return Processes(job), count
    return (CallersThread(job), 1) if is_alone else (Threads(job), count)
