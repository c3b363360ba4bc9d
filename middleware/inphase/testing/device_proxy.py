"""A proxy between a driver and its device, which plays the device's own reply in any parts.

It is for drivers that read by themselves: their framing is seen only on the wire that they opened.
"""

import contextlib
import fcntl
import os
import select
import socket
import stat
import struct
import termios
import threading
import time
import tty
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from inphase.driver import Driver, SensorSpec
from inphase.frames import wire
from inphase.testing.peer import Peer

_READ_MAX = 4096
_COMES_NS = 5_000_000  # a terminal hands on what was written to its other end a little later
_TAKEN_NS = 20_000_000  # how long a driver may leave one part unread before the next one comes
_GLANCE_S = 0.0002
_WHOLE_NS = 5_000_000_000  # for a reply that is there
_AGAIN_NS = 100_000_000  # for one of several whole replies
_BOUND_S = 20.0
_BYTE_NS = 20_000_000  # for a packet that its last byte may have made whole
_END, _SAY = b"e", b"s"
_TURNS = 3


class NoProxyError(Exception):
    """A device that cannot be stood in for; says why."""


class DeviceProxy:
    """Hands on what driver and device say. Use it with `with`; `options` lead a driver to it.

    `play` has it answer the next request by itself. Thread: its own, and the caller's.
    """

    def __init__(self, ours: int, theirs: int, slave: int, options: dict[str, Any]) -> None:
        self.options = options
        self.heard: list[bytes] = []
        """what the device said since `record`"""
        self.is_packets = slave < 0
        """one read is one packet"""
        self._ours, self._theirs, self._slave = ours, theirs, slave
        self._socket = socket.socket(fileno=ours) if self.is_packets else None
        self._bell = os.pipe()
        self._lock = threading.Lock()
        self._alone = False
        self._kept: list[bytes] = []
        self._parts: Sequence[bytes] | None = None
        self._unasked = False
        self._played = threading.Event()
        self._driver: Any = None  # where the driver's datagrams come from
        self._thread = threading.Thread(target=self._run, daemon=True)

    def record(self) -> None:
        """Forget what the device has said so far."""
        with self._lock:
            self.heard.clear()

    def hand_on(self) -> None:
        """Give the driver what the device said while replies were played."""
        with self._lock:
            for data in self._kept:
                self._say(data)
            self._kept.clear()

    def stand_alone(self) -> None:
        """From now on the device hears nothing, and what it says waits for `hand_on` or `take`."""
        with self._lock:
            self._alone = True

    def take(self, size: int) -> bytes:
        """So many bytes, or one packet, of what waits. Raises TimeoutError."""
        end_s = time.monotonic() + _BOUND_S
        while time.monotonic() < end_s:
            with self._lock:
                if self._kept:
                    data = self._kept.pop(0)
                    if not self.is_packets and data[size:]:
                        self._kept.insert(0, data[size:])
                    return data if self.is_packets else data[:size]
            time.sleep(_GLANCE_S)
        raise TimeoutError(f"the device said nothing in {_BOUND_S:.0f} s")

    def play(self, parts: Sequence[bytes], unasked: bool = False) -> None:
        """Answer the next request with these parts, or say them `unasked`: each when the one before
        was read. From now on it stands alone."""
        self._played.clear()
        self.stand_alone()
        self._parts, self._unasked = parts, unasked
        if unasked:
            os.write(self._bell[1], _SAY)

    def stop(self) -> None:
        """Wait until all was said; where nothing was asked, forget it."""
        if self._unasked or self._parts is None:
            self._played.wait(_BOUND_S)
        self._parts = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._bell[1], _END)
        self._thread.join()
        if self._socket is not None:
            self._socket.detach()
        fds = (self._ours, self._theirs, *self._bell, self._slave)
        for fd in fds[:-1] if self.is_packets else fds:
            os.close(fd)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._bell[0], self._ours, self._theirs], [], [])
            told = os.read(self._bell[0], 1) if self._bell[0] in ready else b""
            if told == _END:
                return
            with contextlib.suppress(OSError):  # the device went: its driver will say so
                if told == _SAY:
                    self._say_parts()
                if self._theirs in ready:
                    self._hear_device()
                if self._ours in ready:
                    self._hear_driver()

    def _hear_device(self) -> None:
        data = os.read(self._theirs, _READ_MAX)
        with self._lock:
            if self._alone:
                self._kept.append(data)
            else:
                self.heard.append(data)
                self._say(data)

    def _hear_driver(self) -> None:
        if self._socket is not None:
            data, self._driver = self._socket.recvfrom(_READ_MAX)
        else:
            data = os.read(self._ours, _READ_MAX)
        if self._parts is not None:
            self._say_parts()
        elif not self._alone:
            if not self.is_packets:  # at the driver's speed
                settings = termios.tcgetattr(self._slave)
                termios.tcsetattr(self._theirs, termios.TCSANOW, settings)
            os.write(self._theirs, data)

    def _say_parts(self) -> None:
        parts, self._parts = self._parts, None
        for part in parts or ():
            with self._lock:
                self._say(part)
            self._wait_until_read()
        self._played.set()

    def _say(self, data: bytes) -> None:
        if self._socket is None:
            os.write(self._ours, data)
        elif self._driver is not None:
            self._socket.sendto(data, self._driver)

    def _wait_until_read(self) -> None:
        if self.is_packets:
            return
        start_ns = time.monotonic_ns()
        while self._unread() == 0 and time.monotonic_ns() - start_ns < _COMES_NS:
            time.sleep(_GLANCE_S)
        while self._unread() > 0 and time.monotonic_ns() - start_ns < _TAKEN_NS:
            time.sleep(_GLANCE_S)

    def _unread(self) -> int:
        count = fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", count)[0])


