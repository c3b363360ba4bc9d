"""Many episodes on all cores, against MuJoCo's own threaded rollout of the same model and steps.

Ours is `inphase.rollout` without a policy in Python: every frame is made, hashed and summed up. The
yardstick steps bare data. A sample is of a whole batch: wall time, and in a second figure the CPU
time of all threads, which says something on a busy machine. Both with one thread and with one per
core, in turns.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benches.distribution import Block, Rounds, show
from benches.machine import Options
from benches.world import PLAIN, schedule_of
from inphase.episodes.rollout import rollout
from inphase.schedule import Schedule
from inphase.world.mujoco.package import package

_EPISODES, _CYCLES = 16, 1000


def _block(run: Callable[[], Any]) -> Block:
    """Wall time, and CPU time."""

    def block() -> NDArray[np.int64]:
        start, used = time.perf_counter_ns(), time.process_time_ns()
        run()
        return np.array([[time.perf_counter_ns() - start], [time.process_time_ns() - used]])

    return block


def _bare(schedule: Schedule, threads: int) -> Callable[[], Any]:
    """The same episodes, stepped by MuJoCo's rollout."""
    from mujoco import rollout as bare

    mujoco = package()
    assert schedule.world is not None
    model = mujoco.MjModel.from_xml_path(str(schedule.path.parent / schedule.world.model))
    data = [mujoco.MjData(model) for _ in range(threads)]
    mujoco.mj_resetDataKeyframe(model, data[0], 0)
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.zeros(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, data[0], state, full)
    start = np.tile(state, (_EPISODES, 1))
    control = np.tile(model.key_ctrl[0], (_EPISODES, _CYCLES, 1))
    pool = bare.Rollout(nthread=threads if threads > 1 else 0)
    return lambda: pool.rollout(model, data, start, control)


def run(options: Options) -> list[dict[str, Any]]:
    """With one thread, and with one per core."""
    results = []
    cores = len(os.sched_getaffinity(0))
    with schedule_of(PLAIN) as schedule:
        alone = replace(schedule, policy=None)
        for threads in (1, cores):
            name = f"{_EPISODES} episodes of {_CYCLES} cycles, {threads} threads"
            figure, used = Rounds(name), Rounds(f"{name}; CPU time")
            ours = _block(
                lambda threads=threads: rollout(
                    alone, None, _EPISODES, 1, cycles=_CYCLES, workers=threads
                )
            )
            bare = _block(_bare(schedule, threads))
            ours()
            bare()
            for _ in range(options.rounds):
                first, mine, second = bare(), ours(), bare()
                figure.add(first[0], mine[0], second[0])
                used.add(first[1], mine[1], second[1])
            show(used.result())
            result = figure.result()
            result["threads"] = threads
            show(result)
            results.append(result)
    per_second = [
        [_EPISODES * _CYCLES * 1e9 / one[key]["p50"] for one in results]
        for key in ("ours_ns", "yardstick_ns")
    ]
    for name, (one, all_cores) in zip(("ours", "mujoco.rollout"), per_second, strict=True):
        print(
            f"  {name}: {one:,.0f} cycles per second with one thread, {all_cores:,.0f} with "
            f"{cores}: {all_cores / one:.2f}"
        )
    return results
