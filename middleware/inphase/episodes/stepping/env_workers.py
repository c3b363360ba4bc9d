"""The threads of Python that make, reset and render many environments."""

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class EnvWorkers:
    """Threads, each with environments of its own: a renderer belongs to the thread that made it.
    The caller's is the first of them."""

    def __init__(self, count: int, workers: int | None) -> None:
        threads = self.threads = max(1, min(workers or len(os.sched_getaffinity(0)), count))
        self._shares = [range(first, count, threads) for first in range(threads)]
        self._call: Callable[[int], Any]
        self._made: list[Any] = [None] * count
        self._errors: list[BaseException] = []
        self._orders: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(threads - 1)]
        self._done: SimpleQueue[None] = SimpleQueue()
        self._threads = [
            Thread(target=self._serve, args=order, name="inphase environments", daemon=True)
            for order in zip(self._orders, self._shares[1:], strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def each(self, call: Callable[[int], Any]) -> list[Any]:
        """Call it with each number in that number's thread; what came of it, in order.

        Raises what one of them has raised, when all are through.
        """
        self._call, self._made, self._errors = call, [None] * len(self._made), []
        for orders in self._orders:
            orders.put(True)
        self._run(self._shares[0])
        for _ in self._orders:
            self._done.get()
        if self._errors:
            raise self._errors[0]
        return self._made

    def _run(self, share: range) -> None:
        try:
            for i in share:
                self._made[i] = self._call(i)
        except BaseException as error:  # raised again in the caller's thread
            self._errors.append(error)

    def _serve(self, orders: "SimpleQueue[bool]", share: range) -> None:
        while orders.get():
            self._run(share)
            self._done.put(None)

    def close(self) -> None:
        """End the threads."""
        for orders in self._orders:
            orders.put(False)
        for thread in self._threads:
            thread.join()
        self._orders = []
