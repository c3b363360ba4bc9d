"""The parts of a MuJoCo model that make a robot: joints, motors, sensors, cameras, a start pose.

`survey` reads an MJCF or URDF file; `inphase new schedule` writes a schedule of its answer. Where a
number is not in the model it is estimated, and the fields here say so.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inphase.errors import ScheduleError
from inphase.world.mujoco.package import package, why_no_images

MotorMode = Literal["position", "velocity", "effort"]

_FREE = {"rad": math.pi, "m": 1.0}
"""half of the range of a joint that has none"""
_STIFF_RAD_S = 20.0  # natural frequency of a drive that is made of a motor
_SAG_RAD = 0.05  # of such a drive, under the weight at the start
_UNITS = {
    "TOUCH": "N", "ACCELEROMETER": "m/s^2", "VELOCIMETER": "m/s", "GYRO": "rad/s", "FORCE": "N",
    "TORQUE": "N m", "MAGNETOMETER": "T", "RANGEFINDER": "m", "TENDONPOS": "m",
    "TENDONVEL": "m/s", "ACTUATORFRC": "N", "BALLANGVEL": "rad/s", "FRAMEPOS": "m",
    "FRAMELINVEL": "m/s", "FRAMEANGVEL": "rad/s", "FRAMELINACC": "m/s^2",
    "FRAMEANGACC": "rad/s^2", "SUBTREECOM": "m", "SUBTREELINVEL": "m/s",
    "SUBTREEANGMOM": "kg m^2/s", "CLOCK": "s",
}  # fmt: skip
_OF_JOINT = {
    "JOINTPOS": "{0}",
    "JOINTVEL": "{0}/s",
    "JOINTLIMITPOS": "{0}",
    "JOINTLIMITVEL": "{0}/s",
}


@dataclass(frozen=True)
class ModelJoint:
    """A hinge or a slide."""

    name: str
    unit: str
    """"rad" or "m"""
    low: float
    high: float
    """ends of its range; infinite where it has none"""
    start: float
    effort_unit: str
    """"N m" or "N"""


@dataclass(frozen=True)
class ModelMotor:
    """An actuator of the model on a joint, as a channel of a schedule's actuator."""

    name: str
    mode: MotorMode
    """the command that it takes"""
    joint: ModelJoint
    low: float
    high: float
    """ends of its positions, within the joint's and its own"""
    is_range_known: bool
    effort: float
    """largest effort; infinite where it has no bound"""
    gains: tuple[float, float] | None
    """kp and kd with which a motor becomes a position drive: estimated"""
    step: float
    """distance from its command at which it still is in good order: estimated"""


@dataclass(frozen=True)
class SensorField:
    """Sensors of the model that are one field of a sample."""

    name: str
    unit: str
    shape: tuple[int, ...]
    sensors: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """All of it. Names are as the model has them; a part without a name has its number."""

    path: Path
    name: str
    step_s: float
    keyframe: str | None
    pose: dict[str, float]
    """start of the joints that would start outside of their range, in rad or m"""
    motors: list[ModelMotor]
    passive: list[ModelJoint]
    """joints without a motor that is used"""
    objects: list[str]
    """bodies that are free in space"""
    fields: list[SensorField]
    cameras: list[str]
    no_images: str | None
    """why cameras cannot be rendered here"""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """parts of the model that the schedule cannot have, and why"""


def survey(path: Path) -> Survey:
    """Look at a model. Raises ScheduleError where it does not load, WorldError without MuJoCo."""
    mujoco = package()
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise ScheduleError(
            f"{path} does not load: {str(error).strip()}; correct the model"
        ) from None
    return _Surveyor(mujoco, model, path).survey()


