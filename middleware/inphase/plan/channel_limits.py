"""An actuator's limits channel by channel: the numbers that the limiter and the ramp keep."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from inphase.schedule import Actuator, channels

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
