"""Zeros and ranges of joints that are moved by hand, written into the schedule."""

import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inphase import schedule as schedules
from inphase.command.calibration.hand_motion import HandMotion
from inphase.command.calibration.schedule_edit import write
from peers import BOUND_S, EmulatorProcess

pytestmark = pytest.mark.real
SCHEDULE = """# An arm that nobody has calibrated.
name = "arm"
[cycle]
rate_hz = 50
read_deadline_us = 12_000
act_us = 14_000
realtime = "prefer"
overrun_limit = 1_000_000

[device.arm]
driver = "feetech"
port = "{folder}/arm"       # the first adapter
ids = [1, 2]

[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 500
sign = [1, -1]              # the second one is mounted the other way round
zero = {{ position = [0.1, 0.0] }}

[actuator.arm]
device = "arm"
feedback = "joints.position"

[actuator.arm.limits]
position = [-3.0, 3.0]
velocity = 2.0              # slow
acceleration = 10.0
step = 0.2
"""


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[tuple[Path, EmulatorProcess]]:
    path = tmp_path / "arm.toml"
    path.write_text(SCHEDULE.format(folder=tmp_path))
    with EmulatorProcess().start(path) as emulator:
        yield path, emulator


def calibrate(path: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "inphase", "calibrate", str(path), "joints", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}")


def enter(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def asked(emulator: EmulatorProcess) -> int:
    return int(emulator.control({"device": "arm"})["counters"]["requests"])


def stand(emulator: EmulatorProcess, *position: float) -> None:
    """Put the joints somewhere, and wait until the sensor has seen them there many times."""
    emulator.control({"device": "arm", "set": {"position": position}})
    before, until = asked(emulator), time.monotonic() + BOUND_S
    while asked(emulator) < before + 60 and time.monotonic() < until:
        time.sleep(0.05)


def test_zero_and_range_are_found_by_hand_and_written(
    arm: tuple[Path, EmulatorProcess],
) -> None:
    path, emulator = arm
    process = calibrate(path, "--margin", "0.05")
    told(process, "hold the pose")
    stand(emulator, 0.5, -0.3)
    enter(process)
    told(process, "from end to end")
    for position in ((-0.5, 0.2), (1.5, -1.3), (0.5, -0.3)):
        stand(emulator, *position)
    enter(process)
    out, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0, err
    text = path.read_text()
    written = tomllib.loads(text)
    assert written["sensor"]["joints"]["zero"]["position"] == pytest.approx([0.5, 0.3], abs=0.002)
    ranges = np.array(written["actuator"]["arm"]["limits"]["position"])
    assert ranges == pytest.approx(np.array([[-0.95, 0.95], [-0.45, 0.95]]), abs=0.004)
    for comment in ("# the first adapter", "# the second one is", "# slow", "# An arm that nobody"):
        assert comment in text
    copy = re.search(r"as it was: (\S+)", out)
    assert copy is not None
    assert Path(copy[1]).read_text() == SCHEDULE.format(folder=path.parent)
    assert emulator.control({"device": "arm"})["torque"] == [0, 0]


def test_a_joint_that_is_not_held_still_is_named_and_nothing_written(
    arm: tuple[Path, EmulatorProcess],
) -> None:
    path, emulator = arm
    before = path.read_text()
    process = calibrate(path)
    told(process, "hold the pose")
    stand(emulator, 0.0, 0.0)
    emulator.control({"device": "arm", "set": {"position": [0.0, 0.4]}})
    seen = asked(emulator)
    while asked(emulator) < seen + 5:
        time.sleep(0.01)
    enter(process)
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 3
    assert "joints.position: channels [1] moved by" in err
    assert path.read_text() == before
    assert list(path.parent.glob("arm.toml.*")) == []


def test_a_joint_that_was_not_moved_is_refused(arm: tuple[Path, EmulatorProcess]) -> None:
    path, emulator = arm
    before = path.read_text()
    process = calibrate(path)
    told(process, "hold the pose")
    stand(emulator, 0.0, 0.0)
    enter(process)
    told(process, "from end to end")
    stand(emulator, 1.0, 0.0)
    enter(process)
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 3
    assert "channels [1] were moved by less than two margins" in err
    assert path.read_text() == before


def test_a_range_begins_anew_after_the_pose() -> None:
    motion = HandMotion()
    with pytest.raises(ValueError, match="no sample came"):
        motion.range()
    for value in (5.0, *[1.0] * 60):
        motion.take([value])
    assert motion.pose() == pytest.approx([1.0])
    motion.begin_range(motion.pose())
    assert [end.tolist() for end in motion.range()] == [[1.0], [1.0]]
    for value in (3.0, -2.0):
        motion.take([value])
    assert [end.tolist() for end in motion.range()] == [[-2.0], [3.0]]


def test_a_schedule_without_zero_or_limits_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "arm.toml"
    path.write_text(SCHEDULE.format(folder=tmp_path).replace("zero = { position", "# { position"))
    write(schedules.load(path), "joints", "position", [0.25, -1.0], [(-1, 1), (-2, 2)])
    again = schedules.load(path)
    assert again.sensor["joints"].zero["position"] == [0.25, -1.0]
    limits = again.actuator["arm"].limits
    assert limits is not None
    assert limits.position == [[-1, 1], [-2, 2]]
