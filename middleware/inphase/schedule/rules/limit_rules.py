"""The rules of an actuator's limits: those that each command mode needs, takes and refuses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from inphase.errors import ScheduleFault
from inphase.schedule import channels
from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import known_of
from inphase.schedule.tables import Numbers, Pairs, Schedule

_NUMBER_MAX = 1e15  # of any limit, in SI units: sums and ratios of such numbers are finite
_RAMP_S_MAX = 1.2  # a ramp must fit into the 2 s in which the runtime stops
_NUMBERS = ("velocity", "acceleration", "step", "jerk", "effort", "effort_rate")


@dataclass(frozen=True)
class _Keys:
    """The keys of a mode: those that it needs, and those that it takes."""

    needed: tuple[str, ...]
    taken: tuple[str, ...] = ()
    measured: tuple[tuple[str, str], ...] = ()
    """limits of what is measured, and the key that says where"""


_KEYS = {
    "position": _Keys(
        ("position", "velocity", "acceleration", "step"),
        ("jerk", "effort"),
        (("effort", "feedback_effort"),),
    ),
    "velocity": _Keys(
        ("velocity", "acceleration"), ("jerk", "position"), (("position", "feedback"),)
    ),
    "effort": _Keys(
        ("effort", "effort_rate"),
        ("velocity", "position"),
        (("position", "feedback"), ("velocity", "feedback_velocity")),
    ),
    "switch": _Keys(("dwell_ms",)),
}


def check(inspection: Inspection) -> None:
    """Apply them to the limits of every actuator."""
    for name in inspection.names("actuator"):
        inspection.apply(_check_keys, name)
        inspection.apply(_check_measured, name)
        inspection.apply(_check_feedback, name)
        inspection.apply(_check_workspace, name)
        inspection.apply(_check_position, name)
        inspection.apply(_check_numbers, name)
        inspection.apply(_check_channels, name)
        inspection.apply(_check_ramp, name)
        inspection.apply(_check_effort_ramp, name)


def _check_keys(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A mode has all limits that it needs, and none that it does not take."""
    actuator, here = schedule.actuator[name], f"actuator.{name}.limits"
    mode, keys = actuator.mode, _KEYS[actuator.mode]
    for key, value in known_of(actuator.limits).items():
        if value is None and key in keys.needed:
            yield schedule.fault(
                f"{here}.{key}",
                f"no limits, no motion: the key {key} is missing from [{here}] of a {mode} "
                f"mode; add {key} = {MEANING[key]}",
            )
        if value is not None and key not in keys.needed + keys.taken:
            takes = ", ".join(keys.needed + keys.taken)
            yield schedule.fault(
                f"{here}.{key}",
                f"{show(value)} is no limit of a {mode} mode; remove {key}, or use some of {takes}",
            )


