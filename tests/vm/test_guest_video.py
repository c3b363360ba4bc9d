"""The camera driver against vivid, the kernel's own virtual camera."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from guest import need, vivid
from numpy.typing import NDArray

from inphase.driver import DeviceError, Reading
from inphase_drivers.v4l2 import Camera, CameraOptions

PORT, OTHER_PORT = "/dev/video0", "/dev/video1"
BOUND_NS = 20_000_000_000
"""of any wait: only reached when something is wrong"""

Make = Callable[..., Camera]


@pytest.fixture(autouse=True)
def _camera() -> None:
    need(PORT, "V4L2 camera")


@pytest.fixture
def make() -> Iterator[Make]:
    """Opens and starts a camera; closes all of them."""
    cameras: list[Camera] = []

    def opened(**options: Any) -> Camera:
        options = {"width": 320, "height": 180, "pixel_format": "GREY", "fps": 30.0, **options}
        camera = Camera("eye", CameraOptions(**{"port": PORT, **options}))
        cameras.append(camera)
        assert camera.open() == -1
        camera.start()
        return camera

    yield opened
    for camera in cameras:
        camera.close()


def sample_of(camera: Camera) -> NDArray[Any]:
    """Memory for one sample."""
    (field,) = camera.sensor().fields
    return np.zeros((), np.dtype([(field.name, field.dtype, field.shape)]))


def read(camera: Camera, count: int) -> tuple[list[Reading], list[NDArray[Any]]]:
    """So many readings, each with its image."""
    readings, images = [], []
    for _ in range(count):
        sample = sample_of(camera)
        readings.append(camera.read(sample, BOUND_NS))
        images.append(sample["image"])
    return readings, images


@pytest.mark.parametrize(
    ("pixel_format", "shape"),
    [("GREY", (180, 320)), ("YUYV", (180, 320, 2)), ("RGB3", (180, 320, 3))],
)
def test_images_come_in_the_declared_layout_and_change(
    make: Make, pixel_format: str, shape: tuple[int, ...]
) -> None:
    camera = make(pixel_format=pixel_format)
    readings, images = read(camera, 10)
    assert all(reading.reason == "" for reading in readings)
    assert all(image.shape == shape for image in images)
    # upright colour bars with a counter drawn into their top: lines are alike at the bottom, a line
    # has eight colours, and no two images are the same
    for image in images:
        assert (image[-20:] == image[-1]).all()
        pixels = image[-1].reshape(160, -1) if pixel_format == "YUYV" else image[-1]
        assert len(np.unique(pixels, axis=0)) >= 8
    assert len({image.tobytes() for image in images}) == len(images)


def test_sequence_numbers_advance_and_tell_what_was_lost(make: Make) -> None:
    camera = make()
    readings, _ = read(camera, 20)
    sequences = [reading.sequence for reading in readings]
    assert all(b is not None and a is not None and b > a for a, b in pairwise(sequences))
    last = sequences[-1]
    assert last is not None
    assert last + 1 >= len(readings) + camera.drained


def test_the_end_of_a_frame_is_used_only_when_it_is_past(make: Make) -> None:
    # vivid stamps the end of a frame when it hands it over, nearly one interval ahead
    before_ns = time.monotonic_ns()
    camera = make()
    readings, _ = read(camera, 20)
    for reading in readings:
        assert reading.received_ns is not None
        assert before_ns < reading.received_ns <= time.monotonic_ns()
        assert (reading.acquired_ns is None) == (reading.uncertainty_ns is None)
        if reading.acquired_ns is not None and reading.uncertainty_ns is not None:
            assert reading.acquired_ns + reading.uncertainty_ns <= reading.received_ns + 1
    received = [reading.received_ns or 0 for reading in readings]
    assert received == sorted(received)


def test_a_start_of_exposure_gives_an_acquisition_and_its_bound(make: Make) -> None:
    camera = make()
    vivid(PORT, "Timestamp Source", 1)
    try:
        before_ns = time.monotonic_ns()
        camera.flush()
        readings, _ = read(camera, 20)
    finally:
        vivid(PORT, "Timestamp Source", 0)
    known = [reading for reading in readings[2:] if reading.acquired_ns is not None]
    assert len(known) == len(readings) - 2
    for reading in known:
        assert reading.acquired_ns is not None
        assert reading.uncertainty_ns is not None
        assert reading.received_ns is not None
        assert before_ns < reading.acquired_ns <= reading.received_ns
        # the exposure is at most as long as the interval, and no read-out is before the stamp
        assert 0 <= reading.uncertainty_ns <= 1_000_000_000
    acquired = [reading.acquired_ns or 0 for reading in known]
    assert acquired == sorted(set(acquired))


def test_a_reader_that_was_away_gets_a_new_image_and_a_count(make: Make) -> None:
    camera = make(buffers=4)
    first = camera.read(sample_of(camera), BOUND_NS)
    assert first.sequence is not None
    # twelve images of a second camera of the same rate
    read(make(port=OTHER_PORT), 12)
    came_ns = time.monotonic_ns()
    second = camera.read(sample_of(camera), BOUND_NS)
    assert second.sequence is not None
    assert second.received_ns is not None
    assert second.sequence > first.sequence + 4
    assert second.received_ns > came_ns
    assert camera.drained >= 4


def test_a_camera_that_captures_for_someone_else_is_refused(make: Make) -> None:
    make()
    with pytest.raises(DeviceError, match="is capturing for another process"):
        make()


def test_flush_leaves_nothing_that_waited(make: Make) -> None:
    camera = make()
    first = camera.read(sample_of(camera), BOUND_NS)
    camera.flush()
    second = camera.read(sample_of(camera), BOUND_NS)
    assert first.sequence is not None
    assert second.sequence is not None
    assert second.sequence > first.sequence


def test_a_buffer_that_the_driver_calls_damaged_is_invalid(make: Make) -> None:
    camera = make()
    camera.read(sample_of(camera), BOUND_NS)
    vivid(PORT, "Inject V4L2_BUF_FLAG_ERROR", 1)
    reasons = []
    for _ in range(100):
        sample = sample_of(camera)
        reasons.append(camera.read(sample, BOUND_NS).reason)
        if reasons[-1]:
            assert not sample["image"].any()
            break
    assert reasons[-1] == "checksum"
    readings, _ = read(camera, 3)
    assert [reading.reason for reading in readings] == ["", "", ""]


def test_a_camera_that_is_gone_is_a_device_error_and_comes_back(make: Make) -> None:
    camera = make()
    camera.read(sample_of(camera), BOUND_NS)
    vivid(PORT, "Disconnect", 1)
    with pytest.raises(DeviceError, match="gone"):
        for _ in range(100):
            camera.read(sample_of(camera), BOUND_NS)
    camera.close()
    assert camera.open() == -1
    camera.start()
    readings, _ = read(camera, 3)
    assert [reading.reason for reading in readings] == ["", "", ""]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 321}, "no 321x180 in GREY: the nearest is 320x180"),
        ({"fps": 29.0}, "does not give 29 images per second at 320x180: the nearest is"),
        ({"exposure_us": 5_000}, "does not let its exposure be set"),
    ],
)
def test_what_the_camera_does_not_have_is_refused_with_what_it_has(
    make: Make, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        make(**options)
