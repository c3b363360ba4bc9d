"""A camera that sees AprilTags at poses that are known: the images are drawn, never taken."""

import time
from typing import Any, ClassVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.driver import Calls, Driver, Field, Reading, SensorSpec

WIDTH, HEIGHT = 640, 480
FOCAL, CENTRE = 600.0, (320.0, 240.0)
SIZE_M = 0.08
_PIXELS, _MARGIN = 400, 80  # of a drawn tag, and the white around it
_FINE = 3  # drawn so much larger, then made smaller


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table. tags: by number, x, y, z in m and a rotation vector."""

    tags: dict[str, list[float]] = {}
    stamp_ns: int = 123_456_789


def drawn(tags: dict[int, list[float]]) -> NDArray[np.uint8]:
    """The image of tags at these poses, on grey."""
    image = np.full((HEIGHT * _FINE, WIDTH * _FINE), 128, np.uint8)
    family = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    for number, pose in tags.items():
        marker = cv2.aruco.generateImageMarker(family, number, _PIXELS)
        paper = np.pad(marker, _MARGIN, constant_values=255)
        turn, _ = cv2.Rodrigues(np.array(pose[3:], dtype=float))
        # from a pixel of the paper to the tag's plane, whose y points up; from there to the image
        scale, middle = SIZE_M / _PIXELS, _MARGIN + _PIXELS / 2 - 0.5
        plane = np.array(
            [[scale, 0, -scale * middle], [0, -scale, scale * middle], [0, 0, 0], [0, 0, 1.0]]
        )
        view = np.hstack([turn, np.array(pose[:3]).reshape(3, 1)])
        camera = np.array([[FOCAL, 0, CENTRE[0]], [0, FOCAL, CENTRE[1]], [0, 0, 1.0]])
        fine = np.array([[_FINE, 0, (_FINE - 1) / 2], [0, _FINE, (_FINE - 1) / 2], [0, 0, 1.0]])
        way = fine @ camera @ view @ plane
        shape = (image.shape[1], image.shape[0])
        seen = cv2.warpPerspective(paper, way, shape, flags=cv2.INTER_AREA)
        there = cv2.warpPerspective(np.full_like(paper, 255), way, shape)
        image = np.where(there > 0, seen, image).astype(np.uint8)
    small: NDArray[np.uint8] = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small


class Camera(Driver):
    """Gives the drawn image again and again, 20 times a second, with a stamp of its own."""

    Options: ClassVar[type[msgspec.Struct]] = Options

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self.options: Options = options
        self._count = 0
        self.see({int(number): pose for number, pose in options.tags.items()})

    def see(self, tags: dict[int, list[float]]) -> None:
        """Other tags from now on."""
        self._picture = drawn(tags)

    @property
    def address(self) -> str:
        """There is one for each name."""
        return f"tags:{self.name}"

    def sensor(self) -> SensorSpec:
        """Images of 8 bits."""
        return SensorSpec(
            fields=(Field("image", "", (HEIGHT, WIDTH), "|u1"),),
            calls=Calls(5_000_000, 200_000_000, triggered=False, interval_ns=50_000_000),
            twin=(),
            twin_latency_ns=5_000_000,
        )

    def open(self) -> int:
        """Nothing is to be opened."""
        return -1

    def close(self) -> None:
        """Nothing is to be closed."""

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The image, and the stamp that its options say."""
        self._count += 1
        sample["image"] = self._picture
        stamp_ns = self.options.stamp_ns or time.monotonic_ns() - 5_000_000
        return Reading(sequence=self._count, acquired_ns=stamp_ns, uncertainty_ns=777)
