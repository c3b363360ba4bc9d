"""A device that streams on a clock of its own and starts the cycles: over UDP or TCP.

The device is a process (`python pacer.py KIND HZ`), which prints its port. It sends to whoever
greeted it last. Lines on its stdin are obeyed:

    silence, heal     no packets, and packets again, in the phase that it had
    double n          each of the next n packets twice
"""

import contextlib
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from inphase import driver
from inphase.driver import DeviceError, Raw, Value

START = b"\xaa\x55pa"
PACKET = struct.Struct("<4sId")


class PacedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of its `[device.NAME]` table."""

    kind: Literal["udp", "tcp"]
    port: Annotated[int, Meta(ge=1, le=65535)]
    hz: int


class Paced(driver.Driver):
    """`sent`: the number of the packet."""

    Options: ClassVar[type[msgspec.Struct]] = PacedOptions

    def __init__(self, name: str, options: PacedOptions) -> None:
        super().__init__(name, options)
        self.options: PacedOptions = options
        self._socket: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"{self.options.kind}:127.0.0.1:{self.options.port}"

    def sensor(self) -> driver.SensorSpec:
        size, interval_ns = PACKET.size, 10**9 // self.options.hz
        is_udp = self.options.kind == "udp"
        return driver.SensorSpec(
            fields=(driver.Field("sent", "1"),),
            exchange=driver.Exchange(
                request=b"",
                framing=driver.Framing(
                    min_size=size,
                    max_size=size,
                    datagram=is_udp,
                    start=b"" if is_udp else START,
                ),
                replies=(driver.Reply((Value(4, Raw.U32, 0),), size=size),),
                sequence=Value(4, Raw.U32, 0),
                interval_ns=interval_ns,
                request_ns=0,
                reply_ns=100_000,
                reply_max_ns=interval_ns,
            ),
            twin=(driver.TwinChannel(noise=1.0),),
            twin_latency_ns=100_000,
        )

    def open(self) -> int:
        kind = socket.SOCK_DGRAM if self.options.kind == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(("127.0.0.1", self.options.port))
            self._socket.send(b"hello")
        except OSError as error:
            self.close()
            raise DeviceError(f"device {self.name}: {self.address}: {error}; start it") from error
        os.set_blocking(self._socket.fileno(), False)
        return self._socket.fileno()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _greeted(server: socket.socket, kind: str) -> Callable[[bytes], object]:
    """How to send to whoever has just greeted."""
    if kind == "tcp":
        return server.accept()[0].send
    address = server.recvfrom(64)[1]
    return lambda packet: server.sendto(packet, address)


def _stream(kind: str, hz: float) -> None:
    sort = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    server = socket.socket(socket.AF_INET, sort)
    server.bind(("127.0.0.1", 0))
    if kind == "tcp":
        server.listen()
    print(server.getsockname()[1], flush=True)
    start, number, silent, doubled = time.monotonic(), 0, False, 0
    send: Callable[[bytes], object] | None = None
    while True:
        number += 1
        due = start + number / hz
        while (left := due - time.monotonic()) > 0:
            for ready in select.select([server, sys.stdin], [], [], left)[0]:
                if ready is not sys.stdin:
                    send = _greeted(server, kind)
                    continue
                words = sys.stdin.readline().split()
                if not words:
                    return
                silent = {"silence": True, "heal": False}.get(words[0], silent)
                doubled = int(words[1]) if words[0] == "double" else doubled
        if send is None or silent:
            continue
        with contextlib.suppress(OSError):
            for _ in range(2 if doubled > 0 else 1):
                send(PACKET.pack(START, number, 0.0))
        doubled -= 1


if __name__ == "__main__":
    _stream(sys.argv[1], float(sys.argv[2]))
