"""AprilTags in the images of any camera: their poses, with the stamp of the image.

The tags are found by OpenCV (extra `vision`). The frame of reference is the camera's: x to the
right of the image, y down, z along the view. A tag's x is to its right, y up, z out of its face.
"""

import dataclasses
import time
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from inphase.camera import camera_of
from inphase.driver import DeviceError, Driver, Reading, SensorSpec
from inphase.errors import install

from . import tracking

_DETECT_NS = 10_000_000
_DETECT_MOST_NS = 100_000_000
_CORNER_PX = 0.5  # within which corners were found in drawn images (tests/test_apriltag.py)
Family = Literal["16h5", "25h9", "36h10", "36h11"]


class TagOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    camera: dict[str, Any]
    """the camera's own table: its `driver`, and its keys"""
    tags: dict[str, Annotated[int, Meta(ge=0, le=10_000)]]
    """number of each tag, by the name of the body that it is on; 1 to 16"""
    size_m: Annotated[float, Meta(gt=0, le=10)]
    """edge of a tag's black square"""
    camera_matrix: Annotated[list[float], Meta(min_length=4, max_length=4)]
    """focal lengths and centre in pixels: fx, fy, cx, cy"""
    distortion: Annotated[list[float], Meta(max_length=14)] = []
    """of the lens, as OpenCV counts its coefficients; left out: none"""
    family: Family = "36h11"
    """of the tags"""
    may_be_lost: list[str] = []
    """bodies without which a sample still counts; `tracked` says which were found"""

    def __post_init__(self) -> None:
        if trouble := tracking.trouble_of_names(list(self.tags), self.may_be_lost):
            raise ValueError(trouble.replace("bodies", "tags"))
        if len(set(self.tags.values())) < len(self.tags):
            raise ValueError(f"tags has one number twice: {self.tags}; give each tag its own")
        if len(self.distortion) not in (0, 4, 5, 8, 12, 14):
            raise ValueError(
                f"distortion has 4, 5, 8, 12 or 14 numbers, got {len(self.distortion)}; give those "
                f"of the calibration"
            )
        camera_of("camera", self.camera)


