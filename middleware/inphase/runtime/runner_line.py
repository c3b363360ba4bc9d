"""A caller's line to its runtime process: JSON lines to and fro, see `runner_process.py`."""

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from inphase import errors
from inphase.errors import InphaseError, RuntimeFault

_ANSWER_S = 30.0
_FDS_MAX = 250  # three per device, one more per actuator, and three
_JOIN_S = 5.0


class RunnerLine:
    """Reads in a thread of its own, so that messages are passed on while the caller does something
    else. Thread: the caller's; `say` is called in its own."""

    def __init__(self, line: socket.socket, say: Callable[[str], None]) -> None:
        self._line = line
        self._say = say
        self.fds: list[int] = []
        """parts of the store that came, whoever takes them closes them"""
        self.summary: dict[str, Any] | None = None
        """of the run, once it has ended"""
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="inphase messages", daemon=True)
        self._reader.start()

    def send(self, **request: object) -> None:
        """Ask for something."""
        self._line.sendall(json.dumps(request).encode() + b"\n")

    def wait(self, wanted: str) -> dict[str, Any]:
        """The next event of that kind. Raises what the runtime reports, EOFError when it is gone,
        TimeoutError."""
        while True:
            try:
                event = self._events.get(timeout=_ANSWER_S)
            except queue.Empty as error:
                raise TimeoutError(f"the runtime does not answer: no {wanted!r} came") from error
            if event is None:
                self._events.put(None)
                raise EOFError
            if event["event"] == "error":
                raise _error(event["text"], event["exit_code"])
            if event["event"] == wanted:
                return event

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):  # the other side is gone
            self._line.shutdown(socket.SHUT_RDWR)
        self._reader.join(_JOIN_S)
        self._line.close()

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._line, 65536, _FDS_MAX)
            except OSError:
                data, fds = b"", []
            self.fds += fds
            if not data:
                self._events.put(None)
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "message":
            self._say(event["text"])
            return
        if event["event"] == "summary":
            self.summary = event["summary"]
        self._events.put(event)


def _error(text: str, code: int) -> InphaseError:
    """The exception that the runtime raised, by its exit code."""
    for kind in (
        errors.ScheduleError,
        errors.DeviceError,
        errors.RealtimeError,
        errors.StoreError,
        errors.WorldError,
    ):
        if kind.exit_code == code:
            return kind(text)
    return RuntimeFault(text)
