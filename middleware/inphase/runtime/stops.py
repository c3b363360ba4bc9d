"""Stops of a robot while its supervisor waits for something: keys, signals, the Runner's word.

A thread in C (native/src/stops.c) takes them and tells the core at once, without the interpreter.
The supervisor hears of them afterwards, and does the rest.
"""

import contextlib
import os
import signal
from typing import Self

from inphase._core import ffi, lib
from inphase.core.core import Core
from inphase.errors import StoreError

_BYTES = 4096
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Stops:
    """The thread of one core. Its maker closes it, before the core. Thread: the main one.

    keys_fd: a terminal's, see `Keys`. line_fd: a socket to the process that runs the robot. Both
    stay the caller's; -1: there is none. Raises StoreError.
    """

    def __init__(self, core: Core, keys_fd: int = -1, line_fd: int = -1) -> None:
        self._pipes = [*os.pipe2(_FLAGS), *os.pipe2(_FLAGS)]
        signals, woken, self.fd, told = self._pipes
        config = ffi.new("struct inphase_stops_config *", [keys_fd, signals, line_fd, told])
        stops = ffi.new("inphase_stops **")
        rc = lib.inphase_stops_open(stops, core.handle, config)
        if rc < 0:
            self._close_pipes()
            raise StoreError(f"the thread that stops the robot does not start: {os.strerror(-rc)}")
        self._stops = stops[0]
        # the interpreter's handler in C writes a signal's number here, whatever runs in Python
        self._before = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def take(self) -> str:
        """The keys that were pressed since the last call, and `a` for each SIGUSR1; never waits."""
        keys = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, _BYTES):
                keys += data
        return keys.decode(errors="ignore")

    def close(self) -> None:
        """End the thread; signals are the interpreter's alone again."""
        signal.set_wakeup_fd(self._before)
        lib.inphase_stops_close(self._stops)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for fd in self._pipes:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
