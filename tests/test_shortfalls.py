"""A run that did not do its job says so, and does not end with exit code 0."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.frames.frame import Frame
from inphase.runtime.summary import exit_code
from inphase.testing import Fault
from peers import BOUND_S
from robots import demo_schedule
from worlds import MODEL, Swing, world_schedule

CYCLES = 700  # of 2 ms


def here(frame: Frame) -> Any:
    """Stay where the robot is."""
    return frame["joints"].value["position"]


def wrong_shape(frame: Frame) -> Any:
    return [0.0] * 5


def nothing(frame: Frame) -> Any:
    return None


def elsewhere(frame: Frame) -> Any:
    return here(frame) + 1.0


def broken(frame: Frame) -> Any:
    raise RuntimeError("broken")


def then(policy: Callable[[Frame], Any], cycle: int) -> Callable[[Frame], Any]:
    """Good up to a cycle, and another policy from there on."""
    return lambda frame: here(frame) if frame.cycle < cycle else policy(frame)


def until(policy: Callable[[Frame], Any], cycle: int) -> Callable[[Frame], Any]:
    """Another policy up to a cycle, and good from there on."""
    return lambda frame: policy(frame) if frame.cycle < cycle else here(frame)


def shortfalls(result: dict[str, Any]) -> list[str]:
    """What the run did not do, without the remarks on its policy."""
    return [text for text in result["events"] if not text.startswith("policy ")]


def run(tmp_path: Path, policy: Callable[[Frame], Any], *faults: Fault) -> dict[str, Any]:
    with LockStep(load(demo_schedule(tmp_path)), call=policy, digest=True) as robot:
        for fault in faults:
            fault.plan(robot)
        robot.run(CYCLES)
        return sum_up(robot)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [(wrong_shape, "shape"), (nothing, "silent"), (elsewhere, "start"), (broken, "raised")],
)
def test_a_policy_of_which_no_command_is_accepted_is_told_with_its_reason(
    tmp_path: Path, policy: Callable[[Frame], Any], reason: str
) -> None:
    result = run(tmp_path, policy)
    (told,) = shortfalls(result)
    assert told.startswith(
        f"the policy gave no acceptable command for the last 1.4 s; cycles of the run without one: "
        f"{reason} {CYCLES} ("
    )
    assert (exit_code(result), result["policy"]["unanswered"]) == (7, CYCLES)


def test_a_policy_that_fails_for_the_rest_of_a_run_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, then(broken, CYCLES - 500))
    (told,) = shortfalls(result)
    assert told.startswith("the policy gave no acceptable command for the last 1.0 s; ")
    assert " raised 500 (" in told
    assert (exit_code(result), result["policy"]["unanswered"]) == (7, 500)


def test_all_reasons_of_a_run_are_told_since_the_last_ones_are_not_counted(tmp_path: Path) -> None:
    def odd(frame: Frame) -> Any:
        return wrong_shape(frame) if frame.cycle < CYCLES - 200 else broken(frame)

    (told,) = shortfalls(run(tmp_path, odd))
    assert told.index(" shape 500 (") < told.index(" raised 200 (")


@pytest.mark.parametrize("policy", [then(broken, CYCLES - 499), until(broken, 600)])
def test_a_gap_of_less_than_a_second_or_one_that_ended_is_no_failure(
    tmp_path: Path, policy: Callable[[Frame], Any]
) -> None:
    result = run(tmp_path, policy)
    assert (shortfalls(result), exit_code(result)) == ([], 0)


def test_a_sensor_that_was_never_fresh_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, here, Fault("silent", "wrench", 0, CYCLES))
    (told,) = shortfalls(result)
    assert told.startswith("sensor wrench was never FRESH (")
    assert "`inphase probe SCHEDULE wrench`" in told
    assert exit_code(result) == 3


def test_one_fresh_sample_is_enough(tmp_path: Path) -> None:
    result = run(tmp_path, here, Fault("silent", "wrench", 1, CYCLES))
    assert (result["sensors"]["wrench"]["status"]["FRESH"], exit_code(result)) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "status", "is_of_time"),
    [
        (Fault("nan", "wrench", 10, 200), "INVALID", False),
        (Fault("silent", "wrench", 10, 200), "MISSING", True),
    ],
)
def test_a_verdict_says_how_long_samples_take_where_they_come_too_late(
    tmp_path: Path, fault: Fault, status: str, is_of_time: bool
) -> None:
    result = run(tmp_path, here, fault)
    (told,) = [text for text in result["verdict"] if text.startswith("sensor wrench was FRESH")]
    assert f"{status} " in told and f"`inphase explain {status}`" in told
    assert ("from its trigger" in told) == is_of_time


# ---- joints that do not follow -------------------------------------------------------------------

JAMMED = MODEL.replace('damping="0.4" armature="0.01"', 'damping="0.4" armature="1e6"')


def of_world(tmp_path: Path, policy: Callable[[Frame], Any], model: str) -> dict[str, Any]:
    pytest.importorskip("mujoco", reason="a world needs the package mujoco (extra sim)")
    with LockStep(world_schedule(tmp_path, model=model), call=policy, digest=True) as robot:
        robot.run(2 * CYCLES)
        return sum_up(robot)


def test_a_joint_that_never_follows_is_told(tmp_path: Path) -> None:
    result = of_world(tmp_path, Swing(), JAMMED)
    (told,) = result["events"]
    assert told.startswith("limb[0] never followed: it was commanded over 0.402 and measured ")
    assert "torque" in told and exit_code(result) == 3
    assert result["actuators"]["limb"]["never_followed"] == [0]


@pytest.mark.parametrize(
    "policy",
    [lambda frame: [0.4, -0.9], lambda frame: [0.4 + 0.0002 * min(frame.cycle, 600), -0.9]],
    ids=["holds", "moves a little"],
)
def test_a_jammed_joint_that_is_not_commanded_far_is_not_judged(
    tmp_path: Path, policy: Callable[[Frame], Any]
) -> None:
    result = of_world(tmp_path, policy, JAMMED)
    assert (result["events"], exit_code(result)) == ([], 0)


def test_a_command_that_came_a_moment_ago_is_not_judged(tmp_path: Path) -> None:
    result = of_world(
        tmp_path, lambda frame: [0.4 + 0.002 * max(0, frame.cycle - 1000), -0.9], JAMMED
    )
    assert result["actuators"]["limb"]["commanded"][0] > 0.4
    assert (result["events"], exit_code(result)) == ([], 0)


def test_joints_that_move_and_one_that_then_meets_a_wall_follow(tmp_path: Path) -> None:
    wall = MODEL.replace('armature="0.01" range="-3 3"', 'armature="0.01" range="-3 0.5"', 1)
    for model in (MODEL, wall):
        result = of_world(tmp_path, Swing(), model)
        assert (result["events"], exit_code(result)) == ([], 0)


@pytest.mark.real
@pytest.mark.parametrize("where", [["--lockstep"], []])
def test_the_command_says_it_and_ends_with_its_code(tmp_path: Path, where: list[str]) -> None:
    path = demo_schedule(tmp_path, emulator=True, policy="wrong.py:policy")
    (tmp_path / "wrong.py").write_text("def policy(frame):\n    return [0.0] * 5\n")
    command = [sys.executable, "-m", "inphase", "run", str(path), "--cycles", "300", "--json"]
    done = subprocess.run(
        [*command, *where], capture_output=True, text=True, timeout=3 * BOUND_S, check=False
    )
    assert done.returncode == 7, done.stderr
    told = [line for line in json.loads(done.stdout)["events"] if "no acceptable command" in line]
    assert len(told) == 1
    assert where or told[0] in done.stderr
