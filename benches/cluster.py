"""Episodes by workers on a Ray cluster, against as many workers of this machine without Ray.

Both run the same episodes of 500 steps of `press`, with a policy in Python, and both stay up. A
sample is the wall time per episode of a batch, in turns. Needs the extra `ray`.
"""

import os
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benches.distribution import Block, Rounds, show
from benches.machine import Options
from inphase.episodes.rollouts.crew import WorkerError
from inphase.episodes.rollouts.rollout_workers import RolloutWorkers

_SCHEDULE = "schedules/press.toml"
_POLICY = """
def hold(frame):
    return frame["joints"].value["position"].copy()
"""
_STEPS, _EPISODES = 500, 32
_GOAL = 1.05


def _block(workers: RolloutWorkers, episodes: int) -> Block:
    numbers = count()

    def block() -> Any:
        start = time.perf_counter_ns()
        for _ in workers.run([next(numbers) for _ in range(episodes)]):
            pass
        return np.array([(time.perf_counter_ns() - start) // episodes])

    return block


def run(options: Options) -> list[dict[str, Any]]:
    """With a worker per core."""
    cores, episodes = len(os.sched_getaffinity(0)), options.many(_EPISODES, 4)
    given = {"cycles": options.many(_STEPS, 20), "workers": cores}
    figure = Rounds(f"an episode of {_STEPS} steps, {cores} workers", goal=_GOAL)
    with ExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory(prefix="inphase-bench-"))) / "held.py"
        file.write_text(_POLICY)
        policy = f"{file}:hold"
        try:
            there = RolloutWorkers(_SCHEDULE, policy, 1, **given, address="local")
        except WorkerError as error:
            print(f"  left out: {error}")
            return []
        stack.enter_context(there)
        here = stack.enter_context(RolloutWorkers(_SCHEDULE, policy, 1, **given))
        ours, yardstick = _block(there, episodes), _block(here, episodes)
        ours()
        yardstick()
        for _ in range(options.rounds):
            figure.add(yardstick(), ours(), yardstick())
        result = figure.result()
        result["shares"] = there.progress.shares
        show(result)
    return [result]
