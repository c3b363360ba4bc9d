"""The driver for GenICam cameras through Aravis, against Aravis's own fake GigE Vision camera.

GVCP and GVSP are spoken over loopback between two processes.
"""

import fcntl
import gc
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from cameras import camera_schedule, fresh_frames, sample_of, shoot, started
from inphase import Runner
from inphase.driver import DeviceError, Reading
from inphase_drivers import aravis
from inphase_drivers.aravis import Camera
from inphase_drivers.genicam import CameraOptions
from peers import BOUND_S, ROOT, until

pytestmark = pytest.mark.real
SERVER = ROOT / "tests" / "aravis_camera.py"
LOCK = Path(tempfile.gettempdir()) / "inphase-test-gvcp.lock"
NEEDS = "gi and Aravis (Debian: python3-gi, gir1.2-aravis-0.8, libaravis-0.8-0)"
SERIAL = "INPHASE1"
SOON_NS = 50_000_000  # how long an image that must not come is waited for
WAIT_NS = 20_000_000_000
EXPOSURE_US = 10_000.0  # of the fake camera's test image: it takes no time, and makes it as bright

# the shortest exposure: the fake camera takes none of it, and its stamp is moved by the half
ROBOTS = """
ip = "127.0.0.1"
packet_bytes = 8000
width = 160
height = 120
exposure_us = 10
gain = 3
"""


