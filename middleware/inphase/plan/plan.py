"""The plan: a schedule together with its drivers' declarations.

It has the channels of each sample, the times on the wires and the depths of the rings. It makes the
description that every reader is given first. It touches no device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgpack
import msgspec
import numpy as np

from inphase.devices.driver_names import resolve_driver
from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Calls,
    Driver,
    Encoding,
    Exchange,
    Field,
    SensorSpec,
    Stop,
    StopKind,
)
from inphase.errors import DeviceError, ScheduleError
from inphase.frames import wire
from inphase.models import model_binding
from inphase.models.model_binding import Binding
from inphase.plan import feasibility, timing
from inphase.plan.timing import Command, Home, Timing
from inphase.schedule import Actuator, Schedule, Sensor, timing_model
from inphase.schedule.document import show
from inphase.schedule.rules import limit_rules as limits
from inphase.schedule.rules import pace_rules
from inphase.schedule.rules.limit_rules import ChannelLimits
from inphase.schedule.tables import EstopInput
from inphase.schedule.timing_model import TimingModel

_RING_S = 0.25  # a view into the store lasts at least this long, and
_RING_MIN = 16  # at least this many samples, or
_RING_MIN_LARGE = 8  # this many
_LARGE_BYTES = 65_536
_CHECKED_MAX = 64  # float64 values of a sample that the core looks at


@dataclass(frozen=True)
class SensorPlan:
    """One sensor, channels resolved; limits are NaN where there is none."""

    name: str
    schedule: Sensor
    device: int
    home: Home
    spec: SensorSpec
    exchange: Exchange | None
    """with the schedule's signs and zeros in its values"""
    turns: list[tuple[int, float]]
    """sign and zero per channel, for a driver that reads by itself"""
    depth: int
    between: int
    """cycles from one new sample to the next, at least"""
    low: list[float]
    high: list[float]
    rate: list[float]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a sample: its fields one after the other, padded to 8 bytes."""
        return wire.sample_dtype([(f.name, f.shape, f.dtype) for f in self.spec.fields])

    @property
    def offsets(self) -> list[int]:
        """Where the float64 values of a sample lie, in bytes: its channels."""
        return channel_offsets(self.spec)

    @property
    def _calls(self) -> Calls | None:
        """The driver's own calls, where it is read by them."""
        is_by_calls = self.exchange is None or self.home != "cycle"
        return self.spec.calls if is_by_calls else None

    @property
    def typical_ns(self) -> int:
        """From trigger to sample, as stated."""
        if self._calls is not None:
            return self._calls.latency_ns
        assert self.exchange is not None
        return self.exchange.request_ns + self.exchange.reply_ns

    @property
    def earliest_ns(self) -> int:
        """No sample comes sooner after its trigger."""
        acquire, acquire_ns = self.acquire
        if self._calls is not None:
            least_ns = self._calls.latency_min_ns
        else:
            assert self.exchange is not None
            least_ns = self.exchange.earliest_ns
        return max(least_ns, acquire_ns) if acquire is Acquire.AFTER_TRIGGER else least_ns

    @property
    def earliest_key(self) -> str:
        """How its driver states `earliest_ns`."""
        return "reply_min_ns" if self._calls is None else "latency_min_ns"

    @property
    def acquire(self) -> tuple[Acquire, int]:
        """The stated model of the acquisition."""
        if self._calls is not None:
            return self._calls.acquire, self._calls.acquire_ns
        assert self.exchange is not None
        return self.exchange.acquire, self.exchange.acquire_ns

    def first_channel(self, name: str) -> int:
        """Channel at which a float64 field starts. Raises KeyError."""
        at = 0
        for item in _value_fields(self.spec):
            if item.name == name:
                return at
            at += item.channels
        raise KeyError(name)


FeedbackKind = Literal["position", "velocity", "other"]
"""the quantity of an actuator's feedback, as INPHASE_FEEDBACK_*; the last says nothing of motion"""
FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)


