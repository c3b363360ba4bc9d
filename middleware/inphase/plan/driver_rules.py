"""The rules of a schedule that need its drivers: fields, channels, modes, homes, triggers."""

from collections.abc import Iterator, Mapping
from typing import Any

from inphase.errors import ScheduleFault
from inphase.plan import channel_limits, channel_signs
from inphase.plan.channel_places import (
    CHECKED_MAX,
    channel_offsets,
    first_channel,
    value_fields,
)
from inphase.plan.declarations import Declarations
from inphase.plan.feedback import FeedbackKind, kind_of, unit_of
from inphase.plan.timing import home_of, is_triggered
from inphase.schedule import Schedule, channels, toml_position
from inphase.schedule.document import show
from inphase.schedule.duration import least_ms
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import Incomplete, Unknown

_SETPOINTS_MAX = 65_536  # INPHASE_MAX_PLAN of inphase.h


def check(inspection: Inspection, declared: Declarations) -> None:
    """Apply them to a schedule."""
    for rule in (_check_home, _check_declaration, _check_burst, _check_trigger, _check_sign):
        for name in inspection.names("sensor"):
            inspection.apply(rule, declared, name)
    for key in ("zero", "range", "rate"):
        for name in inspection.names("sensor"):
            inspection.apply(_check_fields, declared, name, key)
    for name in inspection.names("actuator"):
        _check_actuator(inspection, declared, name)
    inspection.apply(_check_setpoints, declared)
    for name in inspection.names("estop"):
        inspection.apply(_check_estop, declared, name)


def _check_actuator(inspection: Inspection, declared: Declarations, name: str) -> None:
    inspection.apply(_check_workspace, declared, name)
    inspection.apply(_check_park, declared, name)
    inspection.apply(_check_brake, declared, name)
    for key in ("feedback", "feedback_velocity", "feedback_effort"):
        inspection.apply(_check_feedback_field, declared, name, key)
    for rule in (
        _check_feedback_velocity,
        _check_feedback_effort,
        _check_feedback,
        _check_position_limit,
        _check_limits,
        _check_safe,
        channel_limits.check_bounds,
        _check_actuator_home,
        _check_worker,
        _check_reference,
        _check_watchdog,
    ):
        inspection.apply(rule, declared, name)


# ---- sensors -----------------------------------------------------------------------------------


