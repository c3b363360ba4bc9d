"""The sockets of a service, and who comes in by them.

Each purpose has a door: a socket in the folder of the user who serves, whose file is the proof, and
one on the network where that is wanted. There the key of each message is the proof (CURVE): it is
held against the list of keys as that is now, so that a revoked key is out at once.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from inphase.access.authenticator import Authenticator, RefusedKey
from inphase.access.keys import AllowList, KeyFolder
from inphase.errors import ServiceError
from inphase.host import endpoint
from inphase.schedule import Schedule

# plain numbers: pyzmq's flags cost more to be combined than a short message to be sent
_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)
_NOW, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
LOCAL = "@local"
"""the user of the sockets of this host; no key has that name"""


class Caller(NamedTuple):
    """Somebody who asks: the name of its key, and its role: `watch`, `drive` or `operate`."""

    user: str
    role: str

    @property
    def is_local(self) -> bool:
        """It came by a socket of this host."""
        return self.role == "operate"


class DoorKeys:
    """The keys for the doors of one context. Its maker closes it. Raises AccessError."""

    def __init__(
        self,
        context: "zmq.Context[Any]",
        folder: Path,
        say: Callable[[RefusedKey], None] | None = None,
    ) -> None:
        self.server = KeyFolder(folder).server()
        self.allowed = AllowList(folder)
        self._authenticator = Authenticator(context, self.allowed, say)

    def caller(self, part: Any) -> Caller | None:
        """Whose message a part is of; None: nobody's who may come."""
        try:
            user = self._authenticator.user_of(str(part.get("User-Id")))
        except zmq.ZMQError:
            return None
        return None if user is None else Caller(user.name, user.may)

    def users(self) -> set[str]:
        """The names of all who may come."""
        return {key.name for key in self.allowed.keys().values()}

    def close(self) -> None:
        """Let nobody in any more."""
        self._authenticator.close()


class Door:
    """The ROUTER sockets of one purpose. Thread: one; its maker closes it.

    local: its `ipc://` address. remote: its `tcp://` address; empty: none. Raises ServiceError
    where keys are missing, and for a place that is taken.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        described: Schedule,
        local: str,
        remote: str = "",
        keys: DoorKeys | None = None,
        *,
        queue: int,
        message_bytes: int,
    ) -> None:
        self._keys = keys
        self._bound = ""
        """the address whose file is ours to remove; empty: another service may have it"""
        self._local = context.socket(zmq.ROUTER)
        self.sockets = [self._local]
        try:
            self._bind(self._local, local, described, queue, message_bytes)
            self._bound = local
            if remote:
                if keys is None:
                    raise ServiceError(f"{remote} wants keys: inphase keys create NAME")
                socket = context.socket(zmq.ROUTER)
                self.sockets.append(socket)
                keys.server.secure(socket)
                self._bind(socket, remote, described, queue, message_bytes)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _bind(
        socket: Any, address: str, described: Schedule, queue: int, message_bytes: int
    ) -> None:
        endpoint.set_bounds(socket, queue=queue, message_bytes=message_bytes)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            endpoint.bind_at(socket, address, described)
        except (OSError, zmq.ZMQError) as error:
            remedy = (
                "give others by --listen"
                if address.startswith("tcp://")
                else "end the service that has it, or serve all robots by one: "
                "inphase serve ONE.toml OTHER.toml"
            )
            raise ServiceError(f"{address} cannot be had: {error.strerror}; {remedy}") from error

    def caller(self, socket: Any, part: Any) -> Caller | None:
        """The sender of a part that came by one of the sockets; None: nobody who may come."""
        if socket is self._local:
            return Caller(LOCAL, "operate")
        return None if self._keys is None else self._keys.caller(part)

    def close(self, linger_ms: int = 0) -> None:
        """Close both; twice does no harm."""
        for socket in self.sockets:
            socket.close(linger_ms)
        if self._bound:
            endpoint.unlink(self._bound)
            self._bound = ""


def take(socket: Any) -> list[Any] | None:
    """The parts of a message that has come; None: none has."""
    if not socket.get(_EVENTS) & _IN:
        return None
    with contextlib.suppress(zmq.Again):
        parts = [socket.recv(_NOW, copy=False)]
        while parts[-1].more:
            parts.append(socket.recv(_NOW, copy=False))
        return parts
    return None


def give(socket: Any, parts: Sequence[Any]) -> None:
    """Send a message at once. Raises zmq.Again: the queue is full; zmq.ZMQError: the peer is gone.

    Copies of the parts are sent.
    """
    for part in parts[:-1]:
        socket.send(part, _MORE)
    socket.send(parts[-1], _NOW)


class RemotePlaces(NamedTuple):
    """The addresses on the network: `tcp://HOST:PORT`, and the ports that follow it."""

    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> "RemotePlaces":
        """From `tcp://HOST:PORT`. Raises ServiceError."""
        host, colon, port = address.removeprefix("tcp://").rpartition(":")
        if not address.startswith("tcp://") or not colon or not host or not port.isdecimal():
            raise ServiceError(f"{address!r} is no tcp://HOST:PORT, such as tcp://0.0.0.0:7447")
        return cls(host, int(port))

    def at(self, offset: int) -> str:
        """So many ports further."""
        return f"tcp://{self.host}:{self.port + offset}"
