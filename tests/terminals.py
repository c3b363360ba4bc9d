"""A pseudo-terminal with `inphase run` in its foreground, for tests that press keys or hang up."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

from peers import BOUND_S

_FOREGROUND = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # as a shell's job has it
sys.argv[0] = "inphase"
from inphase.command.cli import main
main()
"""


class Terminal:
    """A terminal whose session `inphase run`, or another command, leads. reads: what is written
    there is taken."""

    def __init__(
        self,
        of: Path | str,
        *options: str,
        command: str = "run",
        reads: bool = True,
        stdout: Any = subprocess.DEVNULL,
    ) -> None:
        self.ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self._keep = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-c", _FOREGROUND, command, str(of), *options],
            stdin=theirs,
            stdout=stdout,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            start_new_session=True,
        )
        self.shown = b""
        self._ends, self._end = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        if reads:
            self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([self.ours, self._ends], [], [])
                if self._ends in ready:
                    return
                self.shown += os.read(self.ours, 65_536)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.ours, keys)

    @property
    def modes(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self._keep)

    def hang_up(self) -> None:
        """Close the terminal, as a window or an ssh session that ends does."""
        os.close(self._end)
        if self._reader.is_alive():
            self._reader.join(BOUND_S)
        os.close(self._ends)
        os.close(self.ours)
        os.close(self._keep)
        self.ours = -1

    def close(self) -> None:
        """End the run, and hang up."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(BOUND_S)
        if self.ours >= 0:
            self.hang_up()
