"""Packets of Feetech's protocol, which is DYNAMIXEL's Protocol 1.0 with a sync read.

Source: Feetech, "Communication protocol of smart bus servo"; ftservo-python-sdk 2.0.1, the maker's.
Instruction: FF FF, id, length, instruction, parameters, checksum. Answer: the same, with an error
byte in the instruction's place.
"""

from inphase.driver import Checksum, Framing
from inphase.packets import checksum

START = b"\xff\xff"
BROADCAST = 0xFE
PING, READ, WRITE = 0x01, 0x02, 0x03
SYNC_READ, SYNC_WRITE = 0x82, 0x83
ID_AT, ERROR_AT, DATA_AT = 2, 4, 5
ANSWER_SIZE = 6  # without data
SUM = Checksum("sum", initial=2, final=0xFF)
"""complement of the sum from the id on; over the whole packet, whose two FF add up to -2"""

ANSWER = Framing(
    min_size=ANSWER_SIZE,
    max_size=255 + 4,
    start=START,
    length_offset=3,
    length_size=1,
    length_add=4,
)
"""how an answer is found"""


def template(ident: int, instruction: int, parameters: bytes) -> bytes:
    """An instruction packet without its checksum."""
    return START + bytes([ident, len(parameters) + 2, instruction]) + parameters


def packet(ident: int, instruction: int, parameters: bytes = b"") -> bytes:
    """An instruction packet as it goes on the wire."""
    body = template(ident, instruction, parameters)
    return body + bytes([checksum(SUM, body)])
