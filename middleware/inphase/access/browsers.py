"""The browsers of those who have a key: links that sign one in, and the sessions that come of them.

A link is for one use and for minutes. A session belongs to the key of its user, so that a revoked
key ends it at once. Both are random words, of which the file `browsers.json` in the folder of keys
has the SHA-256 alone. All pages of one folder share it.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from inphase.access import private_file
from inphase.access.keys import AllowList, UserKey
from inphase.errors import AccessError

LINK_S = 600
SESSION_S = 7 * 86_400
_FILE = "browsers.json"
_BYTES_MAX = 1 << 20
_LINKS, _SESSIONS = 8, 16  # of one user: one more replaces the oldest
_WORD_BYTES = 32


class _Ticket(msgspec.Struct, frozen=True):
    """A link or a session."""

    digest: str
    public: str
    """the key that it belongs to"""
    until_s: float
    """of the wall clock"""


class _Page(msgspec.Struct, frozen=True):
    addresses: list[str]
    fingerprint: str


class _BrowsersFile(msgspec.Struct, frozen=True):
    links: list[_Ticket] = []
    sessions: list[_Ticket] = []
    pages: dict[str, _Page] = {}


class PageAddress(NamedTuple):
    """A robot's page as it was last started."""

    robot: str
    addresses: list[str]
    """`https://HOST:PORT`, the likeliest one first"""
    fingerprint: str
    """of its certificate"""


class SignedIn(NamedTuple):
    """A session that was begun."""

    word: str
    """the secret of the browser's cookie"""
    user: UserKey


