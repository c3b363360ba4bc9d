"""The process that `inphase.Runner` starts: a runtime that does what it is asked over a socket.

python -m inphase.runner_process SCHEDULE CONTROL_FD [--cycles N] [--observe] [--wait-policy]
    [--simulate]
"""

import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from inphase import schedule, summary
from inphase.errors import InphaseError, RuntimeFault
from inphase.runtime import Runtime, Wishes, signals_stop
from inphase.schedule import Schedule


class _Line:
    """JSON lines to and from the Runner; its end is the Runner's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._rest = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, fds: list[int] | None = None, **event: object) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps(event).encode() + b"\n"], fds or [])
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def receive(self) -> list[dict[str, Any]] | None:
        """What came; None when the Runner is gone."""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _serve(line: _Line, described: Schedule, wishes: Wishes) -> int:
    runtime = Runtime(described, wishes, lambda text: line.send(event="message", text=text))
    try:
        with signals_stop(runtime):
            runtime.prepare()
            assert runtime.core is not None
            guests = runtime.guest_fds
            fds = [fd for pair in guests.values() for fd in pair]
            line.send(fds, event="store", path=runtime.core.segment.path, guests=list(guests))
            mailbox = None
            if wishes.client_policy or guests:
                requests = line.receive()
                if requests is None:
                    return RuntimeFault.exit_code
                mailbox = requests[0]["mailbox"]
            runtime.start(mailbox)
            line.send(event="running")
            while not runtime.over:
                if line.fileno() in runtime.tend([line.fileno()]):
                    _obey(runtime, line)
            result = runtime.finish()
    finally:
        runtime.close()
    line.send(event="summary", summary=result)
    return summary.exit_code(result)


def _obey(runtime: Runtime, line: _Line) -> None:
    requests = line.receive()
    if requests is None:
        runtime.stop("parent")
        return
    for request in requests:
        if request["do"] == "stop":
            runtime.stop("request")
        elif request["do"] == "estop":
            runtime.estop()
        elif request["do"] == "policy_gone":
            runtime.policy_gone()
        elif request["do"] == "arm":
            try:
                runtime.arm()
                line.send(event="armed", error=None)
            except InphaseError as error:
                line.send(event="armed", error=str(error))


def main() -> None:
    """Entry of the process."""
    path, fd, *options = sys.argv[1:]
    os.set_inheritable(int(fd), False)
    line = _Line(int(fd))
    cycles = int(options[options.index("--cycles") + 1]) if "--cycles" in options else 0
    try:
        code = _serve(
            line,
            schedule.load(Path(path)),
            Wishes(
                cycles,
                "--observe" in options,
                "--wait-policy" in options,
                client_threads=True,
                simulate="--simulate" in options,
            ),
        )
    except InphaseError as error:
        line.send(event="error", text=str(error), exit_code=error.exit_code)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
