"""Stops of a robot while its supervisor waits for something: keys, signals, the Runner's word.

A thread in C (native/src/stops.c) takes them and tells the core at once, without the interpreter.
Keys have one of their own, which starts when they begin to count.
The supervisor hears of them afterwards, and does the rest.
"""

import contextlib
import os
import signal
from typing import Any, Self

from inphase._core import ffi, lib
from inphase.core.core import Core
from inphase.errors import StoreError

_BYTES = 4096
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Stops:
    """The threads of one core. Its maker closes it, before the core. Thread: the main one.

    line_fd: a socket to the process that runs the robot. It stays the caller's; -1: there is none.
    Raises StoreError.
    """

    def __init__(self, core: Core, line_fd: int = -1) -> None:
        self._core = core
        self._pipes = [*os.pipe2(_FLAGS), *os.pipe2(_FLAGS)]
        signals, woken, self.fd, self._told = self._pipes
        self._threads: list[Any] = []
        try:
            self._start([-1, signals, line_fd, self._told])
        except StoreError:
            self._close_pipes()
            raise
        # the interpreter's handler in C writes a signal's number here, whatever runs in Python
        self._before = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def listen(self, keys_fd: int) -> None:
        """From now on keys count: a terminal's, see `Keys`. It stays the caller's. Raises
        StoreError."""
        self._start([keys_fd, -1, -1, self._told])

    def _start(self, fds: list[int]) -> None:
        stops = ffi.new("inphase_stops **")
        config = ffi.new("struct inphase_stops_config *", fds)
        rc = lib.inphase_stops_open(stops, self._core.handle, config)
        if rc < 0:
            raise StoreError(f"the thread that stops the robot does not start: {os.strerror(-rc)}")
        self._threads.append(stops[0])

    def take(self) -> str:
        """The keys that were pressed since the last call, and `a` for each SIGUSR1; never waits."""
        keys = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, _BYTES):
                keys += data
        return keys.decode(errors="ignore")

    def close(self) -> None:
        """End the threads; signals are the interpreter's alone again."""
        signal.set_wakeup_fd(self._before)
        for thread in self._threads:
            lib.inphase_stops_close(thread)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for fd in self._pipes:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