@dataclass(frozen=True)
class ActuatorPlan:
    """One actuator."""

    name: str
    schedule: Actuator
    device: int
    home: Home
    spec: ActuatorSpec
    encoding: Encoding | None
    turns: list[tuple[int, float]]
    """sign and zero per channel, for a driver that writes by itself"""
    feedback_sensor: int
    feedback_channel: int
    feedback_kind: FeedbackKind
    velocity_channel: int
    effort_channel: int
    """of the feedback's sensor; -1: not said"""
    limits: list[ChannelLimits]

    @property
    def needs_goals(self) -> bool:
        """True if its driver alone says where its joints are: no sensor does."""
        return self.schedule.mode == "position" and self.feedback_sensor < 0

    def turned(self, goals: Sequence[float]) -> list[float]:
        """A driver's goals as the schedule counts them. Raises DeviceError where they are missing
        and nothing else says where the joints are."""
        if self.needs_goals and not all(map(math.isfinite, goals or (math.nan,))):
            raise DeviceError(
                f"actuator {self.name} has no feedback, and the driver of its device "
                f"{self.schedule.device} does not say where it stands: {list(goals)}; add "
                f'feedback = "SENSOR.FIELD" to [actuator.{self.name}]'
            )
        pairs = zip(self.turns, goals, strict=True) if goals else ()
        return [sign * goal - zero for (sign, zero), goal in pairs]

    @property
    def stop(self) -> Stop | None:
        """The guard's stop; None: it does not have this device."""
        is_own = self.spec.stop.kind == StopKind.BYTES
        if self.encoding is None and not is_own:
            return None
        if self.spec.stop.kind == StopKind.HOLD and self.schedule.mode != "position":
            return replace(self.spec.stop, kind=StopKind.ZERO)
        return self.spec.stop

    @property
    def stops_itself(self) -> bool:
        """True if its device has a watchdog, and the driver makes sure of it."""
        return self.spec.watchdog is not None and self.spec.watchdog.verified


@dataclass(frozen=True)
class EstopPlan:
    """One input of the emergency stop; sensor and channel of a sample."""

    name: str
    schedule: EstopInput
    sensor: int = 0
    channel: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything the core, the workers and the readers are configured from."""

    schedule: Schedule
    drivers: dict[str, Driver]
    sensors: list[SensorPlan]
    actuators: list[ActuatorPlan]
    depth: int
    timing: TimingModel
    """of the simulated robot"""
    notes: list[str] = field(default_factory=list)
    estop: list[EstopPlan] = field(default_factory=list)
    """inputs of the emergency stop"""
    client_policy: bool = False
    """whoever started the runtime posts the commands itself"""
    model: Binding | None = None
    """the policy's, checked, where it is a model"""

    @property
    def values(self) -> int:
        """Doubles in a command: the actuators' channels one after the other."""
        return sum(actuator.spec.channels for actuator in self.actuators)

    @property
    def answer(self) -> int:
        """Doubles in a policy's answer: a command, or the commands of a chunk."""
        policy = self.schedule.policy
        return self.values * (policy.chunk if policy is not None else 1)

    @property
    def unguarded(self) -> list[str]:
        """The actuators that nothing stops when the runtime is gone: neither guard nor watchdog."""
        return [a.name for a in self.actuators if a.stop is None and not a.stops_itself]

    @property
    def motion_devices(self) -> set[int]:
        """Devices whose loss latches motion: those of actuators and of their feedback."""
        feedback = (a.feedback_sensor for a in self.actuators if a.feedback_sensor >= 0)
        return {self.sensors[one].device for one in feedback} | {a.device for a in self.actuators}

    def guard_hold_ns(self, realtime: bool) -> int:
        """How old the cycle's heartbeat may be while something moves.

        realtime: the cycle thread has its priority. Without it a thread is late now and then, and
        what the core itself forgives (`resumed_after_ms`) is no sign of a frozen one.
        """
        period_ns = self.schedule.cycle.period_ns
        stated_ms = self.schedule.guard.max_hold_ms
        if stated_ms is not None:
            return round(stated_ms * 1e6)
        holds = [a.schedule.max_hold_ns(period_ns) for a in self.actuators if a.stop is not None]
        forgiven_ns = 0 if realtime else self.schedule.cycle.resumed_after_ns
        return max(2 * period_ns, forgiven_ns, min(holds, default=0))

    @property
    def homes(self) -> list[Home]:
        """Where each device's driver runs."""
        homes: list[Home] = ["cycle"] * len(self.schedule.device)
        for sensor in self.sensors:
            homes[sensor.device] = sensor.home
        for actuator in self.actuators:
            homes[actuator.device] = actuator.home
        return homes

    @property
    def timings(self) -> list[Timing]:
        """When each sensor's sample is asked for, acquired and in hand."""
        return [
            timing.of_sensor(self.schedule, self.drivers[s.schedule.device], s.name, s.spec)
            for s in self.sensors
        ]

    @property
    def commands(self) -> list[Command]:
        """Each actuator's time on the wire."""
        names = [a.schedule.device for a in self.actuators]
        return [
            Command(
                a.name,
                device,
                self.drivers[device].bus,
                a.encoding.write_ns if a.encoding else 0,
            )
            for a, device in zip(self.actuators, names, strict=True)
        ]

    def description(self, epoch: int, **facts: object) -> bytes:
        """The first message of a reader, as MessagePack: layouts, units, schedule, hash."""
        return bytes(
            msgpack.packb(
                {
                    "wire": wire.VERSION,
                    "robot": self.schedule.name,
                    "hash": self.schedule.hash,
                    "schedule": self.schedule.text,
                    "epoch": epoch,
                    "period_ns": self.schedule.cycle.period_ns,
                    "sensors": [_describe_sensor(sensor) for sensor in self.sensors],
                    "actuators": [
                        {
                            "name": a.name,
                            "channels": a.spec.channels,
                            "unit": a.spec.unit,
                            "mode": a.schedule.mode,
                        }
                        for a in self.actuators
                    ],
                    **facts,
                }
            )
        )


