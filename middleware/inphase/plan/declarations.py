"""The declarations of a schedule's drivers, before any device is opened."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

import msgspec

from inphase.devices.driver_names import resolve_driver
from inphase.driver import ActuatorSpec, Driver, SensorSpec, WrongOption
from inphase.errors import ScheduleError, ScheduleFault
from inphase.schedule import Schedule, conversion, toml_position
from inphase.schedule.document import explain, toml_value
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import Incomplete


@dataclass(frozen=True)
class Declarations:
    """All declarations. A driver with a fault has none: reading them raises Unknown."""

    drivers: dict[str, Driver] = field(default_factory=Incomplete)
    """by device; their options are checked"""
    sensors: dict[str, SensorSpec] = field(default_factory=Incomplete)
    """by the sensor's name in the schedule: fields, exchange or calls"""
    actuators: dict[str, ActuatorSpec] = field(default_factory=Incomplete)
    """by the actuator's name: channels, encoding, watchdog, stop"""


def declare(inspection: Inspection, drivers: Mapping[str, Driver] | None) -> Declarations:
    """Ask each driver; None: make them first, with the options and in the mode of the schedule."""
    declared = Declarations()
    if drivers is not None:
        declared.drivers.update(drivers)
    else:
        inspection.each("device", lambda schedule, name: _make(schedule, declared, name))
        inspection.each("actuator", lambda schedule, name: _check_mode(schedule, declared, name))
    inspection.each("sensor", lambda schedule, name: _ask_sensor(schedule, declared, name))
    inspection.each("actuator", lambda schedule, name: _ask_actuator(schedule, declared, name))
    return declared


def make_driver(schedule: Schedule, name: str) -> Driver:
    """The driver of a device, with its options checked, in the mode of its actuator.

    Raises ScheduleError with every fault.
    """
    inspection, declared = Inspection(schedule), Declarations()
    inspection.apply(_make, declared, name)
    for actuator, table in schedule.actuator.items():
        if table.device == name:
            inspection.apply(_check_mode, declared, actuator)
    inspection.finish()
    return declared.drivers[name]


def says_goals(driver: Driver) -> bool:
    """True if a driver says where its joints hold."""
    return type(driver).goals is not Driver.goals


def _make(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """Make a driver, once its options fit."""
    device, key = schedule.device[name], f"device.{name}"
    try:
        kind = resolve_driver(device.driver, schedule.path.parent)
    except ScheduleError as error:
        yield schedule.fault(f"{key}.driver", str(error))
        return
    if not (isinstance(kind, type) and issubclass(kind, Driver)):
        yield schedule.fault(f"{key}.driver", f"{device.driver!r} is not a Driver class; name one")
        return
    options, mismatches = conversion.convert(device.options, kind.Options)
    for mismatch in mismatches:
        where, message = explain(mismatch, device.options, _means(kind.Options), ("device", name))
        yield schedule.fault(toml_position.format_path(where), message)
    if not mismatches:
        driver = kind(name, options)
        driver.mode = driver.modes[0]
        declared.drivers[name] = driver


def _means(options: type) -> Callable[[toml_position.Path], str]:
    """The expected values of a driver's own keys, by their types. Only the driver knows more."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(options)}

    def mean(key: toml_position.Path) -> str:
        kind = types.get(str(key[-1]))
        values = get_args(kind) if get_origin(kind) is Literal else ()
        return " or ".join(map(toml_value, values)) or "a value that the driver takes"

    return mean


def _check_mode(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """A device is used in the mode of its actuator, which it can."""
    actuator = schedule.actuator[name]
    driver = declared.drivers[actuator.device]
    if actuator.mode in driver.modes:
        driver.mode = actuator.mode
        return
    yield schedule.fault(
        f"actuator.{name}.mode",
        f"{actuator.mode!r} is no mode of device {actuator.device!r}; give "
        f"{' or '.join(map(repr, driver.modes))}, or another driver",
    )


def _ask_sensor(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    device = schedule.sensor[name].device
    spec = declared.drivers[device].sensor()
    if spec is None:
        yield schedule.fault(
            f"sensor.{name}.device", f"device {device!r} has no sensor; name one that has"
        )
    else:
        declared.sensors[name] = replace(spec, burst=schedule.sensor[name].burst or 0)


def _ask_actuator(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    driver: Any = actuator.mode and declared.drivers[actuator.device]  # in a mode that it can
    try:
        spec = driver.actuator()
    except WrongOption as wrong:
        yield schedule.fault(f"device.{actuator.device}.{wrong.key}", wrong.text)
        return
    if spec is None:
        yield schedule.fault(
            f"actuator.{name}.device",
            f"device {actuator.device!r} takes no commands; name one that does",
        )
    else:
        declared.actuators[name] = spec