class FakeCamera:
    """The fake camera in a process of its own."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(SERVER), SERIAL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "running"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def lose(self, ratio: float) -> None:
        """Lose this part of the image packets from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"lose {ratio}\n")
        self._process.stdin.flush()
        assert self._answer() == f"losing {ratio}"

    def pull_out(self) -> None:
        """End it without a word to anybody."""
        self._process.kill()
        self._process.wait(BOUND_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(BOUND_S)
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()


def python_with_aravis() -> str | None:
    """A Python that can host the fake camera."""
    code = "import gi; gi.require_version('Aravis', '0.8'); from gi.repository import Aravis"
    for python in ("/usr/bin/python3", shutil.which("python3"), sys.executable):
        if python and Path(python).exists():
            done = subprocess.run([python, "-c", code], capture_output=True, check=False)
            if done.returncode == 0:
                return python
    return None


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """A Python for the fake camera, and the only GVCP port of 127.0.0.1 to ourselves."""
    found = python_with_aravis()
    if found is None:
        pytest.skip(f"no Python has {NEEDS}")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield found


@pytest.fixture
def fake(python: str) -> Iterator[FakeCamera]:
    with FakeCamera(python) as server:
        yield server


def camera(**changes: object) -> Camera:
    keys = {
        "ip": "127.0.0.1",
        "width": 160,
        "height": 120,
        "exposure_us": EXPOSURE_US,
        "packet_bytes": 8000,  # the fake camera does not negotiate it
        "readout_us": 100_000,  # patience with a loaded machine
    }
    return Camera("eye", CameraOptions(**keys | changes))


@pytest.fixture
def eye(fake: FakeCamera) -> Iterator[Camera]:
    with started(camera()) as driver:
        yield driver


def test_the_image_is_the_one_of_its_block_number_also_where_that_wraps(eye: Camera) -> None:
    sample = sample_of(eye)
    rows, columns = np.indices((120, 160))
    readings = []
    for _ in range(200):  # the fake camera begins near the end of the 16 bits
        readings.append(shoot(eye, sample))
        block = (readings[-1].sequence - 1) % 65_535 + 1
        assert (sample["image"] == (columns + rows + block) % 255).all()
    numbers = [reading.sequence for reading in readings]
    assert numbers == list(range(numbers[0], numbers[0] + 200))
    assert numbers[0] < 65_536 < numbers[-1]


def test_nothing_comes_without_a_trigger(eye: Camera) -> None:
    with pytest.raises(TimeoutError, match="device eye: no image"):
        eye.read(sample_of(eye), SOON_NS)


def test_the_cameras_stamps_advance_in_nanoseconds_and_are_moved_to_the_middle(
    eye: Camera,
) -> None:
    sample = sample_of(eye)
    half_ns = round(EXPOSURE_US * 1000) // 2
    last_ns = 0
    for _ in range(20):
        before_ns = time.time_ns()  # what the fake camera takes for its clock, in microseconds
        reading = shoot(eye, sample)
        assert reading.device_ns is not None
        assert before_ns - 1000 <= reading.device_ns - half_ns <= time.time_ns()
        assert reading.device_ns > last_ns
        last_ns = reading.device_ns


def test_drivers_that_are_thrown_away_leave_the_library_loaded(fake: FakeCamera) -> None:
    for _ in range(3):  # GLib waits for ever where Aravis registers its types a second time
        with started(camera()) as driver:
            assert shoot(driver, sample_of(driver)).reason == ""
        del driver
        gc.collect()


def test_a_stamp_that_the_schedule_calls_meaningless_is_left_out(fake: FakeCamera) -> None:
    with started(camera(stamp="none")) as driver:
        assert shoot(driver, sample_of(driver)).device_ns is None


@pytest.mark.parametrize(
    ("pixel_format", "shape"),
    [("Mono16", (120, 160)), ("RGB8", (120, 160, 3)), ("BayerRG8", (120, 160))],
)
def test_other_pixel_formats_fill_their_sample(
    fake: FakeCamera, pixel_format: str, shape: tuple[int, ...]
) -> None:
    with started(camera(pixel_format=pixel_format)) as driver:
        sample = sample_of(driver)
        assert shoot(driver, sample).reason == ""
        assert sample["image"].shape == shape
        assert sample["image"].any()


def test_images_that_wait_are_flushed_and_counted(eye: Camera) -> None:
    sample = sample_of(eye)
    before = shoot(eye, sample).sequence
    for _ in range(3):
        eye.trigger()
        until(lambda: eye.flush() == 1)
    assert eye.flush() == 0
    assert shoot(eye, sample).sequence == before + 4


def test_lost_packets_make_invalid_samples_and_the_images_after_them_are_whole(
    fake: FakeCamera,
) -> None:
    invalid: list[Reading] = []
    with started(camera(packet_bytes=1000, readout_us=10_000)) as driver:
        sample = sample_of(driver)
        sample["image"] = 255
        fake.lose(0.3)

        def look() -> bool:
            try:
                reading = shoot(driver, sample)
            except TimeoutError:  # every packet of it was lost
                return False
            if reading.reason:
                invalid.append(reading)
            else:
                sample["image"] = 255
            return len(invalid) == 5

        until(look)
        fake.lose(0.0)
        assert {reading.reason for reading in invalid} == {"size"}
        assert {reading.device_ns for reading in invalid} == {None}
        assert (sample["image"] == 255).all()
        until(lambda: shoot(driver, sample).reason == "")
        assert not (sample["image"] == 255).all()


def test_a_camera_on_a_line_gives_no_image_until_somebody_drives_the_line(
    fake: FakeCamera,
) -> None:
    with started(camera(trigger="Line0")) as driver:
        driver.trigger()
        with pytest.raises(TimeoutError):
            driver.read(sample_of(driver), SOON_NS)


def test_a_camera_without_trigger_runs_by_itself(fake: FakeCamera) -> None:
    with started(camera(trigger="off", rate_hz=100.0)) as driver:
        sample = sample_of(driver)
        first = driver.read(sample, WAIT_NS)
        assert driver.read(sample, WAIT_NS).sequence == first.sequence + 1


def test_a_camera_is_found_by_its_serial_number(fake: FakeCamera) -> None:
    with started(camera(ip="", serial=SERIAL)) as driver:
        assert shoot(driver, sample_of(driver)).reason == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 9000}, r"refuses the region .*9000.*2048"),
        ({"exposure_us": 0.01}, r"refuses exposure_us 0\.01: .*minimum"),
        ({"gain": 1e9}, "refuses gain"),
        ({"pixel_format": "Mono12"}, "refuses pixel_format Mono12"),
        ({"trigger": "Line9"}, "refuses trigger 'Line9'"),
        ({"ip": "", "serial": "4711"}, "no camera with serial 4711; found: .*INPHASE1"),
        ({"ip": "", "index": 63}, "no camera with index 63"),
    ],
)
def test_a_refused_set_up_says_what(fake: FakeCamera, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(DeviceError, match=f"device eye: .*{said}"):
        camera(**wrong).open()


def test_a_camera_that_is_pulled_out_is_a_lost_device_and_comes_back(python: str) -> None:
    driver = camera()
    sample = sample_of(driver)
    with FakeCamera(python):
        driver.open()
        driver.start()
        assert shoot(driver, sample).reason == ""
    with pytest.raises(DeviceError, match=r"device eye: .*127\.0\.0\.1.* did not take the trigger"):
        driver.trigger()
    driver.close()
    with pytest.raises(DeviceError, match="cannot be opened; check power"):
        driver.open()
    with FakeCamera(python):
        driver.open()
        driver.start()
        assert shoot(driver, sample).reason == ""
        driver.close()


def test_a_camera_that_runs_by_itself_and_stops_is_lost_when_it_does_not_answer(
    python: str,
) -> None:
    driver = camera(trigger="off")
    sample = sample_of(driver)
    with FakeCamera(python):
        driver.open()
        driver.start()

    def lost() -> bool:
        try:
            driver.read(sample, SOON_NS)
        except TimeoutError:
            return False
        except DeviceError as error:
            return "does not answer" in str(error)
        return False

    until(lost)
    driver.close()


def test_a_subscriber_finds_images_in_the_store_with_the_cameras_time_on_the_hosts_clock(
    fake: FakeCamera, tmp_path: Path
) -> None:
    path = camera_schedule(tmp_path, "inphase_drivers.aravis:Camera", {"eye": ROBOTS})
    rows, columns = np.indices((120, 160))
    with Runner(path) as robot:
        frames = fresh_frames(robot.schedule.name, 20)
    known = [frame for frame in frames if frame["eye"].uncertainty_ns]
    assert known
    for frame in known:
        eye = frame["eye"]
        assert eye.cycle == frame.cycle
        off_ns = eye.uncertainty_ns
        assert eye.triggered_ns - off_ns <= eye.acquired_ns <= eye.received_ns + off_ns
    blocks = [int(frame["eye"].value["image"][0, 0]) for frame in frames]
    for (one, before), (other, after) in pairwise(zip(frames, blocks, strict=True)):
        assert 1 <= (after - before) % 255 <= other.cycle - one.cycle
    for frame, block in zip(frames, blocks, strict=True):
        assert (frame["eye"].value["image"] == (columns + rows + block) % 255).all()


def test_a_camera_that_is_pulled_out_of_a_running_robot_is_offline_and_comes_back(
    python: str, tmp_path: Path
) -> None:
    path = camera_schedule(tmp_path, "inphase_drivers.aravis:Camera", {"eye": ROBOTS})
    with ExitStack() as stack:
        first = stack.enter_context(FakeCamera(python))
        robot = stack.enter_context(Runner(path))
        seen: list[str] = []

        def sees(status: str) -> bool:
            seen.append(robot.next(BOUND_S)["eye"].status)
            return seen[-1] == status

        until(lambda: sees("FRESH"))
        first.pull_out()
        until(lambda: sees("OFFLINE"))
        gone = len(seen)
        stack.enter_context(FakeCamera(python))
        until(lambda: sees("FRESH"))
    assert "RECOVERING" in seen[gone:]


def test_without_the_library_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aravis, "_LIBRARY", "libaravis-that-is-not-there.so.0")
    monkeypatch.setattr(aravis, "_aravis", aravis._aravis.__wrapped__)
    with pytest.raises(DeviceError, match=r"eye: Aravis is not there: .*apt install libarav"):
        camera().open()
