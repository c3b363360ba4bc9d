"""A counted sensor behind a pseudo-terminal or a UDP socket, and the test's end of either.

Request 55 AA 01; reply AA 55, count (u32), value (f64), CRC-16: 16 bytes, low bytes first.
"""

import contextlib
import os
import queue
import select
import socket
import struct
import threading
import tty
from pathlib import Path
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

from inphase import driver
from inphase.driver import Raw
from inphase.packets import checksum
from inphase.serial_sensor import SerialOptions, SerialSensor

REQUEST = b"\x55\xaa\x01"
SIZE = 16
VALUE = 1.25
Answer = list[bytes]
"""What is written for one request, one write each; a datagram each on UDP"""


def reply(count: int, value: float = VALUE) -> bytes:
    """A whole reply."""
    body = b"\xaa\x55" + struct.pack("<Id", count & 0xFFFFFFFF, value)
    return body + struct.pack("<H", checksum("CRC-16/UMTS", body))


def _sensor(framing: driver.Framing) -> driver.SensorSpec:
    exchange = driver.Exchange(
        request=REQUEST,
        framing=framing,
        replies=(
            driver.Reply(
                values=(driver.Value(offset=6, type=Raw.F64, channel=0),),
                checks=(driver.Check(driver.CheckKind.CHECKSUM, -2, checksum="CRC-16/UMTS"),),
                size=SIZE,
            ),
        ),
        sequence=driver.Value(offset=2, type=Raw.U32, channel=0),
        request_ns=10_000,  # the test answers at once: sooner than that it cannot
        reply_ns=500_000,
        reply_max_ns=4_000_000,
        acquire=driver.Acquire.AFTER_TRIGGER,
    )
    return driver.SensorSpec(
        fields=(driver.Field("value", "m"),),
        exchange=exchange,
        twin=(driver.TwinChannel(base=VALUE),),
        twin_latency_ns=500_000,
    )


class Serial(SerialSensor):
    """On a pseudo-terminal."""

    Options: ClassVar[type[msgspec.Struct]] = SerialOptions

    def sensor(self) -> driver.SensorSpec:
        return _sensor(driver.Framing(min_size=SIZE, max_size=SIZE, start=b"\xaa\x55"))


class DatagramOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table."""

    port: Annotated[int, Meta(ge=1, le=65535)]


class Datagram(driver.Driver):
    """On UDP."""

    Options: ClassVar[type[msgspec.Struct]] = DatagramOptions
    options: DatagramOptions
    _socket: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"udp:127.0.0.1:{self.options.port}"

    def sensor(self) -> driver.SensorSpec:
        return _sensor(driver.Framing(min_size=SIZE, max_size=SIZE, datagram=True))

    def open(self) -> int:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.connect(("127.0.0.1", self.options.port))
        return self._socket.fileno()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Device(threading.Thread):
    """The test's end: counts its samples, and answers what it was told to, else as it should."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.script: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.done = threading.Event()
        """the script is over"""
        self._over = False

    def tell(self, *answers: Answer) -> None:
        """Answer the next requests so."""
        self.done.clear()
        for answer in answers:
            self.script.put(answer)

    def answer(self) -> Answer:
        """What goes out for the next request."""
        self.count += 1
        try:
            return self.script.get_nowait()
        except queue.Empty:
            self.done.set()
            return [reply(self.count)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.hang_up()
        self.join()

    def hang_up(self) -> None:
        """Go away, whatever it lies in."""


class UdpDevice(Device):
    """Listens on a port of 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def run(self) -> None:
        while not self._over:
            data, peer = self._socket.recvfrom(64)
            for part in self.answer() if data == REQUEST else []:
                self._socket.sendto(part, peer)
        self._socket.close()

    def hang_up(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", ("127.0.0.1", self.port))


class SerialDevice(Device):
    """Has a pseudo-terminal, under a link that stays when it is unplugged."""

    def __init__(self, link: Path) -> None:
        super().__init__()
        self.link = link
        self._ends: list[int] = []
        self._bell = os.pipe()
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._granted = threading.Semaphore(0)
        self._plug()

    def plug(self, there: bool) -> None:
        """Plug it in, under another name of its terminal, or out; when that is done."""
        self._wishes.put(there)
        os.write(self._bell[1], b".")
        self._granted.acquire()

    def hang_up(self) -> None:
        os.write(self._bell[1], b".")

    def run(self) -> None:
        held = b""
        while not self._over:
            ready, _, _ = select.select([self._bell[0], *self._ends[:1]], [], [])
            if self._bell[0] in ready:
                os.read(self._bell[0], 1)
                held = b""
                with contextlib.suppress(queue.Empty):
                    self._obey(self._wishes.get_nowait())
                continue
            held += os.read(self._ends[0], 64)
            while REQUEST in held:
                held = held.partition(REQUEST)[2]
                for part in self.answer():
                    os.write(self._ends[0], part)
        self._unplug()
        for fd in self._bell:
            os.close(fd)

    def _obey(self, there: bool) -> None:
        self._unplug()
        if there:
            self._plug()
        self._granted.release()

    def _plug(self) -> None:
        self._ends = list(os.openpty())
        tty.setraw(self._ends[1])
        new = self.link.with_suffix(".new")
        new.symlink_to(os.ttyname(self._ends[1]))
        new.replace(self.link)

    def _unplug(self) -> None:
        self.link.unlink(missing_ok=True)
        for fd in self._ends:
            os.close(fd)
        self._ends = []
