"""RTDE from the controller's side: sizes and kinds of messages.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide".
"""

import struct
from enum import IntEnum

HEADER = struct.Struct(">HB")  # size of the message with this header, kind
SIZE_MAX = 4096


class Message(IntEnum):
    """Kinds of messages, which are letters: a question and its answer have the same one."""

    VERSION = ord("V")
    CONTROLLER = ord("v")
    DATA = ord("U")
    OUTPUTS = ord("O")
    INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")


def message(kind: Message, payload: bytes) -> bytes:
    """A whole message."""
    return HEADER.pack(len(payload) + HEADER.size, kind) + payload
