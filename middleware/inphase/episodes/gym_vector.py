"""Many environments of one schedule at once, in lock step; needs `inphase[gym]`.

    envs = gymnasium.make_vec("inphase.gym:inphase/Schedule-v0", num_envs=8, schedule="arm.toml")

They are stepped in threads of this process, for the core and its world run without the GIL. Each
environment gives what it would give alone.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.gym import Backend, Environment, EnvironmentOptions, Observed, Step
from inphase.schedule import Schedule

_NUMBERS = (int, float, np.number, np.ndarray)


class Environments(VectorEnv[Observed, NDArray[np.float64], NDArray[Any]]):
    """`num_envs` environments; see gym.Environment for what they have in common.

    workers: threads (by default one per core, and no more than environments); each environment
    stays with one of them. With one worker it is the caller's own thread. max_episode_steps: steps
    after which an episode is truncated. `reset` and `step` raise what the first environment that
    failed has raised, when all are through. options: those of an `Environment`.
    """

    def __init__(
        self,
        num_envs: int,
        schedule: Path | str | Schedule,
        backend: Backend = "lockstep",
        *,
        workers: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Unpack[EnvironmentOptions],
    ) -> None:
        if backend != "lockstep" and num_envs != 1:
            raise ValueError(f"a robot is one environment; got {num_envs} with backend {backend!r}")
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        self.num_envs = num_envs
        self.render_mode = options.get("render_mode")
        self._mode = AutoresetMode(autoreset_mode)
        self._workers = _Workers(num_envs, workers)
        self._steps_max = max_episode_steps
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._observed: list[Any] = [None] * num_envs

        def make(_: int) -> Environment:
            return Environment(loaded, backend, **options)

        self.envs: list[Environment] = self._workers.each(make)
        first = self.envs[0]
        self.metadata = {**first.metadata, "autoreset_mode": self._mode}
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in each: of `seed`, `seed + 1`, ..., or of a seed each.

        options: {"reset_mask": those to reset, as an array of bool}, and what an environment takes;
        the others' observations are those that they gave last.
        """
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{self.num_envs} seeds, one each, got {len(seeds)}")
        given = dict(options or {})
        mask = np.asarray(given.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(f"reset_mask is {self.num_envs} bools, one of them True; got {mask!r}")

        def reset(i: int) -> tuple[Any, dict[str, Any]]:
            if not mask[i]:
                return self._observed[i], {}
            return self.envs[i].reset(seed=seeds[i], options=given or None)

        infos = self._keep(self._workers.each(reset))
        self._ended[mask] = False
        self._steps[mask] = 0
        return self._batch(), merged(infos)

    def _keep(self, resets: list[tuple[Any, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Keep the observations; the infos."""
        self._observed = [observed for observed, _ in resets]
        return [info for _, info in resets]

    def step(
        self, actions: NDArray[np.float64]
    ) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """A step in each; one whose episode is over is reset as the autoreset mode says."""
        assert not (self._mode is AutoresetMode.DISABLED and self._ended.any()), "reset them first"
        envs, again = self.envs, self._ended & (self._mode is AutoresetMode.NEXT_STEP)

        def advance(i: int) -> Any:
            return envs[i].reset() if again[i] else envs[i].advance(actions[i])

        passed = self._workers.each(advance)
        steps: list[Step] = []
        for env, found, is_new in zip(envs, passed, again, strict=True):
            if is_new:
                observed, info = found
                steps.append((observed, 0.0, False, False, info))
            else:
                steps.append(env.result(found))
        self._observed = [step[0] for step in steps]
        terminated = np.array([step[2] for step in steps])
        truncated = np.array([step[3] for step in steps]) | self._are_long(again)
        self._ended = terminated | truncated
        infos = [step[4] for step in steps]
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._start_again(infos)
        rewards = np.array([step[1] for step in steps], np.float64)
        return self._batch(), rewards, terminated, truncated, merged(infos)

    def _are_long(self, again: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Count a step, and whose episode has as many as it may."""
        self._steps = np.where(again, 0, self._steps + 1)
        if self._steps_max is None:
            return np.zeros(self.num_envs, np.bool_)
        return self._steps >= self._steps_max

    def _start_again(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Reset those whose episode has ended; its last observation and info go into the info."""
        ended, before = self._ended, self._observed

        def reset(i: int) -> tuple[Any, dict[str, Any]]:
            return self.envs[i].reset() if ended[i] else (before[i], infos[i])

        first = self._keep(self._workers.each(reset))
        self._steps[ended] = 0
        return [
            {"final_obs": before[i], "final_info": infos[i], **info} if ended[i] else info
            for i, info in enumerate(first)
        ]

    def _batch(self) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, n=self.num_envs, fn=np.empty)
        return concatenate(space, self._observed, empty)

    def render(self) -> tuple[Any, ...] | None:
        """The image of each one's camera."""
        return tuple(self._workers.each(lambda i: self.envs[i].render()))

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """An attribute of each environment, or what a method of that name returns."""

        def ask(i: int) -> Any:
            found = self.envs[i].get_wrapper_attr(name)
            return found(*arguments) if callable(found) else found

        return tuple(self._workers.each(ask))

    def close_extras(self) -> None:
        """End all of them."""
        self._workers.each(lambda i: self.envs[i].close())
        self._workers.close()


class _Workers:
    """Threads, each with environments of its own: a renderer belongs to the thread that made it.
    The caller's is the first of them."""

    def __init__(self, count: int, workers: int | None) -> None:
        threads = max(1, min(workers or len(os.sched_getaffinity(0)), count))
        self._shares = [range(first, count, threads) for first in range(threads)]
        self._call: Callable[[int], Any]
        self._made: list[Any] = [None] * count
        self._errors: list[BaseException] = []
        self._orders: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(threads - 1)]
        self._done: SimpleQueue[None] = SimpleQueue()
        self._threads = [
            Thread(target=self._serve, args=order, name="inphase environments", daemon=True)
            for order in zip(self._orders, self._shares[1:], strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def each(self, call: Callable[[int], Any]) -> list[Any]:
        """Call it with each number in that number's thread; what came of it, in order.

        Raises what one of them has raised, when all are through.
        """
        self._call, self._made, self._errors = call, [None] * len(self._made), []
        for orders in self._orders:
            orders.put(True)
        self._run(self._shares[0])
        for _ in self._orders:
            self._done.get()
        if self._errors:
            raise self._errors[0]
        return self._made

    def _run(self, share: range) -> None:
        try:
            for i in share:
                self._made[i] = self._call(i)
        except BaseException as error:  # raised again in the caller's thread
            self._errors.append(error)

    def _serve(self, orders: "SimpleQueue[bool]", share: range) -> None:
        while orders.get():
            self._run(share)
            self._done.put(None)

    def close(self) -> None:
        """End the threads."""
        for orders in self._orders:
            orders.put(False)
        for thread in self._threads:
            thread.join()
        self._orders = []


def merged(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Infos as VectorEnv has them: an array per key, and a mask `_key` of those that have it."""
    keys: Iterable[str] = infos[0]
    alike = all(info.keys() == keys for info in infos)
    if not alike:
        keys = {key: None for info in infos for key in info}
    result: dict[str, Any] = {}
    everybody = np.ones(len(infos), np.bool_)
    for key in keys:
        if alike:
            mask, values = everybody.copy(), [info[key] for info in infos]
        else:
            mask = np.array([key in info for info in infos])
            values = [info[key] for info in infos if key in info]
        result[key] = _column(values, mask) if key != "final_obs" else _objects(values, mask)
        result[f"_{key}"] = mask
    return result


def _column(values: list[Any], mask: NDArray[np.bool_]) -> Any:
    """The values of those that have one, zeros or None for the others; dicts go on as such."""
    first = values[0]
    if isinstance(first, dict):
        rest = iter(values)
        return merged([next(rest) if has else {} for has in mask.tolist()])
    if not isinstance(first, _NUMBERS):
        return _objects(values, mask)
    found = np.array(values)
    if len(values) == len(mask):
        return found
    column = np.zeros((len(mask), *found.shape[1:]), found.dtype)
    column[mask] = found
    return column


def _objects(values: list[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """The values as they are."""
    objects = np.full(len(mask), None, dtype=object)
    for at, value in zip(np.flatnonzero(mask).tolist(), values, strict=True):
        objects[at] = value
    return objects
