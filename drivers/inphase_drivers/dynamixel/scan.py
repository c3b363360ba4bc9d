"""The servos on a port: a broadcast ping at each rate (ROBOTIS e-manual, Protocol 2.0, Ping)."""

from collections.abc import Sequence
from typing import NamedTuple

from inphase.driver import Check, CheckKind, Found, Raw, Reply, Scan, Value

from ..servo_scan import ADAPTER_S, TURN_S, ScannedPort, answers_in, not_taken, of_nobody, scanned
from .control_table import BAUD_INDEX
from .models import BY_NUMBER
from .packets import BROADCAST, CRC, PING, STATUS, STATUS_PACKET, packet

_IDS = 253  # which answer one after another: a turn and a packet for each
_ANSWER_BYTES = 14
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
    found, remarks, asked = list[Found](), list[str](), list[int]()
    with scanned(port, rates[0]) as line:
        for rate in rates:
            if not line.takes(rate):
                remarks.append(not_taken(rate))
                continue
            answers = _ping(line, rate)
            asked.append(rate)
            found += answers.found
            remarks += _remarks(rate, answers)
    question = f"DYNAMIXEL broadcast ping (Protocol 2.0) at {', '.join(map(str, asked))} baud"
    return Scan(question, tuple(found), tuple(remarks))


def _ping(line: ScannedPort, rate: int) -> _Answers:
    """Ask once, and take what comes until the last id has had its turn."""
    wait_s = ADAPTER_S + _IDS * (TURN_S + _ANSWER_BYTES * 10 / rate)
    came = line.ask(packet(BROADCAST, PING), wait_s)
    found, alerts = list[Found](), list[int]()
    for values in answers_in(came, STATUS_PACKET, _ANSWER):
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
        remarks.append(of_nobody(answers.others, rate))
    return remarks
