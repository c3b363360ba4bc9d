"""The text of a schedule for a model: each part of the model as tables, with comments."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inphase.command.drafts.scaffold import class_name
from inphase.world.mujoco.survey import ModelMotor, MovedPart, Survey

_JOINTS_MAX = 20  # of one simulated device
_CAMERAS_MAX = 2  # without a graphics device no more are drawn in real time
_COLUMN = 32  # of comments
_WIDTH = 100
_NAMES = {
    ("joint", "rad"): ("motors", "joints"),
    ("joint", "m"): ("sliders", "slides"),
    ("tendon", "rad"): ("pulls", "tendons"),
    ("tendon", "m"): ("pulls", "tendons"),
}
"""the actuator, and the sensor of what it moves"""
_EFFORTS = {"rad": "N m", "m": "N"}
_VELOCITY = {"rad": 1.0, "m": 0.2}  # guesses
_ACCELERATION = {"rad": 5.0, "m": 1.0}
_BEYOND = {"rad": 0.2, "m": 0.05}  # the ends of a joint are soft


@dataclass(frozen=True)
class _Group:
    """Motors of one mode and unit: a device, with a sensor and an actuator."""

    actuator: str
    sensor: str
    motors: Sequence[ModelMotor]

    @property
    def mode(self) -> str:
        """The commands that it takes."""
        return self.motors[0].mode

    @property
    def kind(self) -> str:
        """The kind of what it moves."""
        return self.motors[0].part.kind

    @property
    def unit(self) -> str:
        """The unit of its positions."""
        return self.motors[0].part.unit

    @property
    def own_unit(self) -> str | None:
        """The unit of its commands, where it is not the one of its mode."""
        if self.unit == "rad":
            return None
        return {"position": "m", "velocity": "m/s", "effort": "N"}[self.mode]


class ScheduleText:
    """Renders a schedule of a model. `step_us` overrides the model's physics step."""

    def __init__(self, file: str, name: str, model: str, policy: str, survey: Survey) -> None:
        self.file, self.name, self.model, self.policy = file, name, model, policy
        self.survey = survey
        self.left_out = list(survey.left_out)
        self.step_us: float | None = None
        self.speeds: dict[str, float] = {}
        """largest speeds of joints, where the file states some, in rad/s or m/s"""

    def render(self, motors: Sequence[ModelMotor], *, bare: bool = False) -> str:
        """The schedule with these motors; bare: with nothing else of the model."""
        self._names: set[str] = set()
        groups = self._groups(motors)
        device, world = self._motors(groups)
        if not bare:
            for more in (self._passive(), self._objects(), self._instruments(), self._cameras()):
                device += more[0]
                world += more[1]
        policy = []
        if motors:
            policy = ["", "[policy]", f'call = "{self.policy}.py:{class_name(self.policy)}"']
        lines = [*self._head(), *device, *policy, "", *self._world(), *world]
        return "\n".join(lines) + "\n"

    # ---- head and world ----------------------------------------------------------------------

    def _head(self) -> list[str]:
        left_out = [f"#   {part}: {why}" for part, why in self.left_out]
        return [
            f"# The robot of {self.survey.path.name}, as `inphase new schedule` found it. A number",
            '# that the model does not have is an estimate, and its comment says "guess".',
            f"#   inphase check {self.file}",
            f"#   inphase run --lockstep {self.file} --seconds 10",
            f"#   inphase run --simulate {self.file} --seconds 10",
            "# For the real robot: give each device its driver instead of simulated.",
            *(["# Left out, and why:", *left_out] if left_out else []),
            f"name = {json.dumps(self.name)}",
            "",
            "[cycle]",
            _noted("rate_hz = 50", "guess"),
            _noted("read_deadline_us = 8000", "guess: the samples are there"),
            _noted("act_us = 16000", "guess: commands are written; a policy has 8 ms"),
            _noted('realtime = "prefer"', '"require" on a robot'),
        ]

    def _world(self) -> list[str]:
        found = self.survey
        lines = [
            "# ---- what follows is the simulation's alone " + "-" * 54,
            "",
            "[world]",
            f"model = {json.dumps(self.model)}",
        ]
        if self.step_us is not None:
            lines.append(_noted(f"step_us = {self.step_us:g}", "guess: the model's own diverges"))
        if found.keyframe is not None:
            lines.append(f"keyframe = {json.dumps(found.keyframe)}")
        if found.pose:
            pairs = ", ".join(f"{_key(name)} = {value:g}" for name, value in found.pose.items())
            lines.append(
                "# guess: the model starts with these joints at or beyond an end of theirs"
            )
            lines.append(f"pose = {{ {pairs} }}")
        return lines

    # ---- motors ------------------------------------------------------------------------------

    def _groups(self, motors: Sequence[ModelMotor]) -> list[_Group]:
        """One per mode and unit, and per as many joints as a device has."""
        kinds: dict[tuple[str, bool, str, str], list[ModelMotor]] = {}
        for motor in motors:
            key = (motor.mode, motor.gains is None, motor.part.kind, motor.part.unit)
            kinds.setdefault(key, []).append(motor)
        found = []
        for (_, _, kind, unit), alike in kinds.items():
            for first in range(0, len(alike), _JOINTS_MAX):
                actuator, sensor = map(self._unique, _NAMES[kind, unit])
                found.append(_Group(actuator, sensor, alike[first : first + _JOINTS_MAX]))
        return found

    def _motors(self, groups: list[_Group]) -> tuple[list[str], list[str]]:
        device: list[str] = []
        world: list[str] = []
        for group in groups:
            parts = [motor.part for motor in group.motors]
            with_effort = group.kind == "joint"
            device += [
                "",
                _noted(f"[device.{group.actuator}]", "no driver yet: it exists in the world alone"),
                *_SIMULATED,
                f"joints = {len(parts)}",
                *([f'unit = "{group.own_unit}"'] if group.own_unit else []),
                *_fields(group.actuator, group.unit, len(parts), with_effort=with_effort),
                *_sensor(group.sensor, group.actuator),
                *_sensor_range(group.unit, parts),
                "",
                f"[actuator.{group.actuator}]",
                f'device = "{group.actuator}"',
                *([f'mode = "{group.mode}"'] if group.mode != "position" else []),
                f'feedback = "{group.sensor}.position"',
                f'feedback_velocity = "{group.sensor}.velocity"',
                *_limits(group, self.speeds),
            ]
            actuators = [motor.name for motor in group.motors]
            world += [
                *_sources(group.sensor, parts, with_effort=with_effort),
                "",
                f"[world.actuator.{group.actuator}]",
                *_list("actuators", actuators),
                *_gains(group),
            ]
        return device, world

    # ---- what has no motor -------------------------------------------------------------------

    def _passive(self) -> tuple[list[str], list[str]]:
        """Joints that nothing moves, by unit."""
        device: list[str] = []
        world: list[str] = []
        for unit in ("rad", "m"):
            joints = [joint for joint in self.survey.passive if joint.unit == unit]
            if not joints:
                continue
            name = self._unique("passive_joints" if unit == "rad" else "passive_slides")
            device += [
                "",
                _noted(f"[device.{name}]", "joints without a motor"),
                *_SIMULATED,
                *_fields(name, unit, len(joints), with_effort=False),
                *_sensor(name, name),
            ]
            world += _sources(name, joints, with_effort=False)
        return device, world

    def _objects(self) -> tuple[list[str], list[str]]:
        """Bodies that are free in space."""
        if not self.survey.objects:
            return [], []
        rows, sources = [], []
        for body in self.survey.objects:
            field = self._unique(part(body))
            rows.append(f'{field}_position = {{ unit = "m", shape = [3] }}')
            rows.append(f"{field}_orientation = {{ shape = [4] }}")
            sources.append(f"{field}_position = {{ body_position = {json.dumps(body)} }}")
            sources.append(f"{field}_orientation = {{ body_orientation = {json.dumps(body)} }}")
        return self._table("objects", "bodies that are free in space", rows, sources)

    def _instruments(self) -> tuple[list[str], list[str]]:
        """The model's sensors."""
        if not self.survey.fields:
            return [], []
        rows, sources, taken = [], [], set[str]()
        for field in self.survey.fields:
            name = _other_than(taken, part(field.name))
            shape = f", shape = {list(field.shape)}" if field.shape else ""
            rows.append(f"{name} = {{ unit = {json.dumps(field.unit)}{shape} }}")
            (first, *others) = map(json.dumps, field.sensors)
            named = f"[{', '.join([first, *others])}]" if others else first
            sources.append(f"{name} = {{ sensor = {named} }}")
        return self._table("instruments", "the model's sensors", rows, sources)

    def _table(
        self, name: str, note: str, rows: Iterable[str], sources: Iterable[str]
    ) -> tuple[list[str], list[str]]:
        name = self._unique(name)
        device = ["", _noted(f"[device.{name}]", note), *_SIMULATED, ""]
        device += [f"[device.{name}.fields]", *rows, *_sensor(name, name)]
        return device, ["", f"[world.sensor.{name}.fields]", *sources]

    def _cameras(self) -> tuple[list[str], list[str]]:
        """The first ones are drawn; those that cannot be drawn here are comments."""
        device: list[str] = []
        world: list[str] = []
        for number, camera in enumerate(self.survey.cameras):
            name = self._unique(part(camera, "camera"))
            lines = [
                _noted(f"[device.{name}]", "guess: its size and rate"),
                'driver = "simulated"',
                'fields = { image = { shape = [240, 320, 3], dtype = "|u1" } }',
                "latency_us = 30000",
                "",
                _noted(f"[sensor.{name}]", "10 Hz: due two cycles after its trigger"),
                f'device = "{name}"',
                "trigger_us = 0",
                "every = 5",
                "latency_cycles = 2",
                "max_age_ms = 500",
            ]
            where = [f"[world.sensor.{name}]", f"camera = {json.dumps(camera)}"]
            why = self.survey.no_images
            if why is None and number >= _CAMERAS_MAX:
                why = f"{_CAMERAS_MAX} cameras are what a processor draws in time"
            if why is not None:
                lines = [f"# camera {camera} is left out: {why}", *_commented(lines)]
                where = _commented(where)
            device += ["", *lines]
            world += ["", *where]
        return device, world

    def _unique(self, name: str) -> str:
        return _other_than(self._names, name)


