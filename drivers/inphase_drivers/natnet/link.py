"""The sockets to a NatNet server: what it sends, and what others send."""

import select
import socket
import time
from collections.abc import Callable
from typing import TypeAlias

from . import messages
from .messages import NotNatNetError

Refused: TypeAlias = Callable[[str], None]


class Link:
    """The way to one server and back. Its maker closes it.

    refused: told in words of each packet that is not used.
    """

    def __init__(
        self, server: tuple[str, int], local: str, group: tuple[str, int] | None, refused: Refused
    ) -> None:
        """group: address and port of a multicast group; None: there is none. Raises OSError."""
        self._refused = refused
        self._server = (socket.gethostbyname(server[0]), server[1])
        self._commands = _bound(local, 0)
        self._sockets = [self._commands]
        self._poll = select.poll()
        try:
            if group is not None:
                self._sockets.append(_member(*group, local))
        except BaseException:
            self.close()
            raise
        for one in self._sockets:
            self._poll.register(one, select.POLLIN)

    def send(self, packet: bytes) -> None:
        """To the server's port of commands. Raises OSError."""
        self._commands.sendto(packet, self._server)

    def receive(self, until_ns: int) -> tuple[int, bytes, int]:
        """Kind, payload and arrival of the server's next packet. Raises TimeoutError, OSError."""
        while True:
            left_ns = until_ns - time.monotonic_ns()
            ready = self._poll.poll(max(0, left_ns) / 1e6)
            for one in self._sockets:
                if ready and one.fileno() == ready[0][0]:
                    packet, sender = one.recvfrom(messages.PACKET_MAX)
                    received_ns = time.monotonic_ns()
                    if (taken := self._taken(packet, sender)) is not None:
                        return *taken, received_ns
            if left_ns <= 0 and not ready:
                raise TimeoutError("no answer")

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets:
            one.close()

    def _taken(self, packet: bytes, sender: tuple[str, int]) -> tuple[int, bytes] | None:
        """Kind and payload of a packet that is used."""
        if sender[0] != self._server[0]:
            self._refused(
                f"a packet came from {sender[0]}, which is not its server {self._server[0]}, and "
                f"is not used; give that other server another multicast group"
            )
            return None
        try:
            return messages.split(packet)
        except NotNatNetError as error:
            self._refused(f"a packet is damaged, and not used: {error}; check the network")
            return None


def _bound(local: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((local, port))
    except BaseException:
        made.close()
        raise
    return made


def _member(group: str, port: int, local: str) -> socket.socket:
    """A socket that hears a multicast group on one network card."""
    made = _bound(group, port)
    try:
        card = socket.inet_aton(local or "0.0.0.0")
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + card)
    except BaseException:
        made.close()
        raise
    return made
