"""A bad way between a client and a service: TCP that is late, stands still, or goes away."""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from typing import Any, Self

from serving import free_ports

_CHUNK = 65536


class Link:
    """Forwards loopback ports, one after the other, to others. Each byte is `delay_s` late.

    `is_down`: nothing passes, and what is sent meanwhile waits. Thread: any.
    """

    def __init__(self, port: int, count: int) -> None:
        self.port = free_ports(count)
        """the first of its ports"""
        self.delay_s = 0.0
        self.is_down = False
        self.passed = 0
        """bytes"""
        self._over = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._ways: list[tuple[socket.socket, socket.socket, deque[tuple[float, bytes]]]] = []
        for offset in range(count):
            listener = socket.create_server(("127.0.0.1", self.port + offset))
            self._selector.register(listener, selectors.EVENT_READ, port + offset)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break all connections."""
        for source, to, _ in [*self._ways]:
            for one in (source, to):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.001):
                if isinstance(key.data, int):
                    self._accept(key.fileobj, key.data)
                else:
                    self._hear(key.fileobj, key.data)
            self._forward()

    def _accept(self, listener: Any, port: int) -> None:
        ours, _ = listener.accept()
        theirs = socket.create_connection(("127.0.0.1", port))
        for source, to in ((ours, theirs), (theirs, ours)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waits: deque[tuple[float, bytes]] = deque()
            self._ways.append((source, to, waits))
            self._selector.register(source, selectors.EVENT_READ, waits)

    def _hear(self, source: Any, waits: "deque[tuple[float, bytes]]") -> None:
        try:
            data = source.recv(_CHUNK)
        except OSError:
            data = b""
        waits.append((time.monotonic() + self.delay_s, data))
        if not data:
            self._selector.unregister(source)

    def _forward(self) -> None:
        now_s = time.monotonic()
        for source, to, waits in [*self._ways]:
            while waits and not self.is_down and waits[0][0] <= now_s:
                _, data = waits.popleft()
                try:
                    to.sendall(data)
                    self.passed += len(data)
                except OSError:
                    data = b""
                if not data:
                    with contextlib.suppress(OSError):
                        to.shutdown(socket.SHUT_WR)
                    self._ways.remove((source, to, waits))
                    break

    def close(self) -> None:
        """End it, and all that it forwards."""
        self._over.set()
        self._thread.join()
        for key in [*self._selector.get_map().values()]:
            key.fileobj.close()  # type: ignore[union-attr]
        for source, to, _ in self._ways:
            source.close()
            to.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
