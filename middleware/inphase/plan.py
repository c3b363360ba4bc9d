"""The plan: a schedule together with what its drivers declare.

It says which channels a sample has, where the wire's time goes, how deep the rings are, and it
makes the description that every reader is given first. It touches no device.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import msgspec
import numpy as np

from inphase import wire
from inphase.driver import ActuatorSpec, Driver, Encoding, Exchange, SensorSpec
from inphase.errors import ScheduleError
from inphase.installed import resolve_driver
from inphase.schedule import Actuator, Schedule, Sensor
from inphase.timeline import Mark, Span

_RING_S = 0.25  # a view into the store lasts at least this long, and
_RING_MIN = 16  # at least this many samples


@dataclass(frozen=True)
class SensorPlan:
    """One sensor, channels resolved; limits are NaN where there is none."""

    name: str
    schedule: Sensor
    device: int
    spec: SensorSpec
    exchange: Exchange
    depth: int
    low: list[float]
    high: list[float]
    rate: list[float]

    @property
    def channels(self) -> int:
        """Doubles in a sample."""
        return sum(field.channels for field in self.spec.fields)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a sample: one field of float64 per declared field, in SI."""
        return wire.sample_dtype([(f.name, f.shape, f.dtype) for f in self.spec.fields])

    def first_channel(self, name: str) -> int:
        """Channel at which a field starts. Raises KeyError."""
        at = 0
        for item in self.spec.fields:
            if item.name == name:
                return at
            at += item.channels
        raise KeyError(name)


@dataclass(frozen=True)
class ActuatorPlan:
    """One actuator; limits per channel as (low, high, velocity, acceleration, step)."""

    name: str
    schedule: Actuator
    device: int
    spec: ActuatorSpec
    encoding: Encoding
    feedback_sensor: int
    feedback_channel: int
    limits: list[tuple[float, float, float, float, float]]


@dataclass(frozen=True)
class Plan:
    """Everything the core, the workers and the readers are configured from."""

    schedule: Schedule
    drivers: dict[str, Driver]
    sensors: list[SensorPlan]
    actuators: list[ActuatorPlan]
    depth: int
    notes: list[str] = field(default_factory=list)
    client_policy: bool = False
    """whoever started the runtime posts the commands itself"""

    @property
    def values(self) -> int:
        """Doubles in a command: the actuators' channels one after the other."""
        return sum(actuator.spec.channels for actuator in self.actuators)

    def description(self, epoch: int, **facts: object) -> bytes:
        """What a reader is given first, as MessagePack: layouts, units, schedule, hash."""
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
                        {"name": a.name, "channels": a.spec.channels, "unit": a.spec.unit}
                        for a in self.actuators
                    ],
                    **facts,
                }
            )
        )

    def spans(self) -> list[Span]:
        """What happens when in one cycle, as far as the devices state it, for the timeline."""
        cycle = self.schedule.cycle
        names = list(self.schedule.device)
        spans = [
            Span(
                "cycle", "trigger", 0, max(s.schedule.trigger_ns for s in self.sensors), "trigger"
            ),
            Span("cycle", "read", 0, cycle.read_deadline_ns, "read"),
            Span("cycle", "infer", cycle.read_deadline_ns, cycle.act_ns, "infer"),
            Span("cycle", "publish", cycle.act_ns, cycle.period_ns, "publish"),
        ]
        for sensor in self.sensors:
            start = sensor.schedule.trigger_ns
            sent = start + sensor.exchange.request_ns
            lane = names[sensor.device]
            spans.append(Span(lane, "request", start, sent, "trigger"))
            spans.append(Span(lane, "reply", sent, sent + sensor.exchange.reply_ns, "read"))
        for actuator in self.actuators:
            end = cycle.act_ns + actuator.encoding.write_ns
            spans.append(Span(names[actuator.device], "command", cycle.act_ns, end, "act"))
        return spans

    def marks(self) -> list[Mark]:
        """The cycle's deadlines."""
        cycle = self.schedule.cycle
        return [
            Mark("read deadline", cycle.read_deadline_ns),
            Mark("act", cycle.act_ns),
            Mark("next due", cycle.period_ns),
        ]


