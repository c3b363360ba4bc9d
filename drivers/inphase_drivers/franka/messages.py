"""FCI's commands over TCP, as version 10 of the interface has them.

A message is its command (u32), the number of that command (u32) and its size with this header
(u32), then its payload; low bytes first. An answer has the command and the number of its question,
and begins with a status (u8). A Move is answered twice: as it starts, and as it ends.
Source: Franka Robotics, "Franka Control Interface" documentation, and libfranka's protocol headers.
"""

import socket
import struct
import time
from enum import IntEnum

VERSION = 10
HEADER = struct.Struct("<III")
SIZE_MAX = 1 << 22  # of an answer: the robot's model is some hundred kilobytes
MOVE = struct.Struct("<II3d3d")
_FAR = (10.0, 3.12, 6.283)  # as the maker's client asks: no deviation from the path ends a motion


class Ask(IntEnum):
    """The commands that the driver sends."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    RECOVER = 10
    MODEL = 11


class Controller(IntEnum):
    """The controller that follows the motion."""

    JOINT_IMPEDANCE = 0
    EXTERNAL = 2


class Generator(IntEnum):
    """The quantity that commands are."""

    JOINT_POSITION = 0
    JOINT_VELOCITY = 1


class Moved(IntEnum):
    """The status of a Move."""

    SUCCESS = 0
    STARTED = 1
    PREEMPTED = 2
    PREEMPTED_BY_SAFETY = 3
    REFUSED_BY_SAFETY = 4
    NOT_POSSIBLE = 5
    SINGULAR = 6
    INVALID = 7
    REFLEX = 8
    EMERGENCY = 9
    INPUT_ERROR = 10
    ABORTED = 11


MOVED = {
    Moved.PREEMPTED: "it was preempted by another command; end the other client",
    Moved.PREEMPTED_BY_SAFETY: "a safety function ended it; look at Watchman in Desk",
    Moved.REFUSED_BY_SAFETY: "a safety function is active; look at Watchman in Desk",
    Moved.NOT_POSSIBLE: "the arm does not take it in its present mode; activate FCI in Desk, and "
    "arm again",
    Moved.SINGULAR: "the arm stands at a singular pose; move it away by hand",
    Moved.INVALID: "the controller does not know this kind of motion; update its system",
    Moved.REFLEX: "a reflex stopped it; arm again, which recovers from the error",
    Moved.EMERGENCY: "an emergency stop ended it; release it",
    Moved.INPUT_ERROR: "the arm refuses its commands; lower the limits of the schedule",
    Moved.ABORTED: "the controller aborted it; look at its log in Desk",
}
"""The words for a Move that is no success, each with what to do."""
RECOVERED = {
    1: "it is not possible in the present mode; release the stop",
    2: "a safety function is active; look at Watchman in Desk",
    3: "the error has to be recovered from by hand; do it in Desk",
    4: "a reflex ended it; see that nothing touches the arm",
    5: "an emergency stop ended it; release it",
    6: "it was aborted; look at the log in Desk",
}
"""The same of an error recovery."""


def move(controller: Controller, generator: Generator) -> bytes:
    """The payload of a Move."""
    return MOVE.pack(controller, generator, *_FAR, *_FAR)


class NotFciError(OSError):
    """The peer sends bytes that are no message of FCI."""


class CommandLink:
    """The connection for commands. Its maker closes it."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        """Raises OSError."""
        self._timeout_s = timeout_s
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        self._number = 0
        self._kept: dict[int, list[bytes]] = {}

    @property
    def peer(self) -> str:
        """The address that answers."""
        return str(self._socket.getpeername()[0])

    def send(self, command: Ask, payload: bytes = b"") -> int:
        """Send a command; its number. Raises OSError."""
        number = self._number
        self._number += 1
        self._kept[number] = []
        header = HEADER.pack(command, number, HEADER.size + len(payload))
        self._socket.sendall(header + payload)
        return number

    def answer(self, number: int, timeout_s: float | None = None) -> bytes:
        """The next answer to that command. Raises OSError, TimeoutError, NotFciError."""
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while not self._kept[number]:
            self._receive(until_s)
        return self._kept[number].pop(0)

    def ask(self, command: Ask, payload: bytes = b"", timeout_s: float | None = None) -> bytes:
        """The answer to a command that has one. Raises OSError, NotFciError."""
        return self.answer(self.send(command, payload), timeout_s)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _receive(self, until_s: float) -> None:
        """The next message. Raises OSError, TimeoutError, NotFciError."""
        _, number, size = HEADER.unpack(self._take(HEADER.size, until_s))
        if not HEADER.size < size <= SIZE_MAX:
            raise NotFciError(f"a message of {size} bytes")
        payload = self._take(size - HEADER.size, until_s)
        self._kept.setdefault(number, []).append(payload)

    def _take(self, size: int, until_s: float) -> bytes:
        while len(self._held) < size:
            self._socket.settimeout(max(until_s - time.monotonic(), 1e-3))
            more = self._socket.recv(65536)
            if not more:
                raise NotFciError("the connection was closed")
            self._held += more
        taken, self._held = self._held[:size], self._held[size:]
        return taken
