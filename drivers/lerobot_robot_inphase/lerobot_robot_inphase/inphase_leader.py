"""A teleoperator of LeRobot: a leader arm, which is a sensor of a schedule."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.teleoperators.teleoperator import Teleoperator
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

import inphase
from lerobot_robot_inphase import running
from lerobot_robot_inphase.config_inphase import InphaseLeaderConfig

_GOOD = ("FRESH", "HELD")


class InphaseLeader(Teleoperator):
    """Actions are the leader's positions, under the names of the arm: `ARM.0` and so on, in SI.

    A leader of the robot's own schedule is read from the robot's frames. Another one runs by
    itself, and nothing of its schedule is moved.
    """

    config_class = InphaseLeaderConfig
    name = "inphase"

    def __init__(self, config: InphaseLeaderConfig) -> None:
        super().__init__(config)
        self.config = config
        self._path = Path(config.schedule).resolve()
        self._schedule = inphase.load(self._path)
        if config.leader not in self._schedule.sensor:
            raise ValueError(
                f"teleop.leader: {self._path} has no sensor {config.leader}; there are: "
                f"{', '.join(self._schedule.sensor)}"
            )
        self._robot: running.Robot | None = None
        self._own: inphase.Runner | None = None

    @cached_property
    def _count(self) -> int:
        """The joints of the leader."""
        layout = running.layout_of(self._schedule)
        dtype = layout.dtypes[layout.indices[self.config.leader]]
        if "position" not in (dtype.names or ()):
            raise ValueError(f"teleop.leader: {self.config.leader} has no field position")
        return int(np.prod(dtype["position"].shape, dtype=int))

    @property
    def action_features(self) -> dict[str, Any]:
        """A number for each joint."""
        return {f"{self.config.arm}.{index}": float for index in range(self._count)}

    @property
    def feedback_features(self) -> dict[str, Any]:
        """None is taken."""
        return {}

    @property
    def is_connected(self) -> bool:
        """The leader is read."""
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
        """Find the robot of this schedule, or run the schedule without moving anything."""
        if self._robot is not None:
            raise DeviceAlreadyConnectedError(f"{self} is already connected")
        self._robot = running.RUNNING.get(self._path)
        if self._robot is None:
            self._own = inphase.Runner(self._path, observe=True, simulate=self.config.simulate)
            self._own.__enter__()
            self._robot = running.Robot(self._own)

    def get_action(self) -> dict[str, Any]:
        """The leader's pose in the next frame. Raises ConnectionError where it is not known: a
        leader that is silent does not stand still."""
        if self._robot is None:
            raise DeviceNotConnectedError(f"{self} is not connected; call connect()")
        while True:
            frame = self._robot.newest([self.config.leader], _GOOD, self.config.patience_s)
            values = np.ravel(frame[self.config.leader].value["position"]).tolist()
            if frame.intact:
                return dict(zip(self.action_features, values, strict=True))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Nothing is taken."""

    def disconnect(self) -> None:
        """End what runs for the leader alone."""
        if self._robot is None:
            raise DeviceNotConnectedError(f"{self} is not connected; call connect()")
        own, self._own, self._robot = self._own, None, None
        if own is not None:
            own.__exit__(None, None, None)
