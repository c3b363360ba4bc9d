"""What users test their controllers with; and the page that says so."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inphase import load
from inphase.frame import Frame
from inphase.testing import Fault, assert_same_frames, fault_plan, lockstep
from inphase.testing.fault_plan import KINDS
from inphase.testing.fixtures import MakeLockStep
from inphase.testing.rig import REST_S, until_at_rest
from peers import ROOT

DEMO = ROOT / "schedules" / "demo.toml"
__all__ = ["lockstep"]  # a fixture


def test_a_joint_that_swings_back_is_not_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def speed() -> float:
        """It turns at 0.1 s, swings back until 0.2 s, and rests from then on."""
        return 1.0 if now_s < 0.095 or 0.105 < now_s < 0.2 else 0.0

    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(time, "sleep", sleep)
    until_at_rest(speed, 0.05)
    assert now_s == pytest.approx(0.2 + REST_S, abs=0.011)


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest on a folder as its user does, from the repository's root."""
    options = ["-q", "-c", "/dev/null", "--rootdir", str(folder), "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_example_of_the_page_passes_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "middleware" / "TESTING.md").read_text()
    conftest, test = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    tmp_path.joinpath("conftest.py").write_text(conftest)
    tmp_path.joinpath("test_controller.py").write_text(test)
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout and "warning" not in done.stdout


def test_importing_the_fixture_does_as_well_and_drivers_keep_their_contract(tmp_path: Path) -> None:
    tmp_path.joinpath("conftest.py").write_text('pytest_plugins = ["inphase.testing"]\n')
    tmp_path.joinpath("test_both.py").write_text(
        "from inphase.testing import DriverContract, lockstep\n"
        "from inphase_drivers.simulated import Device\n\n"
        "class TestDevice(DriverContract):\n    driver = Device\n\n"
        "def test_it(lockstep):\n"
        f"    assert len(list(lockstep({str(DEMO)!r}).frames(3))) == 3\n"
    )
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"1 passed, \d+ skipped", done.stdout), done.stdout


def test_the_fixture_closes_what_it_started_also_when_the_test_fails(tmp_path: Path) -> None:
    tmp_path.joinpath("test_it.py").write_text(
        "from inphase.testing import lockstep\n"
        "stores = []\n\n"
        "def test_it(lockstep):\n"
        f"    robots = [lockstep({str(DEMO)!r}) for _ in range(2)]\n"
        "    stores.extend(robot.core.segment for robot in robots)\n"
        "    assert all(store.handle is not None for store in stores)\n"
        "    raise ValueError('a bug')\n\n"
        "def test_after_it():\n"
        "    assert len(stores) == 2 and all(store.handle is None for store in stores)\n"
    )
    done = pytest_in(tmp_path)
    assert "1 failed, 1 passed" in done.stdout and "a bug" in done.stdout, done.stdout


def test_the_fixture_takes_a_policy_by_its_name_or_itself(lockstep: MakeLockStep) -> None:
    robots = [
        lockstep(DEMO, policy=policy, seed=1)
        for policy in ("demo_policy.py:Wave", lambda frame: frame["joints"].value["position"])
    ]
    for robot in robots:
        for frame in robot.frames(50):
            assert "MISSED" not in frame.command["arm"].flags
    with pytest.raises(AssertionError, match="not callable"):
        lockstep(DEMO, policy="demo_policy.py:__name__")


# ---- faults ------------------------------------------------------------------------------------


def test_a_fault_by_hand_is_where_it_was_planned(lockstep: MakeLockStep) -> None:
    robot = lockstep(DEMO, faults=[Fault("silent", "wrench", first=10, cycles=3)])
    late = [frame.cycle for frame in robot.frames(30) if frame["wrench"].status == "LATE"]
    assert late == [10, 11, 12]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("silent", "wrist", 10), "no sensor 'wrist'; there are: joints, wrench"),
        (Fault("quiet", "wrench", 10), "no fault 'quiet'; there are: silent"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(lockstep: MakeLockStep, fault: Fault, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lockstep(DEMO, faults=[fault])


def test_a_plan_follows_from_its_arguments_and_is_quiet_at_both_ends() -> None:
    demo = load(DEMO)
    plans = [fault_plan(seed, demo, cycles=600) for seed in range(50)]
    assert plans == [fault_plan(seed, demo, cycles=600) for seed in range(50)]
    faults = [fault for plan in plans for fault in plan]
    assert {fault.kind for fault in faults} == set(KINDS) - {"suspended"}
    assert {fault.sensor for fault in faults} == {"joints", "wrench", ""}
    assert all(fault.first >= 20 and fault.first + fault.cycles < 550 for fault in faults)
    chosen = fault_plan(1, demo, cycles=600, kinds=["nan", "gone"])
    assert {fault.kind for fault in chosen} <= {"nan", "gone"}


# ---- comparison --------------------------------------------------------------------------------


def recording(lockstep: MakeLockStep, *faults: Fault, seed: int = 1) -> list[Frame]:
    return [frame.copy() for frame in lockstep(DEMO, seed=seed, faults=faults).frames(40)]


def test_recordings_are_the_same_as_themselves_and_as_a_run(lockstep: MakeLockStep) -> None:
    a = recording(lockstep)
    assert_same_frames(a, a)
    assert_same_frames(a, recording(lockstep))
    assert_same_frames(a, lockstep(DEMO, seed=1).frames(40))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault("delayed", "joints", 20, 1, 1000),
            r"frame 20 \(cycle 20\) differs: latched_ns is \d+ and \d+",
        ),
        (
            Fault("wrong", "wrench", 20, 1, 1),
            r"frame 20 \(cycle 20\) differs: wrench.value\[force\]\[0\] is .*\d.* and .*\d",
        ),
        (Fault("clock_step", "", 20, 1, 3_000_000), r"frame 20 .*flags is .* and .*CLOCK_STEP"),
        (Fault("silent", "wrench", 20), r"frame 20 .*: (latched_ns|wrench.sequence) is "),
    ],
)
def test_the_first_frame_and_field_that_differ_are_named(
    lockstep: MakeLockStep, fault: Fault, said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_same_frames(recording(lockstep), recording(lockstep, fault))


def test_a_recording_that_ends_early_is_named(lockstep: MakeLockStep) -> None:
    a = recording(lockstep)
    with pytest.raises(AssertionError, match="the second recording ends after 30 frames"):
        assert_same_frames(a, a[:30])
    with pytest.raises(AssertionError, match=r"the first .* after 30 .* cycle 30"):
        assert_same_frames(a[:30], a)


def test_another_nan_is_another_value(lockstep: MakeLockStep) -> None:
    """And the same one is the same: a command that is missing is NaN."""
    robots = [lockstep(DEMO, policy=lambda frame: None, seed=1) for _ in range(2)]
    assert_same_frames(robots[0].frames(20), robots[1].frames(20))
    a, b = recording(lockstep)[3:4], recording(lockstep)[3:4]
    value = b[0]["joints"].value
    assert value.base is not None
    value.base.flags.writeable = True
    value["position"][2] = np.nan
    with pytest.raises(AssertionError, match=r"joints\.value\[position\]\[2\] is .* and .*nan"):
        assert_same_frames(a, b)