def _describe_sensor(sensor: SensorPlan) -> dict[str, object]:
    return {
        "name": sensor.name,
        "fields": [[f.name, list(f.shape), f.dtype, f.unit] for f in sensor.spec.fields],
        "trigger_ns": sensor.schedule.trigger_ns,
        "max_age_ns": sensor.schedule.max_age_ns,
        "home": sensor.home,
        "latched": sensor.schedule.free_running,
        "every": sensor.between,
        "latency_cycles": sensor.schedule.latency_cycles,
        "depth": sensor.depth,
        "rate": _describe_rates(sensor),
    }


def _describe_rates(sensor: SensorPlan) -> dict[str, list[float | None]]:
    """The largest change per second of each field that has one, by channel; None: not stated."""
    described = {}
    for item in sensor.spec.fields:
        if item.name in sensor.schedule.rate:
            at = sensor.first_channel(item.name)
            rates = sensor.rate[at : at + item.channels]
            described[item.name] = [None if np.isnan(r) else r for r in rates]
    return described


def make_driver(schedule: Schedule, name: str) -> Driver:
    """The driver of a device, with its options checked. Raises ScheduleError."""
    device = schedule.device[name]
    key = f"device.{name}"
    try:
        kind = resolve_driver(device.driver, schedule.path.parent)
    except ScheduleError as error:
        raise schedule.error(f"{key}.driver", str(error)) from error
    if not (isinstance(kind, type) and issubclass(kind, Driver)):
        raise schedule.error(f"{key}.driver", f"{device.driver!r} is not a Driver class; name one")
    try:
        options = msgspec.convert(device.options, kind.Options)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        where = f"{key}.{path.rstrip('`')}" if path else key
        if "unknown field" in text:
            where = f"{key}.{text.split('`')[1]}"
        raise schedule.error(where, f"{text}; correct the key") from error
    driver = kind(name, options)
    driver.mode = _mode_of(schedule, name, driver)
    return driver


def _mode_of(schedule: Schedule, device: str, driver: Driver) -> str:
    """The command mode that the schedule asks of a device. Raises ScheduleError."""
    for name, actuator in schedule.actuator.items():
        if actuator.device == device:
            if actuator.mode not in driver.modes:
                raise schedule.error(
                    f"actuator.{name}.mode",
                    f"{actuator.mode!r} is no mode of device {device!r}; give "
                    f"{' or '.join(map(repr, driver.modes))}, or another driver",
                )
            return actuator.mode
    return driver.modes[0]


