"""Does a run's own emulator answer at a descriptor? Then nothing that can hurt moves.

Linux tells: a pseudo-terminal's other end, and a local socket's, are among the descriptors of the
emulator's process (proc(5)). A device that is not known to be emulated is real.
"""

import contextlib
import os
import socket
import stat
import sys
from pathlib import Path

_PTY_MAJORS = range(136, 144)  # UNIX98 slaves: 256 of each


def is_emulated(fd: int, emulator: int) -> bool:
    """emulator: the process number of the run's emulator, which is its child."""
    try:
        facts = os.fstat(fd)
        if stat.S_ISCHR(facts.st_mode) and facts.st_dev == Path("/dev/pts").stat().st_dev:
            return _has_other_end(facts.st_rdev, emulator)
        return stat.S_ISSOCK(facts.st_mode) and _has_peer(fd, emulator)
    except (OSError, ValueError, IndexError):
        return False


def _has_other_end(device: int, emulator: int) -> bool:
    major = os.major(device)
    if major not in _PTY_MAJORS:
        return False
    index = (major - _PTY_MAJORS.start) * 256 + os.minor(device)
    for place in Path(f"/proc/{emulator}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if f"tty-index:\t{index}" in place.read_text().splitlines():
                return True
    return False


def _has_peer(fd: int, emulator: int) -> bool:
    """A datagram socket that is connected to one of the emulator's, on this host."""
    with socket.socket(fileno=os.dup(fd)) as ours:
        if (ours.family, ours.type) != (socket.AF_INET, socket.SOCK_DGRAM):
            return False
        host, port = ours.getpeername()
    if not host.startswith("127."):
        return False
    # the address is printed as a number of this host's byte order
    number = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    wanted = f"{number:08X}:{port:04X}"
    rows = Path(f"/proc/{emulator}/net/udp").read_text().splitlines()[1:]
    inodes = {row.split()[9] for row in rows if row.split()[1] == wanted}
    for place in Path(f"/proc/{emulator}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(place.readlink()) in {f"socket:[{inode}]" for inode in inodes}:
                return True
    return False
