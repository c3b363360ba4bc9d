"""A small triggered device and its driver, for tests of workers: UDP, counted samples, own clock.

The device is a process (`python counter.py PORT`). A datagram `T` makes it sample: it answers with
(sequence, device time, value), little endian. Other datagrams set what it does with the next ones:

    L n   answer the next sample only together with the one n later (late, stale)
    D     leave the next trigger out: no sample, no count
    X     count one sample too many before the next
    F     the clock and the count stand still from now on; R: they go on
    S     say nothing any more; R: answer again
    E, O  commands are followed from now on, or not any more
    H     hold back what is said, and say all of it at the next R
    B n   take n samples at once, without a trigger, and say them; answer as to A of the last
    A n   answer at once when the sample was asked for whose number has this last byte (uint64)
    Q     answer at once with the number of triggers seen (uint64)
    P     answer at once with whether commands are followed (uint64)
"""

import contextlib
import socket
import struct
import sys
import threading
import time
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from inphase.driver import (
    ActuatorSpec,
    Calls,
    DeviceError,
    Driver,
    Field,
    Reading,
    SensorSpec,
    Servo,
    Stop,
    StopKind,
    TwinChannel,
    Watchdog,
)

SAMPLE = struct.Struct("<qqd")
COUNT = struct.Struct("<Q")
CLOCK_AHEAD_NS = 5_000_000_000


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the device's table."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    counted: bool = True
    clock: bool = False
    wall_clock: bool = False
    """the driver stamps by the wall clock, which is a mistake"""
    moves: bool = False
    watchdog_ms: int = 0
    guarded: bool = False
    """the guard has the socket, and switches the device off"""


