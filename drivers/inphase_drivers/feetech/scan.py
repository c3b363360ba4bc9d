"""The Feetech servos on a port: a broadcast ping at each rate, and a look at those that answer."""

from collections.abc import Iterator, Sequence

from inphase.driver import Check, CheckKind, Found, Raw, Reply, Scan, Value

from ..servo_scan import ADAPTER_S, TURN_S, ScannedPort, answers_in, not_taken, of_nobody, scanned
from .control_table import BAUD_INDEX, FIRMWARE, MODELS
from .packets import ANSWER, ANSWER_SIZE, BROADCAST, DATA_AT, ID_AT, PING, READ, SUM, packet
from .setup_check import fault_names

_IDS = 253
_QUICK_IDS = 20  # those that arms have
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
    found, remarks = list[Found](), list[str]()
    with scanned(port, rates[0]) as line:
        asked = [rate for rate in rates if line.takes(rate)]
        remarks += [not_taken(rate) for rate in rates if rate not in asked]
        answered = [rate for rate in asked if _ping(line, rate, _QUICK_IDS)]
        for rate in answered or asked:
            came = _ping(line, rate, _IDS)
            statuses = dict(_statuses(came))
            found += [_identify(line, rate, ident) for ident in statuses]
            remarks += _remarks(rate, statuses, len(came) - ANSWER_SIZE * len(statuses))
    question = f"Feetech broadcast ping at {', '.join(map(str, asked))} baud"
    return Scan(question, tuple(found), tuple(remarks))


def _ping(line: ScannedPort, rate: int, ids: int) -> bytes:
    """All that comes within the turns of so many ids."""
    line.takes(rate)
    wait_s = ADAPTER_S + ids * (TURN_S + ANSWER_SIZE * 10 / rate)
    return line.ask(packet(BROADCAST, PING), wait_s)


def _statuses(came: bytes) -> Iterator[tuple[int, int]]:
    """The ids that answered, with their error bytes."""
    for ident, status in answers_in(came, ANSWER, _PONG):
        yield int(ident), int(status)


def _identify(line: ScannedPort, rate: int, ident: int) -> Found:
    """Model and firmware of a servo; empty where it says none."""
    came = line.ask(packet(ident, READ, bytes([FIRMWARE, _IDENTITY])), _REPLY_S)
    for answered, major, minor, number in answers_in(came, ANSWER, _IDENTITY_REPLY):
        if answered == ident:
            model = MODELS.get(int(number), f"model number {int(number)}")
            return Found(ident, rate, model, f"{int(major)}.{int(minor)}")
    return Found(ident, rate, "unknown: it answers a ping and no read", "")


def _remarks(rate: int, statuses: dict[int, int], others: int) -> list[str]:
    remarks = [
        f"servo {ident} at {rate} baud has a fault: {', '.join(fault_names(status))}"
        for ident, status in statuses.items()
        if status
    ]
    if statuses and others > 0:
        remarks.append(of_nobody(others, rate))
    return remarks
