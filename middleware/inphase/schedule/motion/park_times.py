"""The length of a park, and of the longest stop of a robot. native/src/park.c makes the ways."""

import math
from collections.abc import Iterator, Sequence

from inphase.schedule import channels
from inphase.schedule.motion.park import Park
from inphase.schedule.tables import Actuator, Schedule

RAMP_NS = 1_300_000_000
"""STOP_NS of native/src/state.h: a ramp to measured rest takes no longer"""
_LONGEST_NS = 120_000_000_000  # INPHASE_PARK_LONGEST_NS: then it holds on the way
_SHARE = 0.9  # of the limits that a way uses, as in park.c
_SLOWER = 1.05  # a way that jerk bounds is found in such steps there
_CYCLES = 10  # per way: to come to rest and to begin
_REPEATED = 1.25  # ways that a lost write begins anew
_OF_LIMITS = 0.25  # velocity on the way, where the schedule gives none


def velocities(actuator: Actuator, park: Park, share: float = 1.0) -> list[float]:
    """Largest velocity per channel on the way, in rad/s or m/s. share: of the limits', that a run
    is allowed."""
    count = len(park.path[0])
    limits = channels.numbers(actuator.limits.velocity or 0.0, count)
    wanted = [_OF_LIMITS * one for one in limits]
    if park.velocity is not None:
        wanted = channels.numbers(park.velocity, count)
    return [min(one, share * most) for one, most in zip(wanted, limits, strict=True)]


def longest_ns(actuator: Actuator, park: Park, velocity: Sequence[float], period_ns: int) -> int:
    """From the stop to the end of the path, wherever in their range the joints were. velocity: the
    largest on the way, per channel."""
    ways_s = sum(_way_s(actuator, velocity, way) for way in _ways(actuator, park))
    ramp_s = RAMP_NS / 1e9
    cycles_s = _CYCLES * len(park.path) * period_ns / 1e9
    return min(round((ramp_s + _REPEATED * ways_s + cycles_s) * 1e9), _LONGEST_NS)


def longest_stop_ns(schedule: Schedule, share: float = 1.0) -> int:
    """From the request to stop to the end of the last cycle, at most. share: see `velocities`."""
    period_ns = schedule.cycle.period_ns
    parks = [
        longest_ns(one, one.park, velocities(one, one.park, share), period_ns)
        for one in schedule.actuator.values()
        if one.park is not None
    ]
    return RAMP_NS + max(parks, default=0)


def _ways(actuator: Actuator, park: Park) -> Iterator[list[float]]:
    """How far each joint goes on each way; on the first from the far end of its range."""
    first, count = park.path[0], len(park.path[0])
    pairs = channels.pairs(actuator.limits.position or [0.0, 0.0], count)
    yield [max(at - low, high - at) for at, (low, high) in zip(first, pairs, strict=True)]
    for here, there in zip(park.path, park.path[1:], strict=False):
        yield [abs(b - a) for a, b in zip(here, there, strict=True)]


def _way_s(actuator: Actuator, velocities: Sequence[float], way: list[float]) -> float:
    """The quintic's largest velocity is 15/8 of the mean, its acceleration 10 / sqrt(3), its jerk
    60, each by the distance and a power of the time."""
    limits, count, longest = actuator.limits, len(way), 0.0
    columns = zip(
        way,
        velocities,
        channels.numbers(limits.acceleration or math.inf, count),
        channels.numbers(limits.jerk or math.inf, count),
        strict=True,
    )
    for distance, velocity, acceleration, jerk in columns:
        far = distance / _SHARE
        jerk_s = _SLOWER * (60 * far / jerk) ** (1 / 3)
        longest = max(
            longest, 1.875 * far / velocity, math.sqrt(5.7736 * far / acceleration), jerk_s
        )
    return longest
