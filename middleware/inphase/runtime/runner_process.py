"""The process that `inphase.Runner` starts: a runtime that does what it is asked over a socket.

python -m inphase.runtime.runner_process SCHEDULE CONTROL_FD STOP_FD [--cycles N] [--observe]
    [--wait-policy] [--leased] [--speed SHARE] [--simulate] [--page JSON]

Requests and events are JSON lines on the one socket. The other one is for stops alone, a letter
each. A thread in C reads it (`Stops`), so that nothing that waits here holds them up.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from inphase import schedule
from inphase.errors import InphaseError, RuntimeFault
from inphase.host.outlet import Outlet
from inphase.runtime import summary
from inphase.runtime.requests.signals import signals_stop
from inphase.runtime.run_options import RunOptions
from inphase.runtime.runtime import Runtime
from inphase.schedule import Schedule
from inphase.schedule.motion import park_times
from inphase.schedule.simulation_tables import Page

_SEND_S = 30.0  # as long as a Runner waits for an answer


class _Event(NamedTuple):
    text: bytes
    fds: list[int]


class _Line:
    """JSON lines to and from the Runner; its end is the Runner's end. Sending never waits."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._rest = b""
        self._outlet: Outlet[_Event] = Outlet(self._carry, _dropped)

    def fileno(self) -> int:
        return self._socket.fileno()

    def say(self, text: str) -> None:
        """A message for a person: dropped where the Runner takes none."""
        self._outlet.put(_event(event="message", text=text))

    def send(self, fds: list[int] | None = None, **event: object) -> None:
        """Send an event that the Runner waits for."""
        self._outlet.put(_event(fds, **event), needed=True)

    def _carry(self, event: _Event) -> None:
        sent = socket.send_fds(self._socket, [event.text], event.fds)
        self._socket.sendall(event.text[sent:])

    def close(self) -> None:
        """Wait until the Runner has taken what was sent, or is gone, or does not take it."""
        self._outlet.close(_SEND_S)

    def receive(self) -> list[dict[str, Any]] | None:
        """The requests that came; None when the Runner is gone."""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _event(fds: list[int] | None = None, **event: object) -> _Event:
    return _Event(json.dumps(event).encode() + b"\n", fds or [])


def _dropped(count: int) -> _Event:
    text = f"{count} messages were dropped: `Runner.messages` was not read"
    return _event(event="message", text=text)


def _serve(line: _Line, stop_fd: int, described: Schedule, options: RunOptions) -> int:
    runtime = Runtime(described, options, line.say, line_fd=stop_fd)
    with signals_stop(runtime.stop):
        try:
            runtime.prepare()
            assert runtime.core is not None
            guests = [link.name for link in runtime.guests]
            stop_s = park_times.longest_stop_ns(described, options.speed) / 1e9
            facts: dict[str, Any] = {"path": runtime.name.path, "stop_s": stop_s}
            line.send(runtime.client_fds, event="store", guests=guests, **facts)
            is_waited_for = options.client_policy or guests
            if is_waited_for:
                ready = line.receive()
                if ready is None:
                    return RuntimeFault.exit_code
                _take_goals(runtime, ready[0])
            runtime.start()
            line.send(event="running")
            while not runtime.over:
                if line.fileno() in runtime.tend([line.fileno()]):
                    _obey(runtime, line)
                if (estops := runtime.asks_to_arm()) is not None:
                    runtime.try_to_arm(estops)
            result = runtime.finish()
        finally:
            runtime.close()
    line.send(event="summary", summary=result)
    return summary.exit_code(result)


def _take_goals(runtime: Runtime, request: dict[str, Any]) -> None:
    """Where the devices hold that the Runner's own process has enabled."""
    for link in runtime.guests:
        link.guests_goals = tuple(request.get("goals", {}).get(link.name, ()))


def _obey(runtime: Runtime, line: _Line) -> None:
    requests = line.receive()
    if requests is None:
        runtime.stop("parent")
        return
    for request in requests:
        if request["do"] == "arm":
            _take_goals(runtime, request)
            try:
                runtime.arm(request["estops"])
                line.send(event="armed", error=None)
            except InphaseError as error:
                line.send(event="armed", error=str(error))
        elif request["do"] == "episode":
            try:
                number = runtime.episodes.mark(request["outcome"])
                line.send(event="episode", number=number, error=None)
            except ValueError as error:
                line.send(event="episode", number=0, error=str(error))


def _page(options: list[str]) -> Page | None:
    if "--page" not in options:
        return None
    return msgspec.json.decode(options[options.index("--page") + 1], type=Page)


def main() -> None:
    """Entry of the process."""
    path, fd, stop_fd, *options = sys.argv[1:]
    os.set_inheritable(int(fd), False)
    os.set_inheritable(int(stop_fd), False)
    line = _Line(int(fd))
    cycles = int(options[options.index("--cycles") + 1]) if "--cycles" in options else 0
    try:
        code = _serve(
            line,
            int(stop_fd),
            schedule.load(Path(path)),
            RunOptions(
                cycles,
                "--observe" in options,
                "--wait-policy" in options,
                "--leased" in options,
                speed=float(options[options.index("--speed") + 1]) if "--speed" in options else 1.0,
                client_threads=True,
                simulate="--simulate" in options,
                page=_page(options),
            ),
        )
    except InphaseError as error:
        line.send(event="error", text=str(error), exit_code=error.exit_code)
        code = error.exit_code
    line.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
