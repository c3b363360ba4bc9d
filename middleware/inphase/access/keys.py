"""The keys of a service: a private folder with its own key pair and the list of those who may come.

`server.toml` has the service's key pair. `allowed.toml` has the public keys of its users, and those
that were revoked. The secret key of a user is in the file alone that the user takes home.
"""

import datetime
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import zmq

from inphase.access import private_file
from inphase.access.client_key import ClientKey
from inphase.errors import AccessError

May = Literal["watch", "drive"]
"""The purpose of a key: to see everything, or also to move the robot while it holds the lease"""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PUBLIC = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_SERVER, _ALLOWED = "server.toml", "allowed.toml"
_SERVER_BYTES = 4096
_ALLOWED_BYTES = 1 << 20  # some 5000 keys
ZAP_DOMAIN = "inphase"


def default_folder() -> Path:
    """The folder of this user's service: `~/.config/inphase/service`, or below XDG_CONFIG_HOME."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(config) if config.startswith("/") else Path.home() / ".config"
    return home / "inphase" / "service"


class UserKey(NamedTuple):
    """A key of the list."""

    name: str
    """of its user"""
    public: str
    """40 letters of Z85; the `User-Id` of every message that its user sends"""
    may: May
    created: datetime.datetime

    @property
    def may_drive(self) -> bool:
        """It may hold a lease."""
        return self.may == "drive"

    @property
    def fingerprint(self) -> str:
        """The first letters of the public key, for people."""
        return self.public[:8]


class RevokedKey(NamedTuple):
    """A key that may not come any more."""

    name: str
    public: str
    may: May
    created: datetime.datetime
    revoked: datetime.datetime


class _Allowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public: str
    may: May
    created: datetime.datetime


class _Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    public: str
    may: May
    created: datetime.datetime
    revoked: datetime.datetime


class _AllowedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: dict[str, _Allowed] = msgspec.field(default_factory=dict)
    revoked: list[_Revoked] = msgspec.field(default_factory=list)


class _ServerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public: str
    secret: str


class ServerKey(NamedTuple):
    """The key pair of a service, in Z85."""

    public: str
    secret: str

    @property
    def fingerprint(self) -> str:
        """The first letters of the public key, for people."""
        return self.public[:8]

    def secure(self, socket: "zmq.Socket[Any]") -> None:
        """Have a socket ask every client for a key, and the `Authenticator` of its context about
        that key; before it is bound. Without an authenticator nobody gets in.
        """
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class KeyFolder:
    """The folder with the keys of a service; made where there is none. Thread: any.

    Raises AccessError, with the remedy: another user's, or others may read it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        private_file.make_folder(folder)

    def server(self) -> ServerKey:
        """The service's own key pair, made at the first call. Raises AccessError."""
        place = self.folder / _SERVER
        with private_file.locked(self.folder):
            if not os.path.lexists(place):
                public, secret = (key.decode() for key in zmq.curve_keypair())
                private_file.create(place, _server_text(public, secret).encode())
            content = private_file.read(place, _SERVER_BYTES)
        try:
            read = msgspec.toml.decode(content, type=_ServerFile)
            derived = zmq.curve_public(read.secret.encode()).decode()
        except (ValueError, zmq.ZMQError) as error:
            raise AccessError(f"{place}: {error}; {_LOST_SERVER}") from error
        if derived != read.public:
            raise AccessError(
                f"{place}: its public key is not that of its secret key; {_LOST_SERVER}"
            )
        return ServerKey(read.public, read.secret)

    def create(self, name: str, may: May, output: Path) -> ClientKey:
        """Make a key for a user: write its client file, then let it in.

        output: the new file, which the user takes home. Raises AccessError for a name that is
        taken or is none, and where the file is there or cannot be written: nobody is let in then.
        """
        if not _NAME.fullmatch(name):
            raise AccessError(
                f"{name!r} is no name: it has 1 to 32 of a-z, 0-9, - and _, a letter first"
            )
        server = self.server()
        with private_file.locked(self.folder):
            keys, revoked = _read(self.folder)
            taken = [key for key in keys.values() if key.name == name]
            if taken:
                raise AccessError(
                    f"{name} has a key already, made {taken[0].created:%Y-%m-%d}; give another "
                    f"name, or revoke it first: inphase keys revoke {name}"
                )
            public, secret = (key.decode() for key in zmq.curve_keypair())
            made = ClientKey(name, public, secret, server.public)
            private_file.create(output, made.text().encode())
            try:
                self._write({**keys, public: UserKey(name, public, may, _now())}, revoked)
            except AccessError:
                output.unlink(missing_ok=True)
                raise
        return made

    def revoke(self, name: str) -> RevokedKey:
        """Let a key in no more: a service that runs refuses its next message. Raises AccessError
        where no key has that name."""
        with private_file.locked(self.folder):
            keys, revoked = _read(self.folder)
            for key in keys.values():
                if key.name == name:
                    gone = RevokedKey(*key, _now())
                    left = {public: one for public, one in keys.items() if one is not key}
                    self._write(left, [*revoked, gone])
                    return gone
        names = ", ".join(sorted(key.name for key in keys.values())) or "none"
        raise AccessError(f"no key has the name {name!r}; there are: {names}")

    def listed(self) -> tuple[list[UserKey], list[RevokedKey]]:
        """All keys that may come, and those that were revoked, oldest first. Raises AccessError."""
        keys, revoked = _read(self.folder)
        return list(keys.values()), revoked

    def _write(self, keys: Mapping[str, UserKey], revoked: list[RevokedKey]) -> None:
        content = _allowed_text(list(keys.values()), revoked).encode()
        if len(content) > _ALLOWED_BYTES:
            raise AccessError(
                f"{self.folder / _ALLOWED} would have more than {_ALLOWED_BYTES} bytes; "
                f"remove old [[revoked]] tables from it"
            )
        private_file.replace(self.folder / _ALLOWED, content)