def make(schedule: Schedule, drivers: dict[str, Driver] | None = None) -> Plan:
    """Resolve a schedule. Give the drivers again after they were opened, for their own scales.

    Raises ScheduleError.
    """
    if drivers is None:
        drivers = {name: make_driver(schedule, name) for name in schedule.device}
    depth = _depth(schedule)
    sensors = [_plan_sensor(schedule, drivers, name) for name in schedule.sensor]
    actuators = [_plan_actuator(schedule, drivers, name, sensors) for name in schedule.actuator]
    pace_rules.check_size(schedule, sum(actuator.spec.channels for actuator in actuators))
    model = timing_model.of_schedule(schedule)
    plan = Plan(schedule, drivers, sensors, actuators, depth, model)
    addresses = {name: driver.address for name, driver in drivers.items()}
    feasibility.check(schedule, addresses, plan.timings, plan.commands)
    notes = [_note_blind(a, drivers) for a in actuators if a.feedback_sensor < 0]
    notes += [note for actuator in actuators for note in _slow_for_step(actuator)]
    notes += _check_watchdogs(schedule, actuators)
    notes += pace_rules.notes(schedule)
    notes += feasibility.notes(schedule, plan.timings, plan.commands)
    estop = [_plan_estop(schedule, name, sensors) for name in schedule.estop]
    return replace(plan, notes=notes, estop=estop, model=_bind_model(schedule, sensors, actuators))


def says_goals(driver: Driver) -> bool:
    """True if a driver says where its joints hold."""
    return type(driver).goals is not Driver.goals


def _note_blind(actuator: ActuatorPlan, drivers: dict[str, Driver]) -> str:
    note = f"actuator {actuator.name} moves blind: it has no feedback"
    if not actuator.needs_goals:
        return note
    if says_goals(drivers[actuator.schedule.device]):
        return f"{note}, and starts where its device says that it holds"
    return (
        f"{note}, and its driver does not say where its joints are: it runs in lock step alone; "
        f'for a device add feedback = "SENSOR.FIELD" to [actuator.{actuator.name}]'
    )


def _bind_model(
    schedule: Schedule, sensors: list[SensorPlan], actuators: list[ActuatorPlan]
) -> Binding | None:
    if schedule.policy is None or not schedule.policy.is_network:
        return None
    dtypes = {sensor.name: sensor.dtype for sensor in sensors}
    channels = {actuator.name: actuator.spec.channels for actuator in actuators}
    return model_binding.make(schedule, dtypes, channels)


def _depth(schedule: Schedule, every: int = 1, size: int = 0) -> int:
    """Slots of a ring whose samples come every so many cycles."""
    least = _RING_MIN if size < _LARGE_BYTES else _RING_MIN_LARGE
    wanted = max(least, int(_RING_S * 1e9 / (every * schedule.cycle.period_ns)))
    if schedule.policy is not None and schedule.policy.history > 1:
        wanted = max(wanted, schedule.policy.history_cycles // every + least)
    depth = 1 << (wanted - 1).bit_length()
    return max(depth, (schedule.store.depth or 0) if size < _LARGE_BYTES else 0)


def _cycles_between(schedule: Schedule, sensor: Sensor, spec: SensorSpec) -> int:
    """Cycles from one new sample to the next, at least: of a device that runs by itself, as far as
    it states its rate."""
    if not sensor.free_running:
        return sensor.every
    interval_ns = spec.calls.interval_ns if spec.calls is not None else 0
    return max(1, interval_ns // schedule.cycle.period_ns)


def _value_fields(spec: SensorSpec) -> list[Field]:
    """The fields whose values the core may look at: float64 of this machine's byte order."""
    return [item for item in spec.fields if item.dtype == "<f8"]


def channel_offsets(spec: SensorSpec) -> list[int]:
    """Where the float64 values of a sample lie in it, in bytes; none when they are too many."""
    layout = wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields])
    assert layout.fields is not None
    found = [
        layout.fields[item.name][1] + 8 * i
        for item in _value_fields(spec)
        for i in range(item.channels)
    ]
    return found if len(found) <= _CHECKED_MAX else []


def _device_index(schedule: Schedule, name: str) -> int:
    return list(schedule.device).index(name)