class Counter(Driver):
    """One value, in metres."""

    Options: ClassVar[type[msgspec.Struct]] = Options
    modes = ("position", "velocity")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self.options: Options = options
        self._socket: socket.socket | None = None
        self._thread = 0

    @property
    def address(self) -> str:
        """Where the device listens."""
        return f"udp:127.0.0.1:{self.options.port}"

    def sensor(self) -> SensorSpec:
        """`value`, and a small picture."""
        return SensorSpec(
            fields=(Field("value", "m"), Field("picture", "", (3, 5), "|u1")),
            calls=Calls(latency_ns=500_000, latency_max_ns=18_000_000),
            twin=(TwinChannel(base=1.0),),
            twin_latency_ns=500_000,
        )

    def actuator(self) -> ActuatorSpec | None:
        """One joint, if the schedule says that it moves."""
        if not self.options.moves:
            return None
        watchdog_ns = self.options.watchdog_ms * 1_000_000
        return ActuatorSpec(
            channels=1,
            unit="m",
            servos=(Servo(start=1.0),),
            watchdog=Watchdog(watchdog_ns, fed_by_reads=True, verified=True)
            if watchdog_ns
            else None,
            stop=Stop(StopKind.BYTES, b"O") if self.options.guarded else Stop(),
        )

    def open(self) -> int:
        """Connect and ask whether somebody is there."""
        self._thread = threading.get_ident()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", self.options.port))
        self._socket.settimeout(0.5)
        try:
            self._socket.send(b"Q")
            while len(self._socket.recv(64)) != COUNT.size:
                pass
        except OSError as error:
            self.close()
            raise DeviceError(f"device {self.name}: {self.address} is silent: {error}") from error
        return self._socket.fileno() if self.options.guarded else -1

    def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def flush(self) -> int:
        """Throw away what lies in the socket."""
        assert self._socket is not None
        self._socket.setblocking(False)
        found = 0
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while self._socket.recv(64):
                found += 1
        return found

    def trigger(self) -> None:
        """Ask for a sample."""
        self._send(b"T")

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for an answer."""
        assert self._socket is not None
        self._socket.settimeout(max(timeout_ns, 1000) / 1e9)
        try:
            data = self._socket.recv(64)
        except TimeoutError:
            raise
        except OSError as error:
            raise DeviceError(f"device {self.name}: {error}") from error
        if len(data) != SAMPLE.size:
            return Reading(reason="size", detail=len(data))
        sequence, device_ns, value = SAMPLE.unpack(data)
        sample["value"] = value
        sample["picture"] = sequence % 256
        return Reading(
            sequence=sequence if self.options.counted else None,
            device_ns=device_ns if self.options.clock else None,
            acquired_ns=time.time_ns() if self.options.wall_clock else None,
        )

    def write(self, command: NDArray[np.float64]) -> None:
        """Set the value that the device answers with."""
        self._send(b"V" + struct.pack("<d", command[0]))

    def enable(self) -> None:
        """Follow commands."""
        self._send(b"E")

    def disable(self) -> None:
        """Follow none."""
        self._send(b"O")

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        if threading.get_ident() != self._thread:
            raise DeviceError(f"device {self.name}: called in another thread than open was")
        try:
            self._socket.send(data)
        except OSError as error:
            raise DeviceError(f"device {self.name}: {error}") from error


class Device:
    """The device's own side."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._sequence = 100
        self._triggers = 0
        self._value = 1.0
        self._hold = 0
        self._held: list[bytes] = []
        self._waiting: list[tuple[bytes, tuple[str, int]]] | None = None
        self._asker = ("", 0)
        self._asked_ns = [0] * 256
        self._leave_out = self._silent = self._frozen = self._enabled = False
        self._clock_ns = 0

    def serve(self) -> None:
        """Answer for ever."""
        print("ready", flush=True)
        while True:
            data, peer = self._socket.recvfrom(64)
            self._obey(data, peer)

    def _obey(self, data: bytes, peer: tuple[str, int]) -> None:
        kind = data[:1]
        if kind == b"T":
            self._trigger(peer)
        elif kind in b"QPAB":
            self._socket.sendto(COUNT.pack(self._answer(kind, data[1:])), peer)
        elif kind in b"EO":
            self._enabled = kind == b"E"
        elif kind == b"V" and self._enabled:
            (self._value,) = struct.unpack("<d", data[1:])
        elif kind == b"L":
            self._hold = int(data[1:])
        elif kind == b"H":
            self._waiting = []
        elif kind == b"D":
            self._leave_out = True
        elif kind == b"X":
            self._sequence += 1
        elif kind in b"FSR":
            self._frozen, self._silent = kind == b"F", kind == b"S"
            waiting, self._waiting = self._waiting, None
            for answer, asker in waiting or ():
                self._say(answer, asker)

    def _answer(self, kind: bytes, number: bytes) -> int:
        if kind == b"Q":
            return self._triggers
        if kind == b"P":
            return int(self._enabled)
        if kind == b"A":
            return self._asked_ns[int(number)]
        for _ in range(int(number)):
            self._say(self._sample(), self._asker)
        return self._asked_ns[self._sequence % 256]

    def _trigger(self, peer: tuple[str, int]) -> None:
        self._triggers += 1
        self._asker = peer
        if self._silent or self._leave_out:
            self._leave_out = False
            return
        answer = self._sample()
        if self._hold:
            self._hold -= 1
            self._held.append(answer)
            return
        for each in [*self._held, answer]:
            self._say(each, peer)
        self._held.clear()

    def _sample(self) -> bytes:
        if not self._frozen:
            self._sequence += 1
            now_ns = time.monotonic_ns()
            self._clock_ns = now_ns + CLOCK_AHEAD_NS
            self._asked_ns[self._sequence % 256] = now_ns
        return SAMPLE.pack(self._sequence, self._clock_ns, self._value)

    def _say(self, answer: bytes, peer: tuple[str, int]) -> None:
        if self._waiting is None:
            self._socket.sendto(answer, peer)
        else:
            self._waiting.append((answer, peer))


if __name__ == "__main__":
    Device(int(sys.argv[1])).serve()
