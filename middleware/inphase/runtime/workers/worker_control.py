"""The supervisor's line to a worker's process."""

import contextlib
import errno
import math
import socket

from inphase.errors import DeviceError
from inphase.runtime.workers.worker import Worker

ANSWER_BYTES = 4096
"""of one answer at most"""


class WorkerControl:
    """The supervisor's line to a worker: it asks for `enable`, `disable` and `torque`, between two
    turns."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def obey(self, worker: Worker) -> None:
        """Do what was asked, if anything was, and answer `ok` or what is wrong."""
        with contextlib.suppress(BlockingIOError):
            self._hear(worker, socket.MSG_DONTWAIT)

    def obey_to_the_end(self, worker: Worker) -> None:
        """After the run: do what is asked, which may be `disable`, until nobody asks any more."""
        while self._hear(worker, 0):
            pass

    def _hear(self, worker: Worker, flags: int) -> bool:
        """Take one question; False: nobody asks any more."""
        try:
            request = self._socket.recv(64, flags)
        except ConnectionResetError:  # closed, with an answer that nobody has read
            return False
        if request:
            self._do(worker, request)
        return bool(request)

    def _do(self, worker: Worker, request: bytes) -> None:
        number, _, what = request.decode().partition(" ")
        goals: tuple[float, ...] = ()
        try:
            if what == "enable":
                goals = worker.enable()
            elif what == "disable":
                worker.disable()
            elif what == "torque":
                goals = tuple(math.nan if one is None else float(one) for one in worker.torque())
        except DeviceError as error:
            self._answer(f"{number} {error}")
            return
        self._answer(" ".join([number, "ok", *map(repr, map(float, goals))]))

    def _answer(self, text: str) -> None:
        try:
            self._socket.send(text.encode()[:ANSWER_BYTES])
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