def _describe_sensor(sensor: SensorPlan) -> dict[str, object]:
    return {
        "name": sensor.name,
        "fields": [[f.name, list(f.shape), f.dtype, f.unit] for f in sensor.spec.fields],
        "trigger_ns": sensor.schedule.trigger_ns,
        "max_age_ns": sensor.schedule.max_age_ns,
        "depth": sensor.depth,
    }


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
    return kind(name, options)


def make(schedule: Schedule, drivers: dict[str, Driver] | None = None) -> Plan:
    """Resolve a schedule. Give the drivers again after they were opened, for their own scales.

    Raises ScheduleError.
    """
    if drivers is None:
        drivers = {name: make_driver(schedule, name) for name in schedule.device}
    depth = _depth(schedule)
    sensors = [_plan_sensor(schedule, drivers, name, depth) for name in schedule.sensor]
    actuators = [_plan_actuator(schedule, drivers, name, sensors) for name in schedule.actuator]
    _check_fit(schedule, sensors, actuators)
    notes = [
        f"actuator {a.name} moves blind: it has no feedback"
        for a in actuators
        if a.feedback_sensor < 0
    ]
    notes += _check_watchdogs(schedule, actuators)
    return Plan(schedule, drivers, sensors, actuators, depth, notes)


def _depth(schedule: Schedule) -> int:
    wanted = max(_RING_MIN, int(_RING_S * 1e9 / schedule.cycle.period_ns))
    depth = 1 << (wanted - 1).bit_length()
    return max(depth, schedule.store.depth or 0)


def _device_index(schedule: Schedule, name: str) -> int:
    return list(schedule.device).index(name)


def _per_channel(
    schedule: Schedule, key: str, table: dict[str, Any], spec: SensorSpec, pairs: bool
) -> list[Any]:
    """A schedule's per-field table as one entry per channel; NaN where it says nothing."""
    nothing: Any = (float("nan"), float("nan")) if pairs else float("nan")
    known = [f.name for f in spec.fields]
    for name in table:
        if name not in known:
            raise schedule.error(f"{key}.{name}", f"no field {name!r}; fields are {known}")
    result: list[Any] = []
    for item in spec.fields:
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
    for item in spec.fields:
        turned = item.name in spec.per_joint and sensor.sign is not None
        if turned and len(sensor.sign or []) != item.channels:
            raise schedule.error(
                f"sensor.{name}.sign",
                f"{item.channels} signs expected, got {len(sensor.sign or [])}; give one each",
            )
        signs += [int(s) for s in sensor.sign or []] if turned else [1] * item.channels
    return [(s, 0.0 if np.isnan(z) else z) for s, z in zip(signs, zeros, strict=True)]


