"""The parts of a MuJoCo model that make a robot: joints, motors, sensors, cameras, a start pose.

`survey` reads an MJCF or URDF file; `inphase new schedule` writes a schedule of its answer. Where a
number is not in the model it is estimated, and the fields here say so.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from inphase.errors import ScheduleError
from inphase.world.mujoco.drives import Law, drive_of, takes
from inphase.world.mujoco.package import package, why_no_images

MotorMode = Literal["position", "velocity", "effort"]
PartKind = Literal["joint", "tendon"]

_FREE = {"rad": math.pi, "m": 1.0}
"""half of the range of a joint that has none"""
_STIFF_RAD_S = 20.0  # natural frequency of a drive that is made of a motor
_SAG_RAD = 0.05  # of such a drive, under the weight at the start
_OVERLAP_MM = 1.0  # a contact that carries a weight is not as deep
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
class MovedPart:
    """A part of the model that has one position: a hinge, a slide, or a tendon."""

    kind: PartKind
    name: str
    unit: str
    """rad or m"""
    low: float
    high: float
    """ends of its range; infinite where it has none"""
    start: float


@dataclass(frozen=True)
class ModelMotor:
    """An actuator of the model as a channel of a schedule's actuator."""

    name: str
    mode: MotorMode
    """the command that it takes"""
    part: MovedPart
    low: float
    high: float
    """ends of its positions, within the part's and its own"""
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


