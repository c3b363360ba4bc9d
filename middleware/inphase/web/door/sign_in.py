"""Signing in and out by a browser: a link's word becomes the cookie of a session.

The word is behind the # of the link, which no browser sends by itself. The page of the link sends
it in a header of a request of its own.
"""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from inphase.access.browsers import SESSION_S, Browsers
from inphase.access.rates import Rate, Rates
from inphase.errors import AccessError
from inphase.web.door.guarded_app import VISITOR
from inphase.web.door.page_door import SignedInDoor, Visitor

Note = Callable[[str, str, str], None]
"""takes what happened, the user, and the address of the browser"""
_LINK = "x-inphase-link"
_TOLD = Rate(messages=1, messages_burst=10)  # lines per second about links that are none


class SignIn:
    """The requests about sessions. Thread: the event loop's; a file is written in another one."""

    def __init__(self, browsers: Browsers, door: SignedInDoor, note: Note) -> None:
        self._browsers = browsers
        self._door = door
        self._note = note
        self._told = Rates(_TOLD)

    def routes(self) -> list[Route]:
        """Those of its requests."""
        return [
            Route("/api/sign-in", self._sign_in, methods=["POST"]),
            Route("/api/sign-out", self._sign_out, methods=["POST"]),
        ]

    async def _sign_in(self, request: Request) -> Response:
        word, address = request.headers.get(_LINK, ""), address_of(request)
        try:
            begun = await asyncio.to_thread(self._browsers.redeem, word)
        except AccessError as error:
            return PlainTextResponse(f"nobody can sign in: {error}\n", 503)
        if begun is None:
            if self._told.take("", 0):
                self._note("sign-in refused", "", address)
            text = "This link was used already, or is too old. Ask for another one.\n"
            return PlainTextResponse(text, 403)
        self._note("signed in", begun.user.name, address)
        cookie = self._door.cookie_of(begun.word, SESSION_S)
        return JSONResponse({"user": begun.user.name}, headers={"Set-Cookie": cookie})

    async def _sign_out(self, request: Request) -> Response:
        visitor: Visitor = request.scope[VISITOR]
        try:
            await asyncio.to_thread(self._browsers.end, visitor.word)
        except AccessError as error:
            return PlainTextResponse(f"the session goes on: {error}\n", 503)
        self._note("signed out", visitor.user, address_of(request))
        return JSONResponse({"ok": True}, headers={"Set-Cookie": self._door.cookie_of("", 0)})


def address_of(request: Request) -> str:
    """Of the browser, for the audit log."""
    return "" if request.client is None else request.client.host
