"""The connections of the page, of which there are so many at once, each for so long.

This accepts in uvicorn's place, so that a bound holds from a connection's first byte on: uvicorn
knows none before its TLS handshake is over. Of too many the oldest one is left, of the address that
has the most: one bad peer takes from itself. A WebSocket counts as none; `Viewers` has its bounds.
"""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from inphase.web.door.certificate import Certificate

CONNECTIONS = 128
HANDSHAKE_S = 5.0
WAIT_S = 10.0
"""within which a request has come whole, or its connection is left"""
TAKE_S = 10.0
"""within which a client takes something of an answer that waits for it"""
_END_S = 2.0
_LOOK_S = 1.0
_AGAIN_S = 0.1
_IPV6_PREFIX = 64  # one peer has as many addresses


class PageConnection:
    """One that was accepted."""

    def __init__(self, accepted: socket.socket, peer: str) -> None:
        self.socket = accepted
        self.peer = peer
        self.since_s = time.monotonic()
        self.protocol: BoundedProtocol | None = None
        self._seen: object = None
        self._moved_s = self.since_s

    def leave(self) -> None:
        """End it, however far it came."""
        if self.protocol is not None and self.protocol.transport is not None:
            self.protocol.transport.abort()
        else:
            with contextlib.suppress(OSError):  # it has ended; its handshake fails by this
                self.socket.shutdown(socket.SHUT_RDWR)

    def stands(self) -> bool:
        """True if it waits for its peer for too long."""
        protocol = self.protocol
        if protocol is None or protocol.transport is None:
            return False  # the handshake has a bound of its own
        cycle = protocol.cycle
        is_answered = cycle is None or cycle.response_complete
        waiting = 0 if is_answered else protocol.transport.get_write_buffer_size()
        seen = (id(cycle), is_answered, waiting)
        now_s = time.monotonic()
        if seen != self._seen or not (is_answered or waiting):
            self._seen, self._moved_s = seen, now_s
        return now_s - self._moved_s > (WAIT_S if is_answered else TAKE_S)


class BoundedProtocol(H11Protocol):
    """HTTP on one connection; it leaves the count at its end, or as a WebSocket."""

    def __init__(
        self, kept: "set[PageConnection]", connection: PageConnection, **given: Any
    ) -> None:
        super().__init__(**given)
        self._kept = kept
        self._connection = connection
        connection.protocol = self

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._kept.discard(self._connection)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """It is a WebSocket from now on."""
        self._kept.discard(self._connection)
        super().handle_websocket_upgrade(event)


class BoundedServer(uvicorn.Server):
    """Accepts and serves. certificate: its connections are encrypted; None: they are not."""

    def __init__(self, config: uvicorn.Config, certificate: "Certificate | None" = None) -> None:
        super().__init__(config)
        self._certificate = certificate
        self._kept: set[PageConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept from here on."""
        await self.lifespan.startup()
        self.servers = []  # it needs none
        for listener in sockets or []:
            self._begin(self._accept(listener))
        self._begin(self._look())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, then end as uvicorn does."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)
        for connection in list(self._kept):
            connection.leave()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError:  # it has gone already, or this process has no file left for it
                await asyncio.sleep(_AGAIN_S)
                continue
            connection = PageConnection(accepted, peer_of(address[0]))
            self._make_room()
            self._kept.add(connection)
            self._begin(self._open(connection))

    def _make_room(self) -> None:
        if len(self._kept) < CONNECTIONS:
            return
        counts = Counter(one.peer for one in self._kept)
        most = max(counts.values())
        crowd = [one for one in self._kept if counts[one.peer] == most]
        oldest = min(crowd, key=lambda one: one.since_s)
        self._kept.discard(oldest)
        oldest.leave()

    async def _open(self, connection: PageConnection) -> None:
        """Its handshake, where it has one; from then on its protocol has it."""
        loop = asyncio.get_running_loop()
        bounds: dict[str, Any] = {}
        if self._certificate is not None:
            self._certificate.renew()
            bounds = {
                "ssl": self._certificate.context,
                "ssl_handshake_timeout": HANDSHAKE_S,
                "ssl_shutdown_timeout": _END_S,
            }
        with contextlib.suppress(OSError):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.connect_accepted_socket(
                lambda: BoundedProtocol(
                    self._kept,
                    connection,
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                ),
                connection.socket,
                **bounds,
            )
        except OSError:  # also of TLS, and of time
            self._kept.discard(connection)

    async def _look(self) -> None:
        """Leave those that stand."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for connection in [one for one in self._kept if one.stands()]:
                connection.leave()


def peer_of(host: str) -> str:
    """The peer whose connections are counted together."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
