"""The reports of recordings on the page: the service makes them, a browser gets them piece by
piece.

A report has scripts of its own. A browser runs them in a sandbox: as a page of nobody, which can
neither ask this server for anything nor stop the robot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from inphase.errors import InphaseError, ServiceError

Ask = Callable[[int, int], Awaitable[Mapping[str, Any]]]
"""asks for the report of a lease, from an offset on"""

_HIGHEST = 1 << 62
_BYTES_MAX = 64 << 20
_AGAIN_S = "2"
_OURS = ("none", "same-origin")
"""where a browser was led here from: by its user, or by this page. A report costs time to make"""
_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# a browser opens no sandboxed page that keeps others from its window
_HEADERS = {"Content-Security-Policy": _POLICY, "Cross-Origin-Opener-Policy": "unsafe-none"}


class ReportPages:
    """Answers with reports. Thread: the event loop's."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def answer(self, request: Request) -> Response:
        """The report of the lease that the path names; while it is made, a page that asks again."""
        if request.headers.get("sec-fetch-site", "none") not in _OURS:
            return PlainTextResponse("reports are made for this page alone; open it there\n", 403)
        lease = int(request.path_params["lease"])
        if lease >= _HIGHEST:
            return PlainTextResponse(f"no lease has the number {lease}\n", 404)
        try:
            first = await self._ask(lease, 0)
        except InphaseError as error:
            return PlainTextResponse(f"{error}\n", 404)
        return self._answer(lease, first)

    def _answer(self, lease: int, first: Mapping[str, Any]) -> Response:
        if first["state"] == "making":
            text = f"The report on the recording of lease {lease} is being made.\n"
            return PlainTextResponse(text, 202, {"Refresh": _AGAIN_S})
        if first["state"] == "failed":
            return PlainTextResponse(f"No report could be made: {first['why']}\n", 500)
        if first["size"] > _BYTES_MAX:
            text = "The report is too large for this page; on the robot: inphase report\n"
            return PlainTextResponse(text, 500)
        headers = _HEADERS | {"Content-Length": str(first["size"])}
        return StreamingResponse(self._pieces(lease, first), 200, headers, "text/html")

    async def _pieces(self, lease: int, first: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Each is asked for once the one before it was taken. Raises ServiceError."""
        piece, sent = first["piece"], 0
        while piece:
            yield piece
            sent += len(piece)
            if sent >= first["size"]:
                return
            found = await self._ask(lease, sent)
            if found["state"] != "made" or found["size"] != first["size"]:
                raise ServiceError(f"the report of lease {lease} is another by now; load it again")
            piece = found["piece"]
