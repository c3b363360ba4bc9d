"""A camera in a whole runtime: latched, in a worker process, seen by a subscriber's follower."""

from pathlib import Path

import pytest
from guest import Robot, need, vivid

from inphase.frame import Frame

PORT = "/dev/video0"

# slow: what is tested is what happens, in an emulated machine
_SCHEDULE = f"""
[cycle]
rate_hz = 10
read_deadline_us = 70000
act_us = 80000
realtime = "prefer"
resumed_after_ms = 60000
overrun_limit = 1000000
[device.eye]
driver = "inphase_drivers.v4l2:Camera"
port = "{PORT}"
width = 320
height = 180
pixel_format = "GREY"
fps = 30.0
[sensor.camera]
device = "eye"
max_age_ms = 2000
"""


@pytest.fixture(autouse=True)
def _camera() -> None:
    need(PORT, "V4L2 camera")


def test_frames_carry_the_newest_image_with_its_true_time(tmp_path: Path) -> None:
    vivid(PORT, "Timestamp Source", 1)
    try:
        with Robot(tmp_path, "camera-new", _SCHEDULE).run("--seconds", "4") as run:
            seen = [run.status("camera", "FRESH") for _ in range(5)]
            rows = [frame["camera"] for frame in seen]
            images = [row.value["image"].copy() for row in rows]
            code, summary = run.end()
        assert code == 0, run.stderr
    finally:
        vivid(PORT, "Timestamp Source", 0)
    assert len({image.tobytes() for image in images}) == len(images)
    assert all(image.shape == (180, 320) for image in images)
    for frame, row in zip(seen, rows, strict=True):
        assert row.triggered_ns is None
        assert row.cycle is None
        assert row.received_ns is not None
        assert row.received_ns <= frame.latched_ns
        assert row.acquired_ns is not None
        assert row.acquired_ns <= row.received_ns
        assert row.age_ns == frame.latched_ns - row.acquired_ns
        assert row.uncertainty_ns > 0
    assert summary["lost_devices"] == 0


def test_a_camera_that_is_unplugged_is_offline_and_comes_back(tmp_path: Path) -> None:
    with Robot(tmp_path, "camera-back", _SCHEDULE).run() as run:

        def received(frame: Frame) -> int:
            return frame["camera"].received_ns or 0

        before = received(run.status("camera", "FRESH"))
        vivid(PORT, "Disconnect", 1)
        run.status("camera", "OFFLINE")
        back = run.status("camera", "FRESH")
        assert received(back) > before
        run.process.terminate()
        _, summary = run.end()
        assert "/dev/video0 is gone" in run.stderr
    assert summary["lost_devices"] == 1
