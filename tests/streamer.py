"""A sensor that is never asked: it sends a packet every 4 ms, and says in it when it took it.

The device is a process (`python streamer.py LINK`) behind a pseudo-terminal. Lines on its stdin are
answered with the time at which it took its newest sample:

    silence, spoil, disguise, stall, heal, unplug, replug     as a Peer does
    flood n     take n samples at once, and send them, also in a silence
"""

import contextlib
import os
import select
import sys
import time
import tty
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import wired
from inphase import driver
from inphase.driver import Calls, DeviceError, Reading
from inphase.packets import Parser, RefusedReply
from inphase.serial_sensor import SerialSensor

PERIOD_NS = 4_000_000
_READ_MAX = 4096


class Streamer(SerialSensor):
    """`value`: when it was taken, in seconds."""

    def sensor(self) -> driver.SensorSpec:
        """The exchange of `wired`, without a request."""
        spec = wired.Serial.sensor(self)  # type: ignore[arg-type]
        assert spec.exchange is not None
        exchange = replace(
            spec.exchange,
            request=b"",
            request_ns=0,
            reply_max_ns=2 * PERIOD_NS,
            acquire=driver.Acquire.ABSENT,
        )
        return replace(spec, fields=(driver.Field("value", "s"),), exchange=exchange)


class ByHand(Streamer):
    """The same, with a `read` of its own."""

    _parser: Parser
    _fd = -1

    def sensor(self) -> driver.SensorSpec:
        """As it is, and read by calls."""
        calls = Calls(
            latency_ns=500_000,
            latency_max_ns=2 * PERIOD_NS,
            triggered=False,
            interval_ns=PERIOD_NS,
            sequence_bits=32,
        )
        return replace(super().sensor(), exchange=None, calls=calls)

    def _find(self, fd: int, spec: driver.SensorSpec) -> None:
        streamed = super().sensor()
        super()._find(fd, streamed)
        assert streamed.exchange is not None
        self._fd, self._parser = fd, Parser(streamed.exchange, 1)

    def flush(self) -> int:
        """Read all there is; how many samples that was."""
        found = 0
        with contextlib.suppress(TimeoutError):
            while True:
                self._next(0)
                found += 1
        return found

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The next one."""
        try:
            sample["value"] = self._next(timeout_ns)
        except RefusedReply as refused:
            return Reading(reason=refused.reason, detail=refused.detail)
        return Reading(sequence=self._parser.sequence)

    def _next(self, timeout_ns: int) -> float:
        found = self._parser.feed(b"")
        end_ns = time.monotonic_ns() + timeout_ns
        while found is None:
            left_ns = max(0, end_ns - time.monotonic_ns())
            if not select.select([self._fd], [], [], left_ns / 1e9)[0]:
                raise TimeoutError
            data = os.read(self._fd, _READ_MAX)
            if not data:
                raise DeviceError(f"device {self.name}: {self.options.port} has hung up")
            found = self._parser.feed(data)
        return found[0]


class Device:
    """The device's own side. `mode`: heal, silence, spoil, disguise or stall."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.mode = "heal"
        self.taken_ns = 0
        self._count = 0
        self._held = b""
        self._ends: tuple[int, ...] = ()
        self.replug()

    def serve(self) -> None:
        """Send, and do what stdin says, until it ends."""
        due_ns = time.monotonic_ns()
        print("ready", flush=True)
        while True:
            wait_ns = max(0, due_ns - time.monotonic_ns())
            if select.select([0], [], [], wait_ns / 1e9)[0]:
                lines = os.read(0, _READ_MAX).decode().splitlines()
                if not lines:
                    break
                for line in lines:
                    self._obey(line)
                    print(self.taken_ns, flush=True)
            if time.monotonic_ns() >= due_ns:
                due_ns += PERIOD_NS
                if self.mode != "silence":
                    self._send(1)
        self.unplug()

    def _obey(self, line: str) -> None:
        word, *number = line.split()
        if word == "flood":
            self._send(int(number[0]))
        elif word in ("unplug", "replug"):
            getattr(self, word)()
        else:
            self.mode = word
            held, self._held = self._held, b""
            self._write(held)

    def _send(self, count: int) -> None:
        self._write(b"".join(self._packet() for _ in range(count)))

    def _packet(self) -> bytes:
        self._count += 1
        self.taken_ns = time.monotonic_ns()
        packet = bytearray(wired.reply(self._count, self.taken_ns / 1e9))
        packet[1] ^= self.mode == "disguise"
        packet[-1] ^= self.mode == "spoil"
        return bytes(packet)

    def _write(self, data: bytes) -> None:
        if self.mode == "stall":
            self._held += data
        elif self._ends:
            with contextlib.suppress(BlockingIOError):  # nobody reads: it is lost
                os.write(self._ends[0], data)

    def replug(self) -> None:
        """Make a pseudo-terminal, and its name a link to it."""
        self._ends = os.openpty()
        tty.setraw(self._ends[1])
        os.set_blocking(self._ends[0], False)
        self.link.symlink_to(os.ttyname(self._ends[1]))

    def unplug(self) -> None:
        """Hang up."""
        for fd in self._ends:
            os.close(fd)
        self._ends = ()
        self.link.unlink(missing_ok=True)


if __name__ == "__main__":
    Device(Path(sys.argv[1])).serve()
