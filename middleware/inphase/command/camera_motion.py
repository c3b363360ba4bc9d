"""Did a camera move? Its images against a picture of before, for `inphase probe --reference`.

Corners in the reference are followed into the images by optical flow (OpenCV, extra `vision`), and
back again. A turn, a scale and a shift are fitted to them. Corners on things that move before the
camera do not fit, and are left out; what the others leave is the uncertainty.

Keys of the result, in pixels of the reference: x_px, y_px (of its middle; positive: the scene is
further right, further down), corner_px (of the corner that moved most), uncertainty_px, turn_deg,
scale, points (that fit), of (that were looked for), images, moved (null: not known).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError, ScheduleError, install
from inphase.frames.frame import Frame

KEPT = 5
_POINTS, _POINTS_LEAST = 300, 20
_PART_LEAST = 0.5  # of the points have to fit, else it is another scene
_BACK_PX = 0.5  # there and back again, a point is where it was
_FLOOR_PX = 0.1  # what is found of images that stand still differs by less (tests/test_moved.py)
_SURE = 3.0  # times the uncertainty
_OUTLIER = 3.0

Grey = NDArray[np.float64]


class Images:
    """The last images of one sensor. Raises ScheduleError for a sensor without any."""

    def __init__(self, sensor: str) -> None:
        self._sensor = sensor
        self._known = -1
        self.kept: list[Grey] = []

    def take(self, frame: Frame) -> None:
        """Keep the image of a frame, if it is new and whole."""
        sample = frame[self._sensor]
        if sample.status != "FRESH" or sample.sequence == self._known:
            return
        value = sample.value
        if "image" not in (value.dtype.names or ()):
            raise ScheduleError(
                f"sensor {self._sensor} has no field image; --reference and --keep are for cameras"
            )
        image = grey(value["image"])
        if sample.intact:
            self._known = sample.sequence
            self.kept = [*self.kept[1 - KEPT :], image]


def grey(image: NDArray[Any]) -> Grey:
    """An image's brightness. Of two bytes a pixel (YUYV) it is the first."""
    if image.ndim == 2:
        return image.astype(float)
    return image[:, :, 0].astype(float) if image.shape[2] == 2 else image.mean(axis=2)


def keep(images: list[Grey], path: Path) -> None:
    """Write the last image as PNG. Raises RecordingError."""
    if not images:
        raise RecordingError(f"{path}: no image came that could be kept; look at the statuses")
    picture = np.clip(images[-1] * (255.0 / max(255.0, images[-1].max())), 0, 255)
    if not _opencv().imwrite(str(path), picture.astype(np.uint8)):
        raise RecordingError(f"{path}: cannot be written; give a name that ends in .png")


def read(path: Path) -> Grey:
    """A reference. Raises RecordingError."""
    found = _opencv().imread(str(path), 0)
    if found is None:
        raise RecordingError(
            f"{path}: is no image; make one with `inphase probe SCHEDULE SENSOR --keep {path}`"
        )
    return np.asarray(found, dtype=float)


def motion(reference: Grey, images: list[Grey]) -> dict[str, Any]:
    """How far the camera moved since the reference. Raises RecordingError for another size."""
    if not images:
        raise RecordingError("no image came that could be compared; look at the statuses")
    if images[0].shape != reference.shape:
        here, there = ("x".join(map(str, one.shape[::-1])) for one in (images[0], reference))
        raise RecordingError(
            f"images have {here} pixels, and the reference {there}; set width and height as they "
            f"were, or keep another reference"
        )
    count, places, moved = _followed(reference, np.median(images, axis=0))
    result: dict[str, Any] = {"points": 0, "of": count, "images": len(images), "moved": None}
    if len(places) < _POINTS_LEAST:
        return result
    fit, left, fitting = _fitted(places, moved)
    result["points"] = fitting
    if fitting < max(_POINTS_LEAST, _PART_LEAST * count):
        return result
    high, wide = reference.shape
    corners = np.array([[x, y] for x in (-wide / 2, wide / 2) for y in (-high / 2, high / 2)])
    corner = float(np.linalg.norm(_system(corners).dot(fit).reshape(-1, 2), axis=1).max())
    uncertainty = max(_FLOOR_PX, 2 * left * float(np.sqrt(4 / fitting)))
    return result | {
        "x_px": float(fit[2]),
        "y_px": float(fit[3]),
        "corner_px": corner,
        "uncertainty_px": uncertainty,
        "turn_deg": float(np.degrees(np.arctan2(fit[1], 1 + fit[0]))),
        "scale": float(np.hypot(1 + fit[0], fit[1])),
        "moved": corner > _SURE * uncertainty,
    }


