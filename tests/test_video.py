"""Cameras of the kernel: what can be said without one. The rest runs in tests/vm."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from inphase.driver import DeviceError, Reading
from inphase.video import Image
from inphase_drivers.v4l2 import Camera, CameraOptions, usb_serial

INTERVAL_NS = 1_000_000_000 // 30


def camera(**options: object) -> Camera:
    return Camera("eye", msgspec.convert(options, CameraOptions))


@pytest.mark.parametrize("pixel_format", ["MJPG", "H264"])
def test_a_compressed_format_is_refused_with_the_reason(pixel_format: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="compressed: its images differ in size"):
        camera(pixel_format=pixel_format)


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(msgspec.ValidationError, match="'NV12' is not one of GREY, Y16, YUYV"):
        camera(pixel_format="NV12")


@pytest.mark.parametrize(
    ("pixel_format", "shape", "dtype"),
    [
        ("GREY", (48, 64), "|u1"),
        ("Y16", (48, 64), "<u2"),
        ("YUYV", (48, 64, 2), "|u1"),
        ("RGB3", (48, 64, 3), "|u1"),
    ],
)
def test_the_field_has_the_shape_of_the_format(
    pixel_format: str, shape: tuple[int, ...], dtype: str
) -> None:
    spec = camera(width=64, height=48, pixel_format=pixel_format, fps=50).sensor()
    assert (spec.fields[0].shape, spec.fields[0].dtype) == (shape, dtype)
    assert spec.calls is not None
    assert not spec.calls.triggered
    assert (spec.calls.latency_ns, spec.calls.interval_ns) == (20_000_000, 20_000_000)


def test_a_camera_that_is_not_there_is_said_so() -> None:
    with pytest.raises(DeviceError, match="device eye: /nowhere/video7 is not there"):
        camera(port="/nowhere/video7").open()


def test_a_file_that_is_no_camera_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "video"
    file.write_bytes(b"not a camera")
    with pytest.raises(DeviceError, match="is not a V4L2 device"):
        camera(port=str(file)).open()
    with pytest.raises(DeviceError, match="is not a V4L2 device"):
        camera(port="/dev/null").open()


def test_a_camera_that_is_not_open_does_not_read() -> None:
    eye = camera()
    eye.close()
    with pytest.raises(DeviceError, match="is not open"):
        eye.start()


# ---- what a stamp says ---------------------------------------------------------------------


def reading(
    eye: Camera,
    *,
    sequence: int = 0,
    stamp_ns: int = 1_000_000_000,
    received_ns: int = 1_100_000_000,
    monotonic: bool = True,
    start_of_exposure: bool = False,
    broken: bool = False,
    size: int | None = None,
) -> Reading:
    """What the driver makes of one image that the kernel handed over like this."""
    lines = np.zeros((eye.options.height, 2 * eye.options.width), np.uint8)
    image = Image(
        lines,
        lines.nbytes if size is None else size,
        sequence,
        broken,
        0,
        monotonic,
        start_of_exposure,
        stamp_ns,
        received_ns,
    )
    return eye._reading(image)


@pytest.fixture
def eye() -> Camera:
    camera_ = camera()
    camera_._interval_ns = INTERVAL_NS
    return camera_


def test_the_end_of_a_frame_bounds_the_exposure_from_behind(eye: Camera) -> None:
    got = reading(eye)
    assert got.acquired_ns is not None
    assert got.uncertainty_ns is not None
    assert got.acquired_ns + got.uncertainty_ns == pytest.approx(1_000_000_000, abs=2)
    earliest = 1_000_000_000 - 3 * INTERVAL_NS // 2
    assert got.acquired_ns - got.uncertainty_ns == pytest.approx(earliest, abs=2)


def test_the_start_of_an_exposure_bounds_it_from_before(eye: Camera) -> None:
    got = reading(eye, start_of_exposure=True)
    assert got.acquired_ns == pytest.approx(1_000_000_000 + INTERVAL_NS // 2, abs=2)
    assert got.uncertainty_ns == pytest.approx(INTERVAL_NS // 2, abs=2)


def test_no_exposure_goes_on_after_the_image_was_there(eye: Camera) -> None:
    got = reading(eye, start_of_exposure=True, received_ns=1_000_001_000)
    assert (got.acquired_ns, got.uncertainty_ns) == (1_000_000_250, 250)


def test_an_exposure_set_by_hand_leaves_only_the_read_out_open() -> None:
    eye = camera(exposure_us=4_000)
    eye._interval_ns = INTERVAL_NS
    got = reading(eye, start_of_exposure=True)
    assert got.acquired_ns == pytest.approx(1_002_000_000 + INTERVAL_NS // 4, abs=2)
    assert got.uncertainty_ns == pytest.approx(INTERVAL_NS // 4, abs=2)
    end = reading(eye, sequence=1, stamp_ns=1_000_000_000 + INTERVAL_NS)
    assert end.acquired_ns == pytest.approx(998_000_000 + INTERVAL_NS // 2, abs=2)
    assert end.uncertainty_ns == pytest.approx(INTERVAL_NS // 2, abs=2)


def test_an_exposure_longer_than_the_image_took_to_come_is_not_believed() -> None:
    eye = camera(exposure_us=20_000)
    eye._interval_ns = INTERVAL_NS
    got = reading(eye, start_of_exposure=True, received_ns=1_004_000_000)
    assert (got.acquired_ns, got.uncertainty_ns) == (None, None)


def test_images_further_apart_than_agreed_widen_the_bound(eye: Camera) -> None:
    reading(eye, start_of_exposure=True, sequence=1)
    slow = reading(
        eye,
        start_of_exposure=True,
        sequence=2,
        stamp_ns=1_000_000_000 + 4 * INTERVAL_NS,
        received_ns=2_000_000_000,
    )
    assert slow.uncertainty_ns == pytest.approx(2 * INTERVAL_NS, abs=4)


@pytest.mark.parametrize(
    "told",
    [{"monotonic": False}, {"stamp_ns": 1_103_000_000}, {"stamp_ns": 0}],
    ids=["another clock", "the future", "no stamp"],
)
def test_a_stamp_that_says_nothing_is_not_used(eye: Camera, told: dict[str, int]) -> None:
    got = reading(eye, **told)  # type: ignore[arg-type]
    assert (got.acquired_ns, got.uncertainty_ns) == (None, None)
    assert got.received_ns == 1_100_000_000


def test_a_damaged_or_short_image_is_invalid(eye: Camera) -> None:
    assert reading(eye, broken=True).reason == "checksum"
    short = reading(eye, sequence=1, size=100)
    assert (short.reason, short.detail) == ("size", 100)


def test_the_count_of_frames_goes_on_where_its_32_bits_end(eye: Camera) -> None:
    first = reading(eye, sequence=2**32 - 1).sequence
    second = reading(eye, sequence=1).sequence
    assert first is not None
    assert second == first + 2


def test_the_serial_number_is_that_of_the_usb_device(tmp_path: Path) -> None:
    """As the kernel lays it out: a link from the node to an interface, in the device's folder."""
    usb = tmp_path / "usb1" / "1-4"
    (usb / "1-4:1.0").mkdir(parents=True)
    node = tmp_path / "class" / "video2"
    node.mkdir(parents=True)
    (node / "device").symlink_to(usb / "1-4:1.0")
    assert usb_serial(Path("/dev/video2"), tmp_path / "class") is None
    (usb / "serial").write_text("A1B2\n")
    assert usb_serial(Path("/dev/video2"), tmp_path / "class") == "A1B2"
    assert usb_serial(Path("/dev/video3"), tmp_path / "class") is None


def test_another_camera_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = Camera("eye", CameraOptions(port="/dev/video2", serial="A1B2"))
    monkeypatch.setattr("inphase_drivers.v4l2.usb_serial", lambda port: "C3D4")
    with pytest.raises(DeviceError, match=r"serial number 'C3D4', and serial is 'A1B2': correct"):
        camera.open()
    monkeypatch.setattr("inphase_drivers.v4l2.usb_serial", lambda port: None)
    with pytest.raises(DeviceError, match=r"tells no USB serial number, and serial is 'A1B2'"):
        camera.open()
