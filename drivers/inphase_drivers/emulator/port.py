"""A pseudo-terminal under a fixed name: the serial port that the emulated bus hangs on."""

import contextlib
import errno
import fcntl
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

_TCGETS2 = 0x802C542A  # asm-generic/ioctls.h, of struct termios2: speeds are numbers there
_TERMIOS2_SIZE, _SPEED_AT = 44, 40
_READ_MAX = 4096
_TERMINALS = Path("/dev/pts")


class PortError(Exception):
    """The port's name or address is taken by something that is not ours to replace."""


@contextlib.contextmanager
def taking(what: str, look: str, remedy: str) -> Iterator[None]:
    """Around what takes an address. look: a command that shows who has it. Raises PortError."""
    try:
        yield
    except OSError as error:
        hint = f"; `{look}` shows by whom: stop that, or {remedy}"
        if error.errno != errno.EADDRINUSE:
            hint = f"; {remedy}"
        raise PortError(f"{what}: {os.strerror(error.errno or errno.EIO)}{hint}") from error


def _lives(link: Path) -> bool:
    """True if the pseudo-terminal lives that a link was made for.

    One of its number that is newer than the link is another. Linux gives numbers again, and changes
    the times of its making only when somebody changes its owner or mode.
    """
    try:
        made, pointed = link.stat(), link.lstat()
    except OSError:
        return False
    return link.resolve().parent == _TERMINALS and made.st_ctime_ns <= pointed.st_mtime_ns


def _holder(link: Path) -> str:
    """The process at the other end of a link's pseudo-terminal, for a person."""
    wanted = f"tty-index:\t{link.resolve().name}"
    for place in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if wanted in place.read_text().splitlines():
                return f"process {place.parts[2]}"
    return "another user's process"


@contextlib.contextmanager
def _naming_owner(folder: Path) -> Iterator[None]:
    """Around what is done in a link's folder. Raises PortError for another user's."""
    try:
        yield
    except PermissionError as error:
        while not folder.exists():
            folder = folder.parent
        user = str(folder.stat().st_uid)
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(int(user)).pw_name
        raise PortError(
            f"{folder}: belongs to user {user}, who runs this robot or has left it there; once "
            f"that robot has ended: sudo rm -r {folder}; or give another port"
        ) from error


class Port:
    """The master side of a pseudo-terminal, with a symbolic link to the slave's side.

    The slave is not held open: a port that the host closes loses its exclusive mode and its
    settings, as a serial adapter does. Its opener closes it.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.fd = -1
        self.attended = False  # the host has it open
        self._slave_name = ""
        self._held: bytearray | None = None  # what a stalled adapter still has to hand on

    def open(self) -> None:
        """Make a pseudo-terminal and point the link at it. Raises PortError."""
        if self.fd >= 0:
            return
        with _naming_owner(self.link.parent):
            self._make()

    def _make(self) -> None:
        self.link.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._check_link()
            self.fd, slave_fd = os.openpty()
            self._slave_name = os.ttyname(slave_fd)
            os.close(slave_fd)
            os.set_blocking(self.fd, False)
            fresh = self.link.with_name(f"{self.link.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._slave_name)
            fresh.replace(self.link)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other emulator looks at a link of this folder and changes it at the same time."""
        folder = os.open(self.link.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _check_link(self) -> None:
        """Raise PortError where something is in the link's place that is not to be replaced."""
        if self.link.exists() and not self.link.is_symlink():
            raise PortError(f"{self.link}: exists and is not a symbolic link; remove or rename it")
        if _lives(self.link):
            raise PortError(
                f"{self.link}: is the port of another emulator, {_holder(self.link)}; stop the "
                f"robot that it belongs to, or give another port"
            )

    def close(self) -> None:
        """Hang up: the host gets an end of file, and the link goes where it is still ours.

        It goes first, because the number of the pseudo-terminal may then be somebody else's. Its
        folder goes too where it is empty and in /tmp: another user could not use it.
        """
        if self.fd < 0:
            return
        with contextlib.suppress(OSError), self._alone():
            if str(self.link.readlink()) == self._slave_name:
                self.link.unlink()
                if self.link.parent.parent.stat().st_mode & stat.S_ISVTX:
                    self.link.parent.rmdir()
        os.close(self.fd)
        self.fd = -1
        self.attended = False
        self._held = None

    def read(self) -> bytearray:
        """The host's bytes; empty when there is nothing or nobody (see `attended`)."""
        try:
            data = os.read(self.fd, _READ_MAX)
        except BlockingIOError:
            self.attended = True
            return bytearray()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.attended = False
            return bytearray()
        self.attended = True
        return bytearray(data)

    def write(self, data: bytes | bytearray) -> None:
        """Give the host bytes; what nobody reads is lost, as on a wire."""
        if self._held is not None:
            self._held += data
            return
        with contextlib.suppress(OSError):
            os.write(self.fd, data)

    def stall(self) -> None:
        """Stand still, as an adapter does at times: `go_on` hands on what came meanwhile."""
        if self._held is None:
            self._held = bytearray()

    def go_on(self) -> None:
        """Hand on all that was held back, in its order."""
        held, self._held = self._held, None
        if held:
            self.write(held)

    def baud(self) -> int:
        """The speed that the host set [baud]."""
        found = fcntl.ioctl(self.fd, _TCGETS2, bytes(_TERMIOS2_SIZE))
        return int.from_bytes(found[_SPEED_AT:], sys.byteorder)
