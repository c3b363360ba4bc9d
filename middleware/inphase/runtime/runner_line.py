"""A runtime process and its caller's line to it: JSON lines to and fro, see `runner_process.py`."""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inphase import errors
from inphase.errors import InphaseError, RuntimeFault

_ANSWER_S = 30.0
_FDS_MAX = 250  # three per device, one more per actuator, and three
_JOIN_S = 5.0
_STOP_S = 5.0
RAMP, ESTOP, HURRY = b"s", b"e", b"h"
"""what a runtime is told to do at once; HURRY ends a park, and holds"""


class RunnerChild:
    """A runtime in a process of its own, from its start to its end. Thread: the caller's.

    arguments: after the schedule and the lines. say: takes a message for a person, in a thread of
    its own. environment: more of it. Its maker calls `close`.
    """

    def __init__(
        self,
        schedule: Path,
        arguments: Sequence[str],
        say: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        self._stops, their_stops = socket.socketpair()
        self._stops.setblocking(False)
        with theirs, their_stops:
            fds = [theirs.fileno(), their_stops.fileno()]
            module = ["-m", "inphase.runtime.runner_process"]
            self._process = subprocess.Popen(
                [sys.executable, *module, str(schedule), *map(str, fds), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # ^C in a terminal or notebook is the caller's
            )
        self.pid = self._process.pid
        self.line = RunnerLine(ours, say)

    def wait(self, wanted: str) -> dict[str, Any]:
        """The next event of that kind. Raises what the runtime reports, RuntimeFault, TimeoutError.

        RuntimeFault: the process ended.
        """
        try:
            return self.line.wait(wanted)
        except EOFError as error:
            code, said = self._process.wait(), self.line.said or "see above for why"
            raise RuntimeFault(f"the runtime ended, exit code {code}; {said}") from error

    @property
    def ended(self) -> str:
        """How it ended; empty: it runs."""
        code = self._process.poll()
        return "" if code is None else f"exit code {code}"

    def say_stop(self, word: bytes) -> None:
        """RAMP, ESTOP or HURRY: have its core stop; never waits, and nothing there holds it up."""
        with contextlib.suppress(OSError):  # full: as much was said already; gone: it has stopped
            self._stops.send(word)

    def finish(self) -> dict[str, Any] | None:
        """Ramp; the summary of the run, once it is over. Raises as `wait`."""
        if self.line.summary is None:
            self.say_stop(RAMP)
            self.wait("summary")
        return self.line.summary

    def close(self) -> None:
        """End it. A runtime without its caller ramps and ends; one that does not is killed. It
        parks no longer where nobody waits for its summary any more: a second ^C, an error."""
        if self.line.summary is None:
            self.say_stop(HURRY)
        self.line.close()
        self._stops.close()
        try:
            self._process.wait(_STOP_S + self.line.stop_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RunnerLine:
    """Reads in a thread of its own, so that messages are passed on while the caller does something
    else. Thread: the caller's; `say` is called in its own."""

    def __init__(self, line: socket.socket, say: Callable[[str], None]) -> None:
        self._line = line
        self._say = say
        self.said = ""
        """the newest message for a person"""
        self.stop_s = 0.0
        """the longest stop of its robot, once it has said so"""
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
                event = self._events.get(timeout=_ANSWER_S + self.stop_s)
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
            self.said = event["text"]
            self._say(self.said)
            return
        if event["event"] == "store":
            self.stop_s = event["stop_s"]
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
