"""Output that nobody may take: to a terminal that stands still, a full pipe, a Runner that reads
nothing.

The caller never waits. Its text goes into a bounded queue; text without room is dropped and
counted. A thread of its own carries it out, and may wait there for ever.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_ROOM = 256

Item = TypeVar("Item")


class Outlet(Generic[Item]):
    """A queue and its thread, which starts with the first item and ends with `close`.

    deliver: carries one item out, in the thread; once it raises OSError nothing more goes out.
    dropped: what is carried out where so many items are missing. idle: called in the thread, at
    least every `idle_s` seconds unless it is held up. end: called there last.
    """

    def __init__(
        self,
        deliver: Callable[[Item], None],
        dropped: Callable[[int], Item],
        idle: Callable[[], None] | None = None,
        idle_s: float | None = None,
        end: Callable[[], None] | None = None,
    ) -> None:
        self._deliver = deliver
        self._dropped = dropped
        self._idle = idle
        self._idle_s = idle_s
        self._end = end
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._missing = 0
        self._told = 0
        # a daemon: a process can end while this waits for somebody who does not read
        self._thread = threading.Thread(target=self._run, name="inphase outlet", daemon=True)
        self._thread.start()

    def put(self, item: Item, *, needed: bool = False) -> None:
        """Have it carried out some time; never waits. needed: it is not dropped, so whoever puts
        bounds how many there are."""
        if needed or self._queue.qsize() < _ROOM:
            self._queue.put(item)
        else:
            self._missing += 1

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the reader is gone: nothing is to be told any more
            while True:
                try:
                    item = self._queue.get(timeout=self._idle_s)
                except queue.Empty:
                    if self._idle is not None:
                        self._idle()
                    continue
                self._tell_dropped()
                if item is None:
                    break
                self._deliver(item)
            if self._end is not None:
                self._end()

    def _tell_dropped(self) -> None:
        missing = self._missing
        if missing != self._told:
            self._deliver(self._dropped(missing - self._told))
            self._told = missing

    def close(self, timeout_s: float) -> None:
        """Carry out what is there, waiting no longer than this."""
        self._queue.put(None)
        self._thread.join(timeout_s)
