"""The visitors of the page: everybody of this host, or those who are signed in.

A door on the network is encrypted. It knows a visitor by the session in the browser's cookie, which
belongs to a key of the list. The list is asked for every request, and before each message.
"""

import hashlib
import ipaddress
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from inphase.access.browsers import Browsers
from inphase.web.door.listening import own_addresses

if TYPE_CHECKING:
    from inphase.web.door.certificate import Certificate

Scope = MutableMapping[str, Any]
LOCAL_USER = "@local"
"""the user of a page that asks for no sign-in: somebody on this host"""
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_ADDRESSES_S = 5.0  # for which those of the interfaces are kept
_BEARER = "Bearer "


class Visitor(NamedTuple):
    """Somebody who came in."""

    user: str
    is_here: Callable[[], bool]
    """False once it may not stay"""
    word: str = ""
    """of its session; empty: it has none"""


class PageDoor(Protocol):
    """Knows the page's own names, and its visitors."""

    scheme: str
    """of the page's URL"""

    def knows(self, host: str) -> bool:
        """True for a Host header, in small letters, that means this page."""
        ...

    def remedy(self) -> str:
        """The names by which it is opened, for a person."""
        ...

    def visitor(self, scope: Scope) -> Visitor | None:
        """The sender of a request; None: somebody who is not signed in."""
        ...


class LocalDoor:
    """Of a page on loopback, for everybody on this host."""

    scheme = "http"

    def knows(self, host: str) -> bool:
        """Loopback, by any of its names."""
        return _LOOPBACK.fullmatch(host) is not None

    def remedy(self) -> str:
        """Its names."""
        return "open it as localhost or 127.0.0.1"

    def visitor(self, scope: Scope) -> Visitor | None:
        """Always one."""
        return Visitor(LOCAL_USER, lambda: True)


class SignedInDoor:
    """Of a page on the network. service_key: the public key of the folder, in Z85."""

    scheme = "https"

    def __init__(self, browsers: Browsers, certificate: "Certificate", service_key: str) -> None:
        self._browsers = browsers
        self._certificate = certificate
        digest = hashlib.sha256(service_key.encode()).hexdigest()
        self.cookie = f"__Host-inphase-{digest[:8]}"
        """its name: pages of other folders on this host have others"""
        self._addresses: set[str] = set()
        self._looked_s = -_ADDRESSES_S

    def knows(self, host: str) -> bool:
        """A name of the certificate, an address of this machine, or loopback."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].removeprefix("[").removesuffix("]")
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or any(_fits(name, one) for one in self._certificate.names)
        is_named = str(address) in self._certificate.names
        return is_named or address.is_loopback or str(address) in self._own()

    def _own(self) -> set[str]:
        if time.monotonic() - self._looked_s >= _ADDRESSES_S:
            self._addresses = set(map(str, own_addresses()))
            self._looked_s = time.monotonic()
        return self._addresses

    def remedy(self) -> str:
        """Its names."""
        names = [one for one in self._certificate.names if not one.startswith("*")]
        return f"open it by its address, or as {', '.join(names) or 'localhost'}"

    def visitor(self, scope: Scope) -> Visitor | None:
        """By the session of the cookie, or of a program that reads figures."""
        word = self._word(scope)
        user = self._browsers.find(word) if word else None
        if user is None:
            return None
        return Visitor(user.name, lambda: self._browsers.find(word) is not None, word)

    def _word(self, scope: Scope) -> str:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie:
                return value
        given = headers.get(b"authorization", b"").decode("latin-1")
        is_reading = scope["type"] == "http" and scope["path"] == "/metrics"
        return given.removeprefix(_BEARER) if is_reading and given.startswith(_BEARER) else ""

    def cookie_of(self, word: str, seconds: int) -> str:
        """The header that gives a browser a session; an empty one takes it away."""
        rights = "Path=/; Secure; HttpOnly; SameSite=Strict"
        return f"{self.cookie}={word}; Max-Age={seconds}; {rights}"


def _fits(name: str, pattern: str) -> bool:
    """A host's name is one of a certificate's, whose first part may be *."""
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern
