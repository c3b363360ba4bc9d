"""One client of the emulated controller's RTDE port."""

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping

from .messages import HEADER, SIZE_MAX, Message, message
from .variables import INPUTS, OUTPUTS, Recipe, Value

CONTROLLER = (5, 12, 4, 0)  # an e-series controller of PolyScope 5.12
_BACKLOG = 1 << 20


class Session:
    """A connection: what was agreed on, and whether it streams.

    taken: called with the inputs that the client sets.
    """

    def __init__(
        self, client: socket.socket, taken: Callable[[Mapping[str, float]], None], *, version: int
    ) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BACKLOG)
        self.socket = client
        self._taken = taken
        self._version = version
        self._held = b""
        self._outputs: Recipe | None = None
        self._inputs: list[Recipe] = []
        self.rate_hz = float(500)
        self.streams = False
        self.sent = 0

    def on_readable(self) -> bool:
        """Answer what has come. False: the client is gone, or sends no RTDE."""
        try:
            more = self.socket.recv(65536)
        except OSError:
            return False
        self._held += more
        while len(self._held) >= HEADER.size:
            size, kind = HEADER.unpack_from(self._held)
            if not HEADER.size <= size <= SIZE_MAX:
                return False
            if len(self._held) < size:
                break
            payload, self._held = self._held[HEADER.size : size], self._held[size:]
            with contextlib.suppress(struct.error, ValueError, OSError):
                self._answer(kind, payload)
        return bool(more)

    def stream(self, values: Mapping[str, Value], copies: int) -> None:
        """Send a packet of these values; a client that does not read loses it."""
        if not self.streams or self._outputs is None:
            return
        packet = message(Message.DATA, b"\1" + self._outputs.pack(values))
        with contextlib.suppress(OSError):
            for _ in range(copies):
                self.socket.send(packet)
                self.sent += 1

    def _answer(self, kind: int, payload: bytes) -> None:
        if kind == Message.VERSION:
            (wanted,) = struct.unpack(">H", payload)
            self._send(Message.VERSION, bytes([wanted == self._version]))
        elif kind == Message.CONTROLLER:
            self._send(Message.CONTROLLER, struct.pack(">IIII", *CONTROLLER))
        elif kind == Message.OUTPUTS:
            (self.rate_hz,) = struct.unpack_from(">d", payload)
            recipe = Recipe(_names(payload[8:]), OUTPUTS)
            self._outputs = recipe if recipe.is_known else None
            self._send(Message.OUTPUTS, bytes([recipe.is_known]) + ",".join(recipe.types).encode())
        elif kind == Message.INPUTS:
            recipe = Recipe(_names(payload), INPUTS)
            if recipe.is_known:
                self._inputs.append(recipe)
            number = len(self._inputs) if recipe.is_known else 0
            self._send(Message.INPUTS, bytes([number]) + ",".join(recipe.types).encode())
        elif kind in (Message.START, Message.PAUSE):
            self.streams = kind == Message.START and self._outputs is not None
            self._send(Message(kind), bytes([self.streams or kind == Message.PAUSE]))
        elif kind == Message.DATA and 0 < payload[0] <= len(self._inputs):
            self._taken(self._inputs[payload[0] - 1].unpack(payload[1:]))

    def _send(self, kind: Message, payload: bytes) -> None:
        self.socket.send(message(kind, payload))


def _names(listed: bytes) -> list[str]:
    """The names of a list; clients may end it with a comma."""
    return listed.decode("ascii").rstrip(",").split(",")