def _plan_sensor(
    schedule: Schedule, drivers: dict[str, Driver], name: str, depth: int
) -> SensorPlan:
    sensor = schedule.sensor[name]
    spec = drivers[sensor.device].sensor()
    if spec is None:
        raise schedule.error(
            f"sensor.{name}.device", f"device {sensor.device!r} has no sensor; name one that has"
        )
    if spec.exchange is None:
        raise schedule.error(
            f"sensor.{name}.device", f"device {sensor.device!r} has no exchange for the cycle"
        )
    if sensor.latched:
        raise schedule.error(
            f"sensor.{name}.trigger_us",
            f"the key is missing, and device {sensor.device!r} samples when it is asked; add "
            f"trigger_us = 0, or another offset in the cycle",
        )
    turns = _turn(schedule, name, spec)
    replies = tuple(
        replace(r, values=tuple(v.turned(*turns[v.channel]) for v in r.values))
        for r in spec.exchange.replies
    )
    key = f"sensor.{name}"
    ranges = _per_channel(schedule, f"{key}.range", sensor.range, spec, pairs=True)
    return SensorPlan(
        name=name,
        schedule=sensor,
        device=_device_index(schedule, sensor.device),
        spec=spec,
        exchange=replace(spec.exchange, replies=replies),
        depth=depth,
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
    limits = actuator.limits
    pairs = schedule.pairs(f"{key}.limits.position", limits.position, n)
    columns = [
        schedule.numbers(f"{key}.limits.{what}", getattr(limits, what), n)
        for what in ("velocity", "acceleration", "step")
    ]
    sensor, channel = _feedback(schedule, name, sensors, n)
    encoding = spec.encoding
    if encoding is None:
        raise schedule.error(
            f"{key}.device", f"device {actuator.device!r} has no encoding for the cycle"
        )
    if sensor >= 0 and sensors[sensor].schedule.device == actuator.device:
        # the same joints: commands are turned as their feedback is
        turns = _turn(schedule, sensors[sensor].name, sensors[sensor].spec)
        encoding = replace(
            encoding,
            values=tuple(v.turned(*turns[channel + v.channel]) for v in encoding.values),
        )
    return ActuatorPlan(
        name=name,
        schedule=actuator,
        device=_device_index(schedule, actuator.device),
        spec=spec,
        encoding=encoding,
        feedback_sensor=sensor,
        feedback_channel=channel,
        limits=[(lo, hi, *rest) for (lo, hi), *rest in zip(pairs, *columns, strict=True)],
    )


def _feedback(
    schedule: Schedule, name: str, sensors: list[SensorPlan], channels: int
) -> tuple[int, int]:
    wanted = schedule.actuator[name].feedback
    if wanted is None:
        return -1, 0
    sensor_name, _, field_name = wanted.partition(".")
    index = [sensor.name for sensor in sensors].index(sensor_name)
    fields = {item.name: item for item in sensors[index].spec.fields}
    if field_name not in fields or fields[field_name].channels != channels:
        raise schedule.error(
            f"actuator.{name}.feedback",
            f"{wanted!r} is no field of {channels} channels; fields of {sensor_name} are "
            f"{[(f.name, f.channels) for f in fields.values()]}",
        )
    return index, sensors[index].first_channel(field_name)


def _check_watchdogs(schedule: Schedule, actuators: list[ActuatorPlan]) -> list[str]:
    """Refuse a device's watchdog that trips in good order; what a person should know of others."""
    cycle, notes = schedule.cycle, []
    for actuator in actuators:
        watchdog = actuator.spec.watchdog
        if watchdog is None:
            notes.append(
                f"actuator {actuator.name} has no watchdog: should the runtime die, it goes on to "
                f"its goal"
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
                f"{cycle.resumed_after_ms:g}: between the two it does not follow, unsaid"
            )
    return notes


def _check_fit(
    schedule: Schedule, sensors: list[SensorPlan], actuators: list[ActuatorPlan]
) -> None:
    """Refuse what cannot fit: a reply after the read deadline, a command into the next trigger."""
    cycle = schedule.cycle
    for sensor in sensors:
        trigger = sensor.schedule.trigger_ns
        end = trigger + sensor.exchange.request_ns + sensor.exchange.reply_ns
        if end > cycle.read_deadline_ns:
            raise schedule.error(
                f"sensor.{sensor.name}.trigger_us",
                f"the reply is complete {end / 1000:.0f} us after the cycle's start, after the "
                f"read deadline of {cycle.read_deadline_us} us; trigger earlier, raise the baud "
                f"rate, or move read_deadline_us",
            )
    for actuator in actuators:
        end = cycle.act_ns + actuator.encoding.write_ns
        first = min(
            (s.schedule.trigger_ns for s in sensors if s.device == actuator.device), default=0
        )
        if end > cycle.period_ns + first:
            raise schedule.error(
                "cycle.act_us",
                f"the command of {actuator.name} is on the wire until {end / 1000:.0f} us, into "
                f"the next trigger; act earlier, raise the baud rate, or lower the cycle's rate",
            )
