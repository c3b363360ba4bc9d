"""Serial ports for drivers: opened for one process, without the latencies that Linux adds.

pyserial opens and configures; once `hand_over` was called the descriptor is the core's.
"""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import stat
import termios
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import serial

from inphase.errors import DeviceError

_CMSPAR = 0o10000000000  # linux/termbits.h: the parity bit is constant
_SIZES = {termios.CS5: 5, termios.CS6: 6, termios.CS7: 7, termios.CS8: 8}
_GROUP = "dialout"  # has serial ports on most systems
_GROUP_MAY = stat.S_IRGRP | stat.S_IWGRP
_RULE = 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'


@dataclass(frozen=True)
class Character:
    """How a byte goes over the line, by pyserial's names. The default is 8N1."""

    bytesize: int = 8
    """data bits, 5 to 8"""
    parity: str = "N"
    """N none, E even, O odd, M mark, S space"""
    stopbits: int = 1
    """1 or 2"""

    @property
    def bits(self) -> int:
        """Bits on the line, with the start bit."""
        return 1 + self.bytesize + (self.parity != "N") + self.stopbits

    def __str__(self) -> str:
        return f"{self.bytesize}{self.parity}{self.stopbits}"


_PLAIN = Character()


class Port(serial.Serial):
    """A port that nobody else may open until it is closed, however that asks: `TIOCEXCL`."""

    def close(self) -> None:
        """Close it, and let others open it again."""
        if self.is_open:
            with contextlib.suppress(OSError, termios.error):
                fcntl.ioctl(self.fileno(), termios.TIOCNXCL)
        super().close()


def keep_others_out(fd: int) -> None:
    """The kernel refuses every later open of this terminal, with EBUSY; root's it cannot.

    Not of a pseudo-terminal: that would stay so after its holder was killed.
    """
    if not os.ttyname(fd).startswith("/dev/pts/"):
        fcntl.ioctl(fd, termios.TIOCEXCL)


def _users(path: str, error: Exception) -> list[str]:
    """The processes that have a busy port open; only root sees those of other users."""
    if getattr(error, "errno", None) not in (errno.EBUSY, errno.EAGAIN):
        return []
    place, found = Path(path).resolve(), set()
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # another user's, or closed meanwhile
            if file.readlink() == place:
                found.add(int(file.parts[2]))
    return [f"process {process}" for process in sorted(found)]


def missing_right(path: str) -> str | None:
    """How this user gets the right to use a device file; None: has it, or there is no such file."""
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    if os.access(path, os.R_OK | os.W_OK):
        return None
    if not facts.st_gid or facts.st_mode & _GROUP_MAY != _GROUP_MAY:
        return (
            f"no group may use it: sudo chgrp {_GROUP} {path} && sudo chmod g+rw {path}, or a udev "
            f'rule with GROUP="{_GROUP}", MODE="0660"'
        )
    group, members = str(facts.st_gid), list[str]()
    with contextlib.suppress(KeyError):
        group, _, _, members = grp.getgrgid(facts.st_gid)
    with contextlib.suppress(KeyError):
        if pwd.getpwuid(os.geteuid()).pw_name in members:
            return f"the group {group} may use it, and has you since your last login: log in again"
    return f"the group {group} may use it: sudo usermod -aG {group} $USER, then log in again"


