"""What camera drivers share, by itself: layouts, stamps, block numbers, options."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.driver import Acquire
from inphase_drivers.genicam import CameraOptions, ImageCount, middle_ns, sensor_spec

MS = 1_000_000


def options(**changes: object) -> CameraOptions:
    keys = {"width": 640, "height": 480, "exposure_us": 4000} | changes
    return msgspec.convert(keys, CameraOptions)


@pytest.mark.parametrize(
    ("pixel_format", "shape", "dtype"),
    [
        ("Mono8", (480, 640), "|u1"),
        ("Mono12", (480, 640), "<u2"),
        ("Mono16", (480, 640), "<u2"),
        ("BayerRG8", (480, 640), "|u1"),
        ("RGB8", (480, 640, 3), "|u1"),
    ],
)
def test_the_pixel_format_gives_the_images_shape(
    pixel_format: str, shape: tuple[int, ...], dtype: str
) -> None:
    (image,) = sensor_spec(options(pixel_format=pixel_format), 4 * MS).fields
    assert (image.shape, image.dtype) == (shape, dtype)


def test_a_fired_camera_states_the_middle_of_its_exposure_and_how_long_an_image_takes() -> None:
    calls = sensor_spec(options(readout_us=10_000), 4 * MS).calls
    assert calls is not None
    assert (calls.acquire, calls.acquire_ns) == (Acquire.AFTER_TRIGGER, 2 * MS)
    assert (calls.latency_ns, calls.latency_max_ns) == (14 * MS, 34 * MS)


def test_a_line_that_the_schedule_drives_is_a_trigger_like_another() -> None:
    camera = options(trigger="Line1")
    calls = sensor_spec(camera, 4 * MS).calls
    assert calls is not None
    assert (camera.fired, calls.triggered, calls.acquire_ns) == (False, True, 2 * MS)


@pytest.mark.parametrize("changes", [{"trigger": "Line1", "external": True}, {"trigger": "off"}])
def test_a_camera_that_others_fire_is_latched_and_states_its_rate(
    changes: dict[str, object],
) -> None:
    calls = sensor_spec(options(rate_hz=25, **changes), 4 * MS).calls
    assert calls is not None
    assert (calls.triggered, calls.acquire) == (False, Acquire.ABSENT)
    assert calls.interval_ns == 40 * MS


def test_a_stamp_is_moved_to_the_middle_of_the_exposure() -> None:
    assert middle_ns(options(), 1000 * MS, 4 * MS) == 1002 * MS
    assert middle_ns(options(stamp="end"), 1000 * MS, 4 * MS) == 998 * MS


def test_a_stamp_of_zero_or_of_unknown_meaning_is_none() -> None:
    assert middle_ns(options(), 0, 4 * MS) is None
    assert middle_ns(options(stamp="none"), 1000 * MS, 4 * MS) is None


@given(first=st.integers(1, 65_535), steps=st.lists(st.integers(1, 30_000), max_size=20))
def test_block_numbers_of_16_bits_that_leave_out_0_become_one_count(
    first: int, steps: list[int]
) -> None:
    count = ImageCount()
    last, true = count.of(first), first
    for step in steps:
        true += step
        now = count.of((true - 1) % 65_535 + 1)
        assert now - last == step
        last = now


def test_block_numbers_of_64_bits_go_on() -> None:
    count = ImageCount()
    assert [count.of(block) for block in (0, 65_535, 65_536, 70_000)] == [0, 65_535, 65_536, 70_000]


@pytest.mark.parametrize(
    "wrong",
    [
        {"serial": "1", "ip": "10.0.0.1"},
        {"pixel_format": "YUV"},
        {"exposure_us": 0},
        {"what": 1},
        {"external": True},
        {"rate_hz": 10},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        options(**wrong)
