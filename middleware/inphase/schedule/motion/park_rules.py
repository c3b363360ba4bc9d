"""The rules of an actuator's path at the end of a run."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule import channels
from inphase.schedule.document import show
from inphase.schedule.inspection import Inspection
from inphase.schedule.motion import park_times
from inphase.schedule.rules.limit_rules import check_positive
from inphase.schedule.tables import Schedule

_LONGEST_S = 60.0


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    for rule in (_check_mode, _check_points, _check_velocity, _check_time):
        inspection.each("actuator", rule)


def _check_mode(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.park is not None and actuator.mode != "position":
        yield schedule.fault(
            f"actuator.{name}.park",
            f"a path is of positions, and the mode is {actuator.mode}; remove it, or command "
            f"positions",
        )


def _check_points(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """Each point has a position per channel, within its range."""
    actuator = schedule.actuator[name]
    if actuator.park is None or actuator.mode != "position":
        return
    key, path = f"actuator.{name}.park.path", actuator.park.path
    given = actuator.limits.position
    assert given is not None
    count = len(path[0])
    if any(len(point) != count for point in path) or channels.pairs_trouble(given, count):
        counts = [len(point) for point in path]
        yield schedule.fault(
            key, f"points of {counts} positions; give each a position per channel of the limits"
        )
        return
    pairs = channels.pairs(given, count)
    for index, point in enumerate(path):
        for at, (low, high) in zip(point, pairs, strict=True):
            if not low <= at <= high:
                yield schedule.fault(
                    f"{key}[{index}]",
                    f"{at:g} is outside of the joint's range of {low:g} to {high:g}; give a "
                    f"position within, or widen actuator.{name}.limits.position",
                )


def _check_velocity(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """It is above 0, and at most that of the limits."""
    actuator = schedule.actuator[name]
    if actuator.park is None or actuator.park.velocity is None or actuator.mode != "position":
        return
    key, given, count = f"actuator.{name}.park.velocity", actuator.park.velocity, 0
    count = len(actuator.park.path[0])
    if trouble := channels.numbers_trouble(given, count):
        yield schedule.fault(key, trouble)
        return
    found = list(check_positive(schedule, key, given))
    yield from found
    most = actuator.limits.velocity
    assert most is not None
    if found or channels.numbers_trouble(most, count):
        return
    pairs = zip(channels.numbers(given, count), channels.numbers(most, count), strict=True)
    if any(one > limit for one, limit in pairs):
        yield schedule.fault(
            key, f"{show(given)} is more than the limit of {show(most)}; give at most that"
        )


def _check_time(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """A stop has a bounded time."""
    actuator = schedule.actuator[name]
    if actuator.park is None or actuator.mode != "position":
        return
    if list(_check_points(schedule, name)) or list(_check_velocity(schedule, name)):
        return
    velocity = park_times.velocities(actuator, actuator.park)
    period_ns = schedule.cycle.period_ns
    time_s = park_times.longest_ns(actuator, actuator.park, velocity, period_ns) / 1e9
    if time_s > _LONGEST_S:
        yield schedule.fault(
            f"actuator.{name}.park",
            f"its path may take {time_s:.3g} s from where the joints are, more than "
            f"{_LONGEST_S:g} s; give a larger velocity, or fewer points",
        )
