"""The driver for Basler cameras, against Basler's own emulator of cameras, by software trigger."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cameras import camera_schedule, fresh_frames, sample_of, shoot, started
from inphase import Runner
from inphase.driver import DeviceError
from inphase_drivers.pylon import BaslerOptions, Camera
from peers import until

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:builtin type [Ss]wig:DeprecationWarning"),
]
SOON_NS = 50_000_000  # how long an image that must not come is waited for


@pytest.fixture(autouse=True)
def emulated_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three; pylon reads the variable each time it looks for cameras."""
    monkeypatch.setenv("PYLON_CAMEMU", "3")


def camera(**changes: object) -> Camera:
    keys = {"serial": "0815-0000", "width": 64, "height": 48, "exposure_us": 500.0} | changes
    return Camera("eye", BaslerOptions(**keys))


@pytest.fixture
def eye() -> Iterator[Camera]:
    with started(camera()) as driver:
        yield driver


def ready(driver: Camera) -> None:
    """Wait until the camera takes a trigger."""
    from pypylon import pylon

    driver.camera.WaitForFrameTriggerReady(10_000, pylon.TimeoutHandling_ThrowException)


def test_an_image_comes_for_each_trigger_and_the_block_numbers_pair_them(eye: Camera) -> None:
    sample = sample_of(eye)
    readings = []
    for _ in range(20):
        ready(eye)
        readings.append(shoot(eye, sample))
    numbers = [reading.sequence for reading in readings]
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    assert {reading.reason for reading in readings} == {""}


def test_nothing_comes_without_a_trigger(eye: Camera) -> None:
    with pytest.raises(TimeoutError, match="device eye: no image"):
        eye.read(sample_of(eye), SOON_NS)


def test_the_emulators_device_time_is_no_stamp(eye: Camera) -> None:
    assert shoot(eye, sample_of(eye)).device_ns is None


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12", "RGB8", "BayerRG8"])
def test_the_image_in_the_sample_is_the_one_that_pylon_shows(pixel_format: str) -> None:
    driver = camera(pixel_format=pixel_format, width=40, height=30)
    with started(driver):
        sample = sample_of(driver)
        shoot(driver, sample)
        ours = sample["image"].copy()
        # the test image moves by one grey level per image and is 256 images round
        ready(driver)
        driver.trigger()
        with driver.camera.RetrieveResult(10_000) as result:
            theirs = result.Array
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.any()
        step = np.unique(theirs.astype(int) - ours)
        assert len(step[step > 0]) == 1


def test_images_that_wait_are_flushed_and_counted(eye: Camera) -> None:
    sample = sample_of(eye)
    before = shoot(eye, sample).sequence
    for _ in range(3):
        ready(eye)
        eye.trigger()
    until(lambda: eye.camera.NumReadyBuffers.Value == 3)
    assert eye.flush() == 3
    assert eye.flush() == 0
    ready(eye)
    assert shoot(eye, sample).sequence == before + 4


def test_a_trigger_before_the_camera_is_ready_is_ignored_and_leaves_no_gap() -> None:
    with started(camera(exposure_us=100_000.0)) as driver:
        sample = sample_of(driver)
        driver.trigger()
        first = shoot(driver, sample)
        with pytest.raises(TimeoutError):
            driver.read(sample, 4 * SOON_NS)
        ready(driver)
        assert shoot(driver, sample).sequence == first.sequence + 1


def test_failed_buffers_are_invalid_samples_and_the_next_image_is_whole(eye: Camera) -> None:
    sample = sample_of(eye)
    sample["image"] = 7
    eye.camera.ForceFailedBufferCount.Value = 3
    eye.camera.ForceFailedBuffer.Execute()
    readings = []
    for _ in range(3):
        ready(eye)
        readings.append(shoot(eye, sample))
        assert (sample["image"] == 7).all()
    ready(eye)
    whole = shoot(eye, sample)
    # the emulator fills a tenth of a buffer that it lets fail
    assert {(reading.reason, reading.detail) for reading in readings} == {("size", 307)}
    assert (whole.reason, whole.sequence) == ("", readings[-1].sequence + 1)
    assert not (sample["image"] == 7).all()


