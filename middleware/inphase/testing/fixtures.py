"""Fixtures for tests of controllers: a robot in lock step, closed at the test's end."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule
from inphase.schedule.import_by_name import resolve_call
from inphase.testing.fault_plan import Fault
from inphase.world.randomisation import KnobLike


class MakeLockStep:
    """Starts robots in lock step; `close` ends them all."""

    def __init__(self) -> None:
        self._opened: list[LockStep] = []

    def __call__(
        self,
        schedule: Path | str | Schedule,
        *,
        policy: PolicyCall | str | None = None,
        seed: int = 0,
        episode: int = 0,
        faults: Iterable[Fault] = (),
        randomise: Mapping[str, KnobLike] | None = None,
        raises: bool = True,
    ) -> LockStep:
        """Start one.

        schedule: a path, or one that was loaded. policy: a callable, or its name beside the
        schedule, instead of the schedule's; a class is made. faults: of the devices, see
        fault_plan. raises: an exception of the policy fails the test; False: it is a cycle without
        a command, as on the robot. Raises as LockStep.
        """
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        call: Any = resolve_call(policy, loaded.path.parent) if isinstance(policy, str) else policy
        robot = LockStep(
            loaded, seed=seed, call=call, episode=episode, randomise=randomise, raises=raises
        )
        self._opened.append(robot)
        for fault in faults:
            fault.plan(robot)
        return robot

    def close(self) -> None:
        """End them, the last one first."""
        for robot in reversed(self._opened):
            robot.close()


@pytest.fixture
def lockstep() -> Iterator[MakeLockStep]:
    """Robots in lock step: `lockstep("arm.toml", policy=..., seed=1, faults=[...])` starts one."""
    make = MakeLockStep()
    yield make
    make.close()
