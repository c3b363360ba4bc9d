"""A robot as a Gymnasium environment, from its schedule; needs `inphase[gym]`.

    env = gymnasium.make("inphase.gym:inphase/Schedule-v0", schedule="schedules/arm.toml")
    observation, info = env.reset(seed=7)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

The same environment runs in lock step and on the robot. Time goes on in both: a step costs the
policy's inference time, in lock step the timing model's. It spans the cycles that pass meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict

import numpy as np
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes import observation
from inphase.episodes.clients.client import Client, LockStepClient, RunnerClient
from inphase.episodes.clients.remote_client import RemoteClient
from inphase.episodes.observation import FlatObserver, ObservedField, Observer
from inphase.episodes.step_info import StepInfo
from inphase.episodes.stepping import quick_step
from inphase.episodes.task import Reward, TaskRun, Terminated
from inphase.errors import WorldError, install
from inphase.frames.frame import Frame
from inphase.plan.plan import Plan
from inphase.schedule import Schedule
from inphase.world.mujoco import package as mujoco_package

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ImportError(f"{error}; {install('gymnasium')}") from error

ID = "inphase/Schedule-v0"
Backend = Literal["lockstep", "simulate", "hardware", "remote"]
Observed = NDArray[np.float64] | observation.Values
Step = tuple[Observed, float, bool, bool, dict[str, Any]]
_BACKENDS: dict[str, Callable[..., Client]] = {
    "lockstep": LockStepClient,
    "simulate": lambda schedule: RunnerClient(schedule, simulate=True),
    "hardware": RunnerClient,
    "remote": RemoteClient,
}
_PICTURE = (480, 640)


class EnvironmentOptions(TypedDict, total=False):
    """The options of an environment; `Environment` says what they are."""

    observe: Sequence[str] | None
    flat: bool
    reward: Reward | str | None
    terminated: Terminated | str | None
    render_mode: str | None
    camera: str | None
    service: str | None
    key: str | None


class Environment(gymnasium.Env[Observed, NDArray[np.float64]]):
    """One robot, one episode after the other. Thread: one at a time, and for images always the same
    one. `close` ends it.

    schedule: a path, or one that was loaded. backend: "lockstep" on virtual time, "hardware" the
    robot, "simulate" a simulated one in real time, "remote" one that a service keeps up: service
    and key are those of `inphase.connect`. observe: sensors and fields ("joints",
    "joints.position"); all by default. flat: one vector of float64 instead of a dict of dicts.
    reward, terminated: functions of a frame, or their names, instead of the schedule's [task];
    without either the reward is 0.0. `inphase.of_observation` and `inphase.batched` mark functions
    of something else. render_mode "rgb_array": `render` gives the image of the world's `camera`
    (its first one by default).

    The action is a position for each channel of every actuator, in the schedule's order, see
    `action_names`. The limiter decides last, and `info["applied"]` has the applied values. Raises
    ScheduleError, WorldError; `reset` and `step` raise as client.Client.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        schedule: Path | str | Schedule,
        backend: Backend = "lockstep",
        *,
        observe: Sequence[str] | None = None,
        flat: bool = False,
        reward: Reward | str | None = None,
        terminated: Terminated | str | None = None,
        render_mode: str | None = None,
        camera: str | None = None,
        service: str | None = None,
        key: str | None = None,
    ) -> None:
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        if backend not in _BACKENDS:
            raise ValueError(f"backend is one of {', '.join(_BACKENDS)}, got {backend!r}")
        if backend != "remote" and (service, key) != (None, None):
            raise ValueError(f"service and key are for backend='remote', got {backend!r}")
        reached = {} if backend != "remote" else {"service": service or "", "key": key}
        self.client = _BACKENDS[backend](loaded, **reached)
        plan = self.client.plan
        self.parts = observation.choose(plan, observe)
        self._sensors = tuple(dict.fromkeys(part.sensor for part in self.parts))
        self.is_flat = flat
        self.task = TaskRun(loaded, reward, terminated)
        self.action_space, self.action_names = action_space(plan)  # type: ignore[assignment]
        self.observation_space = observation_space(self.parts, flat)
        self._camera = camera
        self._check_rendering(render_mode)
        self._seed: int | None = None
        self._episode = 0

    def _check_rendering(self, render_mode: str | None) -> None:
        has_world = isinstance(self.client, LockStepClient) and self.client.world is not None
        rate_hz = 1e9 / self.client.schedule.cycle.period_ns
        self.metadata = {
            "render_modes": ["rgb_array"] if has_world else [],
            "render_fps": max(1, round(rate_hz)),
        }
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise WorldError(
                f"{self.client.schedule.path}: render_mode is None, or 'rgb_array' in lock step "
                f"with a [world], got {render_mode!r}"
            )
        trouble = mujoco_package.why_no_images() if render_mode is not None else None
        if trouble is not None:
            raise WorldError(f"{self.client.schedule.path}: no pictures: {trouble}")
        self.render_mode = render_mode

    # ---- episodes ------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Start an episode: number 0 of a new seed, or the next one of the seed before.

        options: {"randomise": knobs beside the schedule's, by path}. It returns once every observed
        sensor has given a sample and the robot follows commands, so far those to stay where it is.
        `info` has what was drawn, besides what `step` gives.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._episode = seed, 0
        elif self._seed is None:
            self._seed = int(self.np_random.integers(1 << 63))
        else:
            self._episode += 1
        knobs = _knobs_of(options)
        client = self.client
        frame = client.begin(self._seed, self._episode, knobs, self._sensors)
        self._observer = (FlatObserver if self.is_flat else Observer)(self.parts, client.follower)
        self.infos = StepInfo(client.follower)
        self._observed = self._observer.values
        self.task.begin(frame)
        if isinstance(client, LockStepClient) and client.plain is not None:
            self._quick_step = quick_step.make(
                client.run, self._observer, self.infos, self.task, self._refuse_action
            )
        observed, _, _, _, info = self.result(frame, judged=False)
        draws = {path: _copied(drawn) for path, drawn in client.draws.items()}
        info |= {"seed": self._seed, "episode_number": self._episode, "draws": draws}
        return observed, info

    def step(self, action: NDArray[np.float64]) -> Step:
        """Answer the frame that was observed; on to the next one that the policy is called with.

        It is truncated after the [task]'s cycles, and when motion is latched: the robot takes no
        command then.
        """
        turn = self.client.turn
        if turn is self.client.plain:
            return self._quick_step(action)
        frame = turn(action)
        if isinstance(frame, str):
            self._refuse_action(action)
        return self.result(frame)

    def advance(self, action: NDArray[np.float64]) -> Frame:
        """The first part of `step`, almost all of it without the GIL: on to the next frame."""
        frame = self.client.turn(action)
        if isinstance(frame, str):
            self._refuse_action(action)
        return frame

    def result(self, frame: Frame, judged: bool = True) -> Step:
        """The second part: what `step` returns; not judged: of an episode's first frame."""
        record, infos = frame.record, self.infos
        facts = infos.unpack(record)
        observed = self._observed(facts[infos.sequences])
        if self.client.is_live and not frame.intact:  # written over meanwhile: a newer one
            return self.result(self.client.next(), judged)
        info = infos.info(record, facts)
        task, reward, terminated = self.task, 0.0, False
        if judged and task.judges:
            reward, terminated = task.judge(frame, observed)
        truncated = facts[1] != 0 or (task.last is not None and facts[0] >= task.last)
        return observed, reward, terminated, truncated, info

    def _refuse_action(self, action: Any) -> NoReturn:
        raise ValueError(
            f"an action is {self.action_space.shape} numbers, got {np.shape(action)}: {action!r}"
        )

    # ---- pictures ------------------------------------------------------------------------

    def render(self) -> Any:
        """The camera's image now; None without a render_mode."""
        if self.render_mode is None:
            return None
        assert isinstance(self.client, LockStepClient) and self.client.world is not None
        return self.client.world.picture(self._camera, *_PICTURE)

    def close(self) -> None:
        """End the robot's run; once is enough, twice does no harm."""
        self.client.close()


def _knobs_of(options: dict[str, Any] | None) -> Mapping[str, Any] | None:
    return options.get("randomise") if options else None


def _copied(drawn: float | list[float]) -> float | list[float]:
    return list(drawn) if isinstance(drawn, list) else drawn


# ---- spaces ----------------------------------------------------------------------------------


def action_space(plan: Plan) -> tuple[spaces.Box, list[str]]:
    """All actuators' channels one after the other, between their limits; their names. With [policy]
    `chunk` a row of them per command."""
    ranges = [limits.range for actuator in plan.actuators for limits in actuator.limits]
    names = [f"{a.name}[{c}]" for a in plan.actuators for c in range(a.spec.channels)]
    low = np.array([low for low, _ in ranges])
    high = np.array([high for _, high in ranges])
    policy = plan.schedule.policy
    if policy is not None and policy.chunk > 1:
        low, high = (np.tile(bound, (policy.chunk, 1)) for bound in (low, high))
    return spaces.Box(low, high, dtype=np.float64), names


def observation_space(parts: list[ObservedField], flat: bool) -> spaces.Space[Any]:
    """Of what `Observer` or `FlatObserver` gives of these parts."""
    if flat:
        observation.check_flat(parts)
        low = np.concatenate([part.low.reshape(-1) for part in parts])
        high = np.concatenate([part.high.reshape(-1) for part in parts])
        return spaces.Box(low, high, dtype=np.float64)
    sensors: dict[str, dict[str, spaces.Space[Any]]] = {}
    for part in parts:
        sensors.setdefault(part.sensor, {})[part.field] = _space(part)
    return spaces.Dict({name: spaces.Dict(fields) for name, fields in sensors.items()})


def _space(part: ObservedField) -> spaces.Space[Any]:
    return spaces.Box(part.low, part.high, part.shape, part.dtype.type)


# two wrappers less: a step before a reset is refused here, and the tests run Gymnasium's checker
gymnasium.register(
    ID,
    entry_point="inphase.gym:Environment",
    vector_entry_point="inphase.episodes.gym_vector:Environments",
    nondeterministic=False,
    order_enforce=False,
    disable_env_checker=True,
)
