"""Registers of servos, read and written one at a time: off the cycle thread."""

import termios
import time

import serial

from inphase.driver import Check, CheckKind, DeviceError, Exchange, Raw, Reply, Value
from inphase.packets import Parser, RefusedReply
from inphase.serial_port import hand_over, open_port
from inphase.serial_sensor import ask_once

from .options import ServoOptions
from .packets import CRC, READ, STATUS, STATUS_PACKET, WRITE, packet, word

REPLY_S = 0.2
TRIES = 3


class Registers:
    """The registers of all servos on one port. Thread: one at a time. Raises DeviceError."""

    def __init__(self, device: str, options: ServoOptions) -> None:
        self._device = device
        self._options = options
        self._serial: serial.Serial | None = None

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
            f"({what}) is {value}, needed is {wanted}; set it with DYNAMIXEL Wizard or a "
            f"torque-off write"
        )

    def expect(self, ident: int, what: str, register: int, wanted: int) -> None:
        """Read a register of one byte. Raises DeviceError where it is another."""
        value = self.read(ident, register, 1)
        if value != wanted:
            raise self.refusal(ident, what, register, value, wanted)

    def read(self, ident: int, register: int, size: int) -> int:
        """An unsigned register (4 bytes: signed)."""
        kind = {1: Raw.U8, 2: Raw.U16, 4: Raw.I32}[size]
        reply = self._transact(
            ident, packet(ident, READ, word(register) + word(size)), Value(9, kind, 0), size
        )
        return int(reply)

    def write(self, ident: int, register: int, value: int, size: int) -> None:
        """Write a register; the servo says that it took it."""
        data = value.to_bytes(size, "little", signed=value < 0)
        self._transact(ident, packet(ident, WRITE, word(register) + data), None, 0)

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
        """Send an instruction to one servo and wait for its status packet."""
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
            checks=(
                Check(CheckKind.CHECKSUM, -2, checksum=CRC),
                Check(CheckKind.MATCH, 4, expect=ident),
                Check(CheckKind.MATCH, 7, expect=STATUS),
                Check(CheckKind.ZERO, 8, mask=0x7F),
            ),
            size=size + 11,
        )
        parser = Parser(Exchange(b"", STATUS_PACKET, (reply,), 0, 0, 0), 1)
        self._serial.reset_input_buffer()
        self._serial.write(request)
        until = time.monotonic() + REPLY_S
        while time.monotonic() < until:
            values = parser.feed(self._serial.read(max(1, self._serial.in_waiting)))
            if values is not None:
                return values[0]
        raise TimeoutError
