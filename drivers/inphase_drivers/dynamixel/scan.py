"""The servos on a port: a broadcast ping at each rate (ROBOTIS e-manual, Protocol 2.0, Ping)."""

import termios
import time
from collections.abc import Sequence
from typing import NamedTuple

import serial

from inphase.driver import Check, CheckKind, DeviceError, Found, Raw, Reply, Scan, Value
from inphase.packets import Parser, RefusedReply
from inphase.serial_port import open_port

from .control_table import BAUD_INDEX
from .models import BY_NUMBER
from .packets import BROADCAST, CRC, PING, STATUS, STATUS_PACKET, packet

# the servos answer one after another, by id: 3 ms and a packet for each, as DynamixelSDK waits
_IDS = 253
_TURN_S = 3e-3
_ANSWER_BYTES = 14
_ADAPTER_S = 16e-3
_ALERT = 0x80  # of the error byte: its hardware error status is not 0
_ANSWER = Reply(
    values=(
        Value(4, Raw.U8, 0),
        Value(8, Raw.U8, 1),
        Value(9, Raw.U16, 2),
        Value(11, Raw.U8, 3),
    ),
    checks=(Check(CheckKind.CHECKSUM, -2, checksum=CRC), Check(CheckKind.MATCH, 7, expect=STATUS)),
    size=_ANSWER_BYTES,
)
_FACTORY_BAUD = 57_600
RATES = (_FACTORY_BAUD, *(rate for rate in BAUD_INDEX if rate != _FACTORY_BAUD))
"""every rate that the servos have, bits per second; the one they are sold with comes first"""


class _Answers(NamedTuple):
    """The answers at one rate."""

    found: list[Found]
    alerts: list[int]
    """ids of servos that say that they have a hardware error"""
    others: int
    """bytes that belong to no answer"""


def scan(port: str, rates: Sequence[int] = RATES) -> Scan:
    """Ping all servos at each of some rates. Raises DeviceError."""
    line = open_port("scan", port, rates[0])
    found, remarks, asked = list[Found](), list[str](), list[int]()
    try:
        for rate in rates:
            try:
                line.baudrate = rate
            except (ValueError, OSError, termios.error):
                remarks.append(f"the adapter does not take {rate} baud: servos that are set to it")
                remarks[-1] += " need another adapter"
                continue
            answers = _ping(line, rate)
            asked.append(rate)
            found += answers.found
            remarks += _remarks(rate, answers)
    except (OSError, serial.SerialException, termios.error) as error:
        raise DeviceError(
            f"{port} failed while it was scanned: {error}; check the cable"
        ) from error
    finally:
        line.close()
    question = f"DYNAMIXEL broadcast ping (Protocol 2.0) at {', '.join(map(str, asked))} baud"
    return Scan(question, tuple(found), tuple(remarks))


def _ping(line: serial.Serial, rate: int) -> _Answers:
    """Ask once, and take what comes until the last id has had its turn."""
    request = packet(BROADCAST, PING)
    line.reset_input_buffer()
    line.write(request)
    until = time.monotonic() + _ADAPTER_S + _IDS * (_TURN_S + _ANSWER_BYTES * 10 / rate)
    came = bytearray()
    while time.monotonic() < until:
        came += line.read(max(1, line.in_waiting))
    return _read(bytes(came).removeprefix(request), rate)  # some adapters echo what they send


def _read(came: bytes, rate: int) -> _Answers:
    parser = Parser.of_packets(STATUS_PACKET, _ANSWER)
    found, alerts, data, more = list[Found](), list[int](), came, True
    while more:
        try:
            values = parser.feed(data)
        except RefusedReply:
            data = b""
            continue
        data, more = b"", values is not None
        if values is not None:
            ident, error, number, firmware = map(int, values)
            model = BY_NUMBER[number].name if number in BY_NUMBER else f"model number {number}"
            found.append(Found(ident, rate, model, str(firmware)))
            alerts += [ident] * bool(error & _ALERT)
    found = sorted(dict.fromkeys(found))
    return _Answers(found, alerts, len(came) - _ANSWER_BYTES * len(found))


def _remarks(rate: int, answers: _Answers) -> list[str]:
    remarks = [
        f"servo {ident} at {rate} baud says that it has a hardware error: `inphase run` names it"
        for ident in answers.alerts
    ]
    if answers.others > 0:
        remarks.append(
            f"{answers.others} bytes at {rate} baud are no servo's answer: another device, two "
            f"servos with one id, or a bad wire; connect the servos one at a time"
        )
    return remarks
