"""Sixteen worlds of the arm of `world` at once, two threads, against what is used without ours.

Steps with a reward against Gymnasium's SyncVectorEnv of the plain environment of `environment`. The
reward judges all worlds in one call, or each in one of its own.
Actions as one array, `play`, against `mujoco.rollout` of the same model with as many threads. A
sample is of ten steps of all, or of one array of 250 steps: wall time, and in a second figure the
CPU time of all threads, which says something on a machine without two free cores.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from benches.distribution import Block, Rounds, show_throughput
from benches.environment import Plain, batched_reward, reward
from benches.machine import Options
from benches.world import HOME, PLAIN, schedule_of
from inphase.gym import Environment, Environments
from inphase.schedule import Schedule
from inphase.world.mujoco.package import package

_WORLDS, _THREADS = 16, 2
_STEPS, _CHUNKS, _PLAYED = 10, 20, 250
_GOALS = {"step": 2.5, "play": 0.8}


def _block(run: Callable[[], Any], chunks: int) -> Block:
    """Wall time of each chunk, then CPU time of each."""

    def block() -> NDArray[np.int64]:
        took = np.zeros((2, chunks), np.int64)
        for chunk in range(chunks):
            start, used = time.perf_counter_ns(), time.process_time_ns()
            run()
            took[:, chunk] = time.perf_counter_ns() - start, time.process_time_ns() - used
        return took

    return block


def _steps(envs: Any) -> Callable[[], Any]:
    """Requests that the limits allow."""
    envs.reset(seed=1)
    swing = 0.004 * np.sin(np.linspace(0, 6.28, _STEPS))[:, None, None]
    actions = np.broadcast_to(HOME + swing, (_STEPS, _WORLDS, len(HOME))).copy()

    def run() -> None:
        step = envs.step
        for action in actions:
            step(action)

    return run


def _loop(schedule: Schedule) -> Callable[[], Any]:
    """Our own environments, one after the other."""
    envs = [Environment(schedule, flat=True, reward=reward) for _ in range(_WORLDS)]
    for i, env in enumerate(envs):
        env.reset(seed=1 + i)
    actions = HOME + 0.004 * np.sin(np.linspace(0, 6.28, _STEPS))[:, None]

    def run() -> None:
        for action in actions:
            for env in envs:
                env.step(action)

    return run


def _held() -> NDArray[np.float64]:
    swing = 0.004 * np.sin(np.linspace(0, 6.28, _PLAYED))[:, None, None]
    return np.broadcast_to(HOME + swing, (_PLAYED, _WORLDS, len(HOME))).copy()


def _played(schedule: Schedule) -> Callable[[], Any]:
    envs = Environments(_WORLDS, schedule, flat=True, workers=_THREADS)
    envs.reset(seed=1)
    actions = _held()
    return lambda: envs.play(actions)


def _rollout(model_path: str) -> Callable[[], Any]:
    """The same steps from the same pose, by MuJoCo's own threads."""
    from mujoco import rollout

    mujoco = package()
    model = mujoco.MjModel.from_xml_path(model_path)
    data = [mujoco.MjData(model) for _ in range(_THREADS)]
    mujoco.mj_resetDataKeyframe(model, data[0], 0)
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.zeros(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, data[0], state, full)
    start = np.tile(state, (_WORLDS, 1))
    control = np.ascontiguousarray(_held().swapaxes(0, 1))
    pool = rollout.Rollout(nthread=_THREADS)
    return lambda: pool.rollout(model, data, start, control)


def _measure(
    name: str, ours: Block, bare: Block, rounds: int, goal: float | None
) -> tuple[Rounds, Rounds]:
    wall = Rounds(name, goal=None if goal is None else 1 / goal)
    used = Rounds(f"{name}; CPU time")
    ours()
    bare()
    for _ in range(rounds):
        first, mine, second = bare(), ours(), bare()
        wall.add(first[0], mine[0], second[0])
        used.add(first[1], mine[1], second[1])
    return wall, used


def run(options: Options) -> list[dict[str, Any]]:
    """Steps against both loops, and whole arrays."""
    results = []
    with schedule_of(PLAIN) as schedule:
        assert schedule.world is not None
        model = str((schedule.path.parent / schedule.world.model).resolve())
        many = partial(Environments, _WORLDS, schedule, flat=True)
        sync = _steps(SyncVectorEnv([lambda: Plain(model)] * _WORLDS))
        batched = _steps(many(reward=batched_reward, workers=_THREADS))
        alone = _steps(many(reward=batched_reward, workers=1))
        each = _steps(many(reward=reward, workers=_THREADS))
        rows = [
            ("2 threads; step, against SyncVectorEnv", batched, sync, _STEPS, _GOALS["step"]),
            ("1 thread; step, against SyncVectorEnv", alone, sync, _STEPS, None),
            ("2 threads; step, a reward of each, against SyncVectorEnv", each, sync, _STEPS, None),
            ("2 threads; step, a reward of each, against a loop over ours", each, _loop(schedule),
             _STEPS, None),
            ("2 threads; play, against mujoco.rollout", _played(schedule), _rollout(model), _PLAYED,
             _GOALS["play"]),
        ]  # fmt: skip
        for name, mine, bare, steps, goal in rows:
            chunks = _CHUNKS if steps == _STEPS else 2
            figures = _measure(
                f"{_WORLDS} worlds, {name}",
                _block(mine, chunks),
                _block(bare, chunks),
                options.rounds,
                goal,
            )
            for figure, wanted in zip(figures, (goal, None), strict=True):
                results.append(figure.result())
                show_throughput(results[-1], steps * _WORLDS, "steps of one world", wanted)
    return results
