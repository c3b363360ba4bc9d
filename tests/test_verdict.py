"""The verdict on a run is never better than the run."""

from pathlib import Path
from typing import Any

import pytest

import inphase
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.runtime.words import verdict
from robots import demo_schedule

Made = tuple[Plan, dict[str, Any]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A plan, and the summary of a run of it."""
    schedule = inphase.load(demo_schedule(tmp_path))
    with LockStep(schedule) as robot:
        robot.run(50)
        return planning.make(schedule), sum_up(robot)


def test_all_is_all(made: Made) -> None:
    plan, result = made
    (text,) = verdict.of(plan, result, [])
    assert text.startswith("good: all 50 cycles ran; 100 % of the commands were in time; ")
    assert text.endswith("every sensor was FRESH in each frame")


def test_one_in_a_million_is_not_all(made: Made) -> None:
    plan, result = made
    result["policy"]["commands"], result["policy"]["missed"] = 999_999, 1
    result["sensors"]["joints"]["status"] = {"FRESH": 999_999, "LATE": 1}
    (text,) = verdict.of(plan, result, [])
    assert "99.99 % of the commands were in time" in text
    assert text.endswith("FRESH in at least 99.99 % of its frames")
