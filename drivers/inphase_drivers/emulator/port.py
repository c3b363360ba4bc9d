"""A pseudo-terminal under a fixed name: the serial port that the emulated bus hangs on."""

import contextlib
import errno
import os
import termios
from pathlib import Path

# the speeds that both an X-series servo and termios have, by baud
_SPEED_OF_BAUD = {
    9_600: termios.B9600,
    57_600: termios.B57600,
    115_200: termios.B115200,
    1_000_000: termios.B1000000,
    2_000_000: termios.B2000000,
    3_000_000: termios.B3000000,
    4_000_000: termios.B4000000,
}
_BAUD_OF_SPEED = {speed: baud for baud, speed in _SPEED_OF_BAUD.items()}
_READ_MAX = 4096


class PortError(Exception):
    """The port's name is taken by something that is not ours to replace."""


class Port:
    """The master side of a pseudo-terminal, with a symbolic link to the slave's side.

    The slave is not held open: a port that the host closes loses its exclusive mode and its
    settings, as a serial adapter does. Whoever opens it closes it.
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
        self.link.parent.mkdir(parents=True, exist_ok=True)
        if self.link.exists() and not self.link.is_symlink():
            raise PortError(f"{self.link}: exists and is not a symbolic link; remove or rename it")
        self.fd, slave_fd = os.openpty()
        self._slave_name = os.ttyname(slave_fd)
        os.close(slave_fd)
        os.set_blocking(self.fd, False)
        fresh = self.link.with_name(f"{self.link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._slave_name)
        fresh.replace(self.link)

    def close(self) -> None:
        """Hang up: the host gets an end of file, and the link goes where it is still ours.

        It goes because the number of the pseudo-terminal may soon be somebody else's.
        """
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self.attended = False
        self._held = None
        with contextlib.suppress(OSError):
            if str(self.link.readlink()) == self._slave_name:
                self.link.unlink()

    def read(self) -> bytearray:
        """What the host wrote; empty when there is nothing or nobody (see `attended`)."""
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
        """The speed that the host set [baud], or 0 for one that no servo has."""
        return _BAUD_OF_SPEED.get(termios.tcgetattr(self.fd)[5], 0)
