"""The messages that come to a drive process, without a look at sockets that have none."""

import select
from collections.abc import Iterator
from typing import Any

import zmq

from inphase.service.doors import take

_BURST = 64  # messages of a socket that are given before the next one is looked at


class Inbox:
    """Messages of a door's sockets. Thread: one.

    ZeroMQ tells once that something is there, and any use of a socket takes that sign away. So a
    socket is looked at once it told, and after each use. A poll of ZeroMQ's own would wait for
    whole milliseconds, which are whole cycles.

    line: a descriptor that is waited for as well.
    """

    def __init__(self, sockets: list[Any], line: int) -> None:
        self._sockets = {one.getsockopt(zmq.FD): one for one in sockets}
        self._line = line
        self._open = {*sockets}
        """those that may have something"""

    def used(self, socket: Any) -> None:
        """Something was sent by it."""
        self._open.add(socket)

    def wait(self, timeout_s: float) -> tuple[bool, bool]:
        """Wait until something comes: True if something did; True if it was at the line."""
        ready, _, _ = select.select([self._line, *self._sockets], [], [], timeout_s)
        for one in ready:
            if one != self._line:
                self._open.add(self._sockets[one])
        return bool(ready), self._line in ready

    def messages(self) -> Iterator[tuple[Any, list[Any]]]:
        """Those that are there, a burst of each socket at most, each with its socket."""
        for one in [*self._open]:
            for _ in range(_BURST):
                parts = take(one)
                if parts is None:
                    self._open.discard(one)
                    break
                yield one, parts
