"""The emergency lane: stops come on a socket and a thread of their own, behind nothing else."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from inphase.client.kinds import STOP, STOPPED, UNKNOWN
from inphase.frames import store
from inphase.service.doors import Door, give, take

_LOOK_MS = 200


class EmergencyLane:
    """Takes stops and carries them out at once. Its thread starts with `start`.

    door: any signed-in person may come in. pages: of each robot's wishes, of this thread alone.
    tell: takes who stopped what; it does not wait.
    """

    def __init__(
        self,
        door: Door,
        pages: Mapping[str, store.ClientPage],
        tell: Callable[[str, str], None],
    ) -> None:
        self._door = door
        self._pages = pages
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="inphase emergency", daemon=True)

    def start(self) -> None:
        """From here on it listens."""
        self._thread.start()

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in self._door.sockets:
            poller.register(socket, zmq.POLLIN)
        while not self._over.is_set():
            for socket, _ in poller.poll(_LOOK_MS):
                if (parts := take(socket)) is not None:
                    self._take(socket, parts)

    def _take(self, socket: Any, parts: list[Any]) -> None:
        """One message: who, STOP, the robot's name; empty: all robots."""
        if len(parts) != 3 or parts[1].bytes != STOP:
            return
        caller = self._door.caller(socket, parts[2])
        if caller is None:
            return
        named = bytes(parts[2].buffer[:256]).decode(errors="replace")
        stopped = [name for name in self._pages if named in ("", name)]
        for name in stopped:
            self._pages[name].estop()
        for name in stopped:
            self._tell(caller.user, name)
        with contextlib.suppress(zmq.ZMQError):  # it has gone: it is stopped all the same
            kind = STOPPED if stopped else UNKNOWN
            give(socket, [parts[0], kind, ",".join(stopped).encode()])

    def close(self) -> None:
        """End it."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._door.close()
        for page in self._pages.values():
            page.close()