def told(found: dict[str, Any], path: Path) -> str:
    """The result for a person."""
    if found["moved"] is None:
        return (
            f"camera: not known if it moved: {found['points']} of {found['of']} points of {path} "
            f"were found again; light the same scene, or keep another reference"
        )
    return (
        f"camera: {'MOVED' if found['moved'] else 'did not move'} since {path}: x "
        f"{found['x_px']:+.2f}, y {found['y_px']:+.2f} px, {found['turn_deg']:+.2f} deg, up to "
        f"{found['corner_px']:.2f} px in a corner; +- {found['uncertainty_px']:.2f} px"
    )


def _followed(reference: Grey, image: Grey) -> tuple[int, Grey, Grey]:
    """How many points were looked for; the places of those found, from the image's middle, and
    their motion."""
    cv2 = _opencv()
    high, wide = reference.shape
    first, second = _even(reference), _even(image)
    corners = cv2.goodFeaturesToTrack(first, _POINTS, 0.01, 8)
    if corners is None:
        return 0, np.zeros((0, 2)), np.zeros((0, 2))
    window = cv2.createHanningWindow((wide, high), cv2.CV_64F)
    whole, _ = cv2.phaseCorrelate(reference, image, window)
    start = corners.reshape(-1, 2)
    guess = (start + np.array(whole)).astype(np.float32)
    guessed = {"winSize": (21, 21), "maxLevel": 3, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, start, guess, **guessed)
    back, also, _ = cv2.calcOpticalFlowPyrLK(second, first, there, start.copy(), **guessed)
    good = (np.ravel(found) & np.ravel(also)).astype(bool)
    good &= np.linalg.norm(back - start, axis=1) < _BACK_PX
    middle = np.array([(wide - 1) / 2, (high - 1) / 2])
    return len(start), (start - middle)[good].astype(float), (there - start)[good].astype(float)


def _even(image: Grey) -> NDArray[np.uint8]:
    """With one mean and spread, so that other light is no other image."""
    spread = 50.0 / max(1e-6, float(image.std()))
    evened: NDArray[np.uint8] = np.clip((image - image.mean()) * spread + 128, 0, 255).astype("u1")
    return evened


def _system(places: Grey) -> Grey:
    """Rows of a small turn, scale and shift: two for each place."""
    x, y = places.T
    one, none = np.ones_like(x), np.zeros_like(x)
    return np.stack([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)], 1).reshape(
        -1, 4
    )


def _fitted(places: Grey, moved: Grey) -> tuple[Grey, float, int]:
    """The fit without points that go elsewhere, what it leaves per axis, and how many fit."""
    off = np.linalg.norm(moved - np.median(moved, axis=0), axis=1)
    for _ in range(5):
        good = off <= max(_OUTLIER * float(np.median(off)), 2 * _FLOOR_PX)
        fit = np.linalg.lstsq(_system(places[good]), moved[good].reshape(-1), rcond=None)[0]
        off = np.linalg.norm(moved - _system(places).dot(fit).reshape(-1, 2), axis=1)
    good = off <= 1.0
    left = float(np.sqrt((off[good] ** 2).mean() / 2)) if good.any() else float("inf")
    return fit, left, int(good.sum())


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise RecordingError(f"--reference and --keep: {error}; {install('cv2')}") from error
    return cv2
