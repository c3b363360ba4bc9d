"""RTDE's messages, as Universal Robots describes them in "Real-Time Data Exchange (RTDE) Guide".

A message is its size (u16, with this header), its kind (u8) and its payload; high bytes first.
"""

import socket
import struct
from enum import IntEnum

VERSION = 2
HEADER = struct.Struct(">HB")
SIZE_MAX = 4096


class Kind(IntEnum):
    """The kinds of messages; each is the code of a letter."""

    PROTOCOL_VERSION = 86
    CONTROLLER_VERSION = 118
    TEXT = 77
    DATA = 85
    OUTPUTS = 79
    INPUTS = 73
    START = 83
    PAUSE = 80


def pack(kind: Kind, payload: bytes = b"") -> bytes:
    """A message as it goes on the wire."""
    return HEADER.pack(HEADER.size + len(payload), kind) + payload


class NotRtdeError(OSError):
    """The peer sends bytes that are no message of RTDE."""


class Link:
    """A connection to a controller that is asked question by question. Its maker closes it."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        """Raises OSError."""
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The payload of the answer, which has the same kind. Raises OSError, NotRtdeError."""
        self.socket.sendall(pack(kind, payload))
        while True:
            found, answer = self._next()
            if found == kind:
                return answer
            if found not in (Kind.TEXT, Kind.DATA):
                raise NotRtdeError(f"a question of kind {kind.name} was answered by kind {found}")

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _next(self) -> tuple[int, bytes]:
        size, kind = HEADER.unpack(self._take(HEADER.size))
        if not HEADER.size <= size <= SIZE_MAX:
            raise NotRtdeError(f"a message of {size} bytes of kind {kind}")
        return kind, self._take(size - HEADER.size)

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            more = self.socket.recv(SIZE_MAX)
            if not more:
                raise NotRtdeError("the connection was closed")
            self._held += more
        taken, self._held = self._held[:size], self._held[size:]
        return taken
