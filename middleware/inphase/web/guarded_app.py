"""Around the page's application: which requests it answers, and the headers of each answer,
unless the application gives its own.

A page of another site cannot talk to the robot. A request names this host (no other name leads
here by a changed DNS), and one that does anything has this page's own Origin.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?")
_READS = ("GET", "HEAD")


class GuardedApp:
    """Refuses what comes from elsewhere, before the application sees it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one connection of a WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = _header(scope, b"host")
        refusal = _refusal(scope, host)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send, host))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})  # HTTP 403
        else:
            await _answer(_with_headers(send, "localhost"), 403, refusal)


def _refusal(scope: Scope, host: str) -> str | None:
    """Why a request is not answered; None: it is."""
    if not _LOOPBACK.fullmatch(host):
        return "this address is not the page's own; open it as localhost or 127.0.0.1"
    is_read = scope["type"] == "http" and scope["method"] in _READS
    if not is_read and _header(scope, b"origin") != f"http://{host}":
        return "the request does not come from this page; reload it"
    return None


def _header(scope: Scope, name: bytes) -> str:
    """A header that is there once; "" if it is not."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1").lower() if len(found) == 1 else ""


def _with_headers(send: Send, host: str) -> Send:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; "
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


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