def part(name: str, otherwise: str = "n") -> str:
    """A name of the model as one of the schedule: a letter, then letters, digits and _."""
    cleaned = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")
    cleaned = cleaned if re.match(r"[a-z]", cleaned) else f"{otherwise}_{cleaned}"
    return cleaned[:24].rstrip("_")


def _other_than(taken: set[str], name: str) -> str:
    """The name, or with a number where it is taken; it is taken then."""
    numbered = (f"{name}_{number}" for number in range(2, 10_000))
    found = name if name not in taken else next(one for one in numbered if one not in taken)
    taken.add(found)
    return found


# ---- pieces --------------------------------------------------------------------------------------
_SIMULATED = ['driver = "simulated"', f"{'latency_us = 2000':<{_COLUMN - 1}} # guess"]


def _noted(line: str, note: str) -> str:
    return f"{line:<{_COLUMN - 1}} # {note}"


def _commented(lines: Iterable[str]) -> list[str]:
    return [f"# {line}".rstrip() for line in lines]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _fields(device: str, unit: str, count: int, *, with_effort: bool) -> list[str]:
    fields = [("position", unit), ("velocity", f"{unit}/s")]
    if with_effort:
        fields.append(("effort", _EFFORTS[unit]))
    rows = [f'{name} = {{ unit = "{of}", shape = [{count}] }}' for name, of in fields]
    return ["", f"[device.{device}.fields]", *rows]


