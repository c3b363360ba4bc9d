"""The server's end of one ZeroMQ connection, as bytes in and messages out, with a bound on both.

libzmq bounds each part of a message and no message: it keeps parts until the last one has come. So
what takes messages from clients speaks ZMTP 3.0 (rfc.zeromq.org/spec/23) by itself: a few rules.
Nothing here waits or knows a socket.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from inphase.errors import WireError

_SIGNATURE, _SIGNATURE_END = b"\xff" + bytes(8), b"\x7f"
_GREETING_BYTES = 64
_NULL = b"NULL".ljust(20, b"\0")
_GREETING = _SIGNATURE + _SIGNATURE_END + bytes([3, 0]) + _NULL + bytes(32)
_MORE, _LONG, _COMMAND = 1, 2, 4
_READY = b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"
_PING, _PONG = b"\x04PING", b"\x04PONG"
_PING_BYTES = 2 + 16  # how long it holds, and a context to be sent back
_COMMAND_BYTES = 1024
_PART_BYTES = 32  # what a part costs beside its bytes
_SIZE = struct.Struct(">Q")


class Message(NamedTuple):
    """A client's message."""

    parts: list[bytes]
    """empty where it was larger than what is kept"""
    size: int
    """of all its parts together, in bytes"""


class Connection:
    """One client. Memory is `kept`, and the argument of one `feed`. Thread: one at a time.

    kept: bytes of a message that are kept; a larger message is read and forgotten. most: bytes of a
    message beyond which the client is disconnected, with each part counted as 32 bytes more.
    """

    def __init__(self, kept: int, most: int) -> None:
        self._kept, self._most = kept, most
        self._bytes = bytearray()
        self._is_greeted = False
        self.is_ready = False
        """the client has said who it is; before that nothing but the greeting is sent"""
        self.answers = bytearray(_GREETING)
        """to be sent before anything else; whoever sends it empties it"""
        self._parts: list[bytes] = []
        self._size = self._cost = 0
        self._flags = 0
        self._left = -1  # of the frame that is being forgotten; below 0: none is

    def feed(self, data: bytes) -> list[Message]:
        """Take in what came, and give what is whole. Raises WireError: the client is to be left."""
        self._bytes += data
        found: list[Message] = []
        if not self._is_greeted and not self._take_greeting():
            return found
        while self._take_frame(found):
            pass
        return found

    def _take_greeting(self) -> bool:
        held = self._bytes
        if held[:1] != b"\xff"[: len(held)] or (len(held) > 10 and held[10] < 3):
            raise WireError("is no ZeroMQ client of version 4 or later")
        if len(held) < _GREETING_BYTES:
            return False
        if held[9] != 0x7F or held[12:32] != _NULL:
            raise WireError("asks for another mechanism than NULL")
        del held[:_GREETING_BYTES]
        self._is_greeted = True
        self.answers += bytes([_COMMAND, len(_READY)]) + _READY
        return True

    def _take_frame(self, found: list[Message]) -> bool:
        """Take one frame, or a piece of one that is forgotten; whether there was one."""
        held = self._bytes
        if self._left >= 0:
            gone = min(self._left, len(held))
            del held[:gone]
            self._left -= gone
            if self._left:
                return False
            self._left = -1
            self._end_frame(found)
            return True
        head = 2 if not held or not held[0] & _LONG else 9
        if len(held) < head:
            return False
        flags = held[0]
        size = held[1] if head == 2 else _SIZE.unpack_from(held, 1)[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise WireError(f"sent a frame with the flags 0x{flags:02x}")
        if flags & _COMMAND:
            return self._take_command(head, size)
        if not self.is_ready:
            raise WireError("sent a message before it said who it is")
        if self._cost + size + _PART_BYTES > self._most:
            raise WireError(f"sent a message of more than {self._most} bytes")
        is_kept = self._cost + size + _PART_BYTES <= self._kept
        if is_kept and len(held) < head + size:
            return False
        self._flags = flags
        self._cost += size + _PART_BYTES
        self._size += size
        if is_kept:
            self._parts.append(bytes(held[head : head + size]))
            del held[: head + size]
            self._end_frame(found)
        else:
            self._parts.clear()
            del held[:head]
            self._left = size
        return True

    def _end_frame(self, found: list[Message]) -> None:
        if self._flags & _MORE:
            return
        found.append(Message(self._parts if self._cost <= self._kept else [], self._size))
        self._parts = []
        self._size = self._cost = 0

    def _take_command(self, head: int, size: int) -> bool:
        held = self._bytes
        if size > _COMMAND_BYTES:
            raise WireError(f"sent a command of {size} bytes")
        if len(held) < head + size:
            return False
        command = bytes(held[head : head + size])
        del held[: head + size]
        if command.startswith(_READY[:6]):
            self.is_ready = True
        elif command.startswith(_PING) and len(command) <= len(_PING) + _PING_BYTES:
            if len(self.answers) < _COMMAND_BYTES:  # one that does not read gets none
                pong = _PONG + command[len(_PING) + 2 :]
                self.answers += bytes([_COMMAND, len(pong)]) + pong
        elif not self.is_ready:
            raise WireError("did not say who it is")
        return True


def packed(parts: Sequence[bytes]) -> list[bytes]:
    """A message as it is sent; the parts themselves are not copied."""
    pieces: list[bytes] = []
    for index, part in enumerate(parts):
        more = _MORE if index < len(parts) - 1 else 0
        if len(part) < 256:
            pieces.append(bytes([more, len(part)]))
        else:
            pieces.append(bytes([more | _LONG]) + _SIZE.pack(len(part)))
        pieces.append(part)
    return pieces
