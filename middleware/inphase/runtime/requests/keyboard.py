"""Keys of the terminal in which a robot runs, one by one as they are pressed.

The terminal is put back as it was, whatever ends the run. ^C and ^\\ stay what they are, and ramp
the robot. ^Z is none: it would freeze a robot that moves. Neither are ^S and ^Q: they would hold up
what is written there. Thread: the main one; `Stops` reads the keys.
"""

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator
from typing import Any, Self

_INPUT, _LOCAL, _CONTROL = 0, 3, 6  # places in what tcgetattr gives


class Keys:
    """A context manager; without a terminal in the foreground there are none, and `fd` is -1."""

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._before: list[Any] = []
        self.fd = -1
        """what the keys are read from; does not block"""

    def __enter__(self) -> Self:
        stdin = sys.__stdin__
        if not self._wanted or stdin is None or not stdin.isatty():
            return self
        fd = stdin.fileno()
        try:
            if os.tcgetpgrp(fd) != os.getpgrp():
                return self
            # opened anew: the terminal of stdin is shared with the shell, its flags too
            self.fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._before = termios.tcgetattr(fd)
            now = termios.tcgetattr(fd)
            now[_INPUT] &= ~termios.IXON
            now[_LOCAL] &= ~(termios.ICANON | termios.ECHO)
            now[_CONTROL][termios.VMIN], now[_CONTROL][termios.VTIME] = 1, 0
            now[_CONTROL][termios.VSUSP] = b"\0"
            termios.tcsetattr(fd, termios.TCSANOW, now)
        except (OSError, termios.error):
            self._before = []
            self._close()
        return self

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __exit__(self, *_: object) -> None:
        self._close()
        stdin = sys.__stdin__
        if not self._before or stdin is None:
            return
        with contextlib.suppress(OSError, termios.error), _from_the_background():
            termios.tcsetattr(stdin.fileno(), termios.TCSANOW, self._before)


def discard_typed(fd: int) -> None:
    """Throw away the keys that were pressed on a terminal, and not read."""
    with contextlib.suppress(OSError, termios.error), _from_the_background():
        termios.tcflush(fd, termios.TCIFLUSH)


@contextlib.contextmanager
def _from_the_background() -> Iterator[None]:
    """A process in the background that sets a terminal is stopped, unless it ignores that."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTTOU, before)
