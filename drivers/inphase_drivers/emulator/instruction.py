"""An instruction to servos on a bus, and a servo's part of the answer, whatever their protocol."""

from typing import NamedTuple


class Request(NamedTuple):
    """One instruction packet with its stuffing removed; `is_whole` is False where its checksum
    fails."""

    id: int
    instruction: int
    params: bytes
    is_whole: bool


class Block(NamedTuple):
    """One servo's part of a packet: the error field, its id, the data."""

    error: int
    id: int
    data: bytes
