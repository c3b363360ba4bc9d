"""The ready SO-101: an arm of Feetech servos that follows its leader, on emulated buses."""

import re
from pathlib import Path

import numpy as np
import pytest

from inphase import Runner, schedule
from inphase.episodes.lockstep import LockStep
from peers import ROOT

SO101 = ROOT / "schedules" / "so101.toml"


def so101_schedule(folder: Path) -> Path:
    """The SO-101 with ports of its own, a busy machine's patience, and without a gateway."""
    text = SO101.read_text().replace("/tmp/inphase-so101/", f"{folder}/")
    text = text.replace('"follow.py:', f'"{SO101.parent}/follow.py:')
    text = re.sub(r"(?ms)^\[gateway\]$.*?(?=^\[)", "", text)
    path = folder / "so101.toml"
    path.write_text(text.replace("max_hold_ms = 2000 ", "max_hold_ms = 20_000 "))
    return path


def test_in_lock_step_the_arm_goes_to_its_leader_and_stays_there() -> None:
    described = schedule.load(SO101)
    stands = [0.3, -0.2, 0.1, 0.0, -0.4, 0.4]
    described.device["leader"].options["start_position"] = stands
    with LockStep(described, seed=1) as robot:
        frames = [robot.step().copy() for _ in range(400)]
    for frame in frames:  # the leader's joints are its own, and nothing moves them
        assert frame["leader"].value["position"] == pytest.approx(stands, abs=0.002)
    last = frames[-1]
    assert last["joints"].value["position"] == pytest.approx(stands, abs=0.01)
    assert frames[0]["joints"].value["position"] == pytest.approx([0.0] * 6, abs=0.002)
    applied = np.array([frame.command["arm"].applied for frame in frames[2:]])
    assert np.abs(applied[0]).max() < 0.01, "it begins where the arm is"
    per_cycle = 0.5 * described.cycle.period_ns * 1e-9  # at `catch_up`, beside noise
    assert np.abs(np.diff(applied, axis=0)).max() < 2 * per_cycle, "and makes up for it slowly"


@pytest.mark.real
def test_the_arm_follows_a_hand_on_the_emulated_wire(tmp_path: Path) -> None:
    apart, moved = [], []
    with Runner(so101_schedule(tmp_path), cycles=1200) as robot:
        for frame in robot:
            joints, leader = frame["joints"], frame["leader"]
            if frame.cycle > 400 and joints.status == leader.status == "FRESH":
                apart.append(np.abs(joints.value["position"] - leader.value["position"]).max())
                moved.append(leader.value["position"][0])
    assert robot.summary is not None
    assert robot.summary["stopped"]["reason"] == "done"
    assert len(apart) > 100
    assert max(moved) - min(moved) > 0.3, "the hand swings the leader by 0.4 rad"
    assert np.median(apart) < 0.1, "the arm is behind by its servos' lag alone"
