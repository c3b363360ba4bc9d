"""Packets of DYNAMIXEL Protocol 2.0: CRC, byte stuffing, requests in, status packets out.

Source: ROBOTIS e-manual, "DYNAMIXEL Protocol 2.0" (sections CRC, Packet Process, Instruction
Details, Fast Sync Read) and "CRC Calculation".
"""

from collections.abc import Sequence

from ..instruction import Block, Request

HEADER = b"\xff\xff\xfd"
STUFFED = b"\xff\xff\xfd\xfd"
STATUS = 0x55
BROADCAST_ID = 0xFE
LENGTH_MAX = 1024  # bound of a request's length field: what a servo buffers


def _crc_entry(index: int) -> int:
    crc = index << 8
    for _ in range(8):
        crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
    return crc & 0xFFFF


_CRC_TABLE = tuple(_crc_entry(index) for index in range(256))


def crc16(data: bytes | bytearray, crc: int = 0) -> int:
    """CRC-16, polynomial 0x8005, initial 0, not reflected (e-manual, CRC Calculation)."""
    table = _CRC_TABLE
    for byte in data:
        crc = ((crc << 8) & 0xFF00) ^ table[(crc >> 8) ^ byte]
    return crc


def stuff(body: bytes) -> bytes:
    """Add a 0xFD after each FF FF FD between instruction and CRC (Packet Process)."""
    return body.replace(HEADER, STUFFED)


def unstuff(body: bytes) -> bytes:
    """Undo `stuff`."""
    return body.replace(STUFFED, HEADER)


def packet(dxl_id: int, body: bytes) -> bytearray:
    """A whole packet around `body` (instruction and parameters), stuffed and with its CRC."""
    stuffed = stuff(body)
    out = bytearray(HEADER)
    out += bytes((0, dxl_id))
    out += (len(stuffed) + 2).to_bytes(2, "little")
    out += stuffed
    out += crc16(out).to_bytes(2, "little")
    return out


def status_packet(block: Block) -> bytearray:
    """The status packet of one servo (Status Packet)."""
    return packet(block.id, bytes((STATUS, block.error)) + block.data)


def chain_packet(blocks: Sequence[Block], asked: int, data_length: int) -> bytearray:
    """The one status packet that several servos write together (Fast Sync Read).

    Per servo error, id, data and the CRC of everything since the packet's start; not stuffed.
    The length field is that of `asked` servos, however many `blocks` there are: a servo that
    does not answer leaves the rest of the packet out.
    """
    out = bytearray(HEADER)
    out += bytes((0, BROADCAST_ID))
    out += (1 + asked * (data_length + 4)).to_bytes(2, "little")
    out.append(STATUS)
    crc = crc16(out)
    for block in blocks:
        own = bytes((block.error, block.id)) + block.data
        crc = crc16(own, crc)
        tail = crc.to_bytes(2, "little")
        out += own
        out += tail
        crc = crc16(tail, crc)
    return out


def take_request(inbox: bytearray) -> Request | None:
    """Take the first whole instruction packet out of `inbox`, and the garbage before it.

    Returns None when there is no whole packet yet. Bytes that may still become one stay in `inbox`.
    """
    while True:
        at = inbox.find(HEADER)
        if at < 0:
            del inbox[: max(0, len(inbox) - 2)]
            return None
        del inbox[:at]
        if len(inbox) < 7:
            return None
        length = inbox[5] | inbox[6] << 8
        if inbox[3] != 0 or not 3 <= length <= LENGTH_MAX:
            del inbox[:3]
            continue
        if len(inbox) < 7 + length:
            return None
        whole = bytes(inbox[: 7 + length])
        del inbox[: 7 + length]
        body = unstuff(whole[7:-2])
        is_whole = crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little")
        return Request(whole[4], body[0], body[1:], is_whole)
