"""Registers of servos on one serial bus, read and written one at a time: off the cycle thread."""

import termios
import time
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import serial

from inphase.driver import Check, DeviceError, Exchange, Framing, Raw, Reply, Value
from inphase.packets import Parser, RefusedReply
from inphase.serial_port import hand_over, open_port
from inphase.serial_sensor import ask_once

REPLY_S = 0.2
TRIES = 3
_KINDS = {1: Raw.U8, 2: Raw.U16, 4: Raw.I32}


class BusOptions(Protocol):
    """A schedule's options of any bus of servos."""

    @property
    def port(self) -> str: ...
    @property
    def baud(self) -> int: ...


class ServoRegisters(ABC):
    """The registers of all servos on one port. Thread: one at a time. Raises DeviceError.

    A protocol of servos says how its instructions and its answers look.
    """

    answer: ClassVar[Framing]
    """how the answer of one servo is found"""
    answer_size: ClassVar[int]
    """the bytes of an answer without data"""
    data_at: ClassVar[int]
    """where the data begin"""
    tool: ClassVar[str]
    """what sets a register of a servo: words for a person"""

    def __init__(self, device: str, options: BusOptions) -> None:
        self._device = device
        self._options = options
        self._serial: serial.Serial | None = None

    @abstractmethod
    def read_instruction(self, ident: int, register: int, size: int) -> bytes:
        """The packet that asks one servo for registers."""

    @abstractmethod
    def write_instruction(self, ident: int, register: int, data: bytes) -> bytes:
        """The packet that writes registers of one servo."""

    @abstractmethod
    def answer_checks(self, ident: int) -> tuple[Check, ...]:
        """The conditions on an answer of one servo."""

    def open(self) -> None:
        """Open the port."""
        self._serial = open_port(self._device, self._options.port, self._options.baud)

    def hand_over(self) -> int:
        """The port's descriptor, for the core."""
        assert self._serial is not None
        return hand_over(self._serial)

    def close(self) -> None:
        """Close the port."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def refusal(self, ident: int, what: str, register: int, value: int, wanted: int) -> DeviceError:
        """The error that names device, servo, port and register."""
        return DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port}: register {register} "
            f"({what}) is {value}, needed is {wanted}; set it with {self.tool}"
        )

    def expect(self, ident: int, what: str, register: int, wanted: int) -> None:
        """Read a register of one byte. Raises DeviceError where it is another."""
        value = self.read(ident, register, 1)
        if value != wanted:
            raise self.refusal(ident, what, register, value, wanted)

    def read(self, ident: int, register: int, size: int) -> int:
        """An unsigned register (4 bytes: signed)."""
        request = self.read_instruction(ident, register, size)
        return int(self._transact(ident, request, Value(self.data_at, _KINDS[size], 0), size))

    def write(self, ident: int, register: int, value: int, size: int) -> None:
        """Write a register; the servo says that it took it."""
        data = value.to_bytes(size, "little", signed=value < 0)
        self._transact(ident, self.write_instruction(ident, register, data), None, 0)

    def answers(self, exchange: Exchange) -> bool:
        """Ask all servos at once, as every cycle will; True if they answer in full."""
        channels = sum(len(reply.values) for reply in exchange.replies)
        trouble: Exception | None = None
        fd = self.hand_over()
        for _ in range(TRIES):
            try:
                if ask_once(fd, exchange, channels, REPLY_S):
                    return True
            except RefusedReply as refused:
                trouble = refused
            except (OSError, termios.error) as error:
                raise self._failed(error) from error
        if trouble is not None:
            raise DeviceError(
                f"device {self._device}: {self._options.port}: the answer of all servos together "
                f"is refused: {trouble}; check wiring and termination, or a lower baud rate"
            )
        return False

    def _failed(self, error: Exception) -> DeviceError:
        return DeviceError(
            f"device {self._device}: {self._options.port} failed: {error}; check the cable"
        )

    def _transact(self, ident: int, request: bytes, value: Value | None, size: int) -> float:
        """Send an instruction to one servo and wait for its answer."""
        trouble = "no answer"
        for _ in range(TRIES):
            try:
                return self._try(ident, request, value, size)
            except RefusedReply as refused:
                trouble = f"{refused.reason} {refused.detail:#x} in its reply"
            except TimeoutError:
                trouble = "no answer"
            except (OSError, serial.SerialException, termios.error) as error:
                raise self._failed(error) from error
        raise DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port} at {self._options.baud} "
            f"baud: {trouble} to {TRIES} requests; check power, wiring, id and baud rate"
        )

    def _try(self, ident: int, request: bytes, value: Value | None, size: int) -> float:
        assert self._serial is not None
        reply = Reply(
            values=(value,) if value else (),
            checks=self.answer_checks(ident),
            size=size + self.answer_size,
        )
        parser = Parser(Exchange(b"", self.answer, (reply,), 0, 0, 0), 1)
        self._serial.reset_input_buffer()
        self._serial.write(request)
        until = time.monotonic() + REPLY_S
        while time.monotonic() < until:
            values = parser.feed(self._serial.read(max(1, self._serial.in_waiting)))
            if values is not None:
                return values[0]
        raise TimeoutError
