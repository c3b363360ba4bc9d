"""The emergency lane: stops come on a socket and a thread of their own, behind nothing else."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from inphase.frames import store

STOP, STOPPED, UNKNOWN = b"inphase.stop\0", b"inphase.stopped\0", b"inphase.unknown\0"
_LOOK_MS = 200


class EmergencyLane:
    """Takes stops and carries them out at once. Its thread starts with `start`.

    socket: a ROUTER that is bound. pages: of each robot's wishes, of this thread alone. may: says
    if a message's part is of somebody who may stop: any signed-in person. tell: takes who stopped
    what; it does not wait.
    """

    def __init__(
        self,
        socket: Any,
        pages: Mapping[str, store.ClientPage],
        may: Callable[[Any], str | None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._socket = socket
        self._pages = pages
        self._may = may
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="inphase emergency", daemon=True)

    def start(self) -> None:
        """From here on it listens."""
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            if self._socket.poll(_LOOK_MS):
                self._take(self._socket.recv_multipart(copy=False))

    def _take(self, parts: list[Any]) -> None:
        """One message: who, STOP, the robot's name; empty: all robots."""
        if len(parts) != 3 or parts[1].bytes != STOP:
            return
        user = self._may(parts[2])
        if user is None:
            return
        named = bytes(parts[2].buffer[:256]).decode(errors="replace")
        stopped = [name for name in self._pages if named in ("", name)]
        for name in stopped:
            self._pages[name].estop()
        for name in stopped:
            self._tell(user, name)
        with contextlib.suppress(zmq.ZMQError):  # it has gone: it is stopped all the same
            kind = STOPPED if stopped else UNKNOWN
            self._socket.send_multipart([parts[0], kind, ",".join(stopped).encode()], zmq.NOBLOCK)

    def close(self) -> None:
        """End it."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close(0)
        for page in self._pages.values():
            page.close()
