"""Drivers of the benches' own devices: one that samples when asked, a camera, and a busy loop."""

import contextlib
import math
import socket
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
    Exchange,
    Field,
    Framing,
    Raw,
    Reading,
    Reply,
    SensorSpec,
    TwinChannel,
    Value,
)

CHANNELS = 8
_SAMPLE = struct.Struct(f"={CHANNELS}d")
IMAGE = (1080, 1920, 3)
IMAGE_BYTES = math.prod(IMAGE)
_HOLD_NS = 20_000_000


class SamplerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    """where it listens on 127.0.0.1"""
    acquire_ns: int | None = None
    """how long after its trigger it samples; None: in the middle of the exchange"""


class Sampler(Driver):
    """A device of samplers.c: in the cycle as an exchange, elsewhere by these calls."""

    Options: ClassVar[type[msgspec.Struct]] = SamplerOptions
    options: SamplerOptions
    _socket: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"udp:127.0.0.1:{self.options.port}"

    def sensor(self) -> SensorSpec:
        acquire_ns = self.options.acquire_ns
        acquire = Acquire.MIDDLE if acquire_ns is None else Acquire.AFTER_TRIGGER
        return SensorSpec(
            fields=(Field("x", "", (CHANNELS,)),),
            twin=(TwinChannel(),) * CHANNELS,
            twin_latency_ns=200_000,
            exchange=Exchange(
                request=b"T",
                framing=Framing(_SAMPLE.size, _SAMPLE.size, datagram=True),
                replies=(Reply(tuple(Value(8 * i, Raw.F64, i) for i in range(CHANNELS))),),
                request_ns=1000,
                reply_ns=10_000,
                reply_max_ns=200_000,
                acquire=acquire,
                acquire_ns=acquire_ns or 0,
            ),
            calls=Calls(
                latency_ns=10_000,
                latency_max_ns=200_000,
                acquire=acquire,
                acquire_ns=acquire_ns or 0,
            ),
        )

    def open(self) -> int:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", self.options.port))
        self._socket.setblocking(False)
        return self._socket.fileno()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def flush(self) -> int:
        assert self._socket is not None
        self._socket.setblocking(False)
        found = 0
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(_SAMPLE.size):
                found += 1
        return found

    def trigger(self) -> None:
        assert self._socket is not None
        self._socket.send(b"T")

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        assert self._socket is not None
        self._socket.settimeout(max(timeout_ns, 1000) * 1e-9)
        values = _SAMPLE.unpack(self._socket.recv(_SAMPLE.size))
        sample["x"] = values
        return Reading(sequence=int(values[0]))


class CameraOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table."""

    path: str
    """the camera's socket"""


class Camera(Driver):
    """A camera that sends 6.2 MB over a local socket for every trigger, into shared memory."""

    Options: ClassVar[type[msgspec.Struct]] = CameraOptions
    options: CameraOptions
    _socket: socket.socket | None = None
    _coming = 0

    @property
    def address(self) -> str:
        return f"unix:{self.options.path}"

    def sensor(self) -> SensorSpec:
        return SensorSpec(
            fields=(Field("image", "", IMAGE, "|u1"),),
            twin=(),
            twin_latency_ns=5_000_000,
            calls=Calls(latency_ns=5_000_000, latency_max_ns=30_000_000),
        )

    def open(self) -> int:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(self.options.path)
            self._coming = 0
        except OSError as error:
            raise DeviceError(f"device {self.name}: {self.address}: {error}") from error
        return -1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def flush(self) -> int:
        return 0  # what is still coming is thrown away by the next read

    def trigger(self) -> None:
        assert self._socket is not None
        self._socket.send(b"T")
        self._coming += IMAGE_BYTES

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        assert self._socket is not None
        self._socket.settimeout(max(timeout_ns, 1000) * 1e-9)
        image = sample["image"].reshape(-1)
        while self._coming:
            at = -self._coming % IMAGE_BYTES  # of an earlier image, when more than one is coming
            got = self._socket.recv_into(memoryview(image)[at:])
            if not got:
                raise DeviceError(f"device {self.name}: {self.address}: the camera is gone")
            self._coming -= got
        return Reading(sequence=int(image[:8].view("<i8")[0]))


class BusyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """No keys."""


class Busy(Driver):
    """Holds its own interpreter all the time, and gives a sample every 20 ms."""

    Options: ClassVar[type[msgspec.Struct]] = BusyOptions

    @property
    def address(self) -> str:
        return f"busy:{self.name}"

    def sensor(self) -> SensorSpec:
        return SensorSpec(
            fields=(Field("turns", ""),),
            twin=(TwinChannel(),),
            twin_latency_ns=1000,
            calls=Calls(
                latency_ns=1000, latency_max_ns=100_000, triggered=False, interval_ns=_HOLD_NS
            ),
        )

    def open(self) -> int:
        return -1

    def close(self) -> None:
        return

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        turns = 0
        until_ns = time.monotonic_ns() + _HOLD_NS
        while time.monotonic_ns() < until_ns:
            turns += 1
        sample["turns"] = turns
        return Reading()
