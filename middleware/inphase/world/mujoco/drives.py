"""The actuators of a model as the drives of a robot: gains, controls, and power."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inphase.core.world_seam import StepGrid
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.schedule.simulation_tables import WorldActuator
from inphase.schedule.tables import Numbers

_KINDS = {
    "position": "<position kp=... joint=...>",
    "velocity": "<velocity kv=... joint=...>",
    "effort": "<motor joint=...>",
    "switch": "an actuator without a bias, as <adhesion body=...>",
}
_GAINS = {"position": ("kp", "kd"), "velocity": ("kd",), "effort": (), "switch": ()}
"""Of which actuators are made drives."""
_FILTERS = ("NONE", "FILTER", "FILTEREXACT")
"""Dynamics whose output settles at the control."""


@dataclass(frozen=True)
class Drive:
    """An actuator of the model as it takes commands: control = gain * command + zero."""

    gain: float
    zero: float
    held: tuple[float, float]
    """it holds a length L with the input a * L + b"""
    rest: float | None
    """the control before the first command; None: the one that holds"""
    integrates: bool
    """its activation is the input, and the control that input's rate"""


class Law:
    """An actuator's force: gain * input + bias[0] + bias[1] * length + bias[2] * velocity.

    The input is the control, or the activation that follows it. A gain or a bias of None is of
    another form.
    """

    def __init__(self, mujoco: Any, model: Any, number: int) -> None:
        self._mujoco, self._model, self._number = mujoco, model, number
        self.control, self.output = control_of(model, number), output_of(model, number)
        self.dynamics = _name(mujoco.mjtDyn, model.actuator_dyntype[number])
        self.gain_type = _name(mujoco.mjtGain, model.actuator_gaintype[number])
        self.bias_type = _name(mujoco.mjtBias, model.actuator_biastype[number])
        gains = model.actuator_gainprm[number]
        constant = self.gain_type == "FIXED" or (self.gain_type == "AFFINE" and not any(gains[1:3]))
        self.gain = float(gains[0]) if constant else None
        biases = {"NONE": (0.0, 0.0, 0.0), "AFFINE": tuple(model.actuator_biasprm[number][:3])}
        self.bias: tuple[float, ...] | None = biases.get(self.bias_type)
        self.transmission = _name(mujoco.mjtTrn, model.actuator_trntype[number])
        self.unit = self._unit()
        """length of the transmission per unit of a command"""

    @property
    def is_motor(self) -> bool:
        """True if its force is its control times a constant, at once."""
        return self.gain is not None and self.bias == (0, 0, 0) and self.dynamics == "NONE"

    def _joint(self) -> str:
        """The type of the joint that it moves; "": it moves something else."""
        if not self.transmission.startswith("JOINT"):
            return ""
        joint = self._model.actuator_trnid[self._number][0]
        return _name(self._mujoco.mjtJoint, self._model.jnt_type[joint])

    def _unit(self) -> float:
        """Of a gear of several numbers: along its direction, of the force before the torque."""
        gear = [float(number) for number in self._model.actuator_gear[self.output]]
        if self.transmission == "BODY":
            return 1.0
        if self.transmission != "SITE" and self._joint() not in ("BALL", "FREE"):
            return gear[0]
        part = gear[:3] if any(gear[:3]) else gear[3:]
        alone = [number for number in part if number]
        return alone[0] if len(alone) == 1 else math.hypot(*part)

    @property
    def has_length(self) -> bool:
        """True if its transmission has a place, and not a direction alone."""
        model = self._model
        if self.transmission == "SITE":
            return bool(model.actuator_trnid[self._number][1] >= 0)
        return self.transmission != "BODY" and self._joint() != "FREE"

    def strange(self) -> str | None:
        """Why no mode can command it; None: nothing is known."""
        model, number = self._model, self._number
        if model.actuator_plugin[number] >= 0:
            return "a plugin computes its force"
        for kind in (self.dynamics, self.gain_type, self.bias_type):
            if kind not in (*_FILTERS, "INTEGRATOR", "FIXED", "AFFINE", "MUSCLE"):
                return f"it is of type {kind.lower()}"
        if self.disabled is not None:
            return f"it is disabled by {self.disabled}"
        if self.unit == 0:
            return "its gear is 0"
        return None

    @property
    def disabled(self) -> str | None:
        """The part of the model that disables it; None: there is none."""
        option, group = self._model.opt, int(self._model.actuator_group[self._number])
        if option.disableflags & int(self._mujoco.mjtDisableBit.mjDSBL_ACTUATION):
            return '<flag actuation="disable"/>'
        if 0 <= group <= 30 and option.disableactuator >> group & 1:
            return f"{group} of <option actuatorgroupdisable=...>"
        return None


