"""AprilTags before a camera whose images are drawn: poses that are known come back, with the
image's own stamp."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inphase import Runner, schedule
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from inphase_drivers.apriltag import TagOptions, TagTracker
from tag_camera import CENTRE, FOCAL, SIZE_M, Camera

HERE = Path(__file__).parent
FACING = [np.pi, 0.0, 0.0]  # the tag's face looks at the camera: its y is up, the camera's down
TOOL = [0.05, -0.04, 0.5, np.pi - 0.5, 0.2, 0.1]
BOARD = [-0.12, 0.06, 0.8, *FACING]


def tracker(**changes: Any) -> tuple[TagTracker, NDArray[Any]]:
    options: dict[str, Any] = {
        "camera": {"driver": "tag_camera:Camera", "tags": {"3": TOOL, "7": BOARD}},
        "tags": {"tool": 3, "board": 7},
        "size_m": SIZE_M,
        "camera_matrix": [FOCAL, FOCAL, *CENTRE],
    }
    made = TagTracker("eye", TagOptions(**(options | changes)))
    made.open()
    dtype = [(f.name, f.dtype, f.shape) for f in made.sensor().fields]
    return made, np.zeros((), dtype)


def turn_of(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_poses_that_are_known_come_back() -> None:
    eye, sample = tracker()
    assert eye.read(sample, 0).reason == ""
    for index, (pose, most_m) in enumerate(((TOOL, 0.001), (BOARD, 0.004))):
        assert np.linalg.norm(sample["position"][index] - pose[:3]) < most_m
        true, _ = cv2.Rodrigues(np.array(pose[3:], dtype=float))
        off = turn_of(sample["quaternion"][index]).T @ true
        # a tag that faces the camera from afar shows its tilt least
        assert np.degrees(np.arccos(min(1.0, (np.trace(off) - 1) / 2))) < (1.0 if index == 0 else 6)
    assert sample["tracked"].tolist() == [1.0, 1.0]
    assert (sample["error"] < 0.01).all()


def test_the_error_that_is_stated_is_not_better_than_the_truth() -> None:
    eye, sample = tracker(may_be_lost=["tool", "board"])
    assert isinstance(eye._camera, Camera)
    draw = np.random.default_rng(1)
    found = 0
    for _ in range(12):
        far = draw.uniform(0.3, 1.2)
        place = [draw.uniform(-0.3, 0.3) * far, draw.uniform(-0.2, 0.2) * far, far]
        turn = [np.pi - draw.uniform(-0.7, 0.7), *draw.uniform(-0.3, 0.3, 2)]
        eye._camera.see({3: [*place, *turn]})
        assert eye.read(sample, 0).reason == ""
        if sample["tracked"][0]:
            found += 1
            assert np.linalg.norm(sample["position"][0] - place) < sample["error"][0]
    assert found > 8


def test_the_stamp_is_the_images() -> None:
    eye, sample = tracker()
    reading = eye.read(sample, 0)
    assert (reading.sequence, reading.acquired_ns, reading.uncertainty_ns) == (1, 123_456_789, 777)
    assert reading.received_ns is not None


def test_a_tag_that_is_not_there_makes_the_sample_invalid_by_name() -> None:
    eye, sample = tracker()
    camera = eye._camera
    assert isinstance(camera, Camera)
    camera.see({3: TOOL})
    reading = eye.read(sample, 0)
    assert (reading.reason, eye.meaning(reading.detail)) == ("device", "not tracked: board")
    eye, sample = tracker(may_be_lost=["board"])
    assert isinstance(eye._camera, Camera)
    eye._camera.see({3: TOOL})
    assert eye.read(sample, 0).reason == ""
    assert sample["tracked"].tolist() == [1.0, 0.0]
    assert not sample["quaternion"][1].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera": {"width": 3}}, r"camera has no driver"),
        ({"camera": {"driver": "netft", "host": "a"}}, r"'netft' gives no image"),
        ({"camera": {"driver": "v4l2", "depth": 3}}, r"camera: .*depth"),
        ({"camera": {"driver": "nobody"}}, r"no installed driver is named 'nobody'"),
        ({"tags": {"a": 1, "b": 1}}, r"tags has one number twice"),
        ({"tags": {}}, r"tags names 1 to 16"),
        ({"may_be_lost": ["hand"]}, r"may_be_lost names hand"),
        ({"distortion": [1.0]}, r"distortion has 4, 5, 8, 12 or 14 numbers, got 1"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tracker(**changes)


def test_a_schedule_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "eye.toml"
    path.write_text(EYE.replace('driver = "tag_camera:Camera"', 'driver = "nobody"'))
    with pytest.raises(ScheduleError, match=r"device\.eye.*no installed driver is named 'nobody'"):
        planning.make(schedule.load(path))


EYE = f"""
name = "eye"
[cycle]
rate_hz = 20
read_deadline_us = 20000
act_us = 30000
realtime = "prefer"
overrun_limit = 1000
[device.eye]
driver = "apriltag"
tags = {{ tool = 3 }}
size_m = {SIZE_M}
camera_matrix = [{FOCAL}, {FOCAL}, {CENTRE[0]}, {CENTRE[1]}]
[device.eye.camera]
driver = "tag_camera:Camera"
stamp_ns = 0
tags = {{ 3 = [0.05, -0.04, 0.5, 2.6, 0.2, 0.1] }}
[sensor.eye]
device = "eye"
max_age_ms = 2000
"""


@pytest.mark.real
@pytest.mark.long
def test_it_runs_in_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    path = tmp_path / "eye.toml"
    path.write_text(EYE)
    seen = []
    with Runner(path, cycles=30) as robot:
        for frame in robot:
            if frame["eye"].status == "FRESH":
                seen.append(frame["eye"].value["position"][0].copy())
    assert len(seen) > 3
    assert np.median(seen, axis=0) == pytest.approx([0.05, -0.04, 0.5], abs=0.002)
