"""The rules of a schedule's parts: when devices are triggered, and within what robots move."""

import os

from inphase.schedule import toml_position
from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.rules import limit_rules, pace_rules
from inphase.schedule.tables import HOLD_NS, Actuator, Schedule, Sensor, Status, Workspace

_AXIS_MIN = 1e-6  # of the numbers of an axis, whose length is no matter
_MOVES_ON: tuple[Status, ...] = ("FRESH", "HELD", "LATE", "RECOVERING")


def check(schedule: Schedule) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    if not schedule.sensor:
        raise schedule.error("sensor", "no sensor, got 0; add at least one [sensor.NAME] table")
    _check_devices(schedule)
    _check_lines(schedule)
    for name in schedule.sensor:
        _check_sensor(schedule, name)
    for name in schedule.actuator:
        _check_actuator(schedule, name)
    _check_policy(schedule)


def _check_devices(schedule: Schedule) -> None:
    for name, device in schedule.device.items():
        here, own = f"device.{name}", "the cycle thread"
        if device.home == "thread":
            own = "the user's own process, which gets nothing real-time"
        if device.home in ("cycle", "thread"):
            for key, given in (("priority", device.priority or None), ("cpu", device.cpu)):
                if given is not None:
                    raise schedule.error(
                        f"{here}.{key}",
                        f"{given} is for a worker process, and home = {device.home!r} is {own}; "
                        f'remove it, or give home = "process"',
                    )
        _check_priority(schedule, here, device.priority)


def _check_priority(schedule: Schedule, here: str, priority: int) -> None:
    if priority >= schedule.cycle.priority:
        raise schedule.error(
            f"{here}.priority",
            f"{priority} is not below the cycle's {schedule.cycle.priority}: it could hold "
            f"up the cycle; give a lower one",
        )


def _check_lines(schedule: Schedule) -> None:
    users: dict[tuple[str, int], str] = {}
    for name, sensor in schedule.sensor.items():
        wanted, key = sensor.trigger_line, f"sensor.{name}.trigger_line"
        if wanted is None:
            continue
        if not wanted.chip.startswith("/"):
            raise schedule.error(
                f"{key}.chip",
                f"not a path, got {wanted.chip!r}; give {MEANING['chip']}",
            )
        place = (os.path.realpath(wanted.chip), wanted.line)
        if place in users:
            raise schedule.error(
                key,
                f"line {wanted.line} of {wanted.chip!r} triggers the sensor {users[place]!r} "
                f"already: one pulse would be counted for two; give each sensor its own line",
            )
        users[place] = name


def _check_sensor(schedule: Schedule, name: str) -> None:
    sensor, here = schedule.sensor[name], f"sensor.{name}"
    if sensor.free_running:
        _check_free_running(schedule, here, sensor)
    else:
        _check_trigger(schedule, here, sensor)
    for field, pairs in sensor.range.items():
        limit_rules.check_pairs(
            schedule, toml_position.format_path(("sensor", name, "range", field)), pairs
        )
    for field, numbers in sensor.rate.items():
        limit_rules.check_positive(
            schedule, toml_position.format_path(("sensor", name, "rate", field)), numbers
        )


def _check_free_running(schedule: Schedule, here: str, sensor: Sensor) -> None:
    """A sensor without a trigger takes no key that says when it is triggered."""
    given = {
        "every": sensor.every if sensor.every != 1 else None,
        "latency_cycles": sensor.latency_cycles or None,
        "trigger_line": sensor.trigger_line and sensor.trigger_line.line,
    }
    for key, value in given.items():
        if value is not None:
            raise schedule.error(
                f"{here}.{key}",
                f"{value} belongs to a trigger, and without trigger_us the sensor is "
                f"free-running; add trigger_us, or remove {key}",
            )


def _check_trigger(schedule: Schedule, here: str, sensor: Sensor) -> None:
    """The trigger is inside its cycle, and its sample is due before the next one fires."""
    cycle, every, latency = schedule.cycle, sensor.every, sensor.latency_cycles
    if latency >= every:
        raise schedule.error(
            f"{here}.latency_cycles",
            f"{latency} is not below every = {every}: the next trigger would fire before the "
            f"sample of the last one is due; give at most {every - 1}, or every = {latency + 1}",
        )
    if latency == 0 and sensor.trigger_ns >= cycle.read_deadline_ns:
        raise schedule.error(
            f"{here}.trigger_us",
            f"{sensor.trigger_us} us is not before read_deadline_us = "
            f"{cycle.read_deadline_us} us; trigger earlier, read later, or give latency_cycles",
        )
    if sensor.trigger_ns >= cycle.period_ns:
        raise schedule.error(
            f"{here}.trigger_us",
            f"{sensor.trigger_us} us is not inside the period of {cycle.period_ns / 1000:g} us; "
            f"trigger earlier",
        )
    oldest_ns = (latency + every - 1) * cycle.period_ns
    if sensor.max_age_ns < oldest_ns:
        raise schedule.error(
            f"{here}.max_age_ms",
            f"{sensor.max_age_ms:g} ms is less than the age of {oldest_ns / 1e6:g} ms that a "
            f"sample reaches before the next one is due (every = {every}, latency_cycles = "
            f"{latency}): it would be MISSING in between; give more",
        )