class Drives:
    """Checks a model's actuators, makes drives of them, and holds them before the first command.

    A command is a length, a velocity or an effort of the actuator's transmission, without its gear:
    of a joint in rad or m, of a tendon in m. Raises ScheduleError.
    """

    def __init__(self, mujoco: Any, plan: Plan, model: Any, grid: StepGrid, file: str) -> None:
        self._mujoco = mujoco
        self._plan = plan
        self._schedule = plan.schedule
        self._model = model
        self._grid = grid
        self._file = file
        self._made: dict[int, Drive] = {}

    def make(
        self, actuator: ActuatorPlan, table: WorldActuator, numbers: list[int], key: str
    ) -> list[Drive]:
        """The drive of each channel."""
        mode = actuator.schedule.mode
        self._make_drives(actuator, table, numbers, key)
        safe = [one.safe for one in actuator.limits]
        drives = []
        for name, number, at in zip(table.actuators, numbers, safe, strict=True):
            law = Law(self._mujoco, self._model, number)
            if not takes(mode, law):
                raise self._schedule.error(
                    f"{key}.actuators", self._refusal(name, mode, law, actuator.name)
                )
            self._check_delay(name, number, f"{key}.actuators", actuator.name)
            drives.append(drive_of(mode, law, at))
        self._made.update(zip(numbers, drives, strict=True))
        return drives

    def hold(self, data: Any, number: int) -> None:
        """Control, activation and delayed controls of an actuator that has no command: it holds
        where it stands, does not move, or exerts what is safe."""
        drive, model = self._made[number], self._model
        factor, offset = drive.held
        held = factor * float(data.actuator_length[output_of(model, number)]) + offset
        control = held if drive.rest is None else drive.rest
        data.ctrl[control_of(model, number)] = control
        place = int(model.actuator_actadr[number])
        if place >= 0:
            data.act[place] = held if drive.integrates else control
        delayed = _delayed(model, number)
        if delayed:
            self._mujoco.mj_initCtrlHistory(model, data, number, None, np.full(delayed, control))

    # ---- what is refused ---------------------------------------------------------------------

    def _refusal(self, name: str, mode: str, law: Law, actuator: str) -> str:
        why = law.strange() or _why_not(mode, law)
        remedies = list(self._remedies(mode, law, actuator))
        return (
            f"actuator {name!r} of the model takes no command of {mode} mode"
            f"{': ' + why if why else ''}; {', or '.join(remedies)}"
        )

    def _remedies(self, mode: str, law: Law, actuator: str) -> Iterator[str]:
        """Remedies for an actuator that does not take a mode."""
        if law.disabled is not None:
            yield f"remove {law.disabled} from {self._file}"
            return
        if law.strange() is None:
            if _GAINS[mode] and _drive_trouble(mode, law) is None:
                yield f"give {' and '.join(_GAINS[mode])} here"
            for other in _KINDS:
                if other != mode and takes(other, law):
                    yield f'give mode = "{other}" in [actuator.{actuator}]'
        yield f"make it {_KINDS[mode]} in {self._file}"

    def _check_delay(self, name: str, number: int, key: str, actuator: str) -> None:
        """MuJoCo's delay needs every control of that time, and an event between two steps adds
        one."""
        kept = _delayed(self._model, number)
        if not kept:
            return
        delay_ns = round(float(self._model.actuator_delay[number]) * 1e9)
        needed = _times(delay_ns, math.floor(self._grid.step_ns)) + self._events_in(delay_ns)
        if kept < needed:
            raise self._schedule.error(
                key,
                f"actuator {name!r} of the model keeps {kept} controls for its delay of "
                f"{delay_ns / 1e6:g} ms, and up to {needed} may be set in that time; give it "
                f'nsample="{needed}" in {self._file}, or remove its delay there and '
                f"give actuators.{actuator}.delay_ms = {delay_ns / 1e6:g} in [timing]",
            )

    def _events_in(self, span_ns: int) -> int:
        """How many samples and commands may lie between two steps, within a time."""
        period_ns = self._schedule.cycle.period_ns
        cycles = _times(span_ns, period_ns) + 1
        free = [s for s in self._plan.sensors if s.schedule.free_running]
        intervals = [s.spec.interval_ns for s in free]
        by_themselves = sum(_times(span_ns, round(one or period_ns)) + 1 for one in intervals)
        others = len(self._plan.sensors) - len(free) + len(self._plan.actuators)
        return cycles * others + by_themselves

    # ---- drives of other gains ---------------------------------------------------------------

    def _make_drives(
        self, actuator: ActuatorPlan, table: WorldActuator, numbers: list[int], key: str
    ) -> None:
        """Actuators get other gains: force = kp * (ctrl - length) - kd * velocity, or
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
        for name, number, k, d in zip(table.actuators, numbers, stiff, damped, strict=True):
            self._check_gains(key, mode, k, d)
            law = Law(self._mujoco, self._model, number)
            trouble = law.strange() or _drive_trouble(mode, law)
            if trouble is not None:
                raise self._schedule.error(
                    f"{key}.{given[0]}",
                    f"{' and '.join(given)} make no drive of actuator {name!r} of the model: "
                    f"{trouble}; remove {' and '.join(given)}, and make it {_KINDS[mode]} in "
                    f"{self._file}",
                )
            self._make_drive(number, law, k, d)

    def _numbers(self, key: str, value: Numbers | None, channels: int) -> list[float]:
        return self._schedule.numbers(key, 0.0 if value is None else value, channels)

    def _check_gains(self, key: str, mode: str, k: float, d: float) -> None:
        if mode == "position" and not (0 < k < math.inf and 0 <= d < math.inf):
            raise self._schedule.error(
                f"{key}.kp", f"kp = {k:g} and kd = {d:g}; give kp above 0, and kd of 0 or more"
            )
        if mode == "velocity" and not 0 < d < math.inf:
            raise self._schedule.error(f"{key}.kd", f"kd = {d:g}; give a number above 0")

    def _make_drive(self, number: int, law: Law, k: float, d: float) -> None:
        """The force stays within the actuator's own range, and a motor's within its control's."""
        model = self._model
        if law.is_motor and model.actuator_ctrllimited[law.control]:
            low, high = sorted(law.gain * model.actuator_ctrlrange[law.control])
            if model.actuator_forcelimited[number]:
                own_low, own_high = model.actuator_forcerange[number]
                low, high = max(low, own_low), min(high, own_high)
            model.actuator_forcerange[number] = low, high
            model.actuator_forcelimited[number] = 1
        model.actuator_ctrllimited[law.control] = 0
        model.actuator_gaintype[number] = int(self._mujoco.mjtGain.mjGAIN_FIXED)
        model.actuator_biastype[number] = int(self._mujoco.mjtBias.mjBIAS_AFFINE)
        model.actuator_gainprm[number] = 0
        model.actuator_biasprm[number] = 0
        model.actuator_gainprm[number][0] = (k or d) / law.unit**2
        model.actuator_biasprm[number][1:3] = -k / law.unit**2, -d / law.unit**2