def proxy_of(peer: Peer, address: str, link: Path) -> DeviceProxy:
    """A proxy to a device on a serial port, or on UDP; on a serial port it lies at `link`. Raises
    NoProxyError."""
    place = peer.options.get(peer.wire)
    if isinstance(place, int) and address.startswith("udp:"):
        return _proxy_on_udp(peer, place)
    if isinstance(place, str) and Path(place).exists() and stat.S_ISCHR(Path(place).stat().st_mode):
        return _proxy_on_terminal(peer, place, link)
    raise NoProxyError(
        f"{type(peer).__name__}: its option {peer.wire!r} is no serial port and no port of UDP"
    )


def _proxy_on_udp(peer: Peer, port: int) -> DeviceProxy:
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.connect((peer.options.get("host", "127.0.0.1"), port))
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    options = peer.options | {peer.wire: ours.getsockname()[1]}
    if "host" in options:
        options["host"] = "127.0.0.1"
    return DeviceProxy(ours.detach(), theirs.detach(), -1, options)


def _proxy_on_terminal(peer: Peer, place: str, link: Path) -> DeviceProxy:
    theirs = os.open(place, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(theirs)
    ours, slave = os.openpty()
    tty.setraw(slave)
    link.symlink_to(os.ttyname(slave))
    return DeviceProxy(ours, theirs, slave, peer.options | {peer.wire: str(link)})


class Replayed:
    """One reply of a device whose driver reads by itself, and what the driver makes of it when it
    comes in other parts. The driver is open, and is the caller's to close."""

    def __init__(self, driver: Driver, spec: SensorSpec, proxy: DeviceProxy) -> None:
        """Have the driver start and read once. Raises TimeoutError, DeviceError, NoProxyError."""
        assert spec.calls is not None
        self._driver, self._proxy = driver, proxy
        self._worst_ns = spec.calls.latency_max_ns
        self._dtype = wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields])
        self.is_packets = proxy.is_packets
        self._is_asked = spec.calls.triggered
        driver.start()
        driver.flush()
        if self._is_asked:
            self._ask_once()
        else:
            proxy.stand_alone()
            self._hear_one()  # its beginning may be lost
            self._hear_one()
        if self.parse(*self.parts) != self.values:
            raise NoProxyError(f"device {driver.name}: a reply of it answers its own request alone")

    def _ask_once(self) -> None:
        driver, proxy = self._driver, self._proxy
        proxy.record()
        driver.trigger()
        values = self._read(_WHOLE_NS)
        if values is None:
            raise TimeoutError("the device gave no good sample")
        self.values: bytes = values
        self.parts = list(proxy.heard)

    def _hear_one(self) -> None:
        """Take what a device says by itself, byte by byte, until it makes one sample."""
        self.parts, values = [], None
        while values is None:
            self.parts.append(self._proxy.take(1))
            self._proxy.play(self.parts[-1:], unasked=True)
            self._proxy.stop()
            values = self._read(_BYTE_NS)
        self.values = values

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)

    def parse(self, *parts: bytes) -> bytes | None:
        """The driver's reading when these parts come, one after the other; it waits for long."""
        return self._turn(parts, _WHOLE_NS)

    def refuse(self, *parts: bytes) -> bytes | None:
        """The same, where no whole reply comes: it waits for its stated worst case."""
        return self._turn(parts, self._worst_ns)

    def after(self, *parts: bytes) -> tuple[bytes | None, list[bytes | None]]:
        """The driver's reading when these come, and in the next turns, in which all is well."""
        for _ in range(
            0 if self._is_asked else _TURNS
        ):  # it still holds what the turns before gave
            if self._read(self._worst_ns) is None:
                break
        found, later = self.refuse(*parts), []
        for _ in range(_TURNS):
            later.append(self._turn(self.parts, max(self._worst_ns, _AGAIN_NS)))
            if later[-1] == self.values:
                break
        return found, later

    def _turn(self, parts: Sequence[bytes], wait_ns: int) -> bytes | None:
        if self._is_asked:
            self._proxy.hand_on()
            self._driver.flush()
        self._proxy.play(parts, unasked=not self._is_asked)
        if self._is_asked:
            self._driver.trigger()
        try:
            return self._read(wait_ns)
        finally:
            self._proxy.stop()

    def _read(self, wait_ns: int) -> bytes | None:
        sample = np.zeros((), self._dtype)
        try:
            reading = self._driver.read(sample, wait_ns)
        except TimeoutError:
            return None
        return None if reading.reason else sample.tobytes()
