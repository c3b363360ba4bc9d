"""The rules of a schedule's names: the robot's, those of its parts, and of the devices they use."""

import re
from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule

_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_PART = re.compile(r"[a-z][a-z0-9_]{0,30}")


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.apply(_check_robot)
    for kind in ("device", "sensor", "actuator", "estop"):
        for name in inspection.names(kind):
            inspection.apply(_check_name, kind, name)
    for kind in ("sensor", "actuator"):
        for name in inspection.names(kind):
            inspection.apply(_check_device, kind, name)
            inspection.apply(_check_device_is_free, kind, name)
    inspection.apply(_check_page)


def _check_robot(schedule: Schedule) -> Iterator[ScheduleFault]:
    if not _NAME.fullmatch(schedule.name):
        yield schedule.fault("name", f"not a name: {schedule.name!r}; give {MEANING['name']}")


def _check_name(schedule: Schedule, kind: str, name: str) -> Iterator[ScheduleFault]:
    if not _PART.fullmatch(name):
        yield schedule.fault(
            toml_position.format_path((kind, name)),
            f"not a name, got {name!r}; give a lower-case letter, then letters, digits "
            f"and _, at most 31 in all",
        )


def _check_device(schedule: Schedule, kind: str, name: str) -> Iterator[ScheduleFault]:
    device = getattr(schedule, kind)[name].device
    if device not in schedule.device:
        known = ", ".join(schedule.device) or "none"
        yield schedule.fault(
            toml_position.format_path((kind, name, "device")),
            f"no such device, got {device!r}; the schedule has: {known}",
        )


def _check_device_is_free(schedule: Schedule, kind: str, name: str) -> Iterator[ScheduleFault]:
    parts = getattr(schedule, kind)
    device = parts[name].device
    for other in list(parts)[: list(parts).index(name)]:
        if parts[other].device == device:
            yield schedule.fault(
                toml_position.format_path((kind, name, "device")),
                f"the device {device!r} has the {kind} {other!r} already; "
                f"a device takes one {kind}: remove one or name another device",
            )
            return


def _check_page(schedule: Schedule) -> Iterator[ScheduleFault]:
    """The fields whose joints the page moves are those of a sensor."""
    for field in schedule.page.joints if schedule.page is not None else ():
        sensor, dot, _ = field.partition(".")
        if not dot or sensor not in schedule.sensor:
            yield schedule.fault(
                toml_position.format_path(("page", "joints", field)),
                f"no field of a sensor, got {field!r}; give sensor.field, of one of: "
                f"{', '.join(schedule.sensor)}",
            )
