"""The page's server: files, the model, the emergency stop, and the frames over a WebSocket.

The event loop's thread does nothing that takes time, so that a stop is taken at once. The frames
are followed in a thread of its own (`follower.py`), the model is compiled in another. A third one
asks the service that keeps the robot up, where there is one.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from inphase.access.browsers import Browsers
from inphase.errors import ServiceError, StoreError, install
from inphase.frames import store
from inphase.web.door.bounded_server import BoundedServer
from inphase.web.door.guarded_app import SIGN_IN, VISITOR, GuardedApp
from inphase.web.door.page_door import LocalDoor, PageDoor, SignedInDoor, Visitor
from inphase.web.door.sign_in import SignIn, address_of
from inphase.web.follower import Follower
from inphase.web.page_files import PageFiles
from inphase.web.page_notes import notes_of
from inphase.web.report_pages import ReportPages
from inphase.web.service_data import REPORTS, ServiceData
from inphase.web.viewers import Viewers

if TYPE_CHECKING:
    from inphase.web.door.certificate import Certificate
    from inphase.web.metrics import Metrics

_STATIC = Path(__file__).parent / "static"
_SIGN_IN = "sign_in.html"
_HEARD_BYTES = 1024  # of a message from a viewer, which has none to send
_PING_S = 5.0
_END_S = 0.2
METRICS = "text/plain; version=0.0.4; charset=utf-8"
_Found = TypeVar("_Found")


class NetworkDoor(NamedTuple):
    """The parts of a page on the network, for those who sign in."""

    door: SignedInDoor
    browsers: Browsers
    certificate: "Certificate"


class PageServer:
    """Serves one run. folder: the schedule's. wishes: where an emergency stop is left.

    service: the address of the service that keeps the robot up; empty: none does. network: None is
    a page for this host. Raises StoreError where there is no such store.
    """

    def __init__(
        self,
        store_path: str,
        folder: Path,
        wishes: store.ClientPage,
        service: str = "",
        network: NetworkDoor | None = None,
    ) -> None:
        self._network = network
        self._wishes = wishes
        self._viewers = Viewers()
        self._follower = Follower(store_path, folder)
        self._asking = ThreadPoolExecutor(1, "service")
        """what waits for others, one after the other"""
        self._store_path = store_path
        self._metrics: Metrics | None = None
        self._data = ServiceData(service, self._follower.robot) if service else None
        self._notes = notes_of(service, self._follower.robot, has_log=network is not None)

    @property
    def robot(self) -> str:
        """Its name."""
        return self._follower.robot

    def app(self) -> GuardedApp:
        """The application, for a server of ASGI."""
        files, door = PageFiles(_STATIC, {SIGN_IN: _SIGN_IN}), self._network
        sessions = [] if door is None else SignIn(door.browsers, door.door, self._note).routes()
        routes = [
            *sessions,
            Route("/api/who", self._who),
            Route("/api/stop", self._stop, methods=["POST"]),
            Route("/api/model", self._model),
            Route("/api/service", self._service),
            Route(f"{REPORTS}/{{lease:int}}", ReportPages(self._report).answer),
            WebSocketRoute("/api/live", self._viewers.serve),
            Route("/metrics", self._measured),
            Route("/{path:path}", files.answer),
        ]
        guard: PageDoor = LocalDoor() if door is None else door.door
        return GuardedApp(Starlette(routes=routes), guard)

    async def serve(self, listener: socket.socket) -> None:
        """Until the process is asked to end, or the run is over and its viewers were told."""
        config = uvicorn.Config(
            self.app(),
            ws="websockets-sansio",
            ws_max_size=_HEARD_BYTES,
            ws_ping_interval=_PING_S,
            ws_ping_timeout=_PING_S,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=0,
        )
        # a client could fill the pipe of what is printed, and so keep others from stopping
        logging.getLogger("uvicorn.error").disabled = True
        certificate = None if self._network is None else self._network.certificate
        server = BoundedServer(config, certificate)
        following = asyncio.create_task(self._follow(server))
        try:
            await server.serve(sockets=[listener])
        finally:
            self._follower.close()
            self._asking.shutdown(wait=False, cancel_futures=True)
            self._notes.close()
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def _follow(self, server: uvicorn.Server) -> None:
        loop = asyncio.get_running_loop()

        def offer(kind: str, message: str | bytes, keep: bool = False) -> None:
            loop.call_soon_threadsafe(lambda: self._viewers.offer(kind, message, keep=keep))

        offer("description", self._follower.description(), keep=True)
        while True:
            await self._viewers.some.wait()
            self._follower.look(offer)
            is_over = await loop.run_in_executor(None, self._follower.follow, self._wanted)
            if is_over:
                await asyncio.sleep(_END_S)
                server.should_exit = True
                return

    def _wanted(self) -> bool:
        return len(self._viewers) > 0

    async def _stop(self, request: Request) -> Response:
        self._wishes.estop()
        visitor: Visitor = request.scope[VISITOR]
        self._note("stopped", visitor.user, address_of(request))
        return JSONResponse({"ok": True})

    def _note(self, event: str, user: str, address: str) -> None:
        self._notes.note(event, user, address=address)

    async def _who(self, request: Request) -> Response:
        """The user who is signed in, where one has to be."""
        visitor: Visitor = request.scope[VISITOR]
        if self._network is None:
            return Response(status_code=204)
        return JSONResponse({"user": visitor.user})

    async def _model(self, request: Request) -> Response:
        scene = await asyncio.wrap_future(self._follower.scene())
        if scene is None:
            return Response(status_code=204)
        return Response(scene, media_type="application/octet-stream")

    async def _service(self, request: Request) -> Response:
        found = None if self._data is None else await self._wait_for(self._data.panels)
        return Response(status_code=204) if found is None else JSONResponse(found)

    async def _report(self, lease: int, offset: int) -> Mapping[str, Any]:
        data = self._data
        if data is None:
            raise ServiceError("no service keeps this robot up; on the robot: inphase report FILE")
        return await self._wait_for(lambda: data.report(lease, offset))

    async def _measured(self, request: Request) -> Response:
        try:
            return Response(await self._wait_for(self._measure), media_type=METRICS)
        except ModuleNotFoundError as error:
            name = error.name or ""
            return PlainTextResponse(f"metrics need the package {name}; {install(name)}\n", 501)
        except StoreError as error:
            return PlainTextResponse(f"{error}\n", 503)

    def _measure(self) -> bytes:
        """The figures for a scraper; nothing is read before one asks."""
        from inphase.web.metrics import Metrics

        if self._metrics is None:
            facts = self._data.facts if self._data is not None else lambda: None
            self._metrics = Metrics(self._store_path, facts)
        return self._metrics.text()

    async def _wait_for(self, call: Callable[[], _Found]) -> _Found:
        """Call something that may take its time; what it gives."""
        return await asyncio.get_running_loop().run_in_executor(self._asking, call)
