"""Many environments of one schedule at once, in lock step; needs `inphase[gym]`.

    envs = gymnasium.make_vec("inphase.gym:inphase/Schedule-v0", num_envs=8, schedule="arm.toml")

They are stepped in threads of this process, for the core and its world run without the GIL. Each
environment gives what it would give alone. Where Python has no part in it, a step of all is one
call of C.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.gym import Backend, Environment, EnvironmentOptions, Observed, Step
from inphase.episodes.stepping.batch_steps import BatchSteps
from inphase.episodes.stepping.env_workers import EnvWorkers
from inphase.episodes.stepping.later_dict import later
from inphase.episodes.stepping.merged_infos import merged
from inphase.schedule import Schedule


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
        self._workers = EnvWorkers(num_envs, workers)
        self._steps_max = max_episode_steps
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._observed: list[Any] | None = [None] * num_envs
        """each one's last observation; None: the batch has it"""

        def make(_: int) -> Environment:
            return Environment(loaded, backend, **options)

        self.envs: list[Environment] = self._workers.each(make)
        first = self.envs[0]
        self._batched = (
            BatchSteps(self.envs, self._workers.threads) if BatchSteps.fits(first) else None
        )
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

        before = self._last() if not mask.all() else []

        def reset(i: int) -> tuple[Any, dict[str, Any]]:
            if not mask[i]:
                return before[i], {}
            return self.envs[i].reset(seed=seeds[i], options=given or None)

        infos = self._keep(self._workers.each(reset))
        self._ended[mask] = False
        self._steps[mask] = 0
        return self._together(), merged(infos)

    def _last(self) -> list[Any]:
        """Each one's last observation."""
        if self._observed is None:
            assert self._batched is not None
            self._observed = [self._batched.observed(i) for i in range(self.num_envs)]
        return self._observed

    def _keep(self, resets: list[tuple[Any, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Keep the observations; the infos."""
        self._observed = [observed for observed, _ in resets]
        return [info for _, info in resets]

    def step(
        self, actions: NDArray[np.float64]
    ) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """A step in each; one whose episode is over is reset as the autoreset mode says."""
        is_over = True in self._ended.tolist()
        assert not (is_over and self._mode is AutoresetMode.DISABLED), "reset them first"
        some_begin = is_over and self._mode is AutoresetMode.NEXT_STEP
        batched = None if self._batched is None or some_begin else self._batched.step(actions)
        if batched is None:
            return self._step_each(actions, self._ended & some_begin)
        self._observed = None
        observed, rewards, terminated, truncated, make_infos, cycle = batched
        self._steps += 1
        if self._steps_max is not None:
            truncated |= self._steps >= self._steps_max
        self._ended = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = merged(self._start_again(make_infos()))
            return self._together(), rewards, terminated, truncated, infos
        return (
            observed,
            rewards,
            terminated,
            truncated,
            later({"cycle": cycle}, _merged, make_infos),
        )

    def _step_each(
        self, actions: NDArray[np.float64], again: NDArray[np.bool_]
    ) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """The same with a call of Python for each. again: those that are reset instead."""
        envs = self.envs

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
        return self._together(), rewards, terminated, truncated, merged(infos)

    def play(self, actions: NDArray[np.float64]) -> tuple[Any, NDArray[np.bool_]]:
        """A step in each for every row of actions: (steps, num_envs, *action). Returns the
        observations and who was truncated, with the same first two dimensions.

        No episode is reset meanwhile, and one that was truncated goes on. Raises ValueError for
        actions of another shape, for an episode that is over before, and where the [task] judges
        frames, which is Python. Else as `step`.
        """
        shape = (self.num_envs, *(self.single_action_space.shape or ()))
        actions = np.asarray(actions, np.float64)
        if actions.shape[1:] != shape or not len(actions):
            raise ValueError(f"actions are (steps, *{shape}) numbers, got {actions.shape}")
        if self._ended.any():
            raise ValueError(f"episodes {np.flatnonzero(self._ended)} are over; reset them first")
        if self.envs[0].task.judges:
            raise ValueError("a reward or an end looks at every frame; leave them out, or use step")
        observed, truncated = self._played(actions)
        if self._steps_max is not None:
            done = self._steps + 1 + np.arange(len(actions))[:, None]
            truncated = np.logical_or(truncated, done >= self._steps_max)
        self._steps += len(actions)
        self._ended = np.logical_or.reduce(truncated, axis=0)
        return observed, truncated

    def _played(self, actions: NDArray[np.float64]) -> tuple[Any, NDArray[np.bool_]]:
        """Step by step until C can take the rest: an episode's first command is looked at."""
        seen: list[Any] = []
        ended: list[NDArray[np.bool_]] = []
        for at, row in enumerate(actions):
            rest = None if self._batched is None else self._batched.play(actions[at:])
            if rest is not None:
                self._observed = _last_of(rest[0])
                return _joined([*seen, rest[0]]), np.concatenate([*ended, rest[1]])
            steps = self._workers.each(partial(_step, self.envs, row))
            self._observed = [step[0] for step in steps]
            seen.append(_deeper(self._together()))
            ended.append(np.array([[step[3] for step in steps]]))
        return _joined(seen), np.concatenate(ended)

    def _are_long(self, again: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Count a step, and whose episode has as many as it may."""
        self._steps += 1
        self._steps[again] = 0
        if self._steps_max is None:
            return np.zeros(self.num_envs, np.bool_)
        return self._steps >= self._steps_max

    def _start_again(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Reset those whose episode has ended; its last observation and info go into the info."""
        ended, before = self._ended, self._last()

        def reset(i: int) -> tuple[Any, dict[str, Any]]:
            return self.envs[i].reset() if ended[i] else (before[i], infos[i])

        first = self._keep(self._workers.each(reset))
        self._steps[ended] = 0
        return [
            {"final_obs": before[i], "final_info": infos[i], **info} if ended[i] else info
            for i, info in enumerate(first)
        ]

    def _together(self) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, n=self.num_envs, fn=np.empty)
        return concatenate(space, self._last(), empty)

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
        if self._batched is not None:
            self._batched.close()


def _step(envs: list[Environment], actions: NDArray[np.float64], i: int) -> Step:
    return envs[i].step(actions[i])


def _merged(make: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    return merged(make())


def _mapped(call: Callable[..., Any], *observed: Any) -> Any:
    """Observations of the same kind, arrays by arrays."""
    if isinstance(observed[0], dict):
        return {key: _mapped(call, *(one[key] for one in observed)) for key in observed[0]}
    return call(*observed)


def _joined(observed: list[Any]) -> Any:
    """Those of some steps after those of others."""
    return observed[0] if len(observed) == 1 else _mapped(_concatenated, *observed)


def _concatenated(*arrays: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(arrays)


def _deeper(observed: Any) -> Any:
    """Of one step, as those of several."""
    return _mapped(lambda one: one[None], observed)


def _last_of(observed: Any) -> list[Any]:
    """The last step's, environment by environment, each a copy."""
    rows = len(next(_arrays(observed))[0])
    return [_mapped(lambda one, i=i: one[-1, i].copy(), observed) for i in range(rows)]


def _arrays(observed: Any) -> Iterator[NDArray[Any]]:
    if isinstance(observed, dict):
        for part in observed.values():
            yield from _arrays(part)
    else:
        yield observed