def _per_channel(
    schedule: Schedule, key: str, table: dict[str, Any], spec: SensorSpec, pairs: bool
) -> list[Any]:
    """A schedule's per-field table as one entry per channel; NaN where it says nothing."""
    nothing: Any = (float("nan"), float("nan")) if pairs else float("nan")
    known = [f.name for f in _value_fields(spec)]
    for name in table:
        if name not in known:
            raise schedule.error(
                f"{key}.{name}", f"no field {name!r} of float64; those are {known}"
            )
    result: list[Any] = []
    for item in _value_fields(spec):
        if item.name not in table:
            result += [nothing] * item.channels
        elif pairs:
            result += schedule.pairs(f"{key}.{item.name}", table[item.name], item.channels)
        else:
            result += schedule.numbers(f"{key}.{item.name}", table[item.name], item.channels)
    return result


def _turn(schedule: Schedule, name: str, spec: SensorSpec) -> list[tuple[int, float]]:
    """Sign and zero of every channel of a sensor."""
    sensor = schedule.sensor[name]
    zeros = _per_channel(schedule, f"sensor.{name}.zero", sensor.zero, spec, pairs=False)
    signs: list[int] = []
    for item in _value_fields(spec):
        turned = item.name in spec.per_joint and sensor.sign is not None
        if turned and len(sensor.sign or []) != item.channels:
            raise schedule.error(
                f"sensor.{name}.sign",
                f"{item.channels} signs expected, got {len(sensor.sign or [])}; give one each",
            )
        signs += [int(s) for s in sensor.sign or []] if turned else [1] * item.channels
    return [(s, 0.0 if np.isnan(z) else z) for s, z in zip(signs, zeros, strict=True)]


def _plan_sensor(schedule: Schedule, drivers: dict[str, Driver], name: str) -> SensorPlan:
    sensor = schedule.sensor[name]
    spec = drivers[sensor.device].sensor()
    if spec is None:
        raise schedule.error(
            f"sensor.{name}.device", f"device {sensor.device!r} has no sensor; name one that has"
        )
    turns = _turn(schedule, name, spec)
    exchange = spec.exchange
    if exchange is not None:
        replies = tuple(
            replace(r, values=tuple(v.turned(*turns[v.channel]) for v in r.values))
            for r in exchange.replies
        )
        exchange = replace(exchange, replies=replies)
    size = wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields]).itemsize
    key = f"sensor.{name}"
    ranges = _per_channel(schedule, f"{key}.range", sensor.range, spec, pairs=True)
    return SensorPlan(
        name=name,
        schedule=sensor,
        device=_device_index(schedule, sensor.device),
        home=timing.home_of(schedule, sensor.device, in_cycle=exchange is not None),
        spec=spec,
        exchange=exchange,
        turns=turns,
        depth=_depth(schedule, _cycles_between(schedule, sensor, spec), size),
        between=_cycles_between(schedule, sensor, spec),
        low=[low for low, _ in ranges],
        high=[high for _, high in ranges],
        rate=_per_channel(schedule, f"{key}.rate", sensor.rate, spec, pairs=False),
    )


def _plan_actuator(
    schedule: Schedule, drivers: dict[str, Driver], name: str, sensors: list[SensorPlan]
) -> ActuatorPlan:
    actuator = schedule.actuator[name]
    key = f"actuator.{name}"
    spec = drivers[actuator.device].actuator()
    if spec is None:
        raise schedule.error(
            f"{key}.device", f"device {actuator.device!r} takes no commands; name one that does"
        )
    n = spec.channels
    if actuator.workspace is not None and len(actuator.workspace.joints) > n:
        raise schedule.error(
            f"{key}.workspace.joints",
            f"{len(actuator.workspace.joints)} joints, and device {actuator.device!r} has {n} "
            f"channels; give at most one per channel, in their order",
        )
    sensor, channel = _feedback(schedule, name, sensors, n)
    encoding = spec.encoding
    turns = [(1, 0.0)] * n
    if sensor >= 0 and sensors[sensor].schedule.device == actuator.device:
        # the same joints: commands are turned as their feedback is
        turns = sensors[sensor].turns[channel : channel + n]
    if actuator.mode != "position":
        turns = [(sign if actuator.mode != "switch" else 1, 0.0) for sign, _ in turns]
    safe = spec.safe or (0.0,) * n
    channel_limits = limits.of_channels(
        schedule, name, [sign * at for (sign, _), at in zip(turns, safe, strict=True)]
    )
    limits.check_device(schedule, name, channel_limits, spec.largest)
    if encoding is not None:
        encoding = replace(
            encoding, values=tuple(v.turned(*turns[v.channel]) for v in encoding.values)
        )
    sensing = next((s for s in sensors if s.schedule.device == actuator.device), None)
    home = (
        sensing.home
        if sensing is not None
        else timing.home_of(schedule, actuator.device, in_cycle=encoding is not None)
    )
    if home != "cycle" and sensing is None:
        raise schedule.error(
            f"{key}.device",
            f"a device in a worker needs a sensor in the same home: the worker of "
            f"{actuator.device!r} follows its triggers; add a [sensor.NAME] of that device",
        )
    return ActuatorPlan(
        name=name,
        schedule=actuator,
        device=_device_index(schedule, actuator.device),
        home=home,
        spec=spec,
        encoding=encoding,
        turns=turns,
        feedback_sensor=sensor,
        feedback_channel=channel,
        feedback_kind=_feedback_kind(schedule, name, sensors, spec.unit),
        velocity_channel=_beside(schedule, name, "feedback_velocity", sensors, n),
        effort_channel=_beside(schedule, name, "feedback_effort", sensors, n),
        limits=channel_limits,
    )


