"""USB and other cameras of the Linux kernel (Video4Linux, UVC), as a free-running sensor.

Such a camera runs by itself: the newest image before the read deadline goes into the frame, with
the truth about its time. The kernel stamps each image, and says with which clock and what the stamp
marks (kernel documentation, "Buffers", timestamp flags): the start of the exposure (UVC cameras) or
the end of the frame. The middle of the exposure lies between two bounds that follow from it:

- exposure: what was set by hand (`exposure_us`), else anything up to one frame interval;
- read-out and transfer: anything up to one frame interval.

A reading's `acquired_ns` is the middle of these bounds, its `uncertainty_ns` half their distance. A
stamp of another clock than the monotonic one, or one that lies in the future, is not used.
"""

import contextlib
import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from inphase.driver import Calls, DeviceError, Driver, Field, Reading, SensorSpec
from inphase.video import CONTROL_EXPOSURE, CONTROL_EXPOSURE_AUTO, GONE, Capture, Format, Image
from inphase.video import offered as formats_offered

_PIXELS = {
    "GREY": ((), "|u1"),
    "Y16": ((), "<u2"),
    "YUYV": ((2,), "|u1"),
    "UYVY": ((2,), "|u1"),
    "RGB3": ((3,), "|u1"),
    "BGR3": ((3,), "|u1"),
}
"""The size after height and width in the field's shape, and its dtype, by fourcc."""

_COMPRESSED = ("MJPG", "JPEG", "H264", "HEVC", "VP80", "VP90", "MPEG")
_WRAP = 1 << 32
_BY_HAND = 1
_EXPOSURE_STEP_US = 100
_WORST_INTERVALS = 4
"""of silence: a camera that lost a frame or two is still a camera"""


class CameraOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    port: str = "/dev/video0"
    """its device file; `/dev/v4l/by-path/...` stays with the USB port"""
    serial: str | None = None
    """the USB serial number that has to answer there; without it any camera does"""
    width: Annotated[int, Meta(ge=1, le=16_384)] = 640
    """of an image, in pixels"""
    height: Annotated[int, Meta(ge=1, le=16_384)] = 480
    """likewise"""
    pixel_format: str = "YUYV"
    """V4L2's fourcc; images are handed on as they come: see `v4l2-ctl --list-formats-ext`"""
    fps: Annotated[float, Meta(ge=0.1, le=1000)] = 30.0
    """images per second"""
    exposure_us: Annotated[int, Meta(ge=100, le=10_000_000)] | None = None
    """set by hand, in steps of 100: then the middle of the exposure is known better"""
    buffers: Annotated[int, Meta(ge=2, le=16)] = 4
    """images that the kernel may fill while nobody reads"""

    def __post_init__(self) -> None:
        known = ", ".join(_PIXELS)
        if self.pixel_format in _COMPRESSED:
            raise ValueError(
                f"pixel_format {self.pixel_format} is compressed: its images differ in size, and "
                f"a sample does not; choose one of {known}"
            )
        if self.pixel_format not in _PIXELS:
            raise ValueError(f"pixel_format {self.pixel_format!r} is not one of {known}")


