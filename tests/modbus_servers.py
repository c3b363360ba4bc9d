"""A device of pymodbus on a serial line."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator

from peers import BOUND_S


def link_two(fds: tuple[int, int]) -> None:
    """What is written to either end is read from the other, until one is closed."""
    with contextlib.suppress(OSError, ValueError):
        while True:
            for fd in select.select(fds, [], [])[0]:
                os.write(fds[fd == fds[0]], os.read(fd, 4096))


@contextlib.contextmanager
def modbus_server(program: str, *arguments: str) -> Iterator[str]:
    """pymodbus as the device: a program gets its port first; the port that reaches it."""
    ours, theirs = os.openpty(), os.openpty()
    for pair in (ours, theirs):
        tty.setraw(pair[1])
    threading.Thread(target=link_two, args=((ours[0], theirs[0]),), daemon=True).start()
    server = subprocess.Popen([sys.executable, "-c", program, os.ttyname(theirs[1]), *arguments])
    try:
        yield os.ttyname(ours[1])
    finally:
        server.kill()
        server.wait(BOUND_S)
        for fd in (*ours, *theirs):
            os.close(fd)