def open_port(
    device: str,
    path: str,
    baud: int,
    timeout_s: float = 0.01,
    character: Character = _PLAIN,
) -> serial.Serial:
    """A port held exclusively, in low-latency mode.

    Held by a lock, which other programs may not ask for, and by `keep_others_out`.
    device: its name, for messages. A pseudo-terminal has no latency to switch off, and no parity.
    The caller closes the port. Raises DeviceError.
    """
    shape: Any = asdict(character)
    try:
        port = Port(path, baud, timeout=timeout_s, write_timeout=1, exclusive=True, **shape)
    except (serial.SerialException, OSError, termios.error, ValueError) as error:
        hint = "is it plugged in, and is no other program using it?"
        if right := missing_right(path):
            hint = right
        elif not Path(path).exists():
            hint = "is it plugged in? `inphase ports` lists those that are"
        elif os.strerror(errno.ENOTTY) in str(error):
            hint = "it is no serial port; `inphase ports` lists those that are"
        elif users := _users(path, error):
            hint = f"{' and '.join(users)} has it open: stop that first"
        raise DeviceError(f"device {device}: cannot open {path}: {error}; {hint}") from error
    try:
        keep_others_out(port.fileno())
        name = os.ttyname(port.fileno())
        if not name.startswith("/dev/pts/"):
            check_character(device, path, port.fileno(), character)
            _set_low_latency(device, path, port)
            check_latency_timer(device, name)
    except BaseException:
        port.close()
        raise
    return port


def check_character(device: str, path: str, fd: int, wanted: Character) -> None:
    """The kernel's driver may leave out what its hardware cannot: it is read back.

    Raises DeviceError.
    """
    flags = termios.tcgetattr(fd)[2]
    parity = "N"
    if flags & termios.PARENB:
        odd = bool(flags & termios.PARODD)
        parity = ("SM" if flags & _CMSPAR else "EO")[odd]
    found = Character(_SIZES[flags & termios.CSIZE], parity, 2 if flags & termios.CSTOPB else 1)
    if found != wanted:
        raise DeviceError(
            f"device {device}: {path} stays at {found} and cannot do {wanted} (data bits, parity, "
            f"stop bits); use another adapter, or set the device to {found} and give its keys"
        )


def _set_low_latency(device: str, path: str, port: serial.Serial) -> None:
    """Ask the kernel's driver to hand bytes on at once.

    Drivers without TIOCGSERIAL (ch341 before Linux 5.13, Bluetooth's) have no such mode. Their
    ports are taken as they are: `check_latency_timer` refuses an adapter that holds bytes back.
    """
    try:
        port.set_low_latency_mode(True)
    except (ValueError, OSError) as error:
        # pyserial gives the kernel's error as a ValueError's context
        cause = error.__context__ if isinstance(error, ValueError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
            return
        raise DeviceError(
            f"device {device}: {path} refuses low-latency mode: {error}; "
            f"an FTDI adapter would hold replies back for up to 16 ms"
        ) from error


def check_latency_timer(device: str, tty: str, sysfs: Path = Path("/sys")) -> None:
    """An FTDI adapter holds bytes back until its latency timer runs out: it must be 1 ms.

    The default of 16 ms makes reads of 15 ms (DynamixelSDK issue 330). Low-latency mode sets it to
    1. In one report the file said so without effect, until a udev rule wrote it (pull request 116
    there). This check cannot see that. An adapter without such a timer passes. tty: the port's path
    or name. Raises DeviceError.
    """
    name = Path(tty).name
    places = (
        sysfs / "class/tty" / name / "device/latency_timer",
        sysfs / "bus/usb-serial/devices" / name / "latency_timer",
    )
    for place in places:
        try:
            text = place.read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _refusal(device, name, place, f"cannot be read: {error.strerror}") from error
        if text != "1":
            raise _refusal(device, name, place, f"is {text} (ms), needed is 1")
        return


def _refusal(device: str, name: str, place: Path, trouble: str) -> DeviceError:
    return DeviceError(
        f"device {device}: {place} {trouble}: the adapter of {name} holds replies back for that "
        f"long; write it there as root (echo 1 > {place}), or for good with a udev rule: {_RULE}"
    )


def hand_over(port: serial.Serial) -> int:
    """The port's descriptor as an exchange needs it: non-blocking, and 0 bytes mean a hang-up.

    pyserial sets VMIN 0, and an empty line then reads as 0 bytes too (termios(3), polling read).
    With VMIN 1 such a read fails with EAGAIN.
    """
    fd = int(port.fileno())
    settings = termios.tcgetattr(fd)
    settings[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, settings)
    os.set_blocking(fd, False)
    return fd
