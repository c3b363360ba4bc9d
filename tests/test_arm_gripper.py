"""The ready arm and gripper: each is commanded on its own, in one schedule."""

import re
from pathlib import Path

import numpy as np
import pytest

from inphase import Runner, schedule
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from peers import ROOT

ARM_GRIPPER = ROOT / "schedules" / "arm_gripper.toml"


def own_schedule(folder: Path, *changes: tuple[str, str]) -> Path:
    """It with a bus and a port of its own, a busy machine's patience, and without a gateway."""
    text = ARM_GRIPPER.read_text().replace("/tmp/inphase-arm-gripper/", f"{folder}/")
    text = text.replace('"arm_gripper_policy.py:', f'"{ARM_GRIPPER.parent}/arm_gripper_policy.py:')
    text = re.sub(r"(?ms)^\[gateway\]$.*?(?=^\[)", "", text)
    text = text.replace("max_hold_ms = 2000 ", "max_hold_ms = 20_000 ")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "arm_gripper.toml"
    path.write_text(text)
    return path


def test_one_moves_while_the_other_keeps_its_goal() -> None:
    with LockStep(schedule.load(ARM_GRIPPER), seed=1) as robot:
        frames = [robot.step().copy() for _ in range(820)]
    arm = np.array([frame["joints"].value["position"][0] for frame in frames])
    opening = np.array([frame["fingers"].value["position"][0] for frame in frames])
    # the arm has gone to the far end, and the fingers have not moved
    assert arm[210] - arm[0] == pytest.approx(0.5, abs=0.02)
    assert np.ptp(opening[:230]) < 0.002
    # it stands there, closed; on the way back the fingers stay closed
    assert np.ptp(arm[230:395]) < 0.01
    assert opening[395] == pytest.approx(0.0, abs=0.002)
    assert np.ptp(opening[400:630]) < 0.002
    assert opening[810] == pytest.approx(0.08, abs=0.002)


@pytest.mark.real
@pytest.mark.long
def test_both_move_on_their_emulated_wires(tmp_path: Path) -> None:
    moved: list[float] = []
    opened: list[float] = []
    quicker = ("priority = 60", "args = { seconds = 4.0 }\npriority = 60")
    with Runner(own_schedule(tmp_path, quicker), cycles=220) as robot:
        for frame in robot:
            moved.append(float(frame["joints"].value["position"][0]))
            opened.append(float(frame["fingers"].value["position"][0]))
    assert robot.summary is not None
    assert robot.summary["stopped"]["reason"] == "done"
    assert max(moved) - min(moved) > 0.3
    assert max(opened) - min(opened) > 0.05, "it begins open, and closes"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("position = [0.0, 0.085] ", "position = [0.0, 255.0] ", "0 is closed and 0.085 is open"),
        ('model = "2F-85"', 'model = "Hand-E"', "0 is closed and 0.05 is open"),
        ("kp = [60.0, 60.0,", "kp = [60.0, 0.0,", "a position moves nothing without stiffness"),
        ("position = [-2.6, 2.6] ", "position = [-2.6, 13.0] ", "motor 1: its model's range"),
        ("watchdog_ms = 5000 ", "watchdog_ms = 15 ", "its watchdog of 15 ms trips"),
    ],
)
def test_what_the_devices_do_not_take_is_refused_before(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(ScheduleError, match=told):
        planning.make(schedule.load(own_schedule(tmp_path, (old, new))))
