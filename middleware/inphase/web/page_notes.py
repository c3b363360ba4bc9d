"""The page's lines in the audit log: who stopped the robot there, and who signed in.

The service that keeps the robot up writes the log. Nobody waits for it: a thread of its own tells
the service. A line that the service does not take is printed.
"""

import queue
import threading
from typing import Any

from inphase.client.connection import ServiceConnection
from inphase.errors import InphaseError

_QUEUE = 256
_ANSWER_S = 30.0  # a service that is held up takes it late
_END_S = 1.0


class PageNotes:
    """Tells the service of one robot what happened at its page. Thread: any.

    address: of the service's control socket on this host; empty: there is none, and so no log.
    """

    def __init__(self, address: str, robot: str) -> None:
        self._robot = robot
        self._connection = ServiceConnection(address) if address else None
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._run, name="notes", daemon=True)
        self._thread.start()

    def note(self, event: str, user: str, **facts: str) -> None:
        """Have a line written; never waits. event: one of the request `page`'s."""
        try:
            self._queue.put_nowait({"event": event, "user": user, **facts})
        except queue.Full:
            _say(event, user, "too many lines wait")

    def _run(self) -> None:
        while (words := self._queue.get()) is not None:
            if self._connection is None:
                continue
            try:
                self._connection.ask("page", timeout_s=_ANSWER_S, robot=self._robot, **words)
            except InphaseError as error:
                _say(words["event"], words["user"], str(error))

    def close(self) -> None:
        """End it, after what waits where the service takes it."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_END_S)
        if self._connection is not None and not self._thread.is_alive():
            self._connection.close()


def _say(event: str, user: str, why: str) -> None:
    print(f"page: {event}, user {user}; the audit log has no line of it: {why}", flush=True)
