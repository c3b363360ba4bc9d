"""HTTP connections of the page, of which there are so many at once."""

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128


class BoundedProtocol(H11Protocol):
    """One connection. Where there are too many, that which has stood longest is left: a WebSocket
    counts as none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It was accepted."""
        others = [one for one in self.connections if isinstance(one, BoundedProtocol)]
        if len(others) >= CONNECTIONS:
            min(others, key=lambda one: one.since_s).transport.abort()
        self.since_s = time.monotonic()
        super().connection_made(transport)
