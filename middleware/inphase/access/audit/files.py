"""The files of an audit log: the one that is written, and older ones, which are not changed.

A file is named by the number of its first line. The first line of each file but the very first one
has the hash of the line before it, and the number of the oldest line that is kept.
"""

import contextlib
import datetime
import errno
import os
import re
from pathlib import Path

from inphase.access.audit import chain
from inphase.access.audit.chain import ChainHead
from inphase.access.private_file import sync_folder

FILE = "audit.jsonl"
FILE_BYTES = 16 << 20
"""a file that has so many is followed by another"""
FILES = 8
"""that are kept, with the one that is written"""
_OLDER = re.compile(r"audit-([0-9]{19})\.jsonl")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def older(folder: Path) -> list[Path]:
    """The files that are not written any more, oldest first. Raises OSError."""
    return sorted(path for path in folder.iterdir() if _OLDER.fullmatch(path.name))


def all_of(folder: Path) -> list[Path]:
    """All files of a log that are there, oldest first. Raises OSError."""
    newest = folder / FILE
    return [*older(folder), *([newest] if newest.exists() else [])]


def begin(folder: Path, head: ChainHead) -> tuple[int, bytes]:
    """Begin the next file after a head, and drop what is more than `FILES`: it and its first line.

    A crash at any step leaves a log that fits. Raises OSError: the log is as it was, but that its
    newest file may have its later name already.
    """
    newest, new = folder / FILE, folder / f"{FILE}.new"
    names = older(folder)
    has_lines = newest.exists() and newest.stat().st_size > 0
    if has_lines:
        later = folder / f"audit-{chain.beginning(newest).lines:019d}.jsonl"
        if later.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), later)
        names.append(later)
    kept = names[-(FILES - 1) :]
    facts = {"before": head.hash, "kept_from": int(_OLDER.fullmatch(kept[0].name)[1])}  # type: ignore[index]
    line = chain.line_of(head, datetime.datetime.now(datetime.UTC), chain.CONTINUED, facts)
    new.unlink(missing_ok=True)
    fd = os.open(new, _NEW, 0o600)
    try:
        write(fd, line)
        if has_lines:
            newest.rename(names[-1])
        new.rename(newest)
        sync_folder(folder)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    for path in names[: -(FILES - 1)]:
        with contextlib.suppress(OSError):  # it is dropped with the next one
            path.unlink()
    return fd, line


def write(fd: int, text: bytes) -> None:
    """Add to a file, onto the disk. Raises OSError; a part may be written."""
    left = memoryview(text)
    while left:
        left = left[os.write(fd, left) :]
    os.fdatasync(fd)
