"""The words of a policy's process to its supervisor: texts in a pipe, whose writer never waits."""

import contextlib
import os
from collections.abc import Callable

_END = b"\0"
_TEXT_MAX = 4000  # bytes: below PIPE_BUF, so that a text comes whole or not at all
_READ_MAX = 65536
_KEPT = {"\n", "\t"}


class WordsLine:
    """The reader's side. Its maker closes it.

    The writer is the policy, which is not trusted: texts have a bound, and no control characters.
    """

    def __init__(self) -> None:
        self._fd, self.theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """theirs: the writer's end, to be passed on"""
        self._rest = b""

    def close_theirs(self) -> None:
        """The writer has its end."""
        os.close(self.theirs)
        self.theirs = -1

    def read(self) -> list[str]:
        """The texts that came; never waits."""
        try:
            data = os.read(self._fd, _READ_MAX)
        except BlockingIOError:
            return []
        *texts, rest = (self._rest + data).split(_END)
        self._rest = rest[-_TEXT_MAX:]
        return [_plain(text) for text in texts if text]

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self._fd)
        if self.theirs >= 0:
            self.close_theirs()


def say_to(fd: int) -> Callable[[str], None]:
    """The writer's side: a text that finds no room is dropped."""

    def say(text: str) -> None:
        data = text.replace("\0", " ").encode(errors="replace")[:_TEXT_MAX]
        with contextlib.suppress(OSError):
            os.write(fd, data + _END)

    return say


def _plain(text: bytes) -> str:
    """Without what a terminal would obey."""
    letters = text.decode(errors="replace")
    return "".join(one if one.isprintable() or one in _KEPT else " " for one in letters)
