"""The rules of a schedule's sensors: when they are triggered, and within what their values are."""

import os
from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.duration import least_ms
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules import limit_rules
from inphase.schedule.tables import Schedule


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.apply(_check_some)
    for rule in (
        _check_chip,
        _check_line_is_free,
        _check_free_running,
        _check_latency,
        _check_trigger,
        _check_age,
        _check_ranges,
        _check_rates,
    ):
        inspection.each("sensor", rule)


def _check_some(schedule: Schedule) -> Iterator[ScheduleFault]:
    if not schedule.sensor:
        yield schedule.fault("sensor", "no sensor, got 0; add at least one [sensor.NAME] table")


def _check_chip(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    line = schedule.sensor[name].trigger_line
    if line is not None and not line.chip.startswith("/"):
        yield schedule.fault(
            f"sensor.{name}.trigger_line.chip",
            f"not a path, got {line.chip!r}; give {MEANING['chip']}",
        )


def _check_line_is_free(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    sensors = schedule.sensor
    line = sensors[name].trigger_line
    if line is None:
        return
    place = (os.path.realpath(line.chip), line.line)
    for other in list(sensors)[: list(sensors).index(name)]:
        taken = sensors[other].trigger_line
        if taken is not None and (os.path.realpath(taken.chip), taken.line) == place:
            yield schedule.fault(
                f"sensor.{name}.trigger_line",
                f"line {line.line} of {line.chip!r} triggers the sensor {other!r} "
                f"already: one pulse would be counted for two; give each sensor its own line",
            )
            return


def _check_free_running(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A sensor without a trigger takes no key that says when it is triggered."""
    sensor = schedule.sensor[name]
    if not sensor.free_running:
        return
    given = {
        "every": sensor.every if sensor.every != 1 else None,
        "latency_cycles": sensor.latency_cycles or None,
        "trigger_line": sensor.trigger_line and sensor.trigger_line.line,
    }
    for key, value in given.items():
        if value is not None:
            yield schedule.fault(
                f"sensor.{name}.{key}",
                f"{value} belongs to a trigger, and without trigger_us the sensor is "
                f"free-running; add trigger_us, or remove {key}",
                doubts=(f"sensor.{name}.trigger_us", f"sensor.{name}.{key}"),
            )


def _check_latency(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A sample is due before the next trigger fires."""
    sensor = schedule.sensor[name]
    every, latency = sensor.every, sensor.latency_cycles
    if not sensor.free_running and latency >= every:
        # a trigger that is after the read deadline needs a cycle more
        least = 1 if sensor.trigger_ns >= schedule.cycle.read_deadline_ns else 0
        lower = f"at most {every - 1}, or " if every - 1 >= least else ""
        yield schedule.fault(
            f"sensor.{name}.latency_cycles",
            f"{latency} is not below every = {every}: the next trigger would fire before the "
            f"sample of the last one is due; give {lower}every = {latency + 1} or more",
        )


def _check_trigger(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A trigger is inside its cycle, and before the deadline of a sample that is due in it."""
    sensor, cycle = schedule.sensor[name], schedule.cycle
    if sensor.free_running:
        return
    if sensor.latency_cycles == 0 and sensor.trigger_ns >= cycle.read_deadline_ns:
        every = " with every = 2 or more" if sensor.every == 1 else ""
        yield schedule.fault(
            f"sensor.{name}.trigger_us",
            f"{sensor.trigger_us} us is not before read_deadline_us = {cycle.read_deadline_us} us; "
            f"trigger earlier, read later, or give latency_cycles = 1{every}",
        )
    elif sensor.trigger_ns >= cycle.period_ns:
        yield schedule.fault(
            f"sensor.{name}.trigger_us",
            f"{sensor.trigger_us} us is not inside the period of {cycle.period_ns / 1000:g} us; "
            f"trigger earlier",
        )


def _check_age(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A sample is not MISSING before the next one is due."""
    sensor = schedule.sensor[name]
    every, latency = sensor.every, sensor.latency_cycles
    oldest_ns = (latency + every - 1) * schedule.cycle.period_ns
    if not sensor.free_running and sensor.max_age_ns < oldest_ns:
        yield schedule.fault(
            f"sensor.{name}.max_age_ms",
            f"{sensor.max_age_ms:g} ms is less than the age of {oldest_ns / 1e6:g} ms that a "
            f"sample reaches before the next one is due (every = {every}, latency_cycles = "
            f"{latency}): it would be MISSING in between; give {least_ms(oldest_ns)} or more",
        )


def _check_ranges(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    for field, pairs in schedule.sensor[name].range.items():
        key = toml_position.format_path(("sensor", name, "range", field))
        yield from limit_rules.check_pairs(schedule, key, pairs)


def _check_rates(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    for field, numbers in schedule.sensor[name].rate.items():
        key = toml_position.format_path(("sensor", name, "rate", field))
        yield from limit_rules.check_positive(schedule, key, numbers)
