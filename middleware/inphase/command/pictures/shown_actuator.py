"""The facts about an actuator that a picture of it wants."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inphase.plan.channel_limits import ChannelLimits, of_actuator
from inphase.plan.plan import Plan
from inphase.schedule import Actuator

_UNKNOWN = ChannelLimits(low=-math.inf, high=math.inf)


@dataclass(frozen=True)
class ShownActuator:
    """One actuator."""

    name: str
    unit: str
    channels: int
    feedback: tuple[str, ...]
    """fields that measure it, as `sensor.field`, the one that motion goes by first"""
    limits: list[ChannelLimits]
    """by channel; without bounds where they are not known"""


def of_plan(plan: Plan) -> list[ShownActuator]:
    """Of a robot that this process runs."""
    return [
        ShownActuator(
            one.name, one.spec.unit, one.spec.channels, _feedback(one.schedule), one.limits
        )
        for one in plan.actuators
    ]


def of_description(description: Mapping[str, Any]) -> list[ShownActuator]:
    """Of a robot that somebody else runs. A schedule of another version leaves its limits out."""
    return [*_described(description)]


def _described(description: Mapping[str, Any]) -> Iterator[ShownActuator]:
    tables: Any
    try:
        tables = tomllib.loads(description["schedule"])["actuator"]
    except Exception:  # it came from another process: any part may be anything
        tables = {}
    for one in description["actuators"]:
        channels = int(one["channels"])
        feedback: tuple[str, ...] = ()
        limits = [_UNKNOWN] * channels
        try:
            actuator = msgspec.convert(tables[one["name"]], Actuator)
            limits = of_actuator(actuator, [0.0] * channels)
            feedback = _feedback(actuator)
        except Exception:  # as above
            pass
        yield ShownActuator(one["name"], one["unit"], channels, feedback, limits)


def _feedback(actuator: Actuator) -> tuple[str, ...]:
    named = (actuator.feedback, actuator.feedback_velocity, actuator.feedback_effort)
    return tuple(name for name in named if name is not None)
