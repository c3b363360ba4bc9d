"""Around the page's application: which requests it answers, and the headers of each answer,
unless the application gives its own.

A page of another site cannot talk to the robot. A request names this host (no other name leads
here by a changed DNS), and one that does anything has this page's own Origin. A visitor who is not
signed in gets the sign-in page alone. An answer that is on its way ends with the session.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from inphase.web.door.page_door import PageDoor, Scope, Visitor

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VISITOR = "visitor"
"""in the scope of a request: who sends it"""
SIGN_IN = "/sign-in"
OPEN = frozenset({SIGN_IN, "/api/sign-in", "/sign_in.js", "/page.css", "/icon.svg"})
"""the paths for those who are not signed in"""
_READS = ("GET", "HEAD")


class GuardedApp:
    """Refuses what comes from elsewhere, before the application sees it."""

    def __init__(self, app: App, door: PageDoor) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one connection of a WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = _header(scope, b"host")
        refusal = self._refusal(scope, host)
        if refusal is not None:
            plain = _with_headers(send, "localhost", self._door.scheme)
            await _refuse(scope, receive, plain, 403, refusal)
            return
        sending = _with_headers(send, host, self._door.scheme)
        visitor = self._door.visitor(scope)
        if visitor is not None:
            scope[VISITOR] = visitor
            await self._app(scope, receive, _while_here(sending, visitor))
        elif scope["path"] in OPEN:
            await self._app(scope, receive, sending)
        elif scope["path"] == "/" and scope["type"] == "http":
            await _answer(sending, 303, "sign in first", (b"location", SIGN_IN.encode()))
        else:
            await _refuse(scope, receive, sending, 401, "sign in first")

    def _refusal(self, scope: Scope, host: str) -> str | None:
        """Why a request is not answered; None: it is."""
        if not self._door.knows(host):
            return f"this address is not the page's own; {self._door.remedy()}"
        is_read = scope["type"] == "http" and scope["method"] in _READS
        if not is_read and _header(scope, b"origin") != f"{self._door.scheme}://{host}":
            return "the request does not come from this page; reload it"
        return None


def _header(scope: Scope, name: bytes) -> str:
    """A header that is there once; "" if it is not."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1").lower() if len(found) == 1 else ""


def _while_here(send: Send, visitor: Visitor) -> Send:
    """Sends while a visitor may stay; then the connection breaks. Raises OSError."""

    async def sending(message: Message) -> None:
        goes_on = message["type"] == "websocket.send" or message.get("more_body", False)
        if goes_on and not visitor.is_here():
            raise ConnectionAbortedError(f"{visitor.user} is signed in no more")
        await send(message)

    return sending


def _with_headers(send: Send, host: str, scheme: str) -> Send:
    sockets = f"{scheme.replace('http', 'ws')}://{host}"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-cache"),
    ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message.get("headers", [])
            names = {name.lower() for name, _ in own}
            ours = [(name, value) for name, value in headers if name not in names]
            message["headers"] = [*own, *ours]
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why})  # HTTP 403
    else:
        await _answer(send, status, why)


async def _answer(send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