class AllowList:
    """The keys that may come, as the folder has them now. Thread: any.

    Each question looks if the file has changed. Where it cannot be read nobody may come, and
    `trouble` says why.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = os.fspath(folder / _ALLOWED), os.fspath(folder)
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = None
        self._keys: Mapping[str, UserKey] = {}
        self._revoked: Mapping[str, RevokedKey] = {}
        self.trouble: str | None = None
        """why nobody may come; None: the list was read"""

    def find(self, public: str) -> UserKey | None:
        """The user of a public key (Z85), which is the `User-Id` of a message; None: refuse it."""
        return self.keys().get(public)

    def keys(self) -> Mapping[str, UserKey]:
        """All of them, by public key. The mapping does not change; the next call may give
        another."""
        with self._lock:
            state = self._look()
            if state is None or state != self._state:
                self._read(state)
            return self._keys

    def reason(self, public: str) -> str:
        """The reason why a key may not come, for the audit log."""
        if public in self.keys():
            return "it may come"
        gone = self._revoked.get(public)
        if gone is not None:
            return f"the key of {gone.name}, revoked at {_time(gone.revoked)}"
        return self.trouble or "not on the list"

    def _look(self) -> tuple[int, ...] | None:
        """The facts that tell a changed file, or a changed mode."""
        try:
            file, folder = map(os.lstat, self._looked_at)
        except OSError:
            return None
        return (file.st_ino, file.st_ctime_ns, file.st_size, folder.st_ino, folder.st_ctime_ns)

    def _read(self, state: tuple[int, ...] | None) -> None:
        try:
            self._keys, revoked = _read(self._folder)
            self._revoked = {key.public: key for key in revoked}
            self.trouble = None
        except AccessError as error:
            self._keys, self.trouble = {}, str(error)
        self._state = state


_LOST_SERVER = (
    "take it back from a copy; a new one makes all client files useless: remove it, then revoke "
    "and create the keys anew"
)


def _read(folder: Path) -> tuple[dict[str, UserKey], list[RevokedKey]]:
    """The keys by public key, and those revoked. No file: no keys. Raises AccessError."""
    private_file.check_folder(folder)
    place = folder / _ALLOWED
    if not os.path.lexists(place):
        return {}, []
    content = private_file.read(place, _ALLOWED_BYTES)
    try:
        read = msgspec.toml.decode(content, type=_AllowedFile)
    except ValueError as error:  # also of TOML and of UTF-8
        raise AccessError(f"{place}: {error}; correct it, or take back a copy") from error
    keys: dict[str, UserKey] = {}
    gone = {one.public for one in read.revoked}
    for name, one in read.key.items():
        trouble = ""
        if not _NAME.fullmatch(name):
            trouble = "is no name: a-z, 0-9, - and _"
        elif not _PUBLIC.fullmatch(one.public):
            trouble = "public is no key of 40 letters"
        elif one.public in keys:
            trouble = f"has the key of {keys[one.public].name}"
        elif one.public in gone:
            trouble = "has a key that was revoked"
        if trouble:
            raise AccessError(f"{place}: key.{name}: {trouble}; correct it, or take back a copy")
        keys[one.public] = UserKey(name, one.public, one.may, one.created)
    revoked = [
        RevokedKey(one.name, one.public, one.may, one.created, one.revoked) for one in read.revoked
    ]
    return keys, revoked


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _server_text(public: str, secret: str) -> str:
    return (
        "# The key pair of this service. Whoever has the secret key can pretend to be it.\n"
        f'public = "{public}"\n'
        f'secret = "{secret}"\n'
    )


def _allowed_text(keys: list[UserKey], revoked: list[RevokedKey]) -> str:
    lines = [
        "# The keys of those who may come. `inphase keys` writes this file anew, without comments.",
        "# A service that runs reads it again whenever it changes.",
    ]
    for key in keys:
        lines += ["", f"[key.{key.name}]", *_rows(key.public, key.may, key.created)]
    for old in revoked:
        lines += ["", "[[revoked]]", f'name = "{old.name}"']
        lines += [*_rows(old.public, old.may, old.created), f"revoked = {_time(old.revoked)}"]
    return "\n".join(lines) + "\n"


def _rows(public: str, may: May, created: datetime.datetime) -> list[str]:
    return [f'public = "{public}"', f'may = "{may}"', f"created = {_time(created)}"]


def _time(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
