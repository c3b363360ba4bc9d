"""A space mouse by 3Dconnexion as a sensor, read from the kernel's hidraw device.

The mouse sends a report when its cap is moved, and every 8 ms or so while it is held aside. At rest
it says nothing: a report of zeros is its last one. So silence is no zero here. A cap that was held
aside and is heard no more gives no sample, which is HELD, and then MISSING.

Source: report layouts as pyspacemouse 2.1 has them. Report 1 is the translation, in newer models
with the rotation behind it; report 2 is the rotation; report 3 is the buttons. Numbers are signed,
16 bits, low byte first.
"""

import os
import select
import stat
import struct
import time
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from inphase.driver import (
    Acquire,
    Calls,
    DeviceError,
    Driver,
    Field,
    Reading,
    SensorSpec,
    TwinChannel,
)

_TRANSLATION, _ROTATION, _BUTTONS = 1, 2, 3
_AXES = struct.Struct("<3h")
_REPORT_MAX = 64
_LONGEST_NS = 50_000_000  # of a USB host that is busy


class SpaceMouseOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    port: str
    """its hidraw device, such as /dev/hidraw0, or a link to it that stays"""
    full: Annotated[int, Meta(ge=1, le=32_767)] = 350
    """the number that it sends when its cap is all the way aside"""
    interval_us: Annotated[int, Meta(ge=1_000, le=1_000_000)] = 8_000
    """from report to report while the cap is aside"""


class SpaceMouse(Driver):
    """`translation` and `rotation`, each from -1 to 1 along and about the device's own x (right), y
    (towards the person) and z (down); `buttons`, a bit for each.

    Nothing tells when the cap was measured: `acquired_ns` is absent, and `received_ns` is there.
    """

    Options: ClassVar[type[msgspec.Struct]] = SpaceMouseOptions

    def __init__(self, name: str, options: SpaceMouseOptions) -> None:
        super().__init__(name, options)
        self.options: SpaceMouseOptions = options
        self._fd = -1
        self._forget()

    def _forget(self) -> None:
        self._translation, self._rotation, self._buttons = [0.0] * 3, [0.0] * 3, 0

    @property
    def address(self) -> str:
        """The device's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    def sensor(self) -> SensorSpec:
        """It streams; a report is a sample."""
        interval_ns = self.options.interval_us * 1000
        return SensorSpec(
            fields=(
                Field("translation", "1", (3,)),
                Field("rotation", "1", (3,)),
                Field("buttons", "1"),
            ),
            twin=(TwinChannel(),) * 7,
            twin_latency_ns=1_000_000,
            calls=Calls(
                latency_ns=1_000_000,
                latency_max_ns=_LONGEST_NS,
                triggered=False,
                interval_ns=interval_ns,
                acquire=Acquire.ABSENT,
            ),
        )

    def open(self) -> int:
        """Open the device, to read alone. Raises DeviceError."""
        port = self.options.port
        try:
            self._fd = os.open(port, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            remedy = (
                f"give yourself the right: sudo chmod a+r {port}, or a udev rule"
                if isinstance(error, PermissionError)
                else "is the mouse plugged in? `ls /dev/hidraw*` lists such devices"
            )
            raise DeviceError(
                f"device {self.name}: {port} cannot be opened: {error.strerror}; {remedy}"
            ) from error
        if not (stat.S_ISCHR(mode := os.fstat(self._fd).st_mode) or stat.S_ISFIFO(mode)):
            self.close()
            raise DeviceError(f"device {self.name}: {port} is a file, give a hidraw device")
        self._forget()
        return self._fd

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def flush(self) -> int:
        """Take the reports that wait: the state goes on with them."""
        count = 0
        while self._next(0) is not None:
            count += 1
        return count

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The next report. Raises TimeoutError, DeviceError when the mouse is gone."""
        until_ns = time.monotonic_ns() + timeout_ns
        report = self._next(timeout_ns)
        while report is None or not self._take(report):
            left_ns = until_ns - time.monotonic_ns()
            if left_ns <= 0:
                raise TimeoutError
            report = self._next(left_ns)
        received_ns = time.monotonic_ns()
        sample["translation"], sample["rotation"] = self._translation, self._rotation
        sample["buttons"] = self._buttons
        return Reading(received_ns=received_ns)

    def _next(self, timeout_ns: int) -> bytes | None:
        """A report; None: none came."""
        if not select.select([self._fd], [], [], timeout_ns / 1e9)[0]:
            return None
        try:
            report = os.read(self._fd, _REPORT_MAX)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(error.strerror or "") from error
        if not report:
            raise self._gone("it hung up")
        return report

    def _gone(self, why: str) -> DeviceError:
        return DeviceError(
            f"device {self.name}: {self.options.port} is gone: {why}; check the cable, or the "
            "receiver of a wireless one"
        )

    def _take(self, report: bytes) -> bool:
        """Go on with a report; False for one of another kind, such as the battery's."""
        kind, axes = report[0], report[1:]
        full = self.options.full
        if kind in (_TRANSLATION, _ROTATION) and len(axes) >= _AXES.size:
            first = [number / full for number in _AXES.unpack_from(axes)]
            if kind == _ROTATION:
                self._rotation = first
                return True
            self._translation = first
            if len(axes) >= 2 * _AXES.size:
                self._rotation = [n / full for n in _AXES.unpack_from(axes, _AXES.size)]
            return True
        if kind == _BUTTONS and axes:
            self._buttons = int.from_bytes(axes[:4], "little")
            return True
        return False
