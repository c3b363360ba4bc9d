"""Requests to a service, each answered or refused."""

import threading
import weakref
from pathlib import Path
from typing import Any

import msgpack
import zmq

from inphase.access.client_key import ClientKey
from inphase.client import place
from inphase.client.kinds import REQUEST_BYTES
from inphase.errors import LeaseRefused, ServiceError
from inphase.frames.subscription import Subscription, subscribe

_ANSWER_S = 5.0


class ServiceConnection:
    """A service's control socket. Any thread: one request at a time.

    address: its `tcp://` or `ipc://` address; empty: the service of this user on this host. key:
    the file that `inphase keys create` made, for tcp. Raises ServiceError, AccessError.
    """

    def __init__(self, address: str = "", key: str | Path | None = None) -> None:
        self.address = address or place.local_address("control")
        if self.address.startswith("tcp://") and key is None:
            raise ServiceError(
                f"{self.address} is on the network: give your key, the file that its owner made "
                f"by `inphase keys create`"
            )
        self._key_file = key
        self._key = None if key is None else ClientKey.load(key)
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[Any] = []
        """those that came of it"""
        # a context among garbage waits for sockets beside it, which nothing closes any more
        self._end = weakref.finalize(self, _end, self._context, self._sockets)
        self._end.atexit = False  # a thread may be at one of them to the last
        self._lock = threading.Lock()
        self._number = 0
        self._connect()

    def _connect(self) -> None:
        """A new socket: one that was refused, or met an oversize message, stays deaf."""
        self._socket = self.socket(self.address)

    def ask(self, do: str, *, timeout_s: float = _ANSWER_S, **words: object) -> dict[str, Any]:
        """The reply. Raises LeaseRefused for what is refused, ServiceError where nobody answers."""
        with self._lock:
            self._number += 1
            request = {"do": do, "id": self._number, **words}
            packed = msgpack.packb(request)
            if len(packed) > REQUEST_BYTES:  # the service would hear nothing of it
                raise ServiceError(
                    f"{do}: a request has at most {REQUEST_BYTES} bytes, this one has "
                    f"{len(packed)}; say less in it"
                )
            try:
                self._socket.send(packed, zmq.NOBLOCK)
            except zmq.Again as error:
                raise ServiceError(
                    f"{do} cannot be sent to {self.address}: what was sent before waits still; "
                    f"{self._remedy()}"
                ) from error
            while self._socket.poll(int(timeout_s * 1000)):
                reply = msgpack.unpackb(self._socket.recv())
                if reply.get("id") in (self._number, None):
                    break
            else:
                self._socket.close()
                self._connect()
                raise ServiceError(f"no service answers at {self.address}; {self._remedy()}")
        if not reply["ok"]:
            raise LeaseRefused(str(reply["error"]))
        return dict(reply)

    def _remedy(self) -> str:
        if self._key is None:
            return "start one: inphase serve SCHEDULE"
        return (
            f"does it run there, and is the key of {self._key.name} on its list? Its owner sees "
            f"that: inphase keys list"
        )

    def another(self) -> "ServiceConnection":
        """One more to the same service, of the same user, which waits for nothing of this one."""
        return ServiceConnection(self.address, self._key_file)

    def whole(self, address: str | int) -> str:
        """An address that is given by how many ports it lies after the control socket's."""
        if isinstance(address, str):
            return address
        host, _, port = self.address.rpartition(":")
        return f"{host}:{int(port) + address}"

    def subscribe(self, address: str | int, timeout_s: float | None) -> Subscription:
        """Follow the frames at an address, as `socket` takes it. Raises as `inphase.subscribe`."""
        return subscribe(self.whole(address), timeout_s=timeout_s, key=self._key_file)

    def socket(self, address: str | int) -> Any:
        """Another socket to the same service, for one thread.

        address: whole, or by how many ports it lies after the control socket's.
        """
        address = self.whole(address)
        self._sockets[:] = [one for one in self._sockets if not one.closed]
        made = self._context.socket(zmq.DEALER)
        self._sockets.append(made)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.MAXMSGSIZE, 64 << 20)
        made.setsockopt(zmq.TCP_KEEPALIVE, 1)
        made.setsockopt(zmq.HANDSHAKE_IVL, 2_000)
        if self._key is not None:
            self._key.secure(made)
        try:
            made.connect(address)
        except zmq.ZMQError as error:
            made.close()
            raise ServiceError(
                f"{address!r} cannot be connected to: {error.strerror}; give tcp://host:port"
            ) from error
        return made

    def close(self) -> None:
        """End it, after the sockets that came of it."""
        self._socket.close()
        self._context.term()
        self._end.detach()


def _end(context: "zmq.Context[Any]", sockets: list[Any]) -> None:
    """End a connection that nobody has closed, and that nobody has any more."""
    for socket in sockets:
        socket.close(0)
    context.term()
