"""CAN buses that emulated motors hang on: a socket at a path, or one of python-can.

A socket gives each of its clients struct can_frame of linux/can.h, as a raw CAN socket does, and
hands frames on from one client to the others.
"""

import contextlib
import os
import select
import socket
import stat
import struct
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from inphase.errors import install

from ..port import PortError

_FRAME = struct.Struct("=IB3x8s")
_FLAGS = 0xE0000000  # extended, remote, error
_CLIENTS_MAX = 16


class BusFrame(NamedTuple):
    """A frame with a standard id."""

    ident: int
    data: bytes


class FrameBus(Protocol):
    """A bus as its nodes see it."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def receive(self) -> BusFrame | None:
        """A frame that came, or None."""

    def send(self, frame: BusFrame) -> None:
        """Send one; nobody may be there."""

    def close(self) -> None:
        """Hang up."""


def bus_at(channel: str) -> FrameBus:
    """The bus of a schedule's channel: a path, an address of UDP multicast, or an interface of the
    kernel. Raises PortError."""
    if "/" in channel:
        return SocketBus(Path(channel))
    return PythonCanBus(channel)


class SocketBus:
    """A socket at a path, for whoever connects."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._epoll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen. Raises PortError where somebody serves that path."""
        if self._listener is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            self._clear_path()
            listener.bind(str(self._path))
            listener.listen(_CLIENTS_MAX)
        except OSError as error:
            listener.close()
            raise PortError(
                f"{self._path}: {os.strerror(error.errno or 0)}; give another channel"
            ) from error
        self._listener = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def _clear_path(self) -> None:
        """Take away a socket that nobody serves any more. Raises PortError."""
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise PortError(f"{self._path}: exists and is no socket; remove or rename it")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trying:
            try:
                trying.connect(str(self._path))
            except OSError:
                self._path.unlink(missing_ok=True)
                return
        raise PortError(
            f"{self._path}: is the bus of another emulator; stop the robot that it belongs to, or "
            f"give another channel"
        )

    def fileno(self) -> int:
        """Of all clients, and of those that come."""
        return self._epoll.fileno()

    def receive(self) -> BusFrame | None:
        """A frame of any client, which the others have, too."""
        for fd, _ in self._epoll.poll(0):
            if self._listener is not None and fd == self._listener.fileno():
                self._accept()
                continue
            raw = self._read(fd)
            if raw is None:
                continue
            named, size, data = _FRAME.unpack(raw)
            self._give(raw, but=fd)
            if not named & _FLAGS:
                return BusFrame(named, data[:size])
        return None

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        client.setblocking(False)
        self._clients[client.fileno()] = client
        self._epoll.register(client.fileno(), select.EPOLLIN)

    def _read(self, fd: int) -> bytes | None:
        """A frame of a client; one that hung up is let go."""
        try:
            raw = self._clients[fd].recv(_FRAME.size)
        except OSError:
            raw = b""
        if len(raw) == _FRAME.size:
            return raw
        if not raw:
            self._let_go(fd)
        return None

    def _let_go(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._clients.pop(fd).close()

    def send(self, frame: BusFrame) -> None:
        """Give it to every client."""
        self._give(_FRAME.pack(frame.ident, len(frame.data), frame.data.ljust(8, b"\0")), but=-1)

    def _give(self, raw: bytes, but: int) -> None:
        for fd, client in self._clients.items():
            if fd != but:
                with contextlib.suppress(OSError):  # gone, or does not read
                    client.send(raw)

    def close(self) -> None:
        """Hang up on all of them."""
        for fd in list(self._clients):
            self._let_go(fd)
        if self._listener is not None:
            self._epoll.unregister(self._listener.fileno())
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)


class PythonCanBus:
    """A bus of python-can: UDP multicast for an address, else an interface of the kernel."""

    def __init__(self, channel: str) -> None:
        try:
            import can
        except ImportError as error:
            raise PortError(f"can {channel}: {error}; {install('can')}") from error
        self._can = can
        interface = "udp_multicast" if channel.count(".") == 3 else "socketcan"
        group, _, port = channel.partition(":")
        more: dict[str, Any] = {"port": int(port)} if port else {}
        try:
            self._bus = can.Bus(interface=interface, channel=group, ignore_config=True, **more)
        except (can.CanError, OSError, ValueError) as error:
            raise PortError(f"can {interface}:{channel}: {error}; is it up?") from error

    def fileno(self) -> int:
        """Of its socket."""
        return int(self._bus.fileno())

    def receive(self) -> BusFrame | None:
        """A frame of anybody; UDP multicast brings our own ones, too."""
        while True:
            try:
                message = self._bus.recv(0)
            except self._can.CanError:
                continue  # no CAN frame
            if message is None:
                return None
            if not (message.is_extended_id or message.is_fd or message.is_remote_frame):
                return BusFrame(message.arbitration_id, bytes(message.data))

    def send(self, frame: BusFrame) -> None:
        """Send it to everybody."""
        message = self._can.Message(
            arbitration_id=frame.ident, is_extended_id=False, data=frame.data
        )
        with contextlib.suppress(self._can.CanError, OSError):
            self._bus.send(message)

    def open(self) -> None:
        """It is open from the start."""

    def close(self) -> None:
        """Hang up."""
        self._bus.shutdown()
