"""One runtime per device: a lock on a file named after the device, with its holder's name in it.

The kernel drops the lock with its process, however that ended.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
import struct

from inphase import names
from inphase.errors import DeviceError, StoreError

_TEXT_MAX = 200


def one_name(address: str) -> str:
    """A device's address with one spelling: links resolved, a host by its number. A host that
    cannot be resolved keeps its name."""
    if address.startswith("/"):
        return os.path.realpath(address)
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("udp", "tcp") or not host:
        return address
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return address
    numbers = [str(place[4][0]) for place in sorted(found, key=lambda place: place[0])]
    return f"{kind}:{numbers[0]}:{port}"


class DeviceLock:
    """Held until `close`. Raises DeviceError that names the holder.

    Each user's lock is a file in the user's own folder, which nobody else can write to or hold; a
    runtime looks at the other users' files after it has its own.
    """

    def __init__(self, device: str, address: str, robot: str) -> None:
        self._name = f"lock.{hashlib.sha256(one_name(address).encode()).hexdigest()[:16]}"
        self._fd = -1
        try:
            with names.opened(names.folder()) as folder:
                while self._fd < 0:
                    self._fd = self._try(folder)
            text = f"robot {robot}, process {os.getpid()}, user {os.getuid()}\n".encode()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)
            os.fchmod(self._fd, 0o644)
            for user in names.other_users():
                self._look_at(user)
        except _HeldError as error:
            self.close()
            raise DeviceError(
                f"device {device}: {address} is used by {error}; stop that runtime first"
            ) from error
        except OSError as error:
            self.close()
            raise DeviceError(
                f"device {device}: {names.folder() / self._name} cannot be locked: "
                f"{error.strerror}; remove it"
            ) from error

    def _try(self, folder: int) -> int:
        """Lock the file; -1 when it is to be looked at again. Raises OSError, _HeldError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._name, flags, 0o600, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole(fcntl.F_WRLCK))
            if _is_in_place(folder, self._name, fd):
                return fd
        except (BlockingIOError, PermissionError) as error:
            holder = _holder(fd)
            if holder is not None:
                os.close(fd)
                raise _HeldError(holder) from error
            _unlink(folder, self._name)  # left over, and read-locked by a stranger
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        return -1

    def _look_at(self, user: int) -> None:
        """Whether another user's runtime has the device. Raises _HeldError."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError, StoreError), names.opened(names.folder(user)) as folder:
            fd = os.open(self._name, flags, dir_fd=folder)
            try:
                holder = _holder(fd)
            finally:
                os.close(fd)
            if holder is not None:
                raise _HeldError(f"{holder} (user {user})")

    def close(self) -> None:
        """Give the device free. Whoever locked a file that is removed here looks again."""
        if self._fd >= 0:
            with contextlib.suppress(OSError, StoreError), names.opened(names.folder()) as folder:
                if _is_in_place(folder, self._name, self._fd):
                    _unlink(folder, self._name)
            os.close(self._fd)
            self._fd = -1


class _HeldError(Exception):
    """By whom."""


def _whole(kind: int) -> bytes:
    """struct flock of a whole file."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


def _holder(fd: int) -> str | None:
    """Who has the file locked for writing, which its owner alone can; None: nobody."""
    told = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole(fcntl.F_RDLCK))
    if struct.unpack_from("h", told)[0] != fcntl.F_WRLCK:
        return None
    return os.pread(fd, _TEXT_MAX, 0).decode(errors="replace").strip() or "another runtime"


def _is_in_place(folder: int, name: str, fd: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return found.st_ino == os.fstat(fd).st_ino


def _unlink(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
