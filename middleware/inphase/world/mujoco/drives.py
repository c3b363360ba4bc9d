"""The actuators of a model as the drives of a robot: gains, controls, and power."""

import math
from typing import Any

from inphase.plan.actuator_plan import ActuatorPlan
from inphase.schedule.simulation_tables import WorldActuator
from inphase.schedule.tables import Numbers, Schedule

_KINDS = {
    "position": "<position kp=... joint=...>",
    "velocity": "<velocity kv=... joint=...>",
    "effort": "<motor joint=...>",
    "switch": "an actuator without a bias, as <adhesion body=...>",
}
_GAINS = {"position": ("kp", "kd"), "velocity": ("kd",), "effort": (), "switch": ()}
"""Of which motors are made drives."""


class Drives:
    """Checks a model's actuators, makes drives of motors, and says what their controls are.

    An actuator's length is its gear times the joint's position. Raises ScheduleError.
    """

    def __init__(self, mujoco: Any, schedule: Schedule, model: Any, file: str) -> None:
        self._mujoco = mujoco
        self._schedule = schedule
        self._model = model
        self._file = file

    def make(
        self, actuator: ActuatorPlan, table: WorldActuator, numbers: list[int], key: str
    ) -> tuple[list[float], list[float | None]]:
        """Gains, and the controls at rest, per channel; None: where the joint stands."""
        mode = actuator.schedule.mode
        self._make_drives(actuator, table, numbers, key)
        for name, number in zip(table.actuators, numbers, strict=True):
            if not self._takes(mode, number):
                raise self._schedule.error(
                    f"{key}.actuators",
                    f"actuator {name!r} of the model takes no command of {mode} mode; "
                    + (f"give {' and '.join(_GAINS[mode])} here, or " if _GAINS[mode] else "")
                    + f"make it {_KINDS[mode]} in {self._file}",
                )
        gains = [self._gain(mode, number) for number in numbers]
        safe = [one.safe for one in actuator.limits]
        match mode:
            case "position":
                return gains, [None] * len(gains)
            case "velocity":
                return gains, [0.0] * len(gains)
            case _:
                turned = zip(gains, safe, strict=True)
                return gains, [gain * at for gain, at in turned]

    def _make_drives(
        self, actuator: ActuatorPlan, table: WorldActuator, numbers: list[int], key: str
    ) -> None:
        """Motors become drives: force = kp * (ctrl - length) - kd * velocity, or
        kd * (ctrl - velocity)."""
        mode = actuator.schedule.mode
        given = [name for name in ("kp", "kd") if getattr(table, name) is not None]
        for name in given:
            if name not in _GAINS[mode]:
                raise self._schedule.error(
                    f"{key}.{name}",
                    f"{getattr(table, name)} makes no drive of {mode} mode; remove {name}"
                    + (f", and give {_GAINS[mode][-1]}" if _GAINS[mode] else ""),
                )
        if not given or (mode == "position" and table.kp is None):
            return
        channels = actuator.spec.channels
        stiff = self._numbers(f"{key}.kp", table.kp, channels)
        damped = self._numbers(f"{key}.kd", table.kd, channels)
        for number, k, d in zip(numbers, stiff, damped, strict=True):
            self._check_gains(key, mode, k, d)
            self._make_drive(number, k, d)

    def _numbers(self, key: str, value: Numbers | None, channels: int) -> list[float]:
        return self._schedule.numbers(key, 0.0 if value is None else value, channels)

    def _check_gains(self, key: str, mode: str, k: float, d: float) -> None:
        if mode == "position" and not (0 < k < math.inf and 0 <= d < math.inf):
            raise self._schedule.error(
                f"{key}.kp", f"kp = {k:g} and kd = {d:g}; give kp above 0, and kd of 0 or more"
            )
        if mode == "velocity" and not 0 < d < math.inf:
            raise self._schedule.error(f"{key}.kd", f"kd = {d:g}; give a number above 0")

    def _make_drive(self, number: int, k: float, d: float) -> None:
        model = self._model
        gear, gain = float(model.actuator_gear[number][0]), model.actuator_gainprm[number][0]
        if model.actuator_ctrllimited[number]:
            ends = sorted(gain * model.actuator_ctrlrange[number])
            model.actuator_forcerange[number] = ends
            model.actuator_forcelimited[number] = 1
        model.actuator_ctrllimited[number] = 0
        model.actuator_gaintype[number] = int(self._mujoco.mjtGain.mjGAIN_FIXED)
        model.actuator_biastype[number] = int(self._mujoco.mjtBias.mjBIAS_AFFINE)
        model.actuator_gainprm[number] = 0
        model.actuator_biasprm[number] = 0
        model.actuator_gainprm[number][0] = (k or d) / gear**2
        model.actuator_biasprm[number][1:3] = -k / gear**2, -d / gear**2

    def _takes(self, mode: str, number: int) -> bool:
        """Position: force = kp * (ctrl - length) - kv * velocity; velocity: kv * (ctrl - velocity);
        effort and switch: gain * ctrl."""
        gain = self._model.actuator_gainprm[number][0]
        bias = self._model.actuator_biasprm[number]
        kind = int(self._model.actuator_biastype[number])
        affine = kind == int(self._mujoco.mjtBias.mjBIAS_AFFINE)
        match mode:
            case "position":
                return affine and bias[1] == -gain and gain > 0
            case "velocity":
                return affine and bias[0] == bias[1] == 0 and bias[2] == -gain and gain > 0
            case _:
                none = kind == int(self._mujoco.mjtBias.mjBIAS_NONE)
                return none and gain > 0 and float(self._model.actuator_gear[number][0]) != 0

    def _gain(self, mode: str, number: int) -> float:
        """The control per unit of a command."""
        gear = float(self._model.actuator_gear[number][0])
        if mode == "effort":
            return 1 / (gear * float(self._model.actuator_gainprm[number][0]))
        return 1.0 if mode == "switch" else gear


class TorqueSwitch:
    """The actuators of a model that exert force. The others are loose, as motors without current.

    Thread: the world's.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._gains = model.actuator_gainprm.copy()
        self._biases = model.actuator_biasprm.copy()
        self.loose = bytearray(model.nu)

    def set(self, number: int, *, loose: bool) -> None:
        """One actuator."""
        self.loose[number] = loose
        self._model.actuator_gainprm[number] = 0 if loose else self._gains[number]
        self._model.actuator_biasprm[number] = 0 if loose else self._biases[number]

    def set_all(self, loose: bytes) -> None:
        """All actuators, as a state has them."""
        if loose != self.loose:
            for number, is_loose in enumerate(loose):
                self.set(number, loose=bool(is_loose))