def _check_measured(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A limit of a measured value needs the field that measures it."""
    actuator = schedule.actuator[name]
    known = known_of(actuator.limits)
    for key, source in _KEYS[actuator.mode].measured:
        if known.get(key) is not None and getattr(actuator, source) is None:
            yield schedule.fault(
                f"actuator.{name}.limits.{key}",
                f"{show(known[key])} limits a measured value, and the schedule names no field for "
                f"it; add {source} = {MEANING[source]} to [actuator.{name}], or remove {key}",
            )


def _check_feedback(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    for key in ("feedback_velocity", "feedback_effort"):
        if getattr(actuator, key) is not None and actuator.feedback is None:
            yield schedule.fault(
                f"actuator.{name}.{key}",
                f"{getattr(actuator, key)!r} needs a feedback beside it, and there is none; add "
                f"feedback = {MEANING['feedback']}, or remove {key}",
            )


def _check_workspace(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.workspace is not None and actuator.mode != "position":
        yield schedule.fault(
            f"actuator.{name}.workspace",
            f"a box bounds positions, and the mode is {actuator.mode}; remove it, or command "
            f"positions",
        )


def _check_position(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    value, key = schedule.actuator[name].limits.position, f"actuator.{name}.limits.position"
    if value is None:
        return
    found = list(check_pairs(schedule, key, value))
    yield from found
    if not found:
        bounds = channels.pairs(value, channels.count(value))
        yield from _check_size(schedule, key, [number for pair in bounds for number in pair])


def _check_numbers(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    for key, value in known_of(schedule.actuator[name].limits).items():
        if key in _NUMBERS and value is not None:
            where = f"actuator.{name}.limits.{key}"
            yield from check_positive(schedule, where, value)
            yield from _check_size(schedule, where, channels.numbers(value, channels.count(value)))


def check_pairs(schedule: Schedule, key: str, value: Pairs) -> Iterator[ScheduleFault]:
    """They are pairs, and low is below high in each."""
    if trouble := channels.pairs_trouble(value, channels.count(value)):
        yield schedule.fault(key, trouble)
        return
    for low, high in channels.pairs(value, channels.count(value)):
        if low >= high:
            yield schedule.fault(
                key, f"low is not below high, got [{low:g}, {high:g}]; give [lo, hi]"
            )


def check_positive(schedule: Schedule, key: str, value: Numbers) -> Iterator[ScheduleFault]:
    """Each is above 0."""
    numbers = channels.numbers(value, channels.count(value))
    if not numbers or min(numbers) <= 0:
        yield schedule.fault(key, f"not above 0, got {show(value)}; give positive numbers")


def _check_size(schedule: Schedule, key: str, numbers: list[float]) -> Iterator[ScheduleFault]:
    for number in numbers:
        if not abs(number) <= _NUMBER_MAX:
            yield schedule.fault(
                key,
                f"too large for a limit, got {number:g}; give the device's own, in SI units",
            )


def _check_channels(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """All lists have an entry per channel, so they are of one length."""
    counts = {
        key: len(value)
        for key, value in known_of(schedule.actuator[name].limits).items()
        if isinstance(value, list) and not (key == "position" and not isinstance(value[0], list))
    }
    if len(set(counts.values())) > 1:
        yield schedule.fault(
            f"actuator.{name}.limits",
            f"lists of unequal length, got {counts}; give one entry per channel in each",
        )


def _check_ramp(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """The longest ramp: the acceleration is built up, and ramped down within the jerk limit."""
    limits = schedule.actuator[name].limits
    if schedule.actuator[name].mode not in ("position", "velocity"):
        return
    assert limits.velocity is not None
    assert limits.acceleration is not None
    lists = (limits.velocity, limits.acceleration, limits.jerk or math.inf)
    count = max(map(channels.count, lists))
    velocity, acceleration, jerk = (channels.numbers(value, count) for value in lists)
    brake_s = max(fast / slow for fast, slow in zip(velocity, acceleration, strict=True))
    build_s = max(2 * a / j for a, j in zip(acceleration, jerk, strict=True))
    time_s = max(v / a + 2 * a / j for v, a, j in zip(velocity, acceleration, jerk, strict=True))
    if time_s <= _RAMP_S_MAX:
        return
    key, terms, remedy = "acceleration", "", "raise acceleration or lower velocity"
    if limits.jerk is not None:
        terms = f" + 2 * acceleration / jerk {show(limits.jerk)}"
    if build_s > brake_s:
        key, remedy = "jerk", "raise jerk or lower acceleration"
    yield schedule.fault(
        f"actuator.{name}.limits.{key}",
        f"a ramp from full velocity takes {time_s:.3g} s (velocity {show(limits.velocity)} / "
        f"acceleration {show(limits.acceleration)}{terms}), longer than {_RAMP_S_MAX} s; {remedy}",
    )


def _check_effort_ramp(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """The longest ramp: from one end of the range to the other."""
    limits = schedule.actuator[name].limits
    if schedule.actuator[name].mode != "effort":
        return
    assert limits.effort is not None
    assert limits.effort_rate is not None
    lists = (limits.effort, limits.effort_rate)
    count = max(map(channels.count, lists))
    effort, rate = (channels.numbers(value, count) for value in lists)
    time_s = max(2 * e / r for e, r in zip(effort, rate, strict=True))
    if time_s > _RAMP_S_MAX:
        yield schedule.fault(
            f"actuator.{name}.limits.effort_rate",
            f"a ramp from full effort may take {time_s:.3g} s (2 * effort {show(limits.effort)} / "
            f"effort_rate {show(limits.effort_rate)}), longer than {_RAMP_S_MAX} s; raise "
            f"effort_rate or lower effort",
        )
