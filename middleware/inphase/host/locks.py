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
import time
from pathlib import Path

from inphase.errors import DeviceError, StoreError
from inphase.host import store_names

_TEXT_MAX = 200
_PREFIX = "lock."
_TERMINALS = "/dev/pts/"
_TRIES, _AGAIN_S = 5, 0.02  # a lock that `clean` holds, or that is being given back, is soon free


def one_name(address: str) -> str:
    """A device's address with one spelling: links resolved, a host by its number. A host that
    cannot be resolved keeps its name."""
    if address.startswith("/"):
        place = os.path.realpath(address)
        return place + _life_of(place)
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


def _life_of(place: str) -> str:
    """Of a pseudo-terminal, which it is of all that had its number: numbers are given out again,
    and whoever has lost an older one may still hold its lock. "" for every other place."""
    if not place.startswith(_TERMINALS):
        return ""
    with contextlib.suppress(OSError):
        facts = Path(place).stat()
        return f" of {facts.st_dev}, made at {facts.st_ctime_ns}"
    return ""


def as_written(address: str) -> str:
    """The same, but a path's last part is left as it is: a link that leads elsewhere later has one
    name."""
    if not address.startswith("/"):
        return one_name(address)
    place = Path(address)
    written = os.path.realpath(place.parent) + "/" + place.name
    return written + _life_of(written)


class DeviceLock:
    """Held until `close`: of an address as it is written, and from `resolve` on of what it leads to
    then. Raises DeviceError that names the holder.

    is_made_later: the run's own emulator makes the address; `resolve` is called once it is there.
    """

    def __init__(
        self, device: str, address: str, robot: str, *, is_made_later: bool = False
    ) -> None:
        self._device, self._address, self._robot = device, address, robot
        self._locks: dict[str, _Lock] = {}
        self._take(as_written(address))
        if not is_made_later:
            self.resolve()

    def resolve(self) -> None:
        """Lock what the address leads to now. Raises DeviceError; all is free then."""
        self._take(one_name(self._address))

    def _take(self, place: str) -> None:
        if place in self._locks:
            return
        try:
            self._locks[place] = _Lock(place, self._robot)
        except _HeldError as error:
            self.close()
            raise DeviceError(
                f"device {self._device}: {self._address} is used by {error}, which runs already; "
                f"stop that runtime first"
            ) from error
        except OSError as error:
            self.close()
            file = store_names.folder() / _name_of(place)
            raise DeviceError(
                f"device {self._device}: {file} cannot be locked: {_trouble(error)}"
            ) from error

    def close(self) -> None:
        """Give the device free."""
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()


def clean() -> None:
    """Remove the lock files of this user that nobody holds: of runtimes that were killed."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with store_names.opened(store_names.folder()) as folder:
        for name in (place.name for place in store_names.folder().glob(f"{_PREFIX}*")):
            with contextlib.suppress(OSError):  # held, or no file, or gone
                fd = os.open(name, flags, dir_fd=folder)
                try:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole(fcntl.F_WRLCK))
                    if _is_in_place(folder, name, fd):
                        _unlink(folder, name)
                finally:
                    os.close(fd)


def _name_of(place: str) -> str:
    return f"{_PREFIX}{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def _trouble(error: OSError) -> str:
    """The trouble with a lock file, and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; free space in {store_names.ROOT}: df {store_names.ROOT}"
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOMEM):
        return f"{error.strerror}; close other programs, or raise that limit"
    return f"{error.strerror}; remove it"


class _Lock:
    """One file, locked until `close`. Raises OSError, _HeldError.

    Each user's lock is a file in the user's own folder. Nobody else can write to that folder, or
    hold the file. A runtime looks at the other users' files after it has its own.
    """

    def __init__(self, place: str, robot: str) -> None:
        self._name = _name_of(place)
        self._fd = -1
        try:
            with store_names.opened(store_names.folder()) as folder:
                self._fd = self._wait(folder)
            text = f"robot {robot}, process {os.getpid()}, user {os.getuid()}\n".encode()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)
            os.fchmod(self._fd, 0o644)
            for user in store_names.other_users():
                self._look_at(user)
        except BaseException:
            self.close()
            raise

    def _wait(self, folder: int) -> int:
        """Lock the file, which may be held for a moment by nobody. Raises OSError, _HeldError."""
        tries = 0
        while True:
            try:
                fd = self._try(folder)
                if fd >= 0:
                    return fd
            except _HeldError:
                tries += 1
                if tries == _TRIES:
                    raise
                time.sleep(_AGAIN_S)

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
        """Raises _HeldError if another user's runtime has the device."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            contextlib.suppress(OSError, StoreError),
            store_names.opened(store_names.folder(user)) as folder,
        ):
            fd = os.open(self._name, flags, dir_fd=folder)
            try:
                holder = _holder(fd)
            finally:
                os.close(fd)
            if holder is not None:
                raise _HeldError(f"{holder} (user {user})")

    def close(self) -> None:
        """Give the device free. A process that locked the file which is removed here looks
        again."""
        if self._fd >= 0:
            with (
                contextlib.suppress(OSError, StoreError),
                store_names.opened(store_names.folder()) as folder,
            ):
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
    """The process that has the file locked for writing, which its owner alone can; None: no
    process."""
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
