"""Sensors that are one exchange on a serial port: a driver says its sample, and that is all."""

import os
import select
import termios
import time
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import serial
from msgspec import Meta

from inphase.devices.packets import Parser, RefusedReply
from inphase.devices.serial_port import Character, hand_over, open_port
from inphase.driver import DeviceError, Driver, Exchange, SensorSpec

_ANSWER_S = 0.3
_TRIES = 3
_READ_MAX = 4096


class SerialOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with such a driver."""

    port: str
    """the serial port"""
    baud: Annotated[int, Meta(ge=300, le=12_000_000)] = 115_200
    """bits per second"""
    bytesize: Literal[5, 6, 7, 8] = 8
    """data bits"""
    parity: Literal["N", "E", "O", "M", "S"] = "N"
    """none, even, odd, mark, space"""
    stopbits: Literal[1, 2] = 1
    """bits at the end of a byte"""

    @property
    def character(self) -> Character:
        """How a byte goes over the line."""
        return Character(self.bytesize, self.parity, self.stopbits)

    @property
    def char_ns(self) -> int:
        """The time of a byte on the line."""
        return self.character.bits * 1_000_000_000 // self.baud


class SerialSensor(Driver):
    """A sensor that is one exchange on a serial port: a subclass says `sensor`.

    With more keys than port and baud, its `Options` inherit from SerialOptions.
    """

    Options: ClassVar[type[msgspec.Struct]] = SerialOptions

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._serial: serial.Serial | None = None

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(str(self.options.port))  # noqa: PTH100 - resolves no link

    @abstractmethod
    def sensor(self) -> SensorSpec:
        """The sensor, with its exchange."""

    def open(self) -> int:
        """Open the port, and see that the device answers there."""
        options = self.options
        self._serial = open_port(self.name, options.port, options.baud, character=options.character)
        try:
            fd = hand_over(self._serial)
            self._find(fd, self.sensor())
        except BaseException:
            self.close()
            raise
        return fd

    def _find(self, fd: int, spec: SensorSpec) -> None:
        """Exchange once. Raises DeviceError."""
        trouble = "no answer"
        for _ in range(_TRIES):
            try:
                if spec.exchange and ask_once(fd, spec.exchange, len(spec.twin), _ANSWER_S):
                    return
            except RefusedReply as refused:
                trouble = f"{refused.reason} ({refused.detail}) in its reply"
            except (OSError, termios.error) as error:
                trouble = str(error)
        raise DeviceError(
            f"device {self.name}: {self.options.port} at {self.options.baud} baud, "
            f"{self.options.character}: {trouble}; is it the right device, is it powered, and are "
            f"these its baud rate, data bits, parity and stop bits?"
        )

    def close(self) -> None:
        """Close the port."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None


def ask_once(fd: int, exchange: Exchange, channels: int, wait_s: float) -> bool:
    """Ask what every cycle will ask, on a port that was handed over: for a driver's `open`.

    Returns True if a whole reply came in time. Of a device that streams, what is refused may be a
    part of a packet, and the next one counts. Raises RefusedReply, OSError, termios.error.
    """
    parser, refusal = Parser(exchange, channels), None
    termios.tcflush(fd, termios.TCIFLUSH)
    os.write(fd, exchange.request)
    until = time.monotonic() + wait_s
    while (left := until - time.monotonic()) > 0:
        try:
            if _hear(fd, parser, left):
                return True
        except RefusedReply as refused:
            if exchange.request:
                raise
            refusal = refused
    if refusal is not None:
        raise refusal
    return False


def _hear(fd: int, parser: Parser, wait_s: float) -> bool:
    """Feed what comes, or the silence that ends a packet: is a reply whole now?"""
    idle_ns = parser.idle_ns
    if not select.select([fd], [], [], wait_s if idle_ns is None else idle_ns / 1e9)[0]:
        return parser.end() is not None
    data = os.read(fd, _READ_MAX)
    if not data:
        raise OSError("it hung up")
    return parser.feed(data) is not None