class Camera(Driver):
    """One camera; `image` as the pixel format says. `drained` counts images nobody read."""

    Options: ClassVar[type[msgspec.Struct]] = CameraOptions

    def __init__(self, name: str, options: CameraOptions) -> None:
        super().__init__(name, options)
        self.options: CameraOptions = options
        self.drained = 0
        self._capture: Capture | None = None
        self._sequence = 0
        self._stamp_ns: int | None = None
        self._interval_ns = 0

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    def sensor(self) -> SensorSpec:
        """`image`: height, width, and the channels of a pixel where it has several."""
        o = self.options
        channels, dtype = _PIXELS[o.pixel_format]
        interval_ns = round(1e9 / o.fps)
        return SensorSpec(
            fields=(Field("image", "", (o.height, o.width, *channels), dtype),),
            calls=Calls(
                latency_ns=interval_ns,
                latency_max_ns=_WORST_INTERVALS * interval_ns,
                triggered=False,
                interval_ns=interval_ns,
            ),
            twin=(),
            twin_latency_ns=interval_ns,
        )

    # ---- opening ------------------------------------------------------------------------

    def open(self) -> int:
        """Open the camera and check that it gives what the schedule says."""
        o = self.options
        if o.serial is not None:
            self._check_serial(o.serial)
        wanted = Format(
            o.width, o.height, o.pixel_format, 1 / Fraction(o.fps).limit_denominator(1000)
        )
        try:
            self._capture = Capture(o.port, wanted, o.buffers)
        except OSError as error:
            raise DeviceError(f"device {self.name}: {o.port} {self._refusal(error)}") from error
        try:
            self._check(self._capture.format)
            self._set_exposure(self._capture)
        except BaseException:
            self.close()
            raise
        return -1

    def _refusal(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOENT | errno.ENXIO:
                return "is not there: check the cable and `ls -l /dev/v4l/by-id`"
            case errno.ENOTTY:
                return "is not a V4L2 device: a camera is called /dev/videoN or /dev/v4l/by-id/..."
            case errno.ENOTSUP:
                return (
                    "does not capture images into mapped buffers of one plane: a camera often has "
                    "several nodes, and the first one captures"
                )
            case errno.EACCES | errno.EPERM:
                return "may not be opened by this user: add it to the group `video`"
            case errno.EBUSY:
                return "is capturing for another process: `fuser` names it"
        return f"does not open: {error.strerror}"

    def _check_serial(self, wanted: str) -> None:
        """Raises DeviceError for another camera, or one without a serial number."""
        where = f"device {self.name}: {self.options.port}"
        found = usb_serial(Path(self.options.port))
        if found is None:
            raise DeviceError(
                f"{where} tells no USB serial number, and serial is {wanted!r}: check the cable, "
                f"or remove serial and give a port of /dev/v4l/by-path"
            )
        if found != wanted:
            raise DeviceError(
                f"{where} is a camera with the serial number {found!r}, and serial is {wanted!r}: "
                f"correct serial, or give that camera's port (`ls -l /dev/v4l/by-id`)"
            )

    def _check(self, granted: Format) -> None:
        o = self.options
        where = f"device {self.name}: {o.port}"
        if granted.fourcc.rstrip() != o.pixel_format:
            offered = ", ".join(code.rstrip() for code in formats_offered(o.port))
            raise DeviceError(f"{where} has no pixel_format {o.pixel_format}: it offers {offered}")
        if (granted.width, granted.height) != (o.width, o.height):
            raise DeviceError(
                f"{where} has no {o.width}x{o.height} in {o.pixel_format}: the nearest is "
                f"{granted.width}x{granted.height}"
            )
        if granted.interlaced:
            raise DeviceError(f"{where} gives interlaced images, which are of two instants each")
        if granted.interval is None:
            return
        fps = float(1 / granted.interval)
        if abs(fps - o.fps) > 0.01 * o.fps:
            raise DeviceError(
                f"{where} does not give {o.fps:g} images per second at {o.width}x{o.height}: the "
                f"nearest is {fps:g}"
            )

    def _set_exposure(self, capture: Capture) -> None:
        asked = self.options.exposure_us
        if asked is None:
            return
        where = f"device {self.name}: {self.options.port}"
        try:
            capture.control(CONTROL_EXPOSURE_AUTO, _BY_HAND)
            got = _EXPOSURE_STEP_US * capture.control(CONTROL_EXPOSURE, asked // _EXPOSURE_STEP_US)
        except OSError as error:
            raise DeviceError(
                f"{where} does not let its exposure be set ({error.strerror}): leave exposure_us "
                f"out"
            ) from error
        if abs(got - asked) >= _EXPOSURE_STEP_US:
            raise DeviceError(f"{where} sets exposure_us to {got} and not to {asked}")

    def close(self) -> None:
        """Stop the stream and close the camera."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    # ---- running ------------------------------------------------------------------------

    def start(self) -> None:
        """The stream on; the kernel counts its images from 0 again."""
        self._sequence, self._stamp_ns = 0, None
        capture = self._opened()
        self._interval_ns = round((capture.format.interval or 0) * 1_000_000_000)
        try:
            capture.start()
        except OSError as error:
            raise self._trouble(error) from error

    def flush(self) -> int:
        """Give back unread what waits in the kernel."""
        try:
            count = self._opened().flush()
        except OSError as error:
            raise self._trouble(error) from error
        self.drained += count
        return count

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The newest image, copied once: from the kernel's buffer into the sample."""
        capture = self._opened()
        try:
            image = capture.next(timeout_ns)
            reading = self._reading(image)
            if not reading.reason:
                _copy(image, sample["image"])
            capture.release()
        except TimeoutError:
            raise
        except OSError as error:
            raise self._trouble(error) from error
        return reading

    def _reading(self, image: Image) -> Reading:
        self.drained += image.drained
        sequence = self._sequence + (image.sequence - self._sequence) % _WRAP
        acquired_ns, uncertainty_ns = self._acquired(image, sequence - self._sequence)
        self._sequence = sequence
        reason, detail = "", 0
        if image.broken:
            reason = "checksum"
        elif image.size < self.options.height * image.lines.shape[1]:
            reason, detail = "size", image.size
        return Reading(
            sequence=sequence,
            acquired_ns=acquired_ns,
            uncertainty_ns=uncertainty_ns,
            received_ns=image.received_ns,
            reason=reason,
            detail=detail,
        )

    def _acquired(self, image: Image, steps: int) -> tuple[int | None, int | None]:
        """Middle of the exposure and its uncertainty, as far as the stamp tells."""
        before, self._stamp_ns = self._stamp_ns, image.stamp_ns
        if not image.monotonic or not 0 < image.stamp_ns <= image.received_ns:
            return None, None

        # a camera may take its time in the dark: then images are further apart than was agreed
        interval_ns = self._interval_ns
        if before is not None and steps > 0:
            interval_ns = max(interval_ns, (image.stamp_ns - before) // steps)
        if interval_ns == 0:
            return None, None
        exposure_us = self.options.exposure_us
        shortest_ns = 0 if exposure_us is None else exposure_us * 1000
        longest_ns = interval_ns if exposure_us is None else exposure_us * 1000
        if image.start_of_exposure:
            # a rolling shutter exposes line after line: its middle is later by half the read-out
            span_ns = min(longest_ns + interval_ns, image.received_ns - image.stamp_ns)
            first, last = image.stamp_ns + shortest_ns // 2, image.stamp_ns + span_ns // 2
            if first > last:
                return None, None
        else:
            first = image.stamp_ns - interval_ns - longest_ns // 2
            last = image.stamp_ns - shortest_ns // 2
        return (first + last) // 2, (last - first + 1) // 2

    def _opened(self) -> Capture:
        if self._capture is None:
            raise DeviceError(f"device {self.name}: {self.options.port} is not open")
        return self._capture

    def _trouble(self, error: OSError) -> DeviceError:
        port = self.options.port
        if error.errno in GONE:
            return DeviceError(f"device {self.name}: {port} is gone: check the cable and its hub")
        return DeviceError(f"device {self.name}: {port} does not stream: {error.strerror}")


def usb_serial(port: Path, devices: Path = Path("/sys/class/video4linux")) -> str | None:
    """The serial number of the USB device behind a device file, by the kernel; None: there is none.

    devices: where the kernel lists them.
    """
    node = devices / port.resolve().name / "device"
    with contextlib.suppress(OSError):
        # the node belongs to an interface of the device, which is the folder above
        return (node.resolve().parent / "serial").read_text().strip() or None
    return None


def _copy(image: Image, to: NDArray[Any]) -> None:
    """The lines without their padding, into the field of the sample."""
    to[...] = image.lines[:, : to[0].nbytes].view(to.dtype).reshape(to.shape)
