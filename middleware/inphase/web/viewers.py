"""The viewers of the page: each is sent the newest of each kind of message, at its own speed.

Nothing waits for a viewer. A message that was not sent is replaced by the next one of its kind, so
that a viewer which takes nothing holds one of each, and the buffer of its connection.
"""

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from inphase.web.door.guarded_app import VISITOR
from inphase.web.door.page_door import Visitor

VIEWERS = 32
_TAKE_S = 10.0  # within which a viewer takes a message
_TRY_LATER = 1013
_REFUSED = 1008
SIGNED_OUT = 4401
"""the code by which a browser knows that its session has ended"""
_LOOK_S = 0.5  # at the latest, if a viewer is signed in still


class Viewers:
    """Those that are connected. Thread: the event loop's."""

    def __init__(self) -> None:
        self._all: set[Viewer] = set()
        self._kept: dict[str, str | bytes] = {}
        """of the kinds that a newcomer is sent at once"""
        self.some = asyncio.Event()
        """there is a viewer"""

    async def serve(self, socket: WebSocket) -> None:
        """One connection, to its end."""
        await socket.accept()
        if len(self._all) >= VIEWERS:
            await socket.close(_TRY_LATER, f"{VIEWERS} pages are open already; close one")
            return
        viewer = Viewer(socket)
        self._all.add(viewer)
        self.some.set()
        for kind, message in self._kept.items():
            viewer.offer(kind, message)
        try:
            await viewer.run()
        finally:
            self._all.discard(viewer)
            if not self._all:
                self.some.clear()

    def offer(self, kind: str, message: str | bytes, *, keep: bool = False) -> None:
        """The newest message of a kind, for all. keep: also for those who come later."""
        if keep:
            self._kept[kind] = message
        for viewer in self._all:
            viewer.offer(kind, message)

    def __len__(self) -> int:
        return len(self._all)


class Viewer:
    """One connection."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._visitor: Visitor = socket.scope[VISITOR]
        self._waiting: dict[str, str | bytes] = {}
        self._came = asyncio.Event()

    def offer(self, kind: str, message: str | bytes) -> None:
        """To be sent, unless a newer one of this kind comes first."""
        self._waiting[kind] = message
        self._came.set()

    async def run(self) -> None:
        """Send until it is gone, stands still, or sends anything: it has nothing to say here. Its
        session may end, too."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(RuntimeError, TimeoutError, WebSocketDisconnect):
                async with asyncio.timeout(1.0):
                    if self._visitor.is_here():
                        await self._socket.close(_REFUSED, "this page only listens")
                    else:
                        await self._socket.close(SIGNED_OUT, "signed out: sign in again")

    async def _send(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), _LOOK_S)
            self._came.clear()
            waiting, self._waiting = self._waiting, {}
            if not self._visitor.is_here():
                return
            for message in waiting.values():
                if not self._visitor.is_here():  # it may have been a while
                    return
                async with asyncio.timeout(_TAKE_S):
                    if isinstance(message, str):
                        await self._socket.send_text(message)
                    else:
                        await self._socket.send_bytes(message)

    async def _listen(self) -> None:
        await self._socket.receive()