class TagTracker(Driver):
    """AprilTags before a camera: `position`, `quaternion`, `tracked`, `error`."""

    Options: ClassVar[type[msgspec.Struct]] = TagOptions

    def __init__(self, name: str, options: TagOptions) -> None:
        super().__init__(name, options)
        self.options: TagOptions = options
        self._camera = camera_of(name, options.camera)
        self._poses = tracking.PoseSample(list(options.tags), options.may_be_lost)
        self._finder: TagFinder | None = None
        self._image: NDArray[Any] = np.zeros(())

    @property
    def address(self) -> str:
        """The camera's."""
        return self._camera.address

    @property
    def bus(self) -> str:
        """The camera's."""
        return self._camera.bus

    def sensor(self) -> SensorSpec:
        """Poses by the camera's own timing; looking for tags takes a while more."""
        spec = self._camera.sensor()
        assert spec is not None and spec.calls is not None
        count = len(self.options.tags)
        calls = dataclasses.replace(
            spec.calls,
            latency_ns=spec.calls.latency_ns + _DETECT_NS,
            latency_max_ns=spec.calls.latency_max_ns + _DETECT_MOST_NS,
        )
        return SensorSpec(
            fields=tracking.fields(count),
            calls=calls,
            twin=tracking.twin(count),
            twin_latency_ns=spec.twin_latency_ns + _DETECT_NS,
        )

    def meaning(self, detail: int) -> str:
        """The tags that were not found, or the camera's own words."""
        return self._poses.meaning(detail) or self._camera.meaning(detail)

    def open(self) -> int:
        """Open the camera. Raises DeviceError, also where OpenCV is not installed."""
        try:
            self._finder = TagFinder(self.options)
        except ImportError as error:
            raise DeviceError(f"device {self.name}: {error}; {install('cv2')}") from error
        descriptor = self._camera.open()
        spec = self._camera.sensor()
        assert spec is not None
        image = spec.fields[0]
        self._image = np.zeros((), [(image.name, image.dtype, image.shape)])
        return descriptor

    def start(self) -> None:
        """As the camera does."""
        self._camera.start()

    def flush(self) -> int:
        """As the camera does."""
        return self._camera.flush()

    def trigger(self) -> None:
        """As the camera does."""
        self._camera.trigger()

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The tags of the next image, with all that is known of its time."""
        reading = self._camera.read(self._image, timeout_ns)
        if reading.received_ns is None:  # looking for tags is no part of the way
            reading = reading._replace(received_ns=time.monotonic_ns())
        self.passed = self._camera.passed
        if reading.reason:
            return reading
        assert self._finder is not None
        self._poses.clear(sample)
        found = self._finder.find(self._grey())
        for index, number in enumerate(self.options.tags.values()):
            if (pose := found.get(number)) is not None:
                self._poses.put(sample, index, *pose)
        return self._poses.judged(sample, reading)

    def _grey(self) -> NDArray[np.uint8]:
        """The image as brightness of 8 bits."""
        image: NDArray[Any] = self._image["image"]
        if image.dtype != np.uint8:
            image = (image >> max(0, int(image.max()).bit_length() - 8)).astype(np.uint8)
        if image.ndim == 2:
            return image
        if image.shape[2] == 2:  # two bytes a pixel: brightness is the first, or the second
            is_second = getattr(self._camera.options, "pixel_format", "") == "UYVY"
            return np.ascontiguousarray(image[:, :, int(is_second)])
        return np.ascontiguousarray(image.mean(axis=2).astype(np.uint8))

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()


Pose = tuple[list[float], list[float], float]


class TagFinder:
    """Finds tags in an image, and their poses before the camera. Raises ImportError."""

    def __init__(self, options: TagOptions) -> None:
        import cv2

        self._cv2 = cv2
        fx, fy, cx, cy = options.camera_matrix
        self._matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        self._distortion = np.array(options.distortion or [0.0] * 4)
        half = options.size_m / 2
        self._corners = np.array(
            [[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]]
        )
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
        number = getattr(cv2.aruco, f"DICT_APRILTAG_{options.family}")
        family = cv2.aruco.getPredefinedDictionary(number)
        self._detector = cv2.aruco.ArucoDetector(family, parameters)

    def find(self, grey: NDArray[np.uint8]) -> dict[int, Pose]:
        """Position, quaternion and error of each tag by its number.

        A tag that is there twice is in none: nobody knows which one is meant.
        """
        corners, numbers, _ = self._detector.detectMarkers(grey)
        if numbers is None:
            return {}
        seen = [int(number) for number in np.ravel(numbers)]
        return {
            number: self._pose(np.asarray(four, dtype=float).reshape(4, 2))
            for number, four in zip(seen, corners, strict=True)
            if seen.count(number) == 1
        }

    def _pose(self, corners: NDArray[np.float64]) -> Pose:
        """error: of the distance, with corners that are off by what the pose leaves, or by what
        corners are off at best."""
        cv2 = self._cv2
        _, turns, places, _ = cv2.solvePnPGeneric(
            self._corners, corners, self._matrix, self._distortion, flags=cv2.SOLVEPNP_IPPE_SQUARE
        )
        turn, place = turns[0], places[0]
        seen, _ = cv2.projectPoints(self._corners, turn, place, self._matrix, self._distortion)
        off = float(np.sqrt(((np.asarray(seen).reshape(4, 2) - corners) ** 2).sum(axis=1).mean()))
        edge = float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).mean())
        position = np.ravel(place).astype(float).tolist()
        error_m = max(off, _CORNER_PX) * position[2] / edge
        return position, _quaternion(np.ravel(turn)), error_m


def _quaternion(turn: NDArray[np.float64]) -> list[float]:
    """Of a rotation vector: w, x, y, z."""
    angle = float(np.linalg.norm(turn))
    axis = turn / angle if angle else turn
    return [float(np.cos(angle / 2)), *(np.sin(angle / 2) * axis).tolist()]