def _sensor(name: str, device: str) -> list[str]:
    return [
        "",
        f"[sensor.{name}]",
        f'device = "{device}"',
        "trigger_us = 0",
        _noted("max_age_ms = 100", "guess"),
    ]


def _sensor_range(unit: str, joints: Sequence[MovedPart]) -> list[str]:
    """A little beyond the ends, where all joints have some."""
    if not all(math.isfinite(one.low) and math.isfinite(one.high) for one in joints):
        return []
    beyond = _BEYOND[unit]
    pairs = [[_rounded(one.low - beyond), _rounded(one.high + beyond)] for one in joints]
    return _list("range.position", pairs)


def _limits(group: _Group, speeds: dict[str, float]) -> list[str]:
    unit, motors = group.unit, group.motors
    lines = ["", f"[actuator.{group.actuator}.limits]"]
    if group.mode == "effort":
        efforts = [_rounded(motor.effort if motor.effort < math.inf else 1.0) for motor in motors]
        if not all(motor.effort < math.inf for motor in motors):
            lines.append("# guess: of those that have no range in the model")
        lines += _list("effort", efforts)
        lines += ["# guess: from one end to the other in half a second"]
        return lines + _list("effort_rate", [4 * effort for effort in efforts])
    if group.mode == "position":
        if not all(motor.is_range_known for motor in motors):
            lines.append("# guess: of those that have no range in the model")
        lines += _list("position", [_inside(motor.low, motor.high) for motor in motors])
    lines += _velocities(group, speeds)
    lines.append(_noted(f"acceleration = {_ACCELERATION[unit]:g}", f"guess, {unit}/s^2"))
    if group.mode == "position":
        step = max(motor.step for motor in motors)
        note = f"guess, {unit}, from the measured position"
        lines.append(_noted(f"step = {step:.2g}", note))
    return lines


