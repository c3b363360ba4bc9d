"""Cameras through the C core: Video4Linux capture into mapped buffers, for drivers.

Not for the cycle thread; an object is used by one thread at a time. Failures are OSErrors with the
kernel's errno (inphase.h, "video capture", says which): a driver turns them into DeviceErrors that
name the device.
"""

import errno
import os
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib

GONE = (errno.ENODEV, errno.EIO, errno.ENXIO)
"""Errnos of a camera that is no longer there."""

CONTROL_EXPOSURE_AUTO = 0x009A0901
CONTROL_EXPOSURE = 0x009A0902
"""V4L2_CID_EXPOSURE_AUTO (1: by hand) and V4L2_CID_EXPOSURE_ABSOLUTE (in 100 us)."""


@dataclass(frozen=True)
class Format:
    """The form of images; from a camera: the form that it granted."""

    width: int
    height: int
    fourcc: str
    """four characters, as V4L2 writes them"""
    interval: Fraction | None = None
    """seconds from image to image; None: left as it is, or not known"""
    line_bytes: int = 0
    interlaced: bool = False


class Image(NamedTuple):
    """One image in the driver's memory: `lines` is valid until the next call on its capture."""

    lines: NDArray[np.uint8]
    """(height, line_bytes), or fewer lines when the driver delivered less"""
    size: int
    """bytes that the driver delivered"""
    sequence: int
    """the driver's count of frames, 32 bits, those that it lost included"""
    broken: bool
    """the driver says that the image is damaged"""
    drained: int
    """older images that were given back unread"""
    monotonic: bool
    """the stamp is of the host's CLOCK_MONOTONIC"""
    start_of_exposure: bool
    """what the stamp marks; False: the end of the frame"""
    stamp_ns: int
    received_ns: int


def offered(path: str) -> list[str]:
    """The pixel formats that a camera offers, as fourcc."""
    codes = ffi.new("uint32_t[]", 64)
    count = _checked(lib.inphase_video_offered(os.fsencode(path), codes, 64), path)
    return [int(code).to_bytes(4, "little").decode("latin-1") for code in codes[0:count]]


class Capture:
    """An open camera. Its opener closes it."""

    def __init__(self, path: str, wanted: Format, buffers: int = 4) -> None:
        code = int.from_bytes(wanted.fourcc.encode("latin-1").ljust(4), "little")
        format_ = ffi.new(
            "struct inphase_video_format *",
            {
                "width": wanted.width,
                "height": wanted.height,
                "fourcc": code,
                "interval": wanted.interval.numerator if wanted.interval else 0,
                "per": wanted.interval.denominator if wanted.interval else 0,
            },
        )
        video = ffi.new("inphase_video **")
        self._video = None
        self._path = path
        _checked(lib.inphase_video_open(video, os.fsencode(path), format_, buffers), path)
        self._video = video[0]
        self._image = ffi.new("struct inphase_video_image *")
        self.format = Format(
            width=int(format_.width),
            height=int(format_.height),
            fourcc=int(format_.fourcc).to_bytes(4, "little").decode("latin-1"),
            interval=Fraction(int(format_.interval), int(format_.per)) if format_.per else None,
            line_bytes=int(format_.line_bytes),
            interlaced=bool(format_.interlaced),
        )

    def control(self, control: int, value: int) -> int:
        """Set a control; what the camera says it is then."""
        asked = ffi.new("int32_t *", value)
        _checked(lib.inphase_video_control(self._open(), control, asked), self._path)
        return int(asked[0])

    def start(self) -> None:
        """The stream on."""
        _checked(lib.inphase_video_start(self._open()), self._path)

    def flush(self) -> int:
        """Give back unread all images that wait; how many."""
        return _checked(lib.inphase_video_flush(self._open()), self._path)

    def next(self, timeout_ns: int) -> Image:
        """Wait for the newest image. Raises TimeoutError."""
        until_ns = time.monotonic_ns() + timeout_ns
        image, video = self._image, self._open()
        drained = 0
        while True:
            rc = lib.inphase_video_next(video, max(0, until_ns - time.monotonic_ns()), image)
            drained += int(image.drained)
            if rc != -errno.EINTR:
                break
        _checked(rc, self._path)
        width = self.format.line_bytes or 1
        lines = min(self.format.height, int(image.size) // width)
        return Image(
            lines=np.frombuffer(ffi.buffer(image.bytes, lines * width), np.uint8).reshape(
                lines, width
            ),
            size=int(image.size),
            sequence=int(image.sequence),
            broken=bool(image.broken),
            drained=drained,
            monotonic=image.clock == lib.INPHASE_VIDEO_CLOCK_MONOTONIC,
            start_of_exposure=image.marks == lib.INPHASE_VIDEO_START_OF_EXPOSURE,
            stamp_ns=int(image.stamp_ns),
            received_ns=int(image.received_ns),
        )

    def release(self) -> None:
        """Give the present image's buffer back to the driver."""
        _checked(lib.inphase_video_release(self._open()), self._path)

    def close(self) -> None:
        """Stop the stream and close the camera; always callable."""
        if self._video is not None:
            lib.inphase_video_close(self._video)
            self._video = None

    def _open(self) -> Any:
        if self._video is None:
            raise OSError(errno.EBADF, "the camera is closed", self._path)
        return self._video


def _checked(rc: int, path: str) -> int:
    if rc == -errno.ETIMEDOUT:
        raise TimeoutError(errno.ETIMEDOUT, "no image", path)
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc), path)
    return rc
