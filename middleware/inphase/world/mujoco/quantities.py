"""The quantities of a model that fields are read from: which there are, and where they lie."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.schedule import toml_position
from inphase.schedule.simulation_tables import QUANTITIES, Source
from inphase.schedule.tables import Schedule

DERIVED = frozenset(QUANTITIES) - {"joint_position", "joint_velocity"}
"""quantities that MuJoCo computes in a forward pass alone"""

Find = Callable[[str, str, str], int]
"""kind, name and key: the number of that part of the model. Raises ScheduleError."""


class Quantities:
    """Where the numbers of a quantity lie in a model's data. Raises ScheduleError."""

    def __init__(self, mujoco: Any, schedule: Schedule, model: Any, data: Any, find: Find) -> None:
        self._mujoco = mujoco
        self._schedule = schedule
        self._model = model
        self._data = data
        self._find = find
        self.reads_sensors = False
        """addresses of the model's sensors were asked for"""

    def named(self, source: Source, key: str) -> tuple[str, list[str]]:
        """The one quantity of a source, and the names of the parts that have it."""
        given = [name for name in QUANTITIES if getattr(source, name) is not None]
        if len(given) != 1:
            raise self._schedule.error(
                key,
                f"exactly one quantity is needed, got {', '.join(given) or 'none'}; give one of "
                f"{', '.join(QUANTITIES)}",
            )
        value = getattr(source, given[0])
        return given[0], value if isinstance(value, list) else [value]

    def addresses(self, quantity: str, name: str, key: str) -> list[int]:
        """The addresses of the numbers of a part."""
        model, data = self._model, self._data
        kind, _, what = quantity.partition("_")
        number = self._find(kind, name, key)
        if kind == "joint":
            return [self._joint_address(what, number, name, key)]
        if kind == "sensor":
            self._refuse_delay(number, name, key)
            self.reads_sensors = True
            first, count = int(model.sensor_adr[number]), int(model.sensor_dim[number])
            return places(data.sensordata, first, count)
        if kind == "tendon":
            array = {"position": data.ten_length, "velocity": data.ten_velocity}[what]
            return places(array, number, 1)
        array, count = {
            ("site", "position"): (data.site_xpos, 3),
            ("site", "rotation"): (data.site_xmat, 9),
            ("body", "position"): (data.xpos, 3),
            ("body", "orientation"): (data.xquat, 4),
        }[kind, what]
        return places(array, count * number, count)

    def start(self, joint: str, value: float) -> tuple[int, float]:
        """Where in qpos the schedule's pose puts a joint, and its value."""
        key = toml_position.format_path(("world", "pose", joint))
        number = self._find("joint", joint, key)
        self._refuse_many_numbers(number, joint, key, "start in a keyframe of the model")
        low, high = self._model.jnt_range[number]
        if self._model.jnt_limited[number] and not low <= value <= high:
            raise self._schedule.error(
                key, f"{value:g} is outside of its range; give {low:.4g} to {high:.4g}"
            )
        return int(self._model.jnt_qposadr[number]), value

    def _refuse_many_numbers(self, number: int, name: str, key: str, instead: str) -> None:
        kinds = self._mujoco.mjtJoint
        one = (int(kinds.mjJNT_HINGE), int(kinds.mjJNT_SLIDE))
        if int(self._model.jnt_type[number]) not in one:
            raise self._schedule.error(
                key, f"joint {name!r} is neither a hinge nor a slide; {instead}"
            )

    def _joint_address(self, what: str, number: int, name: str, key: str) -> int:
        model, data = self._model, self._data
        self._refuse_many_numbers(number, name, key, "read its body or a sensor")
        position, velocity = int(model.jnt_qposadr[number]), int(model.jnt_dofadr[number])
        array, at = {
            "position": (data.qpos, position),
            "velocity": (data.qvel, velocity),
            "acceleration": (data.qacc, velocity),
            "effort": (data.qfrc_actuator, velocity),
        }[what]
        return places(array, at, 1)[0]

    def _refuse_delay(self, number: int, name: str, key: str) -> None:
        """A sample has the stamp of its instant, and a delayed number is of an earlier one."""
        for what, instead in (("delay", "latency_ms"), ("interval", "every")):
            given = getattr(self._model, f"sensor_{what}")[number]
            seconds = float(np.atleast_1d(given)[0])
            if seconds > 0:
                raise self._schedule.error(
                    key,
                    f"sensor {name!r} of the model has a {what} of {seconds:g} s, and its "
                    f"numbers would be older than their stamps; remove {what} from it in "
                    f"the model, and give {instead} in the schedule",
                )


def places(array: NDArray[np.float64], first: int, count: int) -> list[int]:
    """Addresses of numbers of an array that stays where it is."""
    base = int(array.ctypes.data)
    return [base + 8 * (first + i) for i in range(count)]
