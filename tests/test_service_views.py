"""A camera from afar as a client wants it: size, crop, rate and codec. With real processes."""

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inphase.client.remote_drive import RemoteDrive
from inphase.client.remote_robot import RemoteRobot
from inphase.errors import LeaseRefused, ServiceError
from inphase.frame import Frame, Sample
from inphase.frames.frame import FrameLost
from inphase.frames.store_follower import StoreFollower
from pattern_camera import HEIGHT, WIDTH, number_of, picture
from peers import ROOT, until
from runtimes import Robot
from serving import Served
from test_service import LEASE_S, swing

pytestmark = pytest.mark.real
CAMERA = """[device.eye]
driver = "pattern_camera.py:Camera"
home = "process"
[sensor.eye]
device = "eye"
trigger_us = 0
every = 2
latency_cycles = 1
max_age_ms = 5000
[sensor.joints]
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot:
        shutil.copy(ROOT / "tests" / "pattern_camera.py", robot.folder)
        robot.write(("[sensor.joints]\n", CAMERA))
        with Served(robot) as made:
            yield made


@pytest.fixture
def robot(served: Served) -> Iterator[RemoteRobot]:
    with served.connect() as robot:
        robot.request(LEASE_S).wait(20)
        yield robot


def driving(robot: RemoteRobot, view: Any) -> RemoteDrive:
    return robot.request(LEASE_S).wait(20).drive(images={"eye": view} if view is not None else True)


def images(drive: RemoteDrive, count: int) -> list[Sample]:
    """The camera's samples of so many frames, from the first image on."""
    found: list[Sample] = []
    until(lambda: drive.next()["eye"].sequence >= 0 and drive.frame["eye"].intact)  # type: ignore[index]
    while len(found) < count:
        found.append(drive.next()["eye"])
    return found


def test_a_crop_has_the_very_pixels(robot: RemoteRobot) -> None:
    with driving(robot, {"crop": [5, 7, 20, 10]}) as drive:
        assert drive.layout.dtypes[drive.layout.indices["eye"]]["image"].shape == (10, 20, 3)
        for sample in images(drive, 10):
            pixels = sample["image"]
            begins = picture(0)[7, 5, 0]
            assert np.array_equal(pixels, picture(pixels[0, 0, 0] - begins)[7:17, 5:25])


def test_a_whole_image_has_the_very_pixels(robot: RemoteRobot) -> None:
    for view in (None, {}, {"codec": "png"}):
        with driving(robot, view) as drive:
            for sample in images(drive, 4):
                assert np.array_equal(sample["image"], picture(number_of(sample["image"])))


def test_a_smaller_image_has_the_mean_of_what_each_pixel_stands_for(robot: RemoteRobot) -> None:
    for codec, apart in (("raw", 0.5), ("png", 0.5), ("jpeg", 4.0)):
        view = {"size": [WIDTH // 2, HEIGHT // 2], "codec": codec}
        with driving(robot, view) as drive:
            (sample,) = images(drive, 1)
            small = sample["image"].astype(float)
            whole = picture(0).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
            number = np.median(small - whole)
            assert small.shape == whole.shape
            assert np.max(np.abs(small - whole - np.round(number))) <= apart + 0.5


def test_an_image_that_was_not_sent_is_not_said_to_be_there(
    served: Served, robot: RemoteRobot
) -> None:
    follower = StoreFollower.of_robot(served.robot.name)
    truth: dict[int, tuple[int | None, int]] = {}

    def look(frame: Frame) -> int:
        """Note the image of a frame of the store, in cycle and pixels."""
        sample = frame["eye"]
        if sample.sequence >= 0:
            number = number_of(sample["image"])
            if sample.intact:
                truth[sample.sequence] = sample.cycle, number
        return frame.cycle

    with driving(robot, {"every": 3}) as drive:
        images(drive, 1)
        seen: list[tuple[int, str]] = []
        for _ in range(60):
            frame = drive.next()
            while look(follower.next()) < frame.cycle:
                pass
            sample = frame["eye"]
            assert (sample.cycle, number_of(sample["image"])) == truth[sample.sequence]
            assert sample.age_ns == frame.latched_ns - (sample.acquired_ns or 0)
            seen.append((sample.sequence, sample.status))
            assert drive._image_cycle <= (sample.cycle or 0)
    follower.close()
    sequences = [sequence for sequence, _ in seen]
    steps = np.diff(sorted(set(sequences)))
    assert len(steps) > 3 and min(steps) >= 3
    assert {"FRESH", "HELD"} <= {status for _, status in seen}
    for n in range(1, len(seen)):
        if sequences[n] == sequences[n - 1]:
            assert seen[n][1] != "FRESH"


def test_a_client_with_a_view_drives(robot: RemoteRobot) -> None:
    view = {"size": [16, 12], "every": 2, "codec": "jpeg"}
    with driving(robot, view) as drive:
        until(lambda: any(frame.command.drove == "client" for frame in swing(drive, 20)))


def test_a_camera_that_is_not_asked_for_does_not_come(robot: RemoteRobot) -> None:
    with robot.request(LEASE_S).wait(20).drive(images=False) as drive:
        until(lambda: drive.next()["eye"].sequence >= 0)
        frame = drive.next()
        with pytest.raises(FrameLost, match="large samples were not asked for"):
            _ = frame["eye"].value
        assert frame["joints"].value["position"].shape == (6,)
        until(lambda: any(frame.command.drove == "client" for frame in swing(drive, 20)))


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ({"eye": {"crop": [60, 0, 20, 10]}}, "within 64 x 48 pixels"),
        ({"eye": {"crop": [0, 0, 0, 10]}}, "within 64 x 48 pixels"),
        ({"eye": {"crop": [0, 0, 20, 10], "size": [21, 10]}}, "at most that of what is sent, 20 x"),
        ({"eye": {"size": [0, 0]}}, "at most that of what is sent, 64 x 48"),
        ({"joints": {}}, "there are: eye"),
        ({"nose": {}}, "there are: eye"),
    ],
)
def test_a_view_that_a_camera_does_not_have_is_refused(
    robot: RemoteRobot, view: dict[str, Any], why: str
) -> None:
    with pytest.raises(LeaseRefused, match=why):
        robot.request(LEASE_S).wait(20).drive(images=view)


@pytest.mark.parametrize(
    "view", [{"every": 0}, {"codec": "gif"}, {"size": [2]}, {"crop": [-1, 0, 2, 2]}, {"scale": 2}]
)
def test_a_view_that_is_none_is_told_before_anything_is_sent(
    robot: RemoteRobot, view: dict[str, Any]
) -> None:
    with pytest.raises(ServiceError, match=r"camera eye: .*give size = \[width, height\]"):
        robot.request(LEASE_S).wait(20).drive(images={"eye": view})
