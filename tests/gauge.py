"""The range finder of the template with a driver that frames by itself, for tests."""

import os
import select
import termios
import time
from typing import Any, ClassVar

import msgspec
import serial
from numpy.typing import NDArray

from inphase.driver import Calls, DeviceError, Driver, Field, Reading, SensorSpec, TwinChannel
from inphase.packets import checksum
from inphase.serial_port import hand_over, open_port
from inphase.serial_sensor import SerialOptions

REQUEST, START = b"\x55\xaa\x01", b"\xaa\x55"
SIZE = 8
_ANSWER_NS = 300_000_000
_TRIES = 3


class Gauge(Driver):
    """`distance` in m."""

    Options: ClassVar[type[msgspec.Struct]] = SerialOptions
    options: SerialOptions

    def __init__(self, name: str, options: SerialOptions) -> None:
        super().__init__(name, options)
        self._port: serial.Serial | None = None
        self._fd = -1
        self._held = b""

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    def sensor(self) -> SensorSpec:
        """Read by calls; the device counts, but pairing is by silence."""
        return SensorSpec(
            fields=(Field("distance", "m"),),
            calls=Calls(latency_ns=2_000_000, latency_max_ns=10_000_000, latency_min_ns=1_500_000),
            twin=(TwinChannel(base=1.0, noise=0.002),),
            twin_latency_ns=2_000_000,
        )

    def open(self) -> int:
        """Open the port, and see that the device answers there."""
        self._port = open_port(self.name, self.options.port, self.options.baud)
        try:
            self._fd = hand_over(self._port)
            self._find()
        except BaseException:
            self.close()
            raise
        return -1

    def _find(self) -> None:
        for _ in range(_TRIES):
            self.flush()
            self.trigger()
            try:
                self._next(_ANSWER_NS)
            except TimeoutError:
                continue
            return
        raise self._trouble("no answer; is it the right device, and is it powered?")

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def flush(self) -> int:
        """Drop all there is; how many replies that was, a part of one counts."""
        while select.select([self._fd], [], [], 0)[0]:
            self._held += self._receive()
        count = -(-len(self._held) // SIZE)
        self._held = b""
        return count

    def trigger(self) -> None:
        """Ask."""
        try:
            os.write(self._fd, REQUEST)
        except OSError as error:
            raise self._trouble(str(error)) from error

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for a reply."""
        reply = self._next(timeout_ns)
        sample["distance"] = int.from_bytes(reply[4:6], "little") / 1000
        return Reading()

    def _next(self, timeout_ns: int) -> bytes:
        end_ns = time.monotonic_ns() + timeout_ns
        while (reply := self._take()) is None:
            left_ns = max(0, end_ns - time.monotonic_ns())
            if not select.select([self._fd], [], [], left_ns / 1e9)[0]:
                raise TimeoutError
            self._held += self._receive()
        return reply

    def _take(self) -> bytes | None:
        """The first whole reply of what is held."""
        while (at := self._held.find(START)) >= 0:
            reply, self._held = self._held[at : at + SIZE], self._held[at:]
            if len(reply) < SIZE:
                return None
            if checksum("CRC-16/UMTS", reply[:-2]) == int.from_bytes(reply[-2:], "little"):
                self._held = self._held[SIZE:]
                return reply
            self._held = self._held[1:]
        self._held = self._held[-1:]
        return None

    def _receive(self) -> bytes:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return b""
        except (OSError, termios.error) as error:
            raise self._trouble(str(error)) from error
        if not data:
            raise self._trouble("it hung up")
        return data

    def _trouble(self, text: str) -> DeviceError:
        return DeviceError(f"device {self.name}: {self.options.port}: {text}")
