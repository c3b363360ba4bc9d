"""The Feetech servos on a port: a broadcast ping at each rate, and a look at those that answer."""

import termios
import time
from collections.abc import Sequence

import serial

from inphase.driver import Check, CheckKind, DeviceError, Found, Raw, Reply, Scan, Value
from inphase.packets import Parser, RefusedReply
from inphase.serial_port import open_port

from .control_table import BAUD_INDEX, FIRMWARE, MODELS
from .packets import ANSWER, ANSWER_SIZE, BROADCAST, DATA_AT, ID_AT, PING, READ, SUM, packet
from .setup_check import fault_names

_TURN_S = 3e-3  # from one id's answer to the next one's, as LeRobot 0.4.4 waits
_IDS = 253
_QUICK_IDS = 20  # those that arms have
_ADAPTER_S = 16e-3
_REPLY_S = 0.03
_IDENTITY = 5  # bytes from register 0: firmware, two versions, model number
_PONG = Reply(
    values=(Value(ID_AT, Raw.U8, 0), Value(4, Raw.U8, 1)),
    checks=(Check(CheckKind.CHECKSUM, -1, checksum=SUM),),
    size=ANSWER_SIZE,
)
_IDENTITY_REPLY = Reply(
    values=(
        Value(ID_AT, Raw.U8, 0),
        Value(DATA_AT, Raw.U8, 1),
        Value(DATA_AT + 1, Raw.U8, 2),
        Value(DATA_AT + 3, Raw.U16, 3),
    ),
    checks=(Check(CheckKind.CHECKSUM, -1, checksum=SUM),),
    size=ANSWER_SIZE + _IDENTITY,
)
RATES = tuple(BAUD_INDEX)
"""every rate that the servos have, bits per second; the one they are sold with comes first"""


def scan(port: str, rates: Sequence[int] = RATES) -> Scan:
    """Ping the usual ids at every rate, then all ids at those that answered. Raises DeviceError."""
    line = open_port("scan", port, rates[0])
    try:
        asked = [rate for rate in rates if _takes(line, rate)]
        answered = [rate for rate in asked if _ping(line, rate, _QUICK_IDS)]
        found, remarks = list[Found](), list[str]()
        for rate in answered or asked:
            for ident, status in _ping(line, rate, _IDS).items():
                found.append(_identify(line, rate, ident))
                if status:
                    names = ", ".join(fault_names(status))
                    remarks.append(f"servo {ident} at {rate} baud has a fault: {names}")
    except (OSError, serial.SerialException, termios.error) as error:
        raise DeviceError(
            f"{port} failed while it was scanned: {error}; check the cable"
        ) from error
    finally:
        line.close()
    remarks += [
        f"the adapter does not take {rate} baud: servos that are set to it need another adapter"
        for rate in rates
        if rate not in asked
    ]
    question = f"Feetech broadcast ping at {', '.join(map(str, asked))} baud"
    return Scan(question, tuple(found), tuple(remarks))


def _takes(line: serial.Serial, rate: int) -> bool:
    try:
        line.baudrate = rate
    except (ValueError, OSError, termios.error):
        return False
    return True


def _ping(line: serial.Serial, rate: int, ids: int) -> dict[int, int]:
    """The ids that answered within the turns of so many, with their error bytes."""
    line.baudrate = rate
    request = packet(BROADCAST, PING)
    until_s = _ADAPTER_S + ids * (_TURN_S + ANSWER_SIZE * 10 / rate)
    came = _ask(line, request, until_s)
    return {int(ident): int(status) for ident, status in _read(came, _PONG)}


def _identify(line: serial.Serial, rate: int, ident: int) -> Found:
    """Model and firmware of a servo; empty where it says none."""
    came = _ask(line, packet(ident, READ, bytes([FIRMWARE, _IDENTITY])), _REPLY_S)
    for answered, major, minor, number in _read(came, _IDENTITY_REPLY):
        if answered == ident:
            model = MODELS.get(int(number), f"model number {int(number)}")
            return Found(ident, rate, model, f"{int(major)}.{int(minor)}")
    return Found(ident, rate, "unknown: it answers a ping and no read", "")


def _ask(line: serial.Serial, request: bytes, wait_s: float) -> bytes:
    """All that comes for so long, without the echo that some adapters make."""
    line.reset_input_buffer()
    line.write(request)
    until = time.monotonic() + wait_s
    came = bytearray()
    while time.monotonic() < until:
        came += line.read(max(1, line.in_waiting))
    return bytes(came).removeprefix(request)


def _read(came: bytes, reply: Reply) -> list[list[float]]:
    """The answers of one kind among bytes."""
    parser = Parser.of_packets(ANSWER, reply)
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