def _times(span_ns: int, interval_ns: int) -> int:
    """How often an interval begins within a span."""
    return -(-span_ns // interval_ns)


def takes(mode: str, law: Law) -> bool:
    """True if a constant makes the actuator's control of a command of that mode."""
    if law.strange() is not None:
        return False
    settles = law.dynamics in _FILTERS
    if mode == "switch":
        plain = law.bias is not None and not any(law.bias)
        return law.gain != 0 and ((plain and settles) or law.bias_type == "MUSCLE")
    if not law.gain or law.bias is None:
        return False
    _, spring, damping = law.bias
    holds = spring < 0 and law.has_length
    if mode == "velocity" and law.dynamics == "INTEGRATOR":
        return holds
    return (
        settles
        and {
            "position": holds,
            "velocity": spring == 0 and damping < 0,
            "effort": spring == damping == 0,
        }[mode]
    )


def _why_not(mode: str, law: Law) -> str:
    """Why an actuator does not take a mode, where it has a reason of its own."""
    if law.gain == 0:
        return "its gain is 0"
    if "MUSCLE" in (law.dynamics, law.gain_type, law.bias_type):
        return "it is a muscle, whose force is no multiple of its control"
    if law.gain is None:
        return "its control scales a damping or a stiffness, as a <damper>'s does"
    if law.dynamics == "INTEGRATOR" and mode != "velocity":
        return "it integrates its control, as an <intvelocity>"
    if mode == "position" and not law.has_length:
        return f"its transmission ({law.transmission.lower()}) has no length"
    return ""


def _drive_trouble(mode: str, law: Law) -> str | None:
    """Why other gains make no drive of it; None: they do."""
    if law.gain is None or law.bias is None or law.dynamics not in _FILTERS:
        return _why_not(mode, law) or "it integrates its control"
    if law.transmission == "BODY" or (mode == "position" and not law.has_length):
        return f"its transmission ({law.transmission.lower()}) has no length"
    if not any(law.bias) and law.dynamics != "NONE":
        return "its force is filtered (timeconst), and a drive's would not be"
    return None


def drive_of(mode: str, law: Law, safe: float) -> Drive:
    """The drive of an actuator that takes the mode."""
    gain, (constant, spring, damping) = law.gain or 1.0, law.bias or (0.0, 0.0, 0.0)
    offset = -constant / gain
    held = (-spring / gain, offset)
    integrates = law.dynamics == "INTEGRATOR"
    zero = offset + 0.0  # not -0.0
    match mode:
        case "position":
            return Drive(held[0] * law.unit, zero, held, None, False)
        case "velocity" if integrates:
            return Drive(held[0] * law.unit, 0.0, held, 0.0, True)
        case "velocity":
            return Drive(-damping / gain * law.unit, zero, held, zero, False)
        case "effort":
            scale = 1 / (law.unit * gain)
            return Drive(scale, zero, held, scale * safe + zero, False)
        case _:
            return Drive(1.0, 0.0, held, safe, False)


def _name(kinds: Any, value: int) -> str:
    """The name that MuJoCo's enumeration has for a value, without its prefix."""
    try:
        return str(kinds(int(value)).name).partition("_")[2]
    except ValueError:
        return f"{int(value)}"


def control_of(model: Any, number: int) -> int:
    """The place of an actuator's first control: some have several."""
    return int(model.actuator_ctrladr[number])


def output_of(model: Any, number: int) -> int:
    """The place of its first length, and of its first gear."""
    return int(model.actuator_outadr[number])


def _delayed(model: Any, number: int) -> int:
    """Controls that MuJoCo keeps for an actuator's delay; 0: it acts at once."""
    return int(model.actuator_history[number][0])


class TorqueSwitch:
    """The actuators of a model that exert force. The others are loose, as motors without current.

    Thread: the world's.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._gains = model.actuator_gainprm.copy()
        self._biases = model.actuator_biasprm.copy()
        self.loose = bytearray(model.nactuator)

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