class Browsers:
    """Links and sessions of one folder of keys. Thread: any.

    Questions look if the file has changed, and read at most that; the others write it onto the
    disk. They raise AccessError. clock: seconds of the wall clock.
    """

    def __init__(
        self, folder: Path, allowed: AllowList | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._allowed = allowed or AllowList(folder)
        self._clock = clock
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = None
        self._sessions: dict[str, _Ticket] = {}

    # ---- what a page asks ------------------------------------------------------------------

    def find(self, word: str) -> UserKey | None:
        """The user of a session as keys are now; None: it is no session, or has ended."""
        with self._lock:
            state = self._look()
            if state is None or state != self._state:
                self._read(state)
            ticket = self._sessions.get(_digest(word))
        if ticket is None or ticket.until_s <= self._clock():
            return None
        return self._allowed.find(ticket.public)

    def redeem(self, word: str) -> SignedIn | None:
        """Begin a session by a link, which is used up; None: it is none, or is too old."""
        digest = _digest(word)
        with private_file.locked(self._folder):
            kept = self._kept()
            for link in kept.links:
                user = self._allowed.find(link.public)
                if link.digest == digest and user is not None:
                    links = [one for one in kept.links if one is not link]
                    return self._begin(msgspec.structs.replace(kept, links=links), user, SESSION_S)
        return None

    def end(self, word: str) -> None:
        """End a session."""
        with private_file.locked(self._folder):
            kept = self._kept()
            digest = _digest(word)
            sessions = [one for one in kept.sessions if one.digest != digest]
            self._write(msgspec.structs.replace(kept, sessions=sessions))

    def set_page(self, page: PageAddress) -> None:
        """Note where a robot's page is, for those who print links."""
        with private_file.locked(self._folder):
            kept = self._kept()
            pages = kept.pages | {page.robot: _Page(page.addresses, page.fingerprint)}
            self._write(msgspec.structs.replace(kept, pages=pages))

    # ---- what an owner asks ----------------------------------------------------------------

    def link(self, name: str) -> str:
        """A link's word for the user of that name."""
        user = self._user(name)
        with private_file.locked(self._folder):
            kept = self._kept()
            word, ticket = self._ticket(user, LINK_S)
            links = _with(kept.links, ticket, _LINKS)
            self._write(msgspec.structs.replace(kept, links=links))
        return word

    def session(self, name: str, seconds: float) -> str:
        """A session's word for a program of the user of that name."""
        user = self._user(name)
        with private_file.locked(self._folder):
            return self._begin(self._kept(), user, seconds).word

    def sign_out(self, name: str) -> int:
        """End all links and sessions of a user; how many sessions there were."""
        public = self._user(name).public
        with private_file.locked(self._folder):
            kept = self._kept()
            links = [one for one in kept.links if one.public != public]
            sessions = [one for one in kept.sessions if one.public != public]
            self._write(msgspec.structs.replace(kept, links=links, sessions=sessions))
        return len(kept.sessions) - len(sessions)

    def pages(self) -> list[PageAddress]:
        """The pages that were started."""
        return [PageAddress(name, *_fields(one)) for name, one in self._kept().pages.items()]

    def count(self, public: str) -> int:
        """How many sessions a key has."""
        return sum(one.public == public for one in self._kept().sessions)

    # ---- the file --------------------------------------------------------------------------

    def _user(self, name: str) -> UserKey:
        keys = self._allowed.keys().values()
        if self._allowed.trouble is not None:
            raise AccessError(self._allowed.trouble)
        for key in keys:
            if key.name == name:
                return key
        names = ", ".join(sorted(key.name for key in keys)) or "none"
        raise AccessError(
            f"no key has the name {name!r}; there are: {names}; make one: inphase keys create NAME"
        )

    def _ticket(self, user: UserKey, seconds: float) -> tuple[str, _Ticket]:
        word = secrets.token_urlsafe(_WORD_BYTES)
        return word, _Ticket(_digest(word), user.public, self._clock() + seconds)

    def _begin(self, kept: _BrowsersFile, user: UserKey, seconds: float) -> SignedIn:
        word, ticket = self._ticket(user, seconds)
        sessions = _with(kept.sessions, ticket, _SESSIONS)
        self._write(msgspec.structs.replace(kept, sessions=sessions))
        return SignedIn(word, user)

    def _look(self) -> tuple[int, ...] | None:
        """The facts that tell a changed file."""
        try:
            file = (self._folder / _FILE).lstat()
        except OSError:
            return None
        return (file.st_ino, file.st_ctime_ns, file.st_size)

    def _read(self, state: tuple[int, ...] | None) -> None:
        try:
            self._sessions = {one.digest: one for one in self._kept().sessions}
        except AccessError:
            self._sessions = {}
        self._state = state

    def _kept(self) -> _BrowsersFile:
        """The file, without links and sessions that are over. Raises AccessError."""
        place = self._folder / _FILE
        if not os.path.lexists(place):
            return _BrowsersFile()
        content = private_file.read(place, _BYTES_MAX)
        try:
            read = msgspec.json.decode(content, type=_BrowsersFile)
        except ValueError as error:
            raise AccessError(
                f"{place}: {error}; remove it: all browsers then sign in anew"
            ) from error
        now_s, keys = self._clock(), self._allowed.keys()
        links, sessions = (
            [one for one in tickets if one.until_s > now_s and one.public in keys]
            for tickets in (read.links, read.sessions)
        )
        return _BrowsersFile(links, sessions, read.pages)

    def _write(self, kept: _BrowsersFile) -> None:
        content = msgspec.json.encode(kept)
        if len(content) > _BYTES_MAX:
            raise AccessError(
                f"{self._folder / _FILE} would have more than {_BYTES_MAX} bytes; revoke keys "
                f"that nobody needs"
            )
        private_file.replace(self._folder / _FILE, content)


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode(errors="replace")).hexdigest()


def _with(tickets: list[_Ticket], new: _Ticket, most: int) -> list[_Ticket]:
    """One more of a user, who has so many at most."""
    own = [one for one in tickets if one.public == new.public]
    gone = own[: max(0, len(own) - most + 1)]
    return [one for one in tickets if one not in gone] + [new]


def _fields(page: _Page) -> tuple[list[str], str]:
    return page.addresses, page.fingerprint
