"""The rules of a schedule's emergency stop, as far as they need no driver."""

import os
from collections.abc import Iterator, Mapping

from inphase.errors import ScheduleFault
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import EstopInput, GpioLine, Schedule

_INPUTS_MAX = 16


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.apply(_check_count)
    for rule in (
        _check_chip,
        _check_line_of_sensors,
        _check_line_is_free,
        _check_source,
        _check_line,
        _check_sample,
        _check_sensor,
    ):
        inspection.each("estop", rule)


def _check_count(schedule: Schedule) -> Iterator[ScheduleFault]:
    if schedule.estop and not schedule.actuator:
        yield schedule.fault(
            "estop", "it stops nothing: the schedule has no actuator; add one, or remove it"
        )
    if len(schedule.estop) > _INPUTS_MAX:
        yield schedule.fault(
            "estop",
            f"{len(schedule.estop)} inputs; give at most {_INPUTS_MAX}, or wire them in line",
        )


def _check_chip(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    line = schedule.estop[name].line
    if line is not None and not line.chip.startswith("/"):
        yield schedule.fault(
            f"estop.{name}.line.chip", f"not a path, got {line.chip!r}; give {MEANING['chip']}"
        )


def _check_line_of_sensors(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    sensors = {f"sensor.{key}": sensor.trigger_line for key, sensor in schedule.sensor.items()}
    return _check_taken(schedule, name, sensors)


def _check_line_is_free(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    inputs = list(schedule.estop)
    others = {f"estop.{key}": schedule.estop[key].line for key in inputs[: inputs.index(name)]}
    return _check_taken(schedule, name, others)


def _check_taken(
    schedule: Schedule, name: str, others: Mapping[str, GpioLine | None]
) -> Iterator[ScheduleFault]:
    """The line of an input is none of others."""
    line = schedule.estop[name].line
    for user, other in others.items():
        if line is not None and other is not None and _place(line) == _place(other):
            yield schedule.fault(
                f"estop.{name}.line",
                f"line {line.line} of {line.chip!r} belongs to {user} already; "
                f"give each its own line",
            )
            return


def _place(line: GpioLine) -> tuple[str, int]:
    return os.path.realpath(line.chip), line.line


def _check_source(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    given = schedule.estop[name]
    if (given.line is None) == (given.sample is None):
        remedy = f"add sample = {MEANING['sample']} or line = {MEANING['line']}"
        if given.line is not None:
            remedy = "keep one"
        yield schedule.fault(f"estop.{name}", f"exactly one of line and sample is needed; {remedy}")


def _check_line(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A line takes no key of a sample."""
    given = schedule.estop[name]
    if given.line is None:
        return
    accepts = None if given.accepts == EstopInput().accepts else list(given.accepts)
    keys = {"channel": given.channel or None, "accepts": accepts, **_bounds(given)}
    for key, value in keys.items():
        if value is not None:
            yield schedule.fault(
                f"estop.{name}.{key}",
                f"{value} belongs to a sample, and this is a line; remove it",
            )


def _check_sample(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    given, here = schedule.estop[name], f"estop.{name}"
    if given.sample is None:
        return
    if all(value is None for value in _bounds(given).values()):
        yield schedule.fault(
            here,
            "no condition says when the sample stops the robot; give mask, low, high, or several",
        )
    elif given.pressed is not None and given.mask is None:
        yield schedule.fault(
            f"{here}.pressed", f"{given.pressed!r} belongs to a mask or a line; remove it"
        )
    if given.low is not None and given.high is not None and given.low >= given.high:
        yield schedule.fault(
            f"{here}.low", f"not below high, got {given.low:g} and {given.high:g}; give low < high"
        )
    if "FRESH" not in given.accepts:
        yield schedule.fault(
            f"{here}.accepts",
            f"FRESH is missing, got {list(given.accepts)}; add it: no status is better",
        )


def _check_sensor(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    sample = schedule.estop[name].sample
    if sample is not None and sample.partition(".")[0] not in schedule.sensor:
        yield schedule.fault(
            f"estop.{name}.sample",
            f"no such sensor, got {sample!r}; the schedule has: {', '.join(schedule.sensor)}",
        )


def _bounds(given: EstopInput) -> dict[str, float | None]:
    return {"mask": given.mask, "low": given.low, "high": given.high}
