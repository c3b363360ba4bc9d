"""The rules of an actuator's limits: what each command mode needs, takes and refuses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.tables import Actuator, Limits, Numbers, Pairs, Schedule

MODES = ("position", "velocity", "effort", "switch")
"""In the order of INPHASE_MODE_*."""
_NUMBER_MAX = 1e15  # of any limit, in SI units: sums and ratios of such numbers are finite
_RAMP_S_MAX = 1.2  # a ramp must fit into the 2 s in which the runtime stops


class ChannelLimits(NamedTuple):
    """One channel's limits, as in struct inphase_limits."""

    low: float = -math.inf
    high: float = math.inf
    velocity: float = math.inf
    acceleration: float = 0.0
    step: float = 0.0
    jerk: float = 0.0
    effort: float = 0.0
    rate: float = 0.0
    safe: float = 0.0
    dwell_s: float = 0.0
    mode: int = 0

    @property
    def range(self) -> tuple[float, float]:
        """Between which its commands are."""
        match MODES[self.mode]:
            case "position":
                return self.low, self.high
            case "velocity":
                return -self.velocity, self.velocity
            case "effort":
                return -self.effort, self.effort
            case _:
                return 0.0, 1.0


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


def check(schedule: Schedule, name: str) -> None:
    """Raise ScheduleError for the first thing about an actuator's limits that does not fit."""
    actuator, here = schedule.actuator[name], f"actuator.{name}"
    limits = actuator.limits
    _check_keys(schedule, here, actuator)
    if limits.position is not None:
        check_pairs(schedule, f"{here}.limits.position", limits.position)
        pairs = schedule.pairs(here, limits.position, _channels(limits.position))
        _check_size(schedule, f"{here}.limits.position", [n for pair in pairs for n in pair])
    for key in ("velocity", "acceleration", "step", "jerk", "effort", "effort_rate"):
        if getattr(limits, key) is not None:
            value = getattr(limits, key)
            check_positive(schedule, f"{here}.limits.{key}", value)
            numbers = value if isinstance(value, list) else [value]
            _check_size(schedule, f"{here}.limits.{key}", numbers)
    _check_channels(schedule, f"{here}.limits", limits)
    if actuator.mode in ("position", "velocity"):
        _check_ramp(schedule, f"{here}.limits", limits)
    if actuator.mode == "effort":
        _check_effort_ramp(schedule, f"{here}.limits", limits)


def _check_keys(schedule: Schedule, here: str, actuator: Actuator) -> None:
    keys, mode = _KEYS[actuator.mode], actuator.mode
    given = [
        key for key, value in msgspec.structs.asdict(actuator.limits).items() if value is not None
    ]
    for key in keys.needed:
        if key not in given:
            raise schedule.error(
                f"{here}.limits.{key}",
                f"no limits, no motion: the key {key} is missing from [{here}.limits] of a {mode} "
                f"mode; add {key} = {MEANING[key]}",
            )
    for key in given:
        if key not in keys.needed + keys.taken:
            takes = ", ".join(keys.needed + keys.taken)
            raise schedule.error(
                f"{here}.limits.{key}",
                f"{show(getattr(actuator.limits, key))} is no limit of a {mode} mode; remove "
                f"{key}, or use some of {takes}",
            )
    for key, source in keys.measured:
        if key in given and getattr(actuator, source) is None:
            raise schedule.error(
                f"{here}.limits.{key}",
                f"{show(getattr(actuator.limits, key))} limits a measured value, and the "
                f"schedule names no field for it; add {source} = {MEANING[source]} to [{here}]",
            )
    for key in ("feedback_velocity", "feedback_effort"):
        if getattr(actuator, key) is not None and actuator.feedback is None:
            raise schedule.error(
                f"{here}.{key}",
                f"{getattr(actuator, key)!r} needs a feedback beside it, and there is none; add "
                f"feedback = {MEANING['feedback']}, or remove {key}",
            )
    if actuator.workspace is not None and mode != "position":
        raise schedule.error(
            f"{here}.workspace",
            f"a box bounds positions, and the mode is {mode}; remove it, or command positions",
        )


def check_pairs(schedule: Schedule, key: str, value: Pairs) -> None:
    """Low is below high in each."""
    for low, high in schedule.pairs(key, value, _channels(value)):
        if low >= high:
            raise schedule.error(
                key, f"low is not below high, got [{low:g}, {high:g}]; give [lo, hi]"
            )


def check_positive(schedule: Schedule, key: str, value: Numbers) -> None:
    """Each is above 0."""
    numbers = schedule.numbers(key, value, _channels(value))
    if not numbers or min(numbers) <= 0:
        raise schedule.error(key, f"not above 0, got {show(value)}; give positive numbers")


def _check_size(schedule: Schedule, key: str, numbers: Sequence[float]) -> None:
    for number in numbers:
        if not abs(number) <= _NUMBER_MAX:
            raise schedule.error(
                key,
                f"too large for a limit, got {number:g}; give the device's own, in SI units",
            )