def test_two_cameras_at_once_each_give_their_own_images() -> None:
    with ExitStack() as stack:
        small = stack.enter_context(started(camera(serial="0815-0001")))
        large = stack.enter_context(started(camera(serial="0815-0002", width=128)))
        samples = {driver: sample_of(driver) for driver in (small, large)}
        first = {driver: shoot(driver, samples[driver]).sequence for driver in samples}
        for number in range(1, 11):
            for driver in samples:
                ready(driver)
            for driver in samples:
                driver.trigger()
            for driver, sample in samples.items():
                assert driver.read(sample, 10_000_000_000).sequence == first[driver] + number
        assert samples[large]["image"].shape == (48, 128)
        assert samples[large]["image"][:, 64:].any()


def test_a_camera_on_a_line_gives_no_image_until_somebody_drives_the_line() -> None:
    with started(camera(trigger="Line1")) as driver:
        assert driver.camera.TriggerSource.Value == "Line1"
        driver.trigger()
        with pytest.raises(TimeoutError):
            driver.read(sample_of(driver), SOON_NS)


def test_a_camera_without_trigger_runs_by_itself() -> None:
    with started(camera(trigger="off", rate_hz=100.0)) as driver:
        assert driver.camera.AcquisitionFrameRate.Value == 100.0
        sample = sample_of(driver)
        first = driver.read(sample, 10_000_000_000)
        assert driver.read(sample, 10_000_000_000).sequence == first.sequence + 1


def test_a_camera_that_is_pulled_out_is_a_lost_device_and_comes_back() -> None:
    with started(camera()) as driver:
        sample = sample_of(driver)
        shoot(driver, sample)
        driver.camera.FirePnPCallbackValue.Value = 1
        until(driver.camera.IsCameraDeviceRemoved)
        with pytest.raises(DeviceError, match=r"device eye: .*0815-0000.* is gone"):
            driver.trigger()
        with pytest.raises(DeviceError, match="is gone"):
            driver.read(sample, SOON_NS)
        driver.close()
        driver.open()
        driver.start()
        assert shoot(driver, sample).reason == ""


def test_the_exposure_that_the_camera_took_is_the_one_of_the_model() -> None:
    driver = camera(exposure_us=500.4)
    driver.open()
    try:
        taken_us = driver.camera.ExposureTime.Value
        assert driver.sensor().calls.acquire_ns == round(taken_us * 1000) // 2
    finally:
        driver.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 9000}, "refuses Width = 9000: .*4096"),
        ({"exposure_us": 0.01}, r"refuses ExposureTime = 0\.01"),
        ({"trigger": "Line9"}, "no TriggerSource Line9; it has Software, Line1"),
        ({"serial": "4711"}, "no camera with serial 4711; found: 0815-0000, 0815-0001, 0815-0002"),
        ({"serial": "", "index": 3}, "no camera with index 3"),
        ({"serial": "", "ip": "127.0.0.9"}, r"ip 127\.0\.0\.9\) cannot be opened; check power"),
    ],
)
def test_a_refused_set_up_says_what_and_what_to_do(wrong: dict[str, object], said: str) -> None:
    driver = camera(**wrong)
    with pytest.raises(DeviceError, match=f"device eye: .*{said}"):
        driver.open()
    assert driver.camera is None


def test_a_subscriber_finds_both_cameras_images_of_one_cycle_in_the_store(tmp_path: Path) -> None:
    options = 'serial = "0815-000{}"\nwidth = {}\nheight = 120\nexposure_us = 500'
    cameras = {"left": options.format(0, 160), "right": options.format(1, 320)}
    path = camera_schedule(tmp_path, "inphase_drivers.pylon:Camera", cameras)
    with Runner(path) as robot:
        frames = fresh_frames(robot.schedule.name, 10)
    for frame in frames:
        for name, shape in (("left", (120, 160)), ("right", (120, 320))):
            sample = frame[name]
            image = sample.value["image"]
            assert (image.shape, image.dtype) == (shape, np.uint8)
            assert sample.cycle == frame.cycle
            assert sample.acquired_ns == sample.triggered_ns + 250_000
        left, right = frame["left"].acquired_ns, frame["right"].acquired_ns
        assert frame.skew_ns == abs(left - right)
    # the emulator's test image moves with each image that it takes
    for name in cameras:
        corners = [int(frame[name].value["image"][0, 0]) for frame in frames]
        for (one, before), (other, after) in pairwise(zip(frames, corners, strict=True)):
            assert 1 <= (after - before) % 256 <= other.cycle - one.cycle
