"""Packets of Feetech's protocol: instructions in, answers out.

Source: ftservo-python-sdk 2.0.1, the maker's (protocol_packet_handler).
"""

from ..instruction import Block, Request

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
_LENGTH_MIN = 2  # instruction and checksum


def checksum(body: bytes | bytearray) -> int:
    """Complement of the sum of all bytes from the id on."""
    return ~sum(body) & 0xFF


def answer(block: Block) -> bytearray:
    """The answer of one servo."""
    body = bytes((block.id, len(block.data) + 2, block.error)) + block.data
    return bytearray(HEADER + body + bytes((checksum(body),)))


def take_request(inbox: bytearray) -> Request | None:
    """Take the first whole instruction out of `inbox`, and the garbage before it.

    Returns None when there is no whole packet yet. Bytes that may still become one stay in `inbox`.
    """
    while True:
        at = inbox.find(HEADER)
        if at < 0:
            del inbox[: max(0, len(inbox) - 1)]
            return None
        del inbox[:at]
        if len(inbox) < 4:
            return None
        ident, length = inbox[2], inbox[3]
        if ident == 0xFF or length < _LENGTH_MIN:
            del inbox[:1]
            continue
        if len(inbox) < 4 + length:
            return None
        whole = bytes(inbox[: 4 + length])
        del inbox[: 4 + length]
        return Request(ident, whole[4], whole[5:-1], checksum(whole[2:-1]) == whole[-1])
