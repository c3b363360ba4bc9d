"""Files and folders that are there once they are whole: a conversion that is cut leaves none."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inphase.errors import RecordingError
from inphase.recording.recorder_process import refuse_name


@contextlib.contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """A name to make a file or folder under; it has the name `out` when the block ends well.

    Until then it lies in `.OUT.unfinished` beside it. A process that is killed leaves that folder,
    and the next one for the same `out` removes it. Nothing is overwritten. Raises RecordingError,
    also for an OSError in the block.
    """
    refuse_name(out)
    try:
        with _folder(out) as folder:
            made = folder / out.name
            yield made
            _to_disk(made)
            _name(made, out)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            why = "no space left on the disk: make room, or give a name on another disk"
        raise RecordingError(f"{out} is not made: {why}") from error


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """The folder in which it is made, held by a lock. Raises RecordingError where somebody else
    makes the same, OSError."""
    folder = out.with_name(f".{out.name}.unfinished")
    folder.mkdir(exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{out} is being made by another process; wait for it") from None
        _empty(folder)  # of a process that was killed
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _to_disk(made: Path) -> None:
    """Have it on the disk, all of it. Raises OSError."""
    folders = [made, *made.rglob("*")] if made.is_dir() else [made]
    for one in folders:
        fd = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _name(made: Path, out: Path) -> None:
    """Give it its name. Raises OSError, and RecordingError where something has the name now."""
    if made.is_dir():
        refuse_name(out)
        made.rename(out)  # refused by the kernel where a file or a folder with something in it is
    else:
        try:
            out.hardlink_to(made)
        except FileExistsError:
            raise RecordingError(f"{out} is there already; give another name") from None
        made.unlink()
    fd = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