class Overlap(NamedTuple):
    """Two bodies that are in each other at the start, which pushes them apart."""

    body: str
    other: str
    depth_mm: float


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
    passive: list[MovedPart]
    """joints without a motor that is used"""
    objects: list[str]
    """bodies that are free in space"""
    fields: list[SensorField]
    cameras: list[str]
    no_images: str | None
    """why cameras cannot be rendered here"""
    overlaps: list[Overlap]
    """by the bodies' names, as the model's `exclude` takes them"""
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
        used = {motor.part.name for motor in motors if motor.part.kind == "joint"}
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
            overlaps=self._overlaps(),
            left_out=self.left_out,
        )

    # ---- names -------------------------------------------------------------------------------

    def _name(self, kind: str, number: int) -> str:
        """A part's name, or its number where it has none, as schedules write it."""
        kinds = getattr(self.mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        return self.mujoco.mj_id2name(self.model, kinds, number) or str(number)

    def _kind(self, array: str, number: int, prefix: str) -> str:
        """An enumerator's name, of an array of the model."""
        enums = {"mjJNT_": self.mujoco.mjtJoint, "mjSENS_": self.mujoco.mjtSensor}
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
                inside = _inside(float(self.data.qpos[at]), low, high)
                self.pose[self._name("joint", number)] = self.data.qpos[at] = inside
        self.mujoco.mj_forward(self.model, self.data)

    def _range(self, joint: int) -> tuple[float, float]:
        if not self.model.jnt_limited[joint]:
            return -math.inf, math.inf
        low, high = self.model.jnt_range[joint]
        return float(low), float(high)

    # ---- joints and motors -------------------------------------------------------------------

    def _joint(self, number: int) -> MovedPart:
        turns = self._kind("jnt_type", number, "mjJNT_") == "HINGE"
        start = float(self.data.qpos[int(self.model.jnt_qposadr[number])])
        name, unit = self._name("joint", number), "rad" if turns else "m"
        return MovedPart("joint", name, unit, *self._range(number), start)

    def _tendon(self, number: int) -> MovedPart:
        """A tendon over hinges alone is an angle."""
        model = self.model
        low, high = -math.inf, math.inf
        if model.tendon_limited[number]:
            low, high = map(float, model.tendon_range[number])
        first, count = int(model.tendon_adr[number]), int(model.tendon_num[number])
        wraps = range(first, first + count)
        turns = all(
            int(model.wrap_type[wrap]) == int(self.mujoco.mjtWrap.mjWRAP_JOINT)
            and self._kind("jnt_type", int(model.wrap_objid[wrap]), "mjJNT_") == "HINGE"
            for wrap in wraps
        )
        start = float(self.data.ten_length[number])
        unit = "rad" if turns else "m"
        return MovedPart("tendon", self._name("tendon", number), unit, low, high, start)

    def _motors(self, joints: dict[int, MovedPart]) -> list[ModelMotor]:
        """The actuators that move a joint or a tendon, one for each."""
        found: list[ModelMotor] = []
        taken: set[tuple[str, str]] = set()
        for number in range(self.model.nactuator):
            law = Law(self.mujoco, self.model, number)
            part = self._part(number, law, joints)
            why = _refusal(law, part, taken)
            if part is None or why is not None:
                self.left_out.append((f"actuator {self._name('actuator', number)}", why or ""))
                continue
            taken.add((part.kind, part.name))
            motor = self._motor(number, law, part)
            found.append(motor)
            if part.kind == "joint" and not motor.low <= part.start <= motor.high:
                self.pose[part.name] = _inside(part.start, motor.low, motor.high)
        return found

    def _part(self, number: int, law: Law, joints: dict[int, MovedPart]) -> MovedPart | None:
        """The part that an actuator moves; None: neither a hinge, a slide nor a tendon."""
        target = int(self.model.actuator_trnid[number][0])
        if law.transmission == "TENDON":
            return self._tendon(target)
        return joints.get(target) if law.transmission in ("JOINT", "JOINTINPARENT") else None

    def _motor(self, number: int, law: Law, part: MovedPart) -> ModelMotor:
        mode = _mode(law)
        assert mode is not None
        low, high, known = self._ends(law, mode, part)
        effort = self._effort(number, law, mode)
        gains, stiffness, weight = None, math.inf, 0.0
        if part.kind == "joint":
            dof = int(self.model.jnt_dofadr[int(self.model.actuator_trnid[number][0])])
            weight = abs(float(self.data.qfrc_bias[dof] - self.data.qfrc_passive[dof]))
            if mode == "effort" and law.is_motor:
                mode, gains = "position", self._drive(self._inertia(dof), weight)
                stiffness = gains[0]
            elif mode == "position" and law.bias is not None:
                stiffness = -law.bias[1] * law.unit**2
        usual = 0.3 if part.unit == "rad" else 0.05
        return ModelMotor(
            name=self._name("actuator", number),
            mode=mode,
            part=part,
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

    def _effort(self, number: int, law: Law, mode: MotorMode) -> float:
        """The largest effort at the joint, by the actuator's ranges of force and of control."""
        model, most = self.model, math.inf
        if model.actuator_forcelimited[number]:
            most = abs(law.unit) * float(np.max(np.abs(model.actuator_forcerange[number])))
        if mode == "effort":
            ends = self._commands(law, mode)
            most = min(most, max(map(abs, ends))) if ends else most
        return most

    def _commands(self, law: Law, mode: MotorMode) -> list[float]:
        """The commands at the ends of the control range, in order; empty: it has none."""
        if not self.model.actuator_ctrllimited[law.control]:
            return []
        drive = drive_of(mode, law, 0.0)
        ends = self.model.actuator_ctrlrange[law.control]
        return sorted((float(end) - drive.zero) / drive.gain for end in ends)

    def _drive(self, inertia: float, weight: float) -> tuple[float, float]:
        """Gains that hold the weight, and that the physics step can follow."""
        rate = max(_STIFF_RAD_S, math.sqrt(weight / _SAG_RAD / inertia))
        rate = min(rate, 0.2 / float(self.model.opt.timestep))
        return _digits(inertia * rate**2), _digits(2 * inertia * rate)

    def _ends(self, law: Law, mode: MotorMode, part: MovedPart) -> tuple[float, float, bool]:
        """The range of positions, around the start where nothing is known."""
        low, high = part.low, part.high
        if mode == "position" and (ends := self._commands(law, mode)):
            low, high = max(low, ends[0]), min(high, ends[1])
        known = low > -math.inf and high < math.inf
        free = _FREE[part.unit]
        low = part.start - free if low == -math.inf else low
        high = part.start + free if high == math.inf else high
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

    def _overlaps(self) -> list[Overlap]:
        """The deepest contact of each pair of bodies that a contact at rest does not explain."""
        deepest: dict[tuple[str, str], float] = {}
        for contact in self.data.contact:
            bodies = self.model.geom_bodyid[contact.geom]
            one, other = (self._name("body", int(body)) for body in bodies)
            depth_mm = max(deepest.get((one, other), 0.0), -1e3 * float(contact.dist))
            deepest[one, other] = depth_mm
        return [
            Overlap(one, other, depth_mm)
            for (one, other), depth_mm in deepest.items()
            if depth_mm > _OVERLAP_MM
        ]

    def _unit(self, kind: str, number: int) -> str:
        if kind in _OF_JOINT:
            joint = int(self.model.sensor_objid[number])
            turns = self._kind("jnt_type", joint, "mjJNT_") == "HINGE"
            return _OF_JOINT[kind].format("rad" if turns else "m")
        if kind == "JOINTACTFRC":
            joint = int(self.model.sensor_objid[number])
            return "N m" if self._kind("jnt_type", joint, "mjJNT_") == "HINGE" else "N"
        return _UNITS.get(kind, "1")


def _mode(law: Law) -> MotorMode | None:
    """The command that an actuator takes, positions first."""
    modes: tuple[MotorMode, ...] = ("position", "velocity", "effort")
    return next((mode for mode in modes if takes(mode, law)), None)


def _refusal(law: Law, part: MovedPart | None, taken: set[tuple[str, str]]) -> str | None:
    """Why an actuator is left out; None: it is a motor."""
    if part is None:
        return "it moves neither a hinge, a slide nor a tendon"
    if (part.kind, part.name) in taken:
        return f"{part.kind} {part.name} has another actuator already"
    if _mode(law) is None:
        return law.strange() or "it takes no command of a position, a velocity or an effort"
    return None


def _inside(value: float, low: float, high: float) -> float:
    """The nearest value that is no end of a range."""
    margin = 0.02 * (high - low)
    return round(float(np.clip(value, low + margin, high - margin)), 4)


def _digits(value: float) -> float:
    """Two digits: it is an estimate."""
    return float(f"{value:.2g}")