def _velocities(group: _Group, speeds: dict[str, float]) -> list[str]:
    """The file's own, and a guess for the rest."""
    unit, names = group.unit, [motor.part.name for motor in group.motors]
    guess = _VELOCITY[unit]
    if not speeds.keys() & set(names):
        return [_noted(f"velocity = {guess:g}", f"guess, {unit}/s")]
    lines = _list("velocity", [_rounded(speeds.get(name, guess)) for name in names])
    if speeds.keys() >= set(names):
        return lines
    return [f"# guess: {guess:g} {unit}/s for those that the file states none of", *lines]


def _gains(group: _Group) -> list[str]:
    if group.motors[0].gains is None:
        return []
    pairs = [motor.gains for motor in group.motors if motor.gains is not None]
    return [
        "# guess: from the inertia and the weight at the start; the motors become position drives",
        *_list("kp", [pair[0] for pair in pairs]),
        *_list("kd", [pair[1] for pair in pairs]),
    ]


def _sources(sensor: str, parts: Sequence[MovedPart], *, with_effort: bool) -> list[str]:
    quantities = ["position", "velocity", *(["effort"] if with_effort else [])]
    lines = ["", f"[world.sensor.{sensor}.fields]"]
    for quantity in quantities:
        lines += _list(f"{quantity}.{parts[0].kind}_{quantity}", [part.name for part in parts])
    return lines


def _list(key: str, values: Sequence[object]) -> list[str]:
    """A key and its list, over several lines where one is too long."""
    shown = [json.dumps(value) for value in values]
    if len(set(shown)) == 1 and not isinstance(values[0], str):
        line = f"{key} = {shown[0]}"  # one for all
    else:
        line = f"{key} = [{', '.join(shown)}]"
    if len(line) <= _WIDTH:
        return [line]
    return [f"{key} = [", *(f"    {one}," for one in shown), "]"]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _inside(low: float, high: float) -> list[float]:
    """Ends with few digits, within those of the model."""
    digits = 4 - math.ceil(math.log10(max(high - low, 1e-9)))
    scale = 10.0 ** min(max(digits, 3), 6)
    return [math.ceil(low * scale) / scale, math.floor(high * scale) / scale]