def _check_policy(schedule: Schedule) -> None:
    policy = schedule.policy
    if policy is None:
        return
    _check_priority(schedule, "policy", policy.priority)
    pace_rules.check(schedule, policy)
    for name, accepted in policy.accepts.items():
        key = toml_position.format_path(("policy", "accepts", name))
        if name not in schedule.sensor:
            known = ", ".join(schedule.sensor)
            raise schedule.error(key, f"no such sensor, got {name!r}; the schedule has: {known}")
        _check_accepts(schedule, key, accepted)


def _check_accepts(schedule: Schedule, key: str, accepted: tuple[Status, ...]) -> None:
    if "FRESH" not in accepted:
        raise schedule.error(
            key, f"FRESH is missing, got {show(list(accepted))}; add it: no status is better"
        )
    if len(set(accepted)) < len(accepted):
        raise schedule.error(key, f"named twice, got {show(list(accepted))}; name each once")


def _check_actuator_accepts(schedule: Schedule, key: str, actuator: Actuator) -> None:
    """An actuator moves on nothing that is not a position of it, and known to be one."""
    for index, status in enumerate(actuator.accepts):
        if status not in _MOVES_ON:
            raise schedule.error(
                f"{key}[{index}]",
                f"{status} is no basis for motion; give some of {', '.join(_MOVES_ON)}",
            )
    _check_accepts(schedule, key, actuator.accepts)
    if actuator.feedback is None and actuator.accepts != _MOVES_ON[:3]:
        raise schedule.error(
            key,
            f"{show(list(actuator.accepts))} needs a feedback, and the actuator has none; give "
            f'feedback = "sensor.field", or remove accepts',
        )


def _check_actuator(schedule: Schedule, name: str) -> None:
    actuator, here = schedule.actuator[name], f"actuator.{name}"
    limit_rules.check(schedule, name)
    if actuator.workspace is not None:
        _check_workspace(schedule, f"{here}.workspace", actuator.workspace)
    for key in ("feedback", "feedback_velocity", "feedback_effort"):
        if getattr(actuator, key) is not None:
            _check_feedback(schedule, f"{here}.{key}", getattr(actuator, key))
    _check_actuator_accepts(schedule, f"{here}.accepts", actuator)
    if actuator.on_miss == "coast" and actuator.mode == "switch":
        raise schedule.error(
            f"{here}.on_miss",
            'a switch has no motion to carry on; use on_miss = "repeat", or remove on_miss',
        )
    hold_max_ns = max(2 * schedule.cycle.period_ns, HOLD_NS)
    if actuator.max_hold_ns(schedule.cycle.period_ns) > hold_max_ns:
        raise schedule.error(
            f"{here}.max_hold_ms",
            f"{actuator.max_hold_ms} ms is longer than the larger of 20 ms and 2 periods: "
            f"a robot without commands must ramp; give at most {hold_max_ns / 1e6:g}",
        )


def _check_workspace(schedule: Schedule, here: str, workspace: Workspace) -> None:
    for axis, low, high in zip("xyz", workspace.low, workspace.high, strict=True):
        if low >= high:
            raise schedule.error(
                f"{here}.low",
                f"low is not below high along {axis}, got {low:g} and {high:g}; give "
                f"{MEANING['workspace.low']}",
            )
    for index, joint in enumerate(workspace.joints):
        if not _AXIS_MIN <= max(map(abs, joint.axis)) <= 1 / _AXIS_MIN:
            raise schedule.error(
                f"{here}.joints[{index}].axis",
                f"not a direction, got {show(joint.axis)}; give {MEANING['workspace.axis']}",
            )


def _check_feedback(schedule: Schedule, key: str, feedback: str) -> None:
    sensor, dot, field = feedback.partition(".")
    if not (sensor and dot and field):
        raise schedule.error(key, f'not a field, got {feedback!r}; give "sensor.field"')
    if sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        raise schedule.error(key, f"no such sensor, got {feedback!r}; the schedule has: {known}")
