"""Folders for the temporary files of a runtime's children.

A runtime that is killed leaves its folders behind; the next one that makes some removes them. A
folder whose runtime lives is locked.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

_MADE = re.compile(r"[a-z0-9_]{8}")  # the end of a name, as `mkdtemp` makes it


class Scratch:
    """One folder, of one child; gone with `close`."""

    def __init__(self, name: str) -> None:
        prefix = f"inphase-scratch-{name}-"
        _remove_left_over(prefix)
        while True:
            self.path = tempfile.mkdtemp(prefix=prefix)
            # somebody who cleans up may be faster than the lock
            with contextlib.suppress(FileNotFoundError):
                self._fd = _open(self.path)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                if Path(self.path).is_dir():
                    return
                os.close(self._fd)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._fd)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_left_over(prefix: str) -> None:
    """Remove the folders of ours that nobody has locked; `mkdtemp` has named them, and nobody else
    gives such a name."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if not _MADE.fullmatch(path.name.removeprefix(prefix)):
            continue
        with contextlib.suppress(OSError):  # no folder, somebody else's, or gone already
            fd = _open(str(path))
            try:
                if os.fstat(fd).st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
