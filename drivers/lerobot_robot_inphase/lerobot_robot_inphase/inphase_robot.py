"""A robot of LeRobot: the sensors and actuators of a schedule, with its limits and stops."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots.robot import Robot
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

import inphase
from inphase.schedule import Schedule
from lerobot_robot_inphase import running
from lerobot_robot_inphase.config_inphase import InphaseRobotConfig
from lerobot_robot_inphase.reaching import Reaching


class InphaseRobot(Robot):
    """Observations are samples, by the names of `inphase export`: `joints.position.0`, in SI, and
    images by their sensor. Actions are `ARM.0` and so on, in SI.

    A schedule that cannot be read, and a device that cannot be opened, raise inphase's own errors.
    """

    config_class = InphaseRobotConfig
    name = "inphase"

    def __init__(self, config: InphaseRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self._path = Path(config.schedule).resolve()
        schedule = inphase.load(self._path)
        self._layout = running.layout_of(schedule)
        _refuse_shape(self._path, schedule)
        self._modes = [
            (name, count, schedule.actuator[name].mode) for name, count, _ in self._layout.actuators
        ]
        self._names = [f"{name}.{i}" for name, count, _ in self._modes for i in range(count)]
        self._robot: running.Robot | None = None
        self._fields = list(self._chosen(config.observe))

    def _chosen(self, observe: list[str]) -> Any:
        """(sensor, field, shape, is an image) of what is observed."""
        names = []
        for sensor, dtype in zip(self._layout.sensors, self._layout.dtypes, strict=True):
            for field in dtype.names or ():
                part = dtype[field]
                base, shape = part.subdtype or (part, ())
                names.append(f"{sensor}.{field}")
                if not observe or sensor in observe or names[-1] in observe:
                    image = base == np.uint8 and len(shape) == 3 and shape[2] == 3
                    if image or (len(shape) < 2 and base.kind in "fiub"):
                        yield sensor, field, shape, image
        known = {*names, *self._layout.sensors}
        if unknown := [name for name in observe if name not in known]:
            raise ValueError(
                f"robot.observe: {self._path} has no {unknown[0]}; there are: {', '.join(names)}"
            )

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        """Numbers, and images (height, width, 3)."""
        found: dict[str, Any] = {}
        for sensor, field, shape, image in self._fields:
            found |= {sensor: shape} if image else dict.fromkeys(_keys(sensor, field, shape), float)
        return found

    @cached_property
    def action_features(self) -> dict[str, Any]:
        """A number for each channel of each actuator."""
        return dict.fromkeys(self._names, float)

    @property
    def cameras(self) -> dict[str, Any]:
        """LeRobot counts them: the sensors that give images."""
        return {sensor: None for sensor, _, _, image in self._fields if image}

    @property
    def is_connected(self) -> bool:
        """The robot runs."""
        return self._robot is not None

    @property
    def is_calibrated(self) -> bool:
        """Zeros and signs are in the schedule: `inphase calibrate` finds them."""
        return True

    def calibrate(self) -> None:
        """Nothing is asked here."""

    def configure(self) -> None:
        """Nothing is asked here."""

    def connect(self, calibrate: bool = True) -> None:
        """Start the robot: it holds where it is until the first action."""
        if self._robot is not None:
            raise DeviceAlreadyConnectedError(f"{self} is already connected")
        self._reaching = Reaching(self._modes, self.config.hold_s, self.config.catch_up)
        runner = inphase.Runner(self._path, policy=self._reaching, simulate=self.config.simulate)
        runner.__enter__()
        self._robot = running.RUNNING[self._path] = running.Robot(runner)
        try:
            self.get_observation()
        except BaseException:
            self.disconnect()
            raise

    def get_observation(self) -> dict[str, Any]:
        """Of the next frame. Raises ConnectionError where a sensor gives none that is accepted."""
        robot, config = self._running(), self.config
        sensors = {sensor for sensor, _, _, _ in self._fields}
        frame = robot.newest(sensors, config.accepts, config.patience_s)
        found: dict[str, Any] = {}
        for sensor, field, shape, image in self._fields:
            value = frame[sensor].value[field]
            if image:
                found[sensor] = value.copy()
            else:
                found |= zip(_keys(sensor, field, shape), np.ravel(value).tolist(), strict=True)
        if not frame.intact:
            return self.get_observation()
        return found

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """The limiter decides what is done of it. Raises RuntimeError while motion is latched."""
        robot = self._running()
        if robot.frame is not None and robot.frame.reason != "none":
            raise RuntimeError(
                f"{self}: motion is latched: {robot.frame.reason}; `inphase explain "
                f"{robot.frame.reason}` says what to do"
            )
        values = np.array([float(action[name]) for name in self._names])
        if not np.isfinite(values).all():
            raise ValueError(f"{self}: an action has a number that is none: {action}")
        self._reaching.aim(values)
        return dict(zip(self._names, values.tolist(), strict=True))

    def disconnect(self) -> None:
        """Ramp down, and end as the schedule says. Raises inphase's own errors."""
        robot = self._running()
        self._robot = None
        running.RUNNING.pop(self._path, None)
        robot.runner.__exit__(None, None, None)

    def _running(self) -> running.Robot:
        if self._robot is None:
            raise DeviceNotConnectedError(f"{self} is not connected; call connect()")
        return self._robot


def _refuse_shape(path: Path, schedule: Schedule) -> None:
    """Raise ValueError where the schedule's own policy has commands of another shape."""
    policy = schedule.policy
    asked = (
        []
        if policy is None
        else [key for key in ("every", "chunk", "history") if getattr(policy, key) not in (None, 1)]
    )
    if asked:
        raise ValueError(
            f"robot.schedule: {path}: policy.{asked[0]} is for the schedule's own policy, and "
            "LeRobot gives one action at a time; give a copy of the schedule without this key"
        )


def _keys(sensor: str, field: str, shape: tuple[int, ...]) -> list[str]:
    name = f"{sensor}.{field}"
    return [f"{name}.{index}" for index in range(int(np.prod(shape)))] if shape else [name]
