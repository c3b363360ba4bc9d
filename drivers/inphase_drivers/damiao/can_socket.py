"""A raw CAN socket: frames as linux/can.h has them, one in each read and write."""

import errno
import os
import select
import socket
import struct
import time
from typing import NamedTuple

from inphase.driver import DeviceError

_ERRORS = 0x1FFFFFFF  # linux/can/error.h, CAN_ERR_MASK
_FLAGS = 0xE0000000  # extended, remote, error
_IDENT = 0x7FF
_SOL_CAN_RAW, _FILTER, _ERROR_FILTER = 101, 1, 2
_FRAME = struct.Struct("=IB3x8s")


class CanFrame(NamedTuple):
    """A frame with a standard id."""

    ident: int
    data: bytes


class CanSocket:
    """One bus: a CAN interface of the kernel, or a socket at a path that carries the same frames.

    Its opener closes it. All raise DeviceError with device, channel and remedy.
    """

    def __init__(self, device: str, channel: str) -> None:
        self._device = device
        self._channel = channel
        try:
            if "/" in channel:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._socket.connect(channel)
            else:
                self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
                self._socket.bind((channel,))
                self._socket.setsockopt(_SOL_CAN_RAW, _ERROR_FILTER, struct.pack("=I", _ERRORS))
        except OSError as error:
            raise DeviceError(
                f"device {device}: cannot open CAN bus {channel}: {error.strerror}; "
                f"{_remedy(channel, error.errno)}"
            ) from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, which does not block."""
        return self._socket.fileno()

    def listen_only_to(self, identifiers: list[int]) -> None:
        """Let the kernel leave out other frames, where it can."""
        if self._socket.family == socket.AF_CAN:
            packed = b"".join(struct.pack("=II", one, _FLAGS | _IDENT) for one in identifiers)
            self._socket.setsockopt(_SOL_CAN_RAW, _FILTER, packed)

    def send(self, frame: bytes) -> None:
        """Send a frame of 16 bytes."""
        try:
            os.write(self.fileno(), frame)
        except OSError as error:
            raise DeviceError(
                f"device {self._device}: CAN bus {self._channel} takes no frame: "
                f"{error.strerror}; check that it is up, its cable and termination, and that a "
                f"motor is powered"
            ) from error

    def receive(self, until_ns: int) -> CanFrame | None:
        """The next data frame with a standard id; None when that time has passed without one."""
        while True:
            wait_s = max(0, until_ns - time.monotonic_ns()) * 1e-9
            if not select.select([self.fileno()], [], [], wait_s)[0]:
                return None
            try:
                raw = os.read(self.fileno(), 72)
            except OSError as error:
                raise self._gone(error.strerror) from error
            if not raw:
                raise self._gone("the other end has hung up")
            named, size, data = _FRAME.unpack(raw[:16])
            if not named & _FLAGS:
                return CanFrame(named & _IDENT, data[:size])

    def _gone(self, trouble: str | None) -> DeviceError:
        return DeviceError(
            f"device {self._device}: CAN bus {self._channel} is gone: {trouble}; check adapter and "
            f"cable"
        )

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _remedy(channel: str, error: int | None) -> str:
    if "/" in channel:
        return "start whoever serves that socket, or give a CAN interface such as can0"
    if error == errno.EAFNOSUPPORT:
        return "this kernel has no CAN sockets: sudo modprobe can_raw"
    return f"plug the adapter in, and: sudo ip link set {channel} up type can bitrate 1000000"
