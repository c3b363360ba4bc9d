"""Frames as series, images and remarks, for viewers that plot; and where they are sent.

Rerun itself is in `make readers-test`: its package is half a gigabyte.
"""

import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.frames.record_layout import STATUSES
from inphase.viewing.frame_series import FrameSeries, Remark, SeenImage, Series
from peers import BOUND_S
from recorded_runs import ODD
from robots import demo_schedule

USAGE, CANNOT = 2, 14
WRENCH = 1


def test_every_number_of_a_frame_is_in_a_series_with_its_name_and_unit(tmp_path: Path) -> None:
    with LockStep(inphase.load(demo_schedule(tmp_path))) as robot:
        series = FrameSeries(robot.follower.layout)
        names = dict(series.names())
        for _ in range(3):
            frame = robot.step()
            found = {one.path: one.values for one in series.of(frame) if isinstance(one, Series)}
        joints = frame["joints"].value
        for field in ("position", "velocity", "current"):
            assert found[f"sensors/joints/{field}"].tolist() == joints[field].tolist()
        assert found["actuators/arm/applied"].tolist() == list(frame.command["arm"].applied)
        assert found["frame/wake_late_ns"].tolist() == [frame.woke_ns - frame.due_ns]
        assert found["frame/age_ns/wrench"].tolist() == [frame["wrench"].age_ns]
        assert found["frame/status/wrench"].tolist() == [STATUSES.index("FRESH")]
        assert names["sensors/wrench/force"] == ["force 0 [N]", "force 1 [N]", "force 2 [N]"]
        assert names["actuators/arm/requested"][5] == "requested 5 [rad]"
        assert set(names) <= set(found)
        assert all(len(found[path]) == len(of_path) for path, of_path in names.items())


def test_words_are_told_when_they_change_and_bad_ones_are_marked(tmp_path: Path) -> None:
    with LockStep(inphase.load(demo_schedule(tmp_path))) as robot:
        series = FrameSeries(robot.follower.layout)
        told: list[Remark] = []
        for cycle in range(60):
            if cycle == 30:
                robot.core.fault("silent", WRENCH, robot.cycles, 2, 0)
            told += [one for one in series.of(robot.step()) if isinstance(one, Remark)]
        assert ("joints FRESH", False) in {(one.text, one.is_bad) for one in told}
        of_wrench = [(one.text, one.is_bad) for one in told if one.text.startswith("wrench")]
        assert of_wrench[0] == ("wrench FRESH", False)
        assert of_wrench[1] == ("wrench LATE silent", True)
        assert of_wrench[-1] == ("wrench FRESH", False)
        assert len(told) < 20


def test_images_are_pixels_and_other_bytes_and_silent_sensors_have_no_series(
    tmp_path: Path,
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(ODD)
    with LockStep(inphase.load(path)) as robot:
        series = FrameSeries(robot.follower.layout)
        images, paths = [], set()
        for _ in range(40):
            for one in series.of(robot.step()):
                paths.add(one.path)
                images += [one] if isinstance(one, SeenImage) else []
    assert [*series.images()] == ["sensors/camera"]
    assert {one.values.shape for one in images} == {(12, 16, 3)}
    assert len(images) == len({one.values.tobytes() for one in images}) == 10  # each once
    assert all(one.values.dtype == np.uint8 for one in images)
    assert {"sensors/imu/turn", "sensors/imu/count"} <= paths
    assert "sensors/imu/raw" not in paths and not [path for path in paths if "mute/x" in path]


def said(*options: str) -> tuple[int, str]:
    """Exit code and stderr of a view of nobody."""
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "view", "nobody", *options],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_place_that_is_none_is_refused() -> None:
    code, error = said("--to", "http://127.0.0.1")
    assert code == USAGE and "is none of foxglove, rerun," in error
    code, error = said("--to", "x.rrd", "--stay")
    assert code == USAGE and "a file has one run" in error


@pytest.mark.skipif(util.find_spec("rerun") is not None, reason="rerun is installed")
def test_rerun_is_an_extra_of_its_own() -> None:
    code, error = said("--to", "x.rrd")
    assert code == CANNOT
    assert "install it: pip install 'inphase[rerun]'" in error
