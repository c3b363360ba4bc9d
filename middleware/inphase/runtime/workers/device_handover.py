"""The line on which a worker hands the descriptor of its device on, so that the guard can stop it.

Each time that the device is opened, one descriptor goes from the worker to the supervisor, and from
there to the guard (middleware/GUARD.md).
"""

import contextlib
import os
import socket
import stat

from inphase.driver import Driver
from inphase.errors import DeviceError


def line() -> tuple[socket.socket, socket.socket]:
    """The two ends, the supervisor's and the worker's; neither waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs


def hand_on(end: socket.socket, driver: Driver, descriptor: int) -> None:
    """Hand a duplicate on. Raises DeviceError where the guard could not write to it."""
    name = f"device {driver.name} ({driver.address})"
    if descriptor < 0:
        raise DeviceError(
            f"{name}: its driver declares a stop for the guard, and its open gives no descriptor "
            f"to send it to; return the descriptor there"
        )
    if os.get_blocking(descriptor) and not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise DeviceError(
            f"{name}: the descriptor that its open gives is blocking; open it with O_NONBLOCK"
        )
    # full: nobody takes them, and without the guard nothing is armed
    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        socket.send_fds(end, [b"\0"], [descriptor])


def take(end: socket.socket) -> int:
    """The newest that came; -1: none. The caller closes it."""
    newest = -1
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(end, 1, 1)
        except (BlockingIOError, ConnectionResetError):
            return newest
        if newest >= 0 and (descriptors or not data):
            os.close(newest)
            newest = -1
        if not data:  # the worker has ended, and its device with it
            return newest
        newest = descriptors[0] if descriptors else newest
