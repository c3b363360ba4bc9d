"""The page's lines in an audit log: who stopped the robot there, and who signed in.

The service that keeps the robot up has the log. Nobody waits for it: a thread of its own tells the
service. A line that the service does not take is printed. A page on the network whose robot is in
nobody's service has a log of its own.
"""

import queue
import threading
from typing import Any, Protocol

from inphase.access.audit.log import AuditLog
from inphase.access.private_file import make_folder
from inphase.client.connection import ServiceConnection
from inphase.errors import InphaseError
from inphase.host.state_folder import default_state_folder

_QUEUE = 256
_ANSWER_S = 30.0  # a service that is held up takes it late
_END_S = 1.0


class Notes(Protocol):
    """Takes lines, and never waits. Thread: any."""

    def note(self, event: str, user: str, address: str) -> None:
        """One line. event: one of those of the service's request `page`. address: the browser's."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def notes_of(service: str, robot: str, *, has_log: bool) -> Notes:
    """Where a page's lines go. service: the address of the service; empty: none keeps the robot up.
    has_log: they are to be kept then, too. Raises AccessError."""
    if service:
        return ServiceNotes(service, robot)
    return OwnNotes(robot) if has_log else NoNotes()


class NoNotes:
    """Of a page for one host, of a robot that somebody runs there."""

    def note(self, event: str, user: str, address: str) -> None:
        """Nobody wants it."""

    def close(self) -> None:
        """Nothing to do."""


class OwnNotes:
    """A log in the folder `pages/ROBOT` of this user's state folder."""

    def __init__(self, robot: str) -> None:
        folder = default_state_folder() / "pages" / robot
        make_folder(folder)
        self._robot = robot
        self._log = AuditLog(folder)

    def note(self, event: str, user: str, address: str) -> None:
        """A line of the log."""
        self._log.note(event, robot=self._robot, user=user, by="page", address=address)

    def close(self) -> None:
        """Write what was noted."""
        self._log.close()


class ServiceNotes:
    """Tells the service at an address on this host."""

    def __init__(self, address: str, robot: str) -> None:
        self._robot = robot
        self._connection = ServiceConnection(address)
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._run, name="notes", daemon=True)
        self._thread.start()

    def note(self, event: str, user: str, address: str) -> None:
        """Have the service write a line."""
        try:
            self._queue.put_nowait({"event": event, "user": user, "address": address})
        except queue.Full:
            _say(event, user, "too many lines wait")

    def _run(self) -> None:
        while (words := self._queue.get()) is not None:
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
        if not self._thread.is_alive():
            self._connection.close()


def _say(event: str, user: str, why: str) -> None:
    print(f"page: {event}, user {user}; the audit log has no line of it: {why}", flush=True)
