"""Did a camera move: scenes that are drawn, moved by what is known, come back with that motion."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inphase.command.camera_motion import KEPT, grey, keep, motion, read, told
from inphase.errors import RecordingError

WIDE, HIGH = 320, 240
Grey = NDArray[np.float64]


def scene(x: float = 0, y: float = 0, degrees: float = 0, seed: int = 1) -> Grey:
    """Blobs of all sizes, moved about the middle of the image, with the noise of a camera."""
    draw = np.random.default_rng(4)
    large = draw.uniform(0, 255, (480, 640))
    large = sum(cv2.GaussianBlur(large, (0, 0), s) * s for s in (1.5, 4.0, 9.0))
    large = (large - large.min()) / np.ptp(large) * 255
    way = cv2.getRotationMatrix2D((320 - 0.5, 240 - 0.5), -degrees, 1.0)
    way[:, 2] += (x - 160, y - 120)
    seen = cv2.warpAffine(large, way, (WIDE, HIGH), flags=cv2.INTER_CUBIC)
    return np.clip(seen + np.random.default_rng(seed).normal(0, 1.0, seen.shape), 0, 255)


def images(**way: float) -> list[Grey]:
    return [scene(seed=10 + n, **way) for n in range(KEPT)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "y", "degrees"), [(1.6, -0.8, 0), (-7.25, 11.5, 0), (0, 0, 0.5), (3, 2, -1)]
)
def test_a_motion_that_is_known_comes_back(x: float, y: float, degrees: float) -> None:
    found = motion(scene(), images(x=x, y=y, degrees=degrees))
    assert found["moved"]
    uncertainty = found["uncertainty_px"]
    assert uncertainty < 0.6
    assert (found["x_px"], found["y_px"]) == pytest.approx((x, y), abs=uncertainty)
    assert found["turn_deg"] == pytest.approx(degrees, abs=np.degrees(uncertainty / 100))
    assert "MOVED" in told(found, Path("before.png"))


def test_a_camera_that_stands_does_not_move_also_in_other_light() -> None:
    for others in (images(), [0.7 * one + 20 for one in images()]):
        found = motion(scene(), others)
        assert found["moved"] is False
        assert found["corner_px"] < 0.1  # the floor of the uncertainty


def test_a_thing_that_moves_before_it_is_left_out() -> None:
    moved = images()
    for one in moved:
        one[150:220, 20:100] = scene(x=40, y=40)[150:220, 20:100]
    found = motion(scene(), moved)
    assert found["moved"] is False


def test_another_scene_is_not_known() -> None:
    others = [np.random.default_rng(n).uniform(0, 255, (HIGH, WIDE)) for n in range(3)]
    found = motion(scene(), others)
    assert found["moved"] is None
    assert "not known if it moved" in told(found, Path("before.png"))
    assert motion(np.zeros((HIGH, WIDE)), images())["moved"] is None


def test_a_reference_is_kept_and_read(tmp_path: Path) -> None:
    path = tmp_path / "before.png"
    keep(images(), path)
    assert motion(read(path), images())["moved"] is False
    with pytest.raises(
        RecordingError, match=r"images have 160x240 pixels, and the reference 320x2"
    ):
        motion(read(path), [scene()[:, :160]])
    with pytest.raises(RecordingError, match=r"is no image; make one with .*--keep"):
        read(tmp_path / "nothing.png")
    with pytest.raises(RecordingError, match=r"no image came"):
        keep([], path)


def test_brightness_of_every_layout() -> None:
    plain = scene().astype(np.uint8)
    assert (grey(plain) == plain).all()
    assert (grey(np.stack([plain, plain, plain], 2)) == plain).all()
    assert (grey(np.stack([plain, np.zeros_like(plain)], 2)) == plain).all()
