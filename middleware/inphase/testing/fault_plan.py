"""Seeded plans of faults for lock step: which device does what wrong, and when.

    for fault in fault_plan(seed=7, schedule=schedule, cycles=2000):
        fault.plan(robot)

A plan follows from its arguments alone. It is quiet at first and at the end, so that a test can
also say what must be right.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from inphase.core.core import FAULTS
from inphase.episodes.lockstep import LockStep
from inphase.frames.record_layout import REASONS
from inphase.schedule import Schedule

KINDS = tuple(kind for kind in FAULTS if kind != "estop")
"""every kind of a device or of the host, see native/inphase.h; the last three are the host's"""
_HOSTS = ("wake", "clock_step", "suspended")
_DRAWN = KINDS[:-1]  # a machine is not suspended by chance
_QUIET_FIRST, _QUIET_LAST = 20, 80  # cycles


class Fault(NamedTuple):
    """A planned fault, from cycle `first` on for `cycles`."""

    kind: str
    """one of KINDS"""
    sensor: str
    """whose device it is; empty for the host's"""
    first: int
    cycles: int = 1
    argument: int = 0
    """delayed, wake, clock_step, suspended: ns; invalid: number of a reason; nan: channel;
    wrong: what is added to every channel"""

    def is_at(self, cycle: int) -> bool:
        """True if it is there in a cycle."""
        return self.first <= cycle < self.first + self.cycles

    def plan(self, robot: LockStep) -> None:
        """Give it to a robot in lock step. Raises ValueError for one that cannot be."""
        names = [sensor.name for sensor in robot.plan.sensors]
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are: {', '.join(KINDS)}")
        if self.kind in _HOSTS:
            index = 0
        elif self.sensor in names:
            index = names.index(self.sensor)
        else:
            raise ValueError(f"no sensor {self.sensor!r}; there are: {', '.join(names)}")
        robot.core.fault(self.kind, index, self.first, self.cycles, self.argument)


def fault_plan(
    seed: int,
    schedule: Schedule,
    *,
    cycles: int = 400,
    kinds: Sequence[str] = _DRAWN,
) -> list[Fault]:
    """Draw 4 to 23 faults of these kinds over a schedule's sensors, within so many cycles."""
    assert cycles > _QUIET_FIRST + _QUIET_LAST, f"at least 101 cycles, got {cycles}"
    draw = random.Random(seed)
    names = list(schedule.sensor)
    plan = [
        Fault(
            kind := draw.choice(kinds),
            names[draw.randrange(len(names))],
            draw.randrange(_QUIET_FIRST, cycles - _QUIET_LAST),
            draw.choice([1, 1, 2, 3, draw.randrange(1, 25)]) if kind != "wake" else 1,
            _argument(draw, kind, schedule.cycle.period_ns),
        )
        for _ in range(draw.randrange(4, 24))
    ]
    return [fault._replace(sensor="") if fault.kind in _HOSTS else fault for fault in plan]


def _argument(draw: random.Random, kind: str, period_ns: int) -> int:
    """Small and large ones of each kind; every kind is drawn, so that none moves the others."""
    arguments: dict[str, list[int]] = {
        "delayed": [draw.randrange(period_ns // 2), draw.randrange(6 * period_ns)],
        "invalid": [draw.randrange(1, len(REASONS))],
        "nan": [0, 1, 5],
        "wrong": [1, 1000, -1000],
        "wake": [
            draw.randrange(period_ns),
            draw.randrange(9 * period_ns // 2),
            draw.randrange(75 * period_ns),
        ],
        "clock_step": [draw.randrange(-3_000_000, 3_000_000), 3_600_000_000_000],
    }
    return draw.choice(arguments.get(kind, [0]))
