"""Instruction packets of Protocol 2.0 (ROBOTIS e-manual, Protocol 2.0)."""

from dataclasses import replace

from inphase.driver import Framing
from inphase.packets import checksum, escape

CRC = "CRC-16/UMTS"  # the e-manual's CRC-16 (IBM/ANSI)
START = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, STATUS = 0x01, 0x02, 0x03, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A

STATUS_PACKET = Framing(
    min_size=10,
    max_size=1024,
    start=START,
    length_offset=5,
    length_size=2,
    length_add=7,
    escape=b"\xff\xff\xfd",
    escape_insert=0xFD,
    escape_from=7,
    escape_tail=2,
)
"""how an answer is found and unstuffed"""
INSTRUCTION = replace(STATUS_PACKET, start=b"", escape_tail=0)
"""how an instruction is stuffed"""


def word(value: int, size: int = 2) -> bytes:
    """A number as a packet has it: little endian."""
    return value.to_bytes(size, "little")


def template(ident: int, instruction: int, parameters: bytes) -> bytes:
    """An instruction packet before stuffing, without checksum."""
    return START + bytes([ident]) + word(len(parameters) + 3) + bytes([instruction]) + parameters


def packet(ident: int, instruction: int, parameters: bytes = b"") -> bytes:
    """An instruction packet as it goes on the wire: stuffed, with length and CRC.

    Source: e-manual, Protocol 2.0, "Processing Order of Transmission".
    """
    body = escape(INSTRUCTION, template(ident, instruction, parameters))
    body = body[:5] + word(len(body) - 5) + body[7:]
    return body + word(checksum(CRC, body))
