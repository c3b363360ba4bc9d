"""An actuator's limits channel by channel: the numbers that the limiter and the ramp keep, beside
those that its open device takes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inphase.driver import ActuatorSpec, SensorSpec
from inphase.errors import ScheduleFault
from inphase.plan import channel_signs
from inphase.plan.declarations import Declarations
from inphase.schedule import Actuator, Schedule, Sensor, channels

MODES = ("position", "velocity", "effort", "switch")
"""In the order of INPHASE_MODE_*."""


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

    def first_step(self, period_s: float) -> float:
        """Distance of a first command from the place of its joint, from zero velocity or from the
        safe effort, from which on it is too far away."""
        match MODES[self.mode]:
            case "position":
                return self.velocity * period_s
            case "velocity":
                return self.acceleration * period_s
            case "effort":
                return self.rate * period_s
            case _:
                return 1.0


def of_actuator(actuator: Actuator, safe: Sequence[float]) -> list[ChannelLimits]:
    """The limits of an actuator; safe: per channel, where a ramp ends in effort and switch mode."""
    limits, count = actuator.limits, len(safe)

    def numbers(key: str, absent: float) -> list[float]:
        value = getattr(limits, key)
        return channels.numbers(absent if value is None else value, count)

    pairs = [(-math.inf, math.inf)] * count
    if limits.position is not None:
        pairs = channels.pairs(limits.position, count)
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
    dwell_s, number = (limits.dwell_ms or 0.0) / 1e3, MODES.index(actuator.mode)
    return [
        ChannelLimits(low, high, v, a, step, jerk, effort, rate, at, dwell_s, number)
        for (low, high), (v, a, step, jerk, effort, rate, at) in zip(pairs, columns, strict=True)
    ]


def check_bounds(schedule: Schedule, declared: Declarations, name: str) -> Iterator[ScheduleFault]:
    """Limits are within the device's own: beyond these it would drop commands silently."""
    actuator, spec = schedule.actuator[name], declared.actuators[name]
    turned = channel_signs.of_actuator(
        actuator, spec.channels, feedback_sensor(schedule, declared, name)
    )
    found = of_actuator(actuator, (0.0,) * spec.channels)
    for channel, (one, bound) in enumerate(zip(found, spec.bounds, strict=False)):
        sign, zero = turned[channel]
        low, high = sorted((sign * bound.low - zero, sign * bound.high - zero))
        if low <= one.range[0] and one.range[1] <= high:
            continue
        yield schedule.fault(
            f"actuator.{name}.limits.{actuator.mode}",
            f"{one.range[0]:g} to {one.range[1]:g} {spec.unit} on channel {channel} is beyond what "
            f"the device takes, {low:.4g} to {high:.4g} ({bound.where}); it would drop the "
            f"commands beyond. Give limits within these, or set the device",
        )
        return
    yield from _check_rates(schedule, name, spec, found)


def feedback_sensor(
    schedule: Schedule, declared: Declarations, name: str
) -> tuple[Sensor, SensorSpec] | None:
    """The sensor that measures an actuator; None: it moves blind."""
    feedback = schedule.actuator[name].feedback
    if feedback is None:
        return None
    sensor = feedback.partition(".")[0]
    return schedule.sensor[sensor], declared.sensors[sensor]


def _check_rates(
    schedule: Schedule, name: str, spec: ActuatorSpec, found: Sequence[ChannelLimits]
) -> Iterator[ScheduleFault]:
    """And their changes are: beyond these it would end the motion."""
    for key, unit in (("velocity", "/s"), ("acceleration", "/s^2"), ("jerk", "/s^3")):
        for channel, (one, bound) in enumerate(zip(found, spec.bounds, strict=False)):
            most, asked = getattr(bound, key), getattr(one, key) or math.inf
            if schedule.actuator[name].mode != "position" or asked <= most:
                continue
            given = "no bound" if math.isinf(asked) else f"{asked:g} {spec.unit}{unit}"
            yield schedule.fault(
                f"actuator.{name}.limits.{key}",
                f"{given} on channel {channel} is beyond what the device takes, {most:g} "
                f"({bound.where}); it would end the motion. Give {most:g} or less",
            )
            return
