"""Keys of the terminal in which a robot runs, one by one as they are pressed.

The terminal is put back as it was, whatever ends the run. ^C stays what it is; ^Z is none: it would
freeze a robot that moves. Thread: the supervisor's.
"""

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

_BYTES = 64
_LOCAL, _CONTROL = 3, 6  # places in what tcgetattr gives: local modes, control characters


class Keys:
    """A context manager; without a terminal in the foreground it never has a key."""

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._fd = -1
        self._before: list[Any] = []

    @property
    def fds(self) -> list[int]:
        """What to wait on."""
        return [self._fd] if self._fd >= 0 else []

    def take(self) -> str:
        """The keys that were pressed; call it when `fds` are readable."""
        if self._fd < 0:
            return ""
        try:
            data = os.read(self._fd, _BYTES)
        except OSError:  # the terminal is gone, or somebody else's by now
            data = b""
        if not data:
            self._fd = -1
        return data.decode(errors="ignore")

    def __enter__(self) -> Self:
        stdin = sys.__stdin__
        if not self._wanted or stdin is None or not stdin.isatty():
            return self
        fd = stdin.fileno()
        try:
            if os.tcgetpgrp(fd) != os.getpgrp():
                return self
            self._before = termios.tcgetattr(fd)
            now = termios.tcgetattr(fd)
            now[_LOCAL] &= ~(termios.ICANON | termios.ECHO)
            now[_CONTROL][termios.VMIN], now[_CONTROL][termios.VTIME] = 1, 0
            now[_CONTROL][termios.VSUSP] = b"\0"
            termios.tcsetattr(fd, termios.TCSANOW, now)
        except (OSError, termios.error):
            self._before = []
            return self
        self._fd = fd
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fd = -1
        stdin = sys.__stdin__
        if not self._before or stdin is None:
            return
        with contextlib.suppress(OSError, termios.error), _from_the_background():
            termios.tcsetattr(stdin.fileno(), termios.TCSANOW, self._before)


@contextlib.contextmanager
def _from_the_background() -> Iterator[None]:
    """A process in the background that sets a terminal is stopped, unless it ignores that."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTTOU, before)
