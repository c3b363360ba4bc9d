"""Trained in the environment, run from the schedule: one rule for the first command."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.frame import Frame
from inphase.gym import ID
from inphase.runtime.summary import exit_code
from peers import BOUND_S
from robots import demo_schedule

CYCLES = 700  # of 2 ms
FAR = np.array([0.3, -0.2, 0.25, 0.3, -0.3, 0.2])

Write = Callable[[str | None], Path]
Row = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """The demo schedule with a value of `first_command`."""

    def make(value: str | None) -> Path:
        path = demo_schedule(tmp_path)
        text = path.read_text()
        assert text.count('feedback = "joints.position"\n') == 1
        key = "" if value is None else f'first_command = "{value}"\n'
        path.write_text(text.replace("[actuator.arm.limits]", f"{key}[actuator.arm.limits]", 1))
        return path

    return make


def law(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """A policy that the robot moves: it begins far away, as a network does."""
    wanted: NDArray[np.float64] = FAR + 0.05 * np.sin(3 * position[::-1])
    return wanted


def of_run(path: Path, cycles: int) -> tuple[list[Row], dict[str, Any]]:
    """Positions and applied commands of a run, from the first sample on."""
    rows: list[Row] = []

    def policy(frame: Frame) -> Any:
        sample = frame["joints"]
        if sample.sequence < 0:
            return None
        position = sample.value["position"].copy()
        rows.append((position, frame.command["arm"].applied.copy()))
        return law(position)

    with LockStep(schedules.load(path), call=policy, seed=1, digest=True) as robot:
        robot.run(cycles)
        return rows, sum_up(robot)


def of_environment(path: Path, steps: int) -> list[Row]:
    """The same of an environment."""
    env = gymnasium.make(ID, schedule=path, observe=["joints.position"]).unwrapped
    observed: Any
    observed, info = env.reset(seed=1)
    rows = [(observed["joints"]["position"], info["applied"])]
    for _ in range(steps):
        observed, _, _, _, info = env.step(law(rows[-1][0]))
        rows.append((observed["joints"]["position"], info["applied"]))
    env.close()
    return rows


def test_an_environment_and_a_run_approach_with_the_same_trajectory(write: Write) -> None:
    path = write("approach")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learnt = of_environment(path, CYCLES - 2)
    ran, result = of_run(path, CYCLES)
    assert (result["policy"]["invalid"], result["events"], exit_code(result)) == (0, [], 0)
    assert len(ran) >= CYCLES - 1
    assert np.abs(ran[-1][0] - law(ran[-1][0])).max() < 0.02, "it arrived"
    for cycle, (left, right) in enumerate(zip(learnt, ran, strict=False)):
        assert left[0].tobytes() == right[0].tobytes(), f"position {cycle}"
        assert np.array_equal(left[1], right[1], equal_nan=True), f"applied {cycle}"


def test_an_environment_and_a_run_refuse_alike(write: Write) -> None:
    path = write("refuse")
    _, result = of_run(path, CYCLES)
    assert set(result["policy"]["reasons"]) == {"start"} and exit_code(result) == 7
    assert 'first_command = "approach"' in result["events"][0]
    with pytest.raises(ValueError, match=r"first action is refused.*arm\[4\] for -0\.3.*0\.004;"):
        of_environment(path, 5)


def test_an_action_where_the_robot_stands_begins_where_far_ones_are_refused(write: Write) -> None:
    env = gymnasium.make(ID, schedule=write("refuse"), observe=["joints.position"]).unwrapped
    observed: Any
    observed, _ = env.reset(seed=1)
    for _ in range(10):
        observed, _, _, _, info = env.step(observed["joints"]["position"])
        assert info["refused"] == {}
    for _ in range(300):
        info = env.step(FAR)[4]
    assert np.array_equal(info["applied"], FAR), "from then on any command is approached"
    env.close()


def test_where_nothing_is_said_the_environment_approaches_and_warns_of_the_run(
    write: Write,
) -> None:
    path = write(None)
    with pytest.warns(UserWarning, match=r'a run of this schedule refuses it: write .*"approach"'):
        learnt = of_environment(path, CYCLES)
    assert np.abs(learnt[-1][0] - law(learnt[-1][0])).max() < 0.02
    _, result = of_run(path, CYCLES)
    assert exit_code(result) == 7


def test_where_nothing_is_said_a_near_action_is_no_reason_to_warn(write: Write) -> None:
    env = gymnasium.make(ID, schedule=write(None), observe=["joints.position"]).unwrapped
    observed: Any
    observed, _ = env.reset(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            env.step(observed["joints"]["position"] + 0.001)
    env.close()


def test_an_approach_says_so_and_keeps_what_was_asked_beside_what_was_applied(
    write: Write,
) -> None:
    seen: list[tuple[frozenset[str], bool]] = []

    def policy(frame: Frame) -> Any:
        act = frame.command["arm"]
        if np.isfinite(act.requested).all():
            assert np.array_equal(act.requested, FAR)
            seen.append((frozenset(act.flags), np.array_equal(act.applied, FAR)))
        return FAR

    with LockStep(schedules.load(write("approach")), call=policy, digest=False) as robot:
        robot.run(CYCLES)
    first = next(i for i, (_, arrived) in enumerate(seen) if arrived)
    assert 50 < first < CYCLES - 50
    assert all(flags >= {"APPROACHING", "LIMITED", "WRITTEN"} for flags, _ in seen[: first - 2])
    assert all(flags == {"WRITTEN"} for flags, _ in seen[first:])


def test_after_an_emergency_stop_the_first_command_is_approached_again(write: Write) -> None:
    wanted, acts = FAR, []

    def policy(frame: Frame) -> Any:
        act = frame.command["arm"]
        acts.append((act.flags, act.applied.copy()))
        return wanted

    with LockStep(schedules.load(write("approach")), call=policy, digest=False) as robot:
        robot.run(CYCLES)
        robot.core.estop()
        robot.run(500)
        assert "RAMPING" in acts[-1][0]
        robot.core.arm()
        wanted = -FAR
        acts.clear()
        robot.run(CYCLES)
    flags = set().union(*(flags for flags, _ in acts))
    assert "APPROACHING" in flags and "INVALID" not in flags
    assert acts[-1][0] == ("WRITTEN",) and np.array_equal(acts[-1][1], -FAR)


@pytest.mark.real
@pytest.mark.parametrize(("value", "code"), [("approach", 0), ("refuse", 7), (None, 7)])
def test_on_the_wall_clock_it_is_the_same(tmp_path: Path, value: str | None, code: int) -> None:
    path = demo_schedule(tmp_path, emulator=True, policy="far.py:policy")
    (tmp_path / "far.py").write_text(f"def policy(frame):\n    return {FAR.tolist()}\n")
    key = "" if value is None else f'first_command = "{value}"\n'
    path.write_text(
        path.read_text().replace("[actuator.arm.limits]", f"{key}[actuator.arm.limits]")
    )
    command = [sys.executable, "-m", "inphase", "run", str(path), "--cycles", "1000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * BOUND_S, check=False)
    assert done.returncode == code, done.stderr
    policy = json.loads(done.stdout)["policy"]
    assert (policy["commands"] > 0) == (code == 0)
    assert ("start" in policy["reasons"]) == (code != 0)