def _check_channels(schedule: Schedule, here: str, limits: Limits) -> None:
    counts = {
        key: len(value)
        for key, value in msgspec.to_builtins(limits).items()
        if isinstance(value, list) and not (key == "position" and not isinstance(value[0], list))
    }
    if len(set(counts.values())) > 1:
        raise schedule.error(
            here, f"lists of unequal length, got {counts}; give one entry per channel in each"
        )


def _check_ramp(schedule: Schedule, here: str, limits: Limits) -> None:
    """The longest ramp, with the acceleration built up, let go of, and let go of before that."""
    assert limits.velocity is not None
    assert limits.acceleration is not None
    channels = max(map(_channels, (limits.velocity, limits.acceleration, limits.jerk or 0.0)))
    velocity = schedule.numbers(f"{here}.velocity", limits.velocity, channels)
    acceleration = schedule.numbers(f"{here}.acceleration", limits.acceleration, channels)
    brake_s = max(fast / slow for fast, slow in zip(velocity, acceleration, strict=True))
    jerk = schedule.numbers(f"{here}.jerk", limits.jerk or math.inf, channels)
    build_s = max(2 * a / j for a, j in zip(acceleration, jerk, strict=True))
    time_s = max(v / a + 2 * a / j for v, a, j in zip(velocity, acceleration, jerk, strict=True))
    if time_s <= _RAMP_S_MAX:
        return
    key, terms, remedy = "acceleration", "", "raise acceleration or lower velocity"
    if limits.jerk is not None:
        terms = f" + 2 * acceleration / jerk {show(limits.jerk)}"
    if build_s > brake_s:
        key, remedy = "jerk", "raise jerk or lower acceleration"
    raise schedule.error(
        f"{here}.{key}",
        f"a ramp from full velocity takes {time_s:.3g} s (velocity {show(limits.velocity)} / "
        f"acceleration {show(limits.acceleration)}{terms}), longer than {_RAMP_S_MAX} s; {remedy}",
    )


def _check_effort_ramp(schedule: Schedule, here: str, limits: Limits) -> None:
    """The longest ramp: from one end of the range to the other."""
    assert limits.effort is not None
    assert limits.effort_rate is not None
    channels = max(map(_channels, (limits.effort, limits.effort_rate)))
    effort = schedule.numbers(f"{here}.effort", limits.effort, channels)
    rate = schedule.numbers(f"{here}.effort_rate", limits.effort_rate, channels)
    time_s = max(2 * e / r for e, r in zip(effort, rate, strict=True))
    if time_s > _RAMP_S_MAX:
        raise schedule.error(
            f"{here}.effort_rate",
            f"a ramp from full effort may take {time_s:.3g} s (2 * effort {show(limits.effort)} / "
            f"effort_rate {show(limits.effort_rate)}), longer than {_RAMP_S_MAX} s; raise "
            f"effort_rate or lower effort",
        )


def of_channels(schedule: Schedule, name: str, safe: list[float]) -> list[ChannelLimits]:
    """Checked limits by channel; safe: where a ramp ends in effort and switch mode.

    Raises ScheduleError.
    """
    actuator, here = schedule.actuator[name], f"actuator.{name}.limits"
    limits, mode, channels = actuator.limits, actuator.mode, len(safe)

    def numbers(key: str, absent: float) -> list[float]:
        value = getattr(limits, key)
        return schedule.numbers(f"{here}.{key}", absent if value is None else value, channels)

    pairs = [(-math.inf, math.inf)] * channels
    if limits.position is not None:
        pairs = schedule.pairs(f"{here}.position", limits.position, channels)
    columns = zip(
        numbers("velocity", math.inf),
        numbers("acceleration", 0.0),
        numbers("step", 0.0),
        numbers("jerk", 0.0),
        numbers("effort", 0.0),
        numbers("effort_rate", 0.0),
        safe,
        strict=True,
    )
    dwell_s, number = (limits.dwell_ms or 0.0) / 1e3, MODES.index(mode)
    found = [
        ChannelLimits(low, high, v, a, step, jerk, effort, rate, at, dwell_s, number)
        for (low, high), (v, a, step, jerk, effort, rate, at) in zip(pairs, columns, strict=True)
    ]
    for channel, one in enumerate(found):
        if mode == "effort" and abs(one.safe) > one.effort:
            raise schedule.error(
                f"{here}.effort",
                f"{one.effort:g} is less than the {one.safe:g} at which a ramp of the driver's "
                f"channel {channel} ends; give more",
            )
    return found


def check_device(
    schedule: Schedule, name: str, limits: list[ChannelLimits], largest: tuple[float, ...]
) -> None:
    """Refuse limits beyond what the device itself takes: it would drop the commands, unsaid."""
    mode = schedule.actuator[name].mode
    for channel, (one, most) in enumerate(zip(limits, largest, strict=False)):
        if mode in ("velocity", "effort") and one.range[1] > most:
            raise schedule.error(
                f"actuator.{name}.limits.{mode}",
                f"{one.range[1]:g} is more than the {most:g} that channel {channel} of the device "
                f"is set to take, which refuses the commands beyond; give less, or set the device",
            )


def _channels(value: Numbers | Pairs) -> int:
    return len(value) if isinstance(value, list) else 1
