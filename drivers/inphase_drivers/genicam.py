"""The common part of GenICam cameras, for any library: options, layout, timing, driver.

Names of features are those of GenICam's Standard Features Naming Convention (SFNC). This module
knows no device; `inphase_drivers.pylon` and `inphase_drivers.aravis` do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from inphase.driver import Acquire, Calls, DeviceError, Driver, Field, Reading, SensorSpec

_LINK_NS_PER_BYTE = 9  # gigabit Ethernet with its headers: the slowest usual link
_READOUT_NS = 2_000_000

PixelFormat = Literal[
    "Mono8",
    "Mono10",
    "Mono12",
    "Mono16",
    "RGB8",
    "BGR8",
    "BayerRG8",
    "BayerGR8",
    "BayerGB8",
    "BayerBG8",
    "BayerRG12",
    "BayerGR12",
    "BayerGB12",
    "BayerBG12",
]
"""Unpacked formats, by their SFNC name; a number over 8 bits comes as 16, little endian."""


class CameraOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with a camera driver."""

    serial: str = ""
    """which camera; serial number or address, else the `index`-th that is found"""
    ip: str = ""
    """its address, in place of `serial`"""
    index: Annotated[int, Meta(ge=0, le=63)] = 0
    """which of those that are found, counted from 0"""
    width: Annotated[int, Meta(ge=1, le=65_535)]
    """of an image, in pixels"""
    height: Annotated[int, Meta(ge=1, le=65_535)]
    """likewise"""
    offset_x: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """first column of the image on the sensor"""
    offset_y: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """first row of the image on the sensor"""
    pixel_format: PixelFormat = "Mono8"
    """of a pixel, by its name in SFNC"""
    exposure_us: Annotated[float, Meta(gt=0, le=60_000_000)]
    """fixed: an exposure that the camera chooses has no middle that anybody knows beforehand"""
    gain: float | None = None
    """in the camera's own unit, mostly dB; left out: as it stands in the camera"""
    trigger: str = "software"
    """`software`, an input line (`Line1`) that the sensor's `trigger_line` drives, or `off`: the
    camera runs by itself"""
    external: bool = False
    """the line is driven by somebody else; images are free-running"""
    rate_hz: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    """of free-running images: set with `trigger = "off"`, else only stated"""
    packet_bytes: Annotated[int, Meta(ge=220, le=16_000)] | None = None
    """GigE Vision packets; left out: as it stands in the camera"""
    stamp: Literal["start", "end", "none"] = "start"
    """what the camera's time stamp marks: SFNC says the start of the exposure; see its manual"""
    readout_us: Annotated[int, Meta(ge=1)] | None = None
    """readout and transfer; left out: 2 ms, and the time on a gigabit link"""
    latency_max_us: Annotated[int, Meta(ge=1)] | None = None
    """trigger to image, at worst; left out: exposure and three times the readout"""
    warm_up: Annotated[int, Meta(ge=0, le=100)] = 2
    """first images that are taken at start and thrown away"""

    def __post_init__(self) -> None:
        if self.serial and self.ip:
            raise ValueError("serial and ip both say which camera; give one of them")
        if self.external and self.trigger in ("software", "off"):
            raise ValueError(f"external is for a line, and trigger is {self.trigger!r}; remove it")
        if self.rate_hz is not None and self.triggered:
            raise ValueError(
                f"rate_hz is for free-running cameras, and trigger is {self.trigger!r}"
            )

    @property
    def which(self) -> str:
        """The camera, in words."""
        if self.serial:
            return f"serial {self.serial}"
        return f"ip {self.ip}" if self.ip else f"index {self.index}"

    @property
    def triggered(self) -> bool:
        """True if the schedule says when an image is taken: by the driver or over a line."""
        return self.trigger != "off" and not self.external

    @property
    def fired(self) -> bool:
        """True if the driver itself fires the trigger."""
        return self.trigger == "software"


