"""A camera whose pixels are known: image number n is a slope that lies n brighter, up to 64."""

from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.driver import Acquire, Calls, Driver, Field, Reading, SensorSpec

WIDTH, HEIGHT, COLOURS = 64, 48, 3


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table."""


def picture(number: int) -> NDArray[np.uint8]:
    """The image of that number."""
    y, x, colour = np.ogrid[:HEIGHT, :WIDTH, :COLOURS]
    return (number % 64 + x + y + 8 * colour).astype(np.uint8)


def number_of(pixels: NDArray[np.uint8]) -> int:
    """The number of an image, or of a crop that begins at its corner."""
    return int(pixels[0, 0, 0])


class Camera(Driver):
    """Takes an image at each trigger."""

    Options: ClassVar[type[msgspec.Struct]] = Options

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._number = 0

    @property
    def address(self) -> str:
        """There is one for each name."""
        return f"pattern:{self.name}"

    def sensor(self) -> SensorSpec:
        """An image, in hand at once."""
        return SensorSpec(
            fields=(Field("image", "", (HEIGHT, WIDTH, COLOURS), "|u1"),),
            calls=Calls(100_000, 5_000_000, acquire=Acquire.AFTER_TRIGGER),
            twin=(),
            twin_latency_ns=100_000,
        )

    def open(self) -> int:
        """Nothing is to be opened."""
        return -1

    def close(self) -> None:
        """Nothing is to be closed."""

    def trigger(self) -> None:
        """Take an image."""
        self._number += 1

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Give it."""
        sample["image"] = picture(self._number)
        return Reading()
