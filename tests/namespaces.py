"""A second host on this machine: a network namespace, and a way to it that loses, delays and
reorders packets. Needs root and /dev/net/tun."""

import contextlib
import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_PACKET = 65536
TUN = Path("/dev/net/tun")


def can_be_made() -> bool:
    """True where this user may make them."""
    if os.geteuid() != 0 or not TUN.exists():
        return False
    return subprocess.run(["ip", "netns", "list"], check=False, capture_output=True).returncode == 0


class OtherHost:
    """A namespace, and the proxy through which each packet to and from this one goes.

    `loss`: the share of packets that is dropped. `delay_s`: a packet is late by a time between 0
    and this, so that packets overtake each other. `is_down`: nothing passes. Thread: any.
    """

    def __init__(self, seed: int = 1) -> None:
        self.name = f"inphase{os.getpid()}"
        self.addresses = ("10.213.0.1", "10.213.0.2")
        """of this host and of the other"""
        self.loss = self.delay_s = 0.0
        self.is_down = False
        self.passed = self.lost = self.overtook = 0
        """packets"""
        self._random = random.Random(seed)
        self._fds = [self._make(end) for end in range(2)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def command(self, *arguments: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def _make(self, end: int) -> int:
        tun = f"ih{end}{os.getpid() % 100_000}"
        here = f"ip -n {self.name}" if end else "ip"
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", tun.encode(), _IFF_TUN | _IFF_NO_PI))
        there = (f"ip netns add {self.name}", f"ip link set {tun} netns {self.name}")
        for line in (
            *(there if end else ()),
            f"{here} addr add {self.addresses[end]}/24 dev {tun}",
            f"{here} link set {tun} up",
        ):
            subprocess.run(line.split(), check=True)
        return fd

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        number = newest = 0
        with selectors.DefaultSelector() as selector:
            for end, fd in enumerate(self._fds):
                selector.register(fd, selectors.EVENT_READ, end)
            while not self._over.is_set():
                for key, _ in selector.select(0.001):
                    with contextlib.suppress(BlockingIOError):
                        packet = os.read(key.fd, _PACKET)
                        number += 1
                        if self.is_down or self._random.random() < self.loss:
                            self.lost += 1
                            continue
                        at_s = time.monotonic() + self._random.uniform(0, self.delay_s)
                        heapq.heappush(waiting, (at_s, number, 1 - key.data, packet))
                while waiting and waiting[0][0] <= time.monotonic():
                    _, sent, end, packet = heapq.heappop(waiting)
                    self.passed += 1
                    self.overtook += sent < newest
                    newest = max(newest, sent)
                    with contextlib.suppress(OSError):  # full: it is lost
                        os.write(self._fds[end], packet)

    def close(self) -> None:
        """Remove it."""
        self._over.set()
        self._thread.join()
        for fd in self._fds:
            os.close(fd)
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
