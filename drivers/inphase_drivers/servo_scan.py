"""Shared by scans of servos on a serial port: a question at a rate, and its answers."""

import contextlib
import termios
import time
from collections.abc import Iterator

import serial

from inphase.driver import DeviceError, Framing, Reply
from inphase.packets import Parser, RefusedReply
from inphase.serial_port import open_port

TURN_S = 3e-3
"""from one id's answer to a broadcast to the next one's, as DynamixelSDK and LeRobot wait"""
ADAPTER_S = 16e-3
"""that a serial adapter may keep bytes"""


class ScannedPort:
    """A port that is asked at one rate after the other."""

    def __init__(self, line: serial.Serial) -> None:
        self._line = line

    def takes(self, rate: int) -> bool:
        """Go on at a rate; false: the adapter has none such."""
        try:
            self._line.baudrate = rate
        except (ValueError, OSError, termios.error):
            return False
        return True

    def ask(self, request: bytes, wait_s: float) -> bytes:
        """All that comes for so long, without the echo that some adapters make."""
        self._line.reset_input_buffer()
        self._line.write(request)
        until = time.monotonic() + wait_s
        came = bytearray()
        while time.monotonic() < until:
            came += self._line.read(max(1, self._line.in_waiting))
        return bytes(came).removeprefix(request)


@contextlib.contextmanager
def scanned(port: str, rate: int) -> Iterator[ScannedPort]:
    """A port for a scan, opened and closed. Raises DeviceError, also where it fails within."""
    line = open_port("scan", port, rate)
    try:
        yield ScannedPort(line)
    except (OSError, serial.SerialException, termios.error) as error:
        raise DeviceError(
            f"{port} failed while it was scanned: {error}; check the cable"
        ) from error
    finally:
        line.close()


def answers_in(came: bytes, framing: Framing, reply: Reply) -> list[list[float]]:
    """The values of each answer of one kind among bytes."""
    parser = Parser.of_packets(framing, reply)
    found, data, more = list[list[float]](), came, True
    while more:
        try:
            values = parser.feed(data)
        except RefusedReply:
            data = b""
            continue
        data, more = b"", values is not None
        if values is not None:
            found.append(values)
    return found


def not_taken(rate: int) -> str:
    """The remark on a rate that the adapter has not."""
    return f"the adapter does not take {rate} baud: servos that are set to it need another adapter"


def of_nobody(count: int, rate: int) -> str:
    """The remark on bytes that are no answer."""
    return (
        f"{count} bytes at {rate} baud are no servo's answer: another device, two servos with one "
        f"id, or a bad wire; connect the servos one at a time"
    )
