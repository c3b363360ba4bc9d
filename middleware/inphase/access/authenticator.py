"""The right to connect: answers to libzmq's questions about clients' keys (ZAP 1.0, RFC 27).

A key that is not on the list is answered 300, not 400. libzmq keeps a client that gets a 400 from
ever trying again; after a 300 it tries until its key is admitted, or it gives up. A connection
lives on when its key is revoked: ask `user_of` about every message.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import zmq
from zmq.utils import z85

from inphase.access.keys import ZAP_DOMAIN, AllowList, UserKey
from inphase.access.rates import Rate, Rates
from inphase.errors import AccessError

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_PARTS_MIN = 8  # of a question: whose it is, an empty part, six that it always has
_KEY_BYTES = 32
_QUESTIONS = 1000  # that wait; libzmq asks one per connection
_AGAIN_S = 0.05  # before a handler that ended is started again
_TOLD = Rate(messages=1, messages_burst=3)  # words per second about one refused key,
_TOLD_ALL = Rate(messages=5, messages_burst=20)  # and about all of them together
_KEYS_MAX = 256  # refused keys whose words are counted one by one


class RefusedKey(NamedTuple):
    """A connection that was not let in."""

    public: str
    """its key in Z85; "" if it has none that is well formed"""
    address: str
    """of the peer, as libzmq gives it"""
    reason: str
    times: int
    """how many were refused since the last words, this one included"""


class Authenticator:
    """Answers about the keys of clients, for all sockets of a context that `ServerKey.secure` has
    prepared. It has a thread of its own, which is started again where it ends. Thread: any.

    say: is told of refusals, on that thread, at a bounded rate. There is one per context: a second
    raises zmq.ZMQError.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        allowed: AllowList,
        say: Callable[[RefusedKey], None] | None = None,
    ) -> None:
        self.allowed = allowed
        self.admitted = self.refused = self.restarts = 0
        """connections let in, connections refused, handlers that ended and were started again"""
        self._context = context
        self._say = say
        self._told, self._told_all = Rates(_TOLD), Rates(_TOLD_ALL)
        self._untold: dict[str, int] = {}
        self._let_in: set[str] = set()
        self._looked_at: object = None
        self._over = threading.Event()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            socket = self._bound()
        except zmq.ZMQError:
            os.close(self._bell)
            raise
        self._thread = threading.Thread(
            target=self._run, args=(socket,), name="inphase keys", daemon=True
        )
        self._thread.start()

    def user_of(self, user_id: str | None) -> UserKey | None:
        """The user of a message by its `User-Id`, as the list is now; None: refuse it."""
        return None if user_id is None else self.allowed.find(user_id)

    def refuse_revoked(self) -> None:
        """Raise AccessError if a key that was let in may not come any more.

        For sockets that only send: nothing tells their peers' keys, and libzmq disconnects none.
        Close the socket then, so that each peer has to show its key anew.
        """
        keys = self.allowed.keys()
        if keys is self._looked_at:
            return
        self._looked_at = keys
        for public in list(self._let_in):
            if public not in keys:
                raise AccessError(
                    f"a key was let in that may not come now: {self.allowed.reason(public)}"
                )

    def _bound(self) -> "zmq.Socket[Any]":
        socket: zmq.Socket[Any] = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _QUESTIONS)
        try:
            socket.bind(_ENDPOINT)
        except zmq.ZMQError:
            socket.close()
            raise
        return socket

    def _run(self, socket: "zmq.Socket[Any]") -> None:
        while True:
            try:
                self._answer_all(socket)
                return
            except zmq.ContextTerminated:
                return
            except Exception:  # whatever it is, others are to be let in and kept out
                self.restarts += 1
            finally:
                _close(socket)
            while not self._over.wait(_AGAIN_S):
                with contextlib.suppress(zmq.ZMQError):
                    socket = self._bound()
                    break
            else:
                return

    def _answer_all(self, socket: "zmq.Socket[Any]") -> None:
        """Until `close`."""
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        while not self._over.is_set():
            for ready, _ in poller.poll():
                if ready is socket:
                    self._answer(socket, socket.recv_multipart())

    def _answer(self, socket: "zmq.Socket[Any]", question: list[bytes]) -> None:
        if len(question) < _PARTS_MIN or question[2] != _VERSION:
            return  # no question of libzmq's
        peer, _, _, number, domain, address, _, mechanism, *credentials = question
        public = ""
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == _KEY_BYTES:
            public = z85.encode(credentials[0]).decode()
        may = domain == ZAP_DOMAIN.encode() and self.allowed.find(public) is not None
        if may:
            self._let_in.add(public)
            may = self.allowed.find(public) is not None  # as `refuse_revoked` has it, or newer
        if not may:
            self.refused += 1
            socket.send_multipart([peer, b"", _VERSION, number, b"300", b"not now", b"", b""])
            self._tell(public, address.decode(errors="replace"))
        else:
            self.admitted += 1
            self._let_in.add(public)
            told = [b"200", b"", public.encode(), b""]
            socket.send_multipart([peer, b"", _VERSION, number, *told])

    def _tell(self, public: str, address: str) -> None:
        """Of a refusal, at a bounded rate."""
        counted = public if public in self._untold or len(self._untold) < _KEYS_MAX else ""
        count = self._untold[counted] = self._untold.get(counted, 0) + 1
        if self._say is None or not self._told.take(counted, 0) or not self._told_all.take("", 0):
            return
        del self._untold[counted]
        self._say(RefusedKey(public, address, self.allowed.reason(public), count))

    @property
    def is_alive(self) -> bool:
        """False once it was closed, or its context terminated."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer no more: from now on nobody new gets in."""
        if not self._over.is_set():
            self._over.set()
            os.eventfd_write(self._bell, 1)
            self._thread.join()
            os.close(self._bell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(socket: "zmq.Socket[Any]") -> None:
    """Its name is free at once: what closes a socket may be a while."""
    with contextlib.suppress(zmq.ZMQError):
        socket.unbind(_ENDPOINT)
    socket.close(linger=0)