def _feedback(
    schedule: Schedule, name: str, sensors: list[SensorPlan], channels: int
) -> tuple[int, int]:
    wanted = schedule.actuator[name].feedback
    if wanted is None:
        return -1, 0
    return _field(schedule, f"actuator.{name}.feedback", wanted, sensors, channels)


def _kind(unit: str, mode: str, own: str) -> FeedbackKind:
    """The quantity of a unit, beside the actuator's own."""
    if unit in ("rad/s", "m/s") or (mode == "velocity" and unit == own):
        return "velocity"
    if unit in ("rad", "m") or (mode == "position" and unit in (own, "1")):
        return "position"
    if mode == "velocity" and f"{unit}/s" == own:
        return "position"
    return "other"


def _feedback_kind(
    schedule: Schedule, name: str, sensors: list[SensorPlan], own: str
) -> FeedbackKind:
    """Of the actuator's feedback; refuses what its mode has no use for."""
    actuator = schedule.actuator[name]
    mode, here, feedback = actuator.mode, f"actuator.{name}", actuator.feedback

    def look(wanted: str) -> tuple[FeedbackKind, str]:
        sensor, _, field = wanted.partition(".")
        of = next(one.spec.fields for one in sensors if one.name == sensor)
        unit = next(one.unit for one in of if one.name == field)
        return _kind(unit, mode, own), f"{wanted!r} is in {unit!r}"

    speed, effort = actuator.feedback_velocity, actuator.feedback_effort
    if speed is not None and look(speed)[0] != "velocity":
        raise schedule.error(
            f"{here}.feedback_velocity",
            f"{look(speed)[1]}, which is no velocity; name a field in rad/s or m/s",
        )
    if effort is not None and look(effort)[0] != "other":
        raise schedule.error(
            f"{here}.feedback_effort",
            f"{look(effort)[1]}, which is no effort; name a field with the effort of the joints",
        )
    if feedback is None:
        return "position"
    kind, words = look(feedback)
    if mode == "position" and kind != "position":
        raise schedule.error(
            f"{here}.feedback",
            f"{words}, and position mode needs a position as feedback; name a field in {own}",
        )
    if mode in ("velocity", "effort") and kind == "other":
        raise schedule.error(
            f"{here}.feedback",
            f"{words}, neither a position (rad, m) nor a velocity (rad/s, m/s): it does not show "
            f"when the joints are at rest; name a field that does, or remove feedback",
        )
    if actuator.limits.position is not None and kind != "position":
        raise schedule.error(
            f"{here}.limits.position",
            f"{show(actuator.limits.position)} limits positions, and feedback {words}; "
            f"name a field in rad or m as feedback, or remove position",
        )
    return kind


def _field(
    schedule: Schedule, key: str, wanted: str, sensors: list[SensorPlan], channels: int
) -> tuple[int, int]:
    """A sensor's number, and the first channel of its field."""
    sensor_name, _, field_name = wanted.partition(".")
    index = [sensor.name for sensor in sensors].index(sensor_name)
    fields = {item.name: item for item in _value_fields(sensors[index].spec)}
    if field_name not in fields or fields[field_name].channels != channels:
        raise schedule.error(
            key,
            f"{wanted!r} is no field of {channels} channels; fields of {sensor_name} are "
            f"{[(f.name, f.channels) for f in fields.values()]}",
        )
    return index, sensors[index].first_channel(field_name)