class _Surveyor:
    """Reads one model."""

    def __init__(self, mujoco: Any, model: Any, path: Path) -> None:
        self.mujoco, self.model, self.path = mujoco, model, path
        self.data = mujoco.MjData(model)
        self.left_out: list[tuple[str, str]] = []
        self.pose: dict[str, float] = {}

    def survey(self) -> Survey:
        """Everything."""
        keyframe = self._name("key", 0) if self.model.nkey else None
        self._start()
        joints = {
            number: self._joint(number)
            for number in range(self.model.njnt)
            if self._kind("jnt_type", number, "mjJNT_") in ("HINGE", "SLIDE")
        }
        if not joints:
            raise ScheduleError(
                f"{self.path} has no hinge and no slide, so nothing moves; give a robot's model"
            )
        motors = self._motors(joints)
        used = {motor.joint.name for motor in motors}
        return Survey(
            path=self.path,
            name=str(self.model.names.split(b"\0", 1)[0].decode(errors="replace")),
            step_s=float(self.model.opt.timestep),
            keyframe=keyframe,
            pose=self.pose,
            motors=motors,
            passive=[joint for joint in joints.values() if joint.name not in used],
            objects=self._objects(),
            fields=self._fields(),
            cameras=[self._name("camera", number) for number in range(self.model.ncam)],
            no_images=why_no_images(),
            left_out=self.left_out,
        )

    # ---- names -------------------------------------------------------------------------------

    def _name(self, kind: str, number: int) -> str:
        """A part's name, or its number where it has none, as schedules write it."""
        kinds = getattr(self.mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        return self.mujoco.mj_id2name(self.model, kinds, number) or str(number)

    def _kind(self, array: str, number: int, prefix: str) -> str:
        """An enumerator's name, of an array of the model."""
        enums = {
            "mjJNT_": self.mujoco.mjtJoint,
            "mjSENS_": self.mujoco.mjtSensor,
            "mjTRN_": self.mujoco.mjtTrn,
            "mjBIAS_": self.mujoco.mjtBias,
            "mjGAIN_": self.mujoco.mjtGain,
            "mjDYN_": self.mujoco.mjtDyn,
        }
        value = enums[prefix](int(getattr(self.model, array)[number]))
        return str(value.name).removeprefix(prefix)

    # ---- the start ---------------------------------------------------------------------------

    def _start(self) -> None:
        """The first keyframe, or the model's own; a joint outside of its range goes into it."""
        if self.model.nkey:
            self.mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        else:
            self.mujoco.mj_resetData(self.model, self.data)
        for number in range(self.model.njnt):
            if self._kind("jnt_type", number, "mjJNT_") not in ("HINGE", "SLIDE"):
                continue
            low, high = self._range(number)
            at = int(self.model.jnt_qposadr[number])
            if not low < self.data.qpos[at] < high and low < high:
                margin = 0.02 * (high - low)
                inside = float(np.clip(self.data.qpos[at], low + margin, high - margin))
                self.pose[self._name("joint", number)] = round(inside, 4)
                self.data.qpos[at] = round(inside, 4)
        self.mujoco.mj_forward(self.model, self.data)

    def _range(self, joint: int) -> tuple[float, float]:
        if not self.model.jnt_limited[joint]:
            return -math.inf, math.inf
        low, high = self.model.jnt_range[joint]
        return float(low), float(high)

    # ---- joints and motors -------------------------------------------------------------------

    def _joint(self, number: int) -> ModelJoint:
        turns = self._kind("jnt_type", number, "mjJNT_") == "HINGE"
        low, high = self._range(number)
        start = float(self.data.qpos[int(self.model.jnt_qposadr[number])])
        unit, effort_unit = ("rad", "N m") if turns else ("m", "N")
        return ModelJoint(self._name("joint", number), unit, low, high, start, effort_unit)

    def _motors(self, joints: dict[int, ModelJoint]) -> list[ModelMotor]:
        """The actuators that move a joint, one for each joint."""
        found: list[ModelMotor] = []
        taken: set[str] = set()
        for number in range(self.model.nu):
            name = self._name("actuator", number)
            why = self._refusal(number, joints, taken)
            if why is not None:
                self.left_out.append((f"actuator {name}", why))
                continue
            joint = joints[int(self.model.actuator_trnid[number][0])]
            taken.add(joint.name)
            found.append(self._motor(number, name, joint))
        return found

    def _refusal(self, number: int, joints: dict[int, ModelJoint], taken: set[str]) -> str | None:
        """Why an actuator is no motor of a joint; None: it is one."""
        if self._kind("actuator_trntype", number, "mjTRN_") not in ("JOINT", "JOINTINPARENT"):
            return "it moves no single joint"
        joint = joints.get(int(self.model.actuator_trnid[number][0]))
        if joint is None:
            return "its joint is neither a hinge nor a slide"
        if joint.name in taken:
            return f"joint {joint.name} has another actuator already"
        if self._mode(number) is None:
            return "it is no position, velocity or motor actuator"
        return None

    def _mode(self, number: int) -> MotorMode | None:
        model = self.model
        gain, bias = float(model.actuator_gainprm[number][0]), model.actuator_biasprm[number]
        fixed = self._kind("actuator_gaintype", number, "mjGAIN_") == "FIXED"
        if not fixed or gain <= 0 or not model.actuator_gear[number][0]:
            return None
        match self._kind("actuator_biastype", number, "mjBIAS_"):
            case "NONE":
                return "effort"
            case "AFFINE" if bias[1] < 0:
                return "position"
            case "AFFINE" if bias[2] < 0:
                return "velocity"
        return None

    def _motor(self, number: int, name: str, joint: ModelJoint) -> ModelMotor:
        mode = self._mode(number)
        assert mode is not None
        dof = int(self.model.jnt_dofadr[int(self.model.actuator_trnid[number][0])])
        inertia = self._inertia(dof)
        weight = abs(float(self.data.qfrc_bias[dof] - self.data.qfrc_passive[dof]))
        effort = self._effort(number)
        gains = None
        if mode == "effort":
            gains = self._drive(inertia, weight)
            stiffness = gains[0]
        elif mode == "position":
            gear = float(self.model.actuator_gear[number][0])
            stiffness = -float(self.model.actuator_biasprm[number][1]) * gear**2
        else:
            stiffness = math.inf
        low, high, known = self._ends(number, mode, joint)
        usual = 0.3 if joint.unit == "rad" else 0.05
        return ModelMotor(
            name=name,
            mode=mode,
            joint=joint,
            low=low,
            high=high,
            is_range_known=known,
            effort=effort,
            gains=gains,
            step=max(usual, 4 * weight / stiffness),
        )

    def _inertia(self, dof: int) -> float:
        """The inertia that the joint feels at the start."""
        moved, felt = np.zeros((2, self.model.nv))
        moved[dof] = 1.0
        self.mujoco.mj_mulM(self.model, self.data, felt, moved)
        return float(felt[dof])

    def _effort(self, number: int) -> float:
        model = self.model
        gear = abs(float(model.actuator_gear[number][0]))
        effort = math.inf
        if model.actuator_forcelimited[number]:
            effort = gear * float(np.max(np.abs(model.actuator_forcerange[number])))
        if self._mode(number) == "effort" and model.actuator_ctrllimited[number]:
            gain = float(model.actuator_gainprm[number][0])
            ctrl = float(np.max(np.abs(model.actuator_ctrlrange[number])))
            effort = min(effort, gear * gain * ctrl)
        return effort

    def _drive(self, inertia: float, weight: float) -> tuple[float, float]:
        """Gains that hold the weight, and that the physics step can follow."""
        rate = max(_STIFF_RAD_S, math.sqrt(weight / _SAG_RAD / inertia))
        rate = min(rate, 0.2 / float(self.model.opt.timestep))
        return _digits(inertia * rate**2), _digits(2 * inertia * rate)

    def _ends(self, number: int, mode: MotorMode, joint: ModelJoint) -> tuple[float, float, bool]:
        """The range of positions, around the start where nothing is known."""
        low, high = joint.low, joint.high
        if mode == "position" and self.model.actuator_ctrllimited[number]:
            gain = float(self.model.actuator_gainprm[number][0])
            bias = self.model.actuator_biasprm[number]
            gear = float(self.model.actuator_gear[number][0])
            # where the force is 0: gain * control + bias[0] + bias[1] * gear * position
            ends = sorted(
                -(gain * float(ctrl) + float(bias[0])) / (float(bias[1]) * gear)
                for ctrl in self.model.actuator_ctrlrange[number]
            )
            low, high = max(low, ends[0]), min(high, ends[1])
        known = low > -math.inf and high < math.inf
        free = _FREE[joint.unit]
        low = joint.start - free if low == -math.inf else low
        high = joint.start + free if high == math.inf else high
        return low, high, known

    # ---- the rest ----------------------------------------------------------------------------

    def _objects(self) -> list[str]:
        """The bodies with a free joint."""
        return [
            self._name("body", int(self.model.jnt_bodyid[number]))
            for number in range(self.model.njnt)
            if self._kind("jnt_type", number, "mjJNT_") == "FREE"
        ]

    def _fields(self) -> list[SensorField]:
        """One for each sensor; more than three of a kind are one field."""
        kinds: dict[tuple[str, str, int], list[str]] = {}
        for number in range(self.model.nsensor):
            kind = self._kind("sensor_type", number, "mjSENS_")
            name, size = self._name("sensor", number), int(self.model.sensor_dim[number])
            kinds.setdefault((kind, self._unit(kind, number), size), []).append(name)
        found = []
        for (kind, unit, size), names in kinds.items():
            shape = (size,) if size > 1 else ()
            if len(names) > 3:
                found.append(SensorField(kind.lower(), unit, (len(names), *shape), tuple(names)))
            else:
                found += [SensorField(name, unit, shape, (name,)) for name in names]
        return found

    def _unit(self, kind: str, number: int) -> str:
        if kind in _OF_JOINT:
            joint = int(self.model.sensor_objid[number])
            turns = self._kind("jnt_type", joint, "mjJNT_") == "HINGE"
            return _OF_JOINT[kind].format("rad" if turns else "m")
        if kind == "JOINTACTFRC":
            joint = int(self.model.sensor_objid[number])
            return "N m" if self._kind("jnt_type", joint, "mjJNT_") == "HINGE" else "N"
        return _UNITS.get(kind, "1")


def _digits(value: float) -> float:
    """Two digits: it is an estimate."""
    return float(f"{value:.2g}")
