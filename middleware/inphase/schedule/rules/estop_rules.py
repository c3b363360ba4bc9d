"""The rules of a schedule's emergency stop; that its fields exist is looked at by the plan."""

import os

from inphase.schedule.expected import MEANING
from inphase.schedule.tables import EstopInput, Schedule

_INPUTS_MAX = 16


def check(schedule: Schedule) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    if not schedule.estop:
        return
    if not schedule.actuator:
        raise schedule.error(
            "estop", "it stops nothing: the schedule has no actuator; add one, or remove it"
        )
    if len(schedule.estop) > _INPUTS_MAX:
        raise schedule.error(
            "estop",
            f"{len(schedule.estop)} inputs; give at most {_INPUTS_MAX}, or wire them in line",
        )
    _check_lines(schedule)
    for name, given in schedule.estop.items():
        _check_input(schedule, f"estop.{name}", given)


def _check_lines(schedule: Schedule) -> None:
    users = {
        (os.path.realpath(sensor.trigger_line.chip), sensor.trigger_line.line): f"sensor.{name}"
        for name, sensor in schedule.sensor.items()
        if sensor.trigger_line is not None
    }
    for name, given in schedule.estop.items():
        if given.line is None:
            continue
        if not given.line.chip.startswith("/"):
            raise schedule.error(
                f"estop.{name}.line.chip",
                f"not a path, got {given.line.chip!r}; give {MEANING['chip']}",
            )
        place = (os.path.realpath(given.line.chip), given.line.line)
        if place in users:
            raise schedule.error(
                f"estop.{name}.line",
                f"line {given.line.line} of {given.line.chip!r} belongs to {users[place]} already; "
                f"give each its own line",
            )
        users[place] = f"estop.{name}"


def _check_input(schedule: Schedule, here: str, given: EstopInput) -> None:
    if (given.line is None) == (given.sample is None):
        raise schedule.error(here, "exactly one of line and sample is needed; keep one")
    bounds = {"mask": given.mask, "low": given.low, "high": given.high}
    if given.line is not None:
        more = {"channel": given.channel or None, "accepts": _other(given), **bounds}
        for key, value in more.items():
            if value is not None:
                raise schedule.error(
                    f"{here}.{key}", f"{value} belongs to a sample, and this is a line; remove it"
                )
        return
    if all(value is None for value in bounds.values()):
        raise schedule.error(
            here,
            "no condition says when the sample stops the robot; give mask, low, high, or several",
        )
    if given.pressed is not None and given.mask is None:
        raise schedule.error(
            f"{here}.pressed", f"{given.pressed!r} belongs to a mask or a line; remove it"
        )
    if given.low is not None and given.high is not None and given.low >= given.high:
        raise schedule.error(
            f"{here}.low", f"not below high, got {given.low:g} and {given.high:g}; give low < high"
        )
    if "FRESH" not in given.accepts:
        raise schedule.error(
            f"{here}.accepts",
            f"FRESH is missing, got {list(given.accepts)}; add it: no status is better",
        )


def _other(given: EstopInput) -> list[str] | None:
    return None if given.accepts == EstopInput().accepts else list(given.accepts)
