"""Files and folders that only their owner may read: checked before use, and written whole."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from inphase.errors import AccessError

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def make_folder(folder: Path) -> None:
    """Make a folder with mode 0700, or check the one that is there. Raises AccessError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise AccessError(f"{folder}: cannot be made: {error.strerror}; name another") from error
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raise AccessError unless it is a folder of this user's, and nobody else may enter it."""
    os.close(_opened(folder, _READ | os.O_DIRECTORY, "700"))


def read(path: Path, bytes_max: int) -> bytes:
    """The content of a file of this user's that nobody else may read or write.

    Raises AccessError, with the remedy, for any other file, and one of more than bytes_max bytes.
    """
    fd = _opened(path, _READ, "600")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise AccessError(f"{path} is no file; remove it, or name another")
        with open(fd, "rb", closefd=False) as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise AccessError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    if len(content) > bytes_max:
        raise AccessError(f"{path} has more than {bytes_max} bytes; name another")
    return content


def _opened(path: Path, flags: int, mode: str) -> int:
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise AccessError(f"{path}: cannot be opened: {error.strerror}") from error
    facts = os.fstat(fd)
    trouble = ""
    if facts.st_uid != os.geteuid():
        trouble = (
            f"belongs to user {facts.st_uid}, and this is user {os.geteuid()}; "
            f"run this as its owner, or name another"
        )
    elif facts.st_mode & 0o077:
        trouble = f"others than its owner may use it (mode {facts.st_mode & 0o777:04o}); "
        trouble += f"chmod {mode} {path}"
    if trouble:
        os.close(fd)
        raise AccessError(f"{path}: {trouble}")
    return fd


def create(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600, onto the disk. Raises AccessError where one is there."""
    try:
        _write_new(path, content)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise AccessError(f"{path} is there already; give another name") from error
    except OSError as error:
        raise AccessError(f"{path}: cannot be written: {error.strerror}") from error


def replace(path: Path, content: bytes) -> None:
    """Write a file with mode 0600, onto the disk: readers see the old one or the new one, whole.

    One process at a time, as `locked` gives it. Raises AccessError.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        _write_new(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise AccessError(f"{path}: cannot be written: {error.strerror}") from error


def _write_new(path: Path, content: bytes) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(fd)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """The names in a folder, onto the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """For one process after the other: waits for whoever has it. Raises AccessError."""
    fd = _opened(folder, _READ | os.O_DIRECTORY, "700")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