def _check_home(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    in_cycle = declared.sensors[name].exchange is not None
    return _check_device_home(schedule, schedule.sensor[name].device, in_cycle=in_cycle)


def _check_device_home(schedule: Schedule, name: str, *, in_cycle: bool) -> Iterator[ScheduleFault]:
    """A driver is at home where it can be, and keys of a worker are for a device that has one."""
    device, key = schedule.device[name], f"device.{name}"
    if device.home == "cycle" and not in_cycle:
        yield schedule.fault(
            f"{key}.home",
            '"cycle" is for a driver with an exchange, which the core runs, and this one has '
            'none; give "process" or "thread"',
        )
        return
    for what, given in (("priority", device.priority or None), ("cpu", device.cpu)):
        if home_of(device, in_cycle=in_cycle) == "cycle" and given is not None:
            yield schedule.fault(
                f"{key}.{what}",
                f"{given} is for a worker process, and this device is at home on the cycle thread; "
                f'remove it, or give home = "process"',
            )
            return  # the remedy is one for both


def _check_declaration(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    """A device's numbers can be followed; packets that silence ends are told apart, by one who
    looks all the time."""
    sensor, exchange = schedule.sensor[name], declared.sensors[name].exchange
    calls = declared.sensors[name].calls
    if calls is not None and calls.trouble:
        yield schedule.fault(
            f"sensor.{name}.device", f"the driver of {sensor.device!r}: {calls.trouble}"
        )
    if exchange is None or not exchange.framing.idle_ns:
        return
    device = schedule.device[sensor.device]
    if trouble := exchange.framing.trouble(exchange.replies):
        yield schedule.fault(f"sensor.{name}.device", f"the driver of {sensor.device!r}: {trouble}")
    elif not exchange.request and home_of(device, in_cycle=True) == "cycle":
        yield schedule.fault(
            f"device.{sensor.device}.home",
            f"{sensor.device!r} streams packets that silence ends, and the cycle thread looks once "
            f'in a cycle, when the silences are over; give home = "process"',
        )


def _check_burst(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """The cycle thread collects what streams in float64, and nobody else does."""
    sensor, spec = schedule.sensor[name], declared.sensors[name]
    device, key = schedule.device[sensor.device], f"sensor.{name}.burst"
    if sensor.burst is None:
        return
    streams = spec.exchange is not None and not spec.exchange.request
    if not streams or len(channel_offsets(spec)) != sum(f.channels for f in spec.fields):
        in_lockstep = ". A simulated run has it with --lockstep" if spec.exchange is None else ""
        yield schedule.fault(
            key,
            f"{sensor.burst} samples are collected of an exchange that streams float64 fields, and "
            f"{sensor.device!r} is none; remove burst{in_lockstep}",
        )
    elif home_of(device, in_cycle=True) != "cycle":
        yield schedule.fault(
            f"device.{sensor.device}.home",
            f"only the cycle thread collects the samples since the last frame, which {key} asks "
            f'for, got "{device.home}"; give home = "cycle"',
        )


def _check_trigger(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    """A device that samples when it is asked has a trigger, and no other has one."""
    sensor, spec = schedule.sensor[name], declared.sensors[name]
    home = home_of(schedule.device[sensor.device], in_cycle=spec.exchange is not None)
    triggered, key = is_triggered(home, spec), f"sensor.{name}.trigger_us"
    if triggered and sensor.free_running:
        yield schedule.fault(
            key,
            f"the key is missing, and device {sensor.device!r} samples only when it is triggered; "
            f"add trigger_us = 0, or another offset in the cycle",
        )
    if not triggered and not sensor.free_running:
        yield schedule.fault(
            key,
            f"device {sensor.device!r} is free-running and cannot be triggered, got "
            f"{sensor.trigger_us}; remove trigger_us: a frame then has its newest sample",
        )


def _check_sign(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    sign, spec = schedule.sensor[name].sign, declared.sensors[name]
    if sign is not None and not spec.per_joint:
        yield schedule.fault(
            f"sensor.{name}.sign",
            "it would turn nothing: the driver declares no field as one of joints; remove sign",
        )
        return
    for item in value_fields(spec):
        is_whole = item.name in spec.per_joint and item.name not in spec.joints
        if is_whole and sign is not None and len(sign) != item.channels:
            yield schedule.fault(
                f"sensor.{name}.sign",
                f"{item.channels} signs expected, got {len(sign)}; give one each",
            )
            return


def _check_fields(
    schedule: Schedule, declared: Declarations, name: str, key: str
) -> Iterator[ScheduleFault]:
    """A table of a sensor names float64 fields of its driver, and has values for their channels."""
    table: Mapping[str, Any] = getattr(schedule.sensor[name], key)
    fields = {item.name: item for item in value_fields(declared.sensors[name])}
    for field, value in table.items():
        where = toml_position.format_path(("sensor", name, key, field))
        if field not in fields:
            yield schedule.fault(where, f"no field {field!r} of float64; those are {list(fields)}")
            continue
        find_trouble = channels.pairs_trouble if key == "range" else channels.numbers_trouble
        if trouble := find_trouble(value, fields[field].channels):
            yield schedule.fault(where, trouble)
        yield from _check_looked_at(schedule, declared, name, where)


def _check_looked_at(
    schedule: Schedule, declared: Declarations, name: str, where: str
) -> Iterator[ScheduleFault]:
    """The core looks at the numbers of a sensor, or at none where they are too many."""
    spec = declared.sensors[name]
    numbers = sum(item.channels for item in value_fields(spec))
    if numbers and not channel_offsets(spec):
        yield schedule.fault(
            where,
            f"{name} has {numbers} numbers of float64, and the core looks at {CHECKED_MAX} of a "
            f'sensor at most; declare its large fields as float32 ("<f4") in the driver',
        )


# ---- actuators ---------------------------------------------------------------------------------


def _check_workspace(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    actuator, count = schedule.actuator[name], declared.actuators[name].channels
    if actuator.workspace is not None and len(actuator.workspace.joints) > count:
        yield schedule.fault(
            f"actuator.{name}.workspace.joints",
            f"{len(actuator.workspace.joints)} joints, and device {actuator.device!r} has {count} "
            f"channels; give at most one per channel, in their order",
        )


def _check_park(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """A path has a position per channel of the device."""
    actuator, count = schedule.actuator[name], declared.actuators[name].channels
    for index, point in enumerate(() if actuator.park is None else actuator.park.path):
        if len(point) != count:
            yield schedule.fault(
                f"actuator.{name}.park.path[{index}]",
                f"{len(point)} positions, and device {actuator.device!r} has {count} channels; "
                f"give one per channel",
            )


def _check_brake(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """Only a device with brakes rests in them."""
    actuator = schedule.actuator[name]
    if actuator.on_stop == "brake" and not declared.drivers[actuator.device].has_brakes:
        yield schedule.fault(
            f"actuator.{name}.on_stop",
            f'device {actuator.device!r} says of no brakes that hold it; give "hold", or "limp" '
            f"where nothing can fall. The key brakes = true says it of CiA 402 drives",
        )


def _check_feedback_field(
    schedule: Schedule, declared: Declarations, name: str, key: str
) -> Iterator[ScheduleFault]:
    """A feedback names a field with as many channels; fields beside it are of the same sensor."""
    actuator, where = schedule.actuator[name], f"actuator.{name}.{key}"
    wanted: str | None = getattr(actuator, key)
    if wanted is None:
        return
    sensor, _, field = wanted.partition(".")
    if key != "feedback":
        assert actuator.feedback is not None
        if sensor != actuator.feedback.partition(".")[0]:
            yield schedule.fault(
                where,
                f"{wanted!r} is of another sensor than the feedback {actuator.feedback!r}, and so "
                f"of another instant; name a field of the same sensor",
            )
            return
    fields = {item.name: item for item in value_fields(declared.sensors[sensor])}
    count = declared.actuators[name].channels
    if field not in fields or fields[field].channels != count:
        yield schedule.fault(
            where,
            f"{wanted!r} is no field of {count} channels; fields of {sensor} are "
            f"{[(f.name, f.channels) for f in fields.values()]}",
        )
        return
    yield from _check_looked_at(schedule, declared, sensor, where)


def _look(
    schedule: Schedule, declared: Declarations, name: str, wanted: str
) -> tuple[FeedbackKind, str]:
    """The quantity of a field, and words for it."""
    sensor, _, field = wanted.partition(".")
    unit = unit_of(declared.sensors[sensor].fields, field)
    own = declared.actuators[name].unit
    return kind_of(unit, schedule.actuator[name].mode, own), f"{wanted!r} is in {unit!r}"


def _check_feedback_velocity(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    wanted = schedule.actuator[name].feedback_velocity
    if wanted is None:
        return
    kind, words = _look(schedule, declared, name, wanted)
    if kind != "velocity":
        yield schedule.fault(
            f"actuator.{name}.feedback_velocity",
            f"{words}, which is no velocity; name a field in rad/s or m/s",
        )


def _check_feedback_effort(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    wanted = schedule.actuator[name].feedback_effort
    if wanted is None:
        return
    kind, words = _look(schedule, declared, name, wanted)
    if kind != "other":
        yield schedule.fault(
            f"actuator.{name}.feedback_effort",
            f"{words}, which is no effort; name a field with the effort of the joints",
        )


def _check_feedback(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    """A feedback measures something that the mode has use for."""
    actuator = schedule.actuator[name]
    if actuator.feedback is None:
        return
    kind, words = _look(schedule, declared, name, actuator.feedback)
    if actuator.mode == "position" and kind != "position":
        yield schedule.fault(
            f"actuator.{name}.feedback",
            f"{words}, and position mode needs a position as feedback; name a field in "
            f"{declared.actuators[name].unit}",
        )
    if actuator.mode in ("velocity", "effort") and kind == "other":
        yield schedule.fault(
            f"actuator.{name}.feedback",
            f"{words}, neither a position (rad, m) nor a velocity (rad/s, m/s): it does not show "
            f"when the joints are at rest; name a field that does, or remove feedback",
        )


def _check_position_limit(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.feedback is None or actuator.limits.position is None:
        return
    kind, words = _look(schedule, declared, name, actuator.feedback)
    if kind != "position":
        yield schedule.fault(
            f"actuator.{name}.limits.position",
            f"{show(actuator.limits.position)} limits positions, and feedback {words}; "
            f"name a field in rad or m as feedback, or remove position",
        )


def _check_limits(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """Limits that are given per channel are given for each."""
    limits, count = schedule.actuator[name].limits, declared.actuators[name].channels
    for key in ("position", "velocity", "acceleration", "step", "jerk", "effort", "effort_rate"):
        value = getattr(limits, key)
        find_trouble = channels.pairs_trouble if key == "position" else channels.numbers_trouble
        if value is not None and (trouble := find_trouble(value, count)):
            yield schedule.fault(f"actuator.{name}.limits.{key}", trouble)


def _check_safe(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """A ramp in effort mode ends within the limits."""
    actuator, spec = schedule.actuator[name], declared.actuators[name]
    if actuator.mode != "effort" or not spec.safe:
        return
    feedback = channel_limits.feedback_sensor(schedule, declared, name)
    safe = channel_signs.safe_of(spec, channel_signs.of_actuator(actuator, spec.channels, feedback))
    for channel, one in enumerate(channel_limits.of_actuator(actuator, safe)):
        if abs(one.safe) > one.effort:
            yield schedule.fault(
                f"actuator.{name}.limits.effort",
                f"{one.effort:g} is less than the {one.safe:g} at which a ramp of the driver's "
                f"channel {channel} ends; give {abs(one.safe)} or more",
            )
            return


def _has_sensor(schedule: Schedule, device: str) -> bool:
    """True if a sensor has this device. Raises Unknown where that is not known."""
    if any(sensor.device == device for sensor in schedule.sensor.values()):
        return True
    if isinstance(schedule.sensor, Incomplete):
        raise Unknown(device)
    return False


def _check_actuator_home(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    device = schedule.actuator[name].device
    if _has_sensor(schedule, device):
        return  # it is at home where its sensor is
    in_cycle = declared.actuators[name].encoding is not None
    yield from _check_device_home(schedule, device, in_cycle=in_cycle)


def _check_worker(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """A worker follows the triggers of its device's sensor."""
    device = schedule.actuator[name].device
    if _has_sensor(schedule, device):
        return
    in_cycle = declared.actuators[name].encoding is not None
    if home_of(schedule.device[device], in_cycle=in_cycle) != "cycle":
        yield schedule.fault(
            f"actuator.{name}.device",
            f"a device in a worker needs a sensor in the same home: the worker of "
            f"{device!r} follows its triggers; add a [sensor.NAME] of that device",
        )


def _check_reference(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    """A device that wants a command for each of its packets gets them from the cycle thread."""
    encoding, device = declared.actuators[name].encoding, schedule.actuator[name].device
    if encoding is None or encoding.reference is None:
        return
    if home_of(schedule.device[device], in_cycle=True) != "cycle":
        yield schedule.fault(
            f"device.{device}.home",
            f"the core answers each packet of {device!r}, and a worker does not; remove home",
        )
    elif not _has_sensor(schedule, device):
        yield schedule.fault(
            f"actuator.{name}.device",
            f"each of its commands answers a packet, which nobody reads; add a [sensor.NAME] with "
            f"device = {device!r}",
        )


def _check_watchdog(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    """A device's watchdog does not trip in good order."""
    watchdog, period_ns = declared.actuators[name].watchdog, schedule.cycle.period_ns
    if watchdog is not None and watchdog.timeout_ns < 2 * period_ns:
        yield schedule.fault(
            f"actuator.{name}.device",
            f"its watchdog of {watchdog.timeout_ns / 1e6:g} ms trips when one cycle of "
            f"{period_ns / 1e6:g} ms is missed; give it {least_ms(2 * period_ns)} ms or more",
        )


# ---- policy and emergency stop -----------------------------------------------------------------


def _check_setpoints(schedule: Schedule, declared: Declarations) -> Iterator[ScheduleFault]:
    """The commands of a policy that are kept are not too many for their place in the core."""
    policy = schedule.policy
    if policy is None:
        return
    values = sum(declared.actuators[name].channels for name in schedule.actuator)
    commands = policy.latency_cycles // policy.spacing + policy.chunk + 3
    if commands * (values + 1) > _SETPOINTS_MAX:
        key = "chunk" if policy.chunk > commands // 2 else "latency_cycles"
        most = _SETPOINTS_MAX // (values + 1) - 3
        yield schedule.fault(
            f"policy.{key}",
            f"{getattr(policy, key)} keeps {commands} commands of {values} values, "
            f"more than there is room for; latency_cycles / chunk_every + chunk may be {most}",
        )


def _check_estop(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """An input of the emergency stop is a channel that the core looks at."""
    given, key = schedule.estop[name], f"estop.{name}.sample"
    if given.sample is None:
        return
    sensor, _, field = given.sample.partition(".")
    spec = declared.sensors[sensor]
    fields = {item.name: item for item in value_fields(spec)}
    if field not in fields or given.channel >= fields[field].channels:
        known = [(f.name, f.channels) for f in fields.values()]
        yield schedule.fault(
            key,
            f"channel {given.channel} of {given.sample!r} is no float64 channel; {sensor} has "
            f"(field, channels): {known}",
        )
    elif first_channel(spec, field) + given.channel >= len(channel_offsets(spec)):
        yield schedule.fault(
            key,
            f"sensor {sensor} has more float64 channels than the core checks; name another sensor",
        )
