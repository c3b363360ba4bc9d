"""One runtime per device: a lock on a file named after the device, with its holder's name in it.

The kernel drops the lock with its process, however that ended.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
from pathlib import Path

from inphase.errors import DeviceError

_FOLDER = Path("/dev/shm")


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
    """Held until `close`. Raises DeviceError that names the holder."""

    def __init__(self, device: str, address: str, robot: str) -> None:
        name = hashlib.sha256(one_name(address).encode()).hexdigest()[:16]
        self._path = _FOLDER / f"inphase-lock.{name}"
        self._fd = -1
        while self._fd < 0:
            self._fd = self._try(device, address)
        text = f"robot {robot}, process {os.getpid()}, user {os.getuid()}\n".encode()
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)
        except OSError:
            pass  # a file that another user left: the lock holds, only the name in it is old

    def _try(self, device: str, address: str) -> int:
        """Lock the file; -1 when its last holder removed it meanwhile. Raises DeviceError."""
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_in_place(fd):
                return fd
        except BlockingIOError as error:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another runtime"
            os.close(fd)
            raise DeviceError(
                f"device {device}: {address} is used by {holder}; stop that runtime first"
            ) from error
        os.close(fd)
        return -1

    def _is_in_place(self, fd: int) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        """Open the file, also one that another user made (which may then be read-only)."""
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        for how in (os.O_RDWR, os.O_RDONLY):
            try:
                return os.open(self._path, how | flags)
            except FileNotFoundError:
                break
            except PermissionError:
                continue
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        os.fchmod(fd, 0o644)
        return fd

    def close(self) -> None:
        """Give the device free. Whoever locked a file that is removed here looks again."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # another user's file stays, unlocked
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1
