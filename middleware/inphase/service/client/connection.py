"""Requests to a service, each answered or refused."""

import threading
from typing import Any

import msgpack
import zmq

from inphase.errors import LeaseRefused, ServiceError
from inphase.service import place

_ANSWER_S = 5.0


class ServiceConnection:
    """A service's control socket. Any thread: one request at a time.

    address: its `tcp://` or `ipc://` address; empty: the service of this user on this host. Raises
    ServiceError.
    """

    def __init__(self, address: str = "") -> None:
        self.address = address or place.local_address("control")
        self._context: zmq.Context[Any] = zmq.Context()
        self._lock = threading.Lock()
        self._number = 0
        self._connect()

    def _connect(self) -> None:
        """A new socket: one that was refused, or met an oversize message, stays deaf."""
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 22)
        self._socket.connect(self.address)

    def ask(self, do: str, *, timeout_s: float = _ANSWER_S, **words: object) -> dict[str, Any]:
        """The reply. Raises LeaseRefused for what is refused, ServiceError where nobody answers."""
        with self._lock:
            self._number += 1
            request = {"do": do, "id": self._number, **words}
            self._socket.send(msgpack.packb(request))
            while self._socket.poll(int(timeout_s * 1000)):
                reply = msgpack.unpackb(self._socket.recv())
                if reply.get("id") in (self._number, None):
                    break
            else:
                self._socket.close()
                self._connect()
                raise ServiceError(
                    f"no service answers at {self.address}; start one: inphase serve SCHEDULE"
                )
        if not reply["ok"]:
            raise LeaseRefused(str(reply["error"]))
        return dict(reply)

    def socket(self, address: str) -> Any:
        """Another socket to the same service, for one thread."""
        made = self._context.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.MAXMSGSIZE, 64 << 20)
        made.connect(address)
        return made

    def close(self) -> None:
        """End it, after the sockets that came of it."""
        self._socket.close()
        self._context.term()
