"""The arm of `world` as a Gymnasium environment, against a plain Gymnasium MuJoCo environment.

Both have the same model, task and observation: positions and velocities in, seven targets out, the
reward the distance from a pose. The plain one is a subclass of Gymnasium's MujocoEnv, as its own
environments are. A sample is the thread's CPU time of 100 steps.
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from benches.distribution import Block, Rounds, show_throughput
from benches.machine import Options
from benches.world import HOME, PLAIN, schedule_of
from inphase import batched, of_observation
from inphase.frame import Frame

_STEPS, _CHUNKS = 100, 20
_LONG = 1_000_000_000
_EPISODE = 500
_ALLOWED, _BEYOND = 0.004, 0.02
"""rad: how far requests swing within the limits, and where the limiter looks for a way each time"""
_GOALS = {"make": 1.3}


def reward_of(position: NDArray[np.float64]) -> float:
    """The task of both."""
    apart = position - HOME
    return -float(apart @ apart)


def reward(frame: Frame) -> float:
    """The same of a frame."""
    return reward_of(frame["joints"].value["position"])


@batched
def batched_reward(frames: Any) -> Any:
    """The same of the frames of many, or of one."""
    apart = frames["joints"].value["position"] - HOME
    return -(apart * apart).sum(-1)


@of_observation
def observed_reward(observed: Any) -> Any:
    """The same of an observation, as the plain environment has it; of one, or of many."""
    if observed.ndim == 1:
        return reward_of(observed[:7])
    apart = observed[:, :7] - HOME
    return -(apart * apart).sum(-1)


class Plain(MujocoEnv):  # type: ignore[misc]
    """What one writes with Gymnasium alone."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}  # noqa: RUF012

    def __init__(self, model: str) -> None:
        # Gymnasium looks at the rate that its metadata have for pictures
        self.metadata = {**type(self).metadata, "render_fps": 1000}
        super().__init__(model, 1, Box(-np.inf, np.inf, (14,), np.float64))

    def step(self, action: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One cycle."""
        self.do_simulation(action, self.frame_skip)
        observation = self._observe()
        return observation, reward_of(observation[:7]), False, False, {}

    def reset_model(self) -> NDArray[np.float64]:
        """The pose of the schedule's key frame."""
        self.set_state(self.model.key_qpos[0].copy(), self.init_qvel)
        return self._observe()

    def _observe(self) -> NDArray[np.float64]:
        return np.concatenate([self.data.qpos, self.data.qvel])


def _block(env: Any, episode: int = _LONG, swing: float = _ALLOWED) -> Block:
    """Steps towards a pose near the start; a reset after each episode is in the time."""
    env.reset(seed=1)
    actions = HOME + swing * np.sin(np.linspace(0, 6.28, _STEPS))[:, None]

    def block() -> NDArray[np.int64]:
        took = np.zeros(_CHUNKS, np.int64)
        step, done = env.step, 0
        for chunk in range(_CHUNKS):
            start = time.thread_time_ns()
            for action in actions:
                step(action)
            done += _STEPS
            if done % episode == 0:
                env.reset()
            took[chunk] = time.thread_time_ns() - start
        return took

    return block


def _measure(
    name: str, ours: Block, plain: Block, rounds: int, goal: float | None
) -> dict[str, Any]:
    figure = Rounds(name, goal=None if goal is None else 1 / goal)
    ours()
    plain()
    for _ in range(rounds):
        figure.add(plain(), ours(), plain())
    result = figure.result()
    show_throughput(result, _STEPS, "steps", goal)
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """Made and unwrapped, against a plain one that was made; whole episodes; and both unwrapped."""
    gymnasium.register(
        "Plain-v0", entry_point=f"{__name__}:Plain", max_episode_steps=_LONG, nondeterministic=True
    )
    with schedule_of(PLAIN) as schedule:
        assert schedule.world is not None
        model = str((schedule.path.parent / schedule.world.model).resolve())
        make: Callable[..., Any] = lambda call=observed_reward: gymnasium.make(  # noqa: E731
            "inphase.gym:inphase/Schedule-v0",
            schedule=schedule,
            reward=call,
            flat=True,
            max_episode_steps=_LONG,
        )
        plain: Callable[[], Any] = lambda: gymnasium.make("Plain-v0", model=model)  # noqa: E731
        rows = [
            ("made, against one that was made", make(), plain(), {}),
            ("made, the reward of a frame", make(reward), plain(), {}),
            ("made, requests beyond the limits", make(), plain(), {"swing": _BEYOND}),
            ("unwrapped, against one that was made", make().unwrapped, plain(), {}),
            ("unwrapped, against unwrapped", make().unwrapped, plain().unwrapped, {}),
            (f"made, episodes of {_EPISODE} steps", make(), plain(), {"episode": _EPISODE}),
        ]
        results = []
        for i, (name, ours, bare, how) in enumerate(rows):
            goal = _GOALS["make"] if i == 0 else None
            blocks = _block(ours, **how), _block(bare, **how)
            results.append(_measure(name, *blocks, options.rounds, goal))
            ours.close()
    return results