@dataclass(frozen=True)
class Layout:
    """How an image lies in memory."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, options: CameraOptions) -> "Layout":
        """Rows and columns, and colours last where the format has them."""
        name = options.pixel_format
        colours = (3,) if name in ("RGB8", "BGR8") else ()
        return cls((options.height, options.width, *colours), "|u1" if name[-1] == "8" else "<u2")

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * int(self.dtype[-1])


def format_names(options: CameraOptions) -> tuple[str, ...]:
    """The names that cameras give the pixel format: its SFNC name, and that of GigE Vision 1."""
    name = options.pixel_format
    return (name, f"{name}Packed") if name in ("RGB8", "BGR8") else (name,)


def calls(options: CameraOptions, exposure_ns: int) -> Calls:
    """How long an image of that exposure takes, and when it was taken."""
    readout_ns = _READOUT_NS + Layout.of(options).size * _LINK_NS_PER_BYTE
    if options.readout_us is not None:
        readout_ns = options.readout_us * 1000
    latency_max_ns = exposure_ns + 3 * readout_ns
    if options.latency_max_us is not None:
        latency_max_ns = options.latency_max_us * 1000
    return Calls(
        latency_ns=exposure_ns + readout_ns,
        latency_max_ns=max(latency_max_ns, exposure_ns + readout_ns),
        triggered=options.triggered,
        interval_ns=round(1e9 / options.rate_hz) if options.rate_hz else 0,
        acquire=Acquire.AFTER_TRIGGER if options.triggered else Acquire.ABSENT,
        acquire_ns=exposure_ns // 2 if options.triggered else 0,
    )


def sensor_spec(options: CameraOptions, exposure_ns: int) -> SensorSpec:
    """The sensor of a camera with that exposure: `image`."""
    layout = Layout.of(options)
    timing = calls(options, exposure_ns)
    return SensorSpec(
        fields=(Field("image", "", layout.shape, layout.dtype),),
        calls=timing,
        twin=(),
        twin_latency_ns=timing.latency_ns,
    )


def middle_ns(options: CameraOptions, stamp_ns: int, exposure_ns: int) -> int | None:
    """Middle of the exposure from the camera's stamp; None where the camera gives none (0).

    SFNC has the stamp of an image taken at FrameStart, the start of the exposure; pylon's manual
    says the same of its grab results. `stamp = "end"` is for cameras whose manual says otherwise.
    """
    if stamp_ns == 0 or options.stamp == "none":
        return None
    return stamp_ns + (exposure_ns // 2 if options.stamp == "start" else -(exposure_ns // 2))


class ImageCount:
    """A camera's block numbers as one count. GigE Vision's are 16 bits wide and leave out 0."""

    _WRAP = 65_535

    def __init__(self) -> None:
        self._last: int | None = None
        self._added = 0

    def of(self, block: int) -> int:
        """The count of the image with that block number; call once per image, in order."""
        if self._last is not None and block < self._last <= self._WRAP:
            self._added += self._WRAP
        self._last = block
        return self._added + block


class GenicamCamera(Driver):
    """A camera's name, its layout and the exposure that it took; a subclass speaks to it."""

    def __init__(self, name: str, options: CameraOptions) -> None:
        super().__init__(name, options)
        self.options: CameraOptions = options
        self._layout = Layout.of(options)
        self._exposure_ns = round(options.exposure_us * 1000)
        self._count = ImageCount()

    @property
    def address(self) -> str:
        """The camera, by what the schedule names it."""
        return f"genicam:{self.options.which}"

    def sensor(self) -> SensorSpec:
        """`image`; after `open` with the exposure that the camera took."""
        return sensor_spec(self.options, self._exposure_ns)

    def _error(self, trouble: str) -> DeviceError:
        """The error that names device and camera."""
        return DeviceError(f"device {self.name}: the camera ({self.options.which}) {trouble}")

    def _choose_camera(self, serials: Sequence[str]) -> int:
        """Which of the cameras that were found. Raises DeviceError where it is not there."""
        o = self.options
        found = [index for index, serial in enumerate(serials) if o.serial in ("", serial)]
        if len(found) > o.index:
            return found[o.index]
        raise DeviceError(
            f"device {self.name}: no camera with {o.which}; found: "
            f"{', '.join(serials) or 'none'}; check power, cable and serial or index"
        )

    # ---- images --------------------------------------------------------------------------------

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the next image and copy it, once, out of the library's buffer."""
        image = self._pop(timeout_ns)
        if image is None:
            raise TimeoutError(f"device {self.name}: no image within {timeout_ns} ns")
        try:
            return self._take(image, sample)
        finally:
            self._give_back(image)

    def _pop(self, timeout_ns: int) -> Any:
        """The library's next image; None where there is none in time. Raises DeviceError."""
        raise NotImplementedError

    def _take(self, image: Any, sample: NDArray[Any]) -> Reading:
        """Copy an image into a sample, and say what is known of it."""
        raise NotImplementedError

    def _give_back(self, image: Any) -> None:
        """Let the library use an image's buffer again."""
        raise NotImplementedError

    def _copy(self, data: Any, sample: NDArray[Any]) -> None:
        """Copy the bytes of a whole image into a sample."""
        pixels = np.frombuffer(data, self._layout.dtype)
        sample["image"][...] = pixels.reshape(self._layout.shape)