def _beside(
    schedule: Schedule, name: str, key: str, sensors: list[SensorPlan], channels: int
) -> int:
    """The first channel of a field beside the feedback, in the same sensor; -1: none is named."""
    actuator = schedule.actuator[name]
    wanted: str | None = getattr(actuator, key)
    if wanted is None:
        return -1
    assert actuator.feedback is not None
    if wanted.partition(".")[0] != actuator.feedback.partition(".")[0]:
        raise schedule.error(
            f"actuator.{name}.{key}",
            f"{wanted!r} is of another sensor than the feedback {actuator.feedback!r}, and so of "
            f"another instant; name a field of the same sensor",
        )
    return _field(schedule, f"actuator.{name}.{key}", wanted, sensors, channels)[1]


def _plan_estop(schedule: Schedule, name: str, sensors: list[SensorPlan]) -> EstopPlan:
    """Which channel an input of the emergency stop looks at."""
    given = schedule.estop[name]
    if given.sample is None:
        return EstopPlan(name, given)
    wanted, _, field_name = given.sample.partition(".")
    names = [sensor.name for sensor in sensors]
    if wanted not in names:
        raise schedule.error(
            f"estop.{name}.sample",
            f"no such sensor, got {given.sample!r}; the schedule has: {', '.join(names)}",
        )
    sensor = sensors[names.index(wanted)]
    fields = {item.name: item for item in _value_fields(sensor.spec)}
    if field_name not in fields or given.channel >= fields[field_name].channels:
        known = [(f.name, f.channels) for f in fields.values()]
        raise schedule.error(
            f"estop.{name}.sample",
            f"channel {given.channel} of {given.sample!r} is no float64 channel; {wanted} has "
            f"(field, channels): {known}",
        )
    channel = sensor.first_channel(field_name) + given.channel
    if channel >= len(sensor.offsets):
        raise schedule.error(
            f"estop.{name}.sample",
            f"sensor {wanted} has more float64 channels than the core checks; name another sensor",
        )
    return EstopPlan(name, given, names.index(wanted), channel)


def _slow_for_step(actuator: ActuatorPlan) -> list[str]:
    """Channels that do not reach full velocity, because they brake before their step."""
    if actuator.schedule.mode != "position" or actuator.feedback_sensor < 0:
        return []
    for channel, one in enumerate(actuator.limits):
        way = one.velocity**2 / (2 * one.acceleration)
        if one.jerk:
            way += one.velocity * one.acceleration / (2 * one.jerk)
        if way > one.step:
            return [
                f"actuator {actuator.name}: channel {channel} does not reach its velocity of "
                f"{one.velocity:g}: it brakes before its step of {one.step:g}, and a ramp takes "
                f"{way:.3g}"
            ]
    return []


def _check_watchdogs(schedule: Schedule, actuators: list[ActuatorPlan]) -> list[str]:
    """Refuse a device's watchdog that trips in good order; what a person should know of others."""
    cycle, notes = schedule.cycle, []
    for actuator in actuators:
        watchdog = actuator.spec.watchdog
        if watchdog is None and actuator.stop is not None:
            notes.append(
                f"actuator {actuator.name} has no watchdog: should the runtime die, only the guard "
                f"stops it"
            )
        elif watchdog is None:
            notes.append(
                f"actuator {actuator.name} has no watchdog, and its driver declares no bytes for "
                f"the guard: should the runtime die, nothing stops it; a run is refused"
            )
        elif watchdog.timeout_ns < 2 * cycle.period_ns:
            raise schedule.error(
                f"actuator.{actuator.name}.device",
                f"its watchdog of {watchdog.timeout_ns / 1e6:g} ms trips when one cycle of "
                f"{cycle.period_ns / 1e6:g} ms is missed; make it longer than two cycles",
            )
        elif watchdog.timeout_ns < cycle.resumed_after_ns:
            notes.append(
                f"actuator {actuator.name} stops by itself after {watchdog.timeout_ns / 1e6:g} ms "
                f"without a cycle, and motion is latched only after resumed_after_ms = "
                f"{cycle.resumed_after_ms:g}: in between it does not follow, and nothing says so"
            )
    return notes
