"""The audit log of a service: who asked what, when, with which result; lines are only added.

`chain` has its format. A thread writes, so that nobody waits for a disk. It gives each batch
to the disk (fdatasync) before it takes the next: after a power cut the lines are missing that were
noted while the last batch was written. An entry that finds the queue full is dropped, and the next
line that is written counts it.
"""

import contextlib
import datetime
import fcntl
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from inphase.errors import AccessError
from inphase.service.audit import chain
from inphase.service.audit.chain import ChainHead

FILE = "audit.jsonl"
_QUEUE = 4096  # entries that wait
_BATCH = 512  # entries per fdatasync
_AGAIN_S = 1.0  # before a disk that took nothing is tried again
_NEW = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

Entry = tuple[datetime.datetime, str, Mapping[str, object]]


class AuditLog:
    """An audit log in a service's own folder, to add lines to. `note` may come from any thread.

    A last line that a crash has cut is taken away, and a line says so. Raises AccessError: another
    process writes it, it cannot be opened, or a line does not fit.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.dropped = 0
        """entries that were lost since the log was opened: the queue was full, or the disk"""
        self._untold = 0
        self._lock = threading.Lock()
        self._queue: queue.Queue[Entry | threading.Event | None] = queue.Queue(_QUEUE)
        try:
            self._fd = os.open(self.path, _NEW, 0o600)
        except OSError as error:
            raise AccessError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            self._head, self._size, cut = self._continued()
        except BaseException:
            os.close(self._fd)
            raise
        self._thread = threading.Thread(target=self._run, name="inphase audit", daemon=True)
        self._thread.start()
        if cut is not None:
            self.note("a cut last line was taken away", text=cut.decode(errors="replace"))

    def _continued(self) -> tuple[ChainHead, int, bytes | None]:
        """The head of what is there, and what is taken away of it. Raises AccessError."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AccessError(
                f"{self.path}: another process writes it; stop that service first"
            ) from error
        if os.fstat(self._fd).st_mode & 0o077:
            raise AccessError(f"{self.path}: others may use it; chmod 600 {self.path}")
        verdict = chain.read(self.path)
        cut = None
        if verdict.trouble is not None:
            if not verdict.is_cut:
                raise AccessError(
                    f"{self.path}:{verdict.trouble.line}: {verdict.trouble.reason}; keep it as "
                    f"evidence, and begin anew: mv {self.path} {self.path}.broken"
                )
            cut = os.pread(self._fd, chain.LINE_BYTES, verdict.size)
            os.ftruncate(self._fd, verdict.size)
        return verdict.head, verdict.size, cut

    def note(self, what: str, /, **facts: object) -> None:
        """Have a line written: what happened, and facts of it, as plain values. Never waits.

        Texts above 300 letters are cut, facts beyond 16 left out. No fact is called n, at, what or
        hash.
        """
        assert not chain.OWN & facts.keys(), facts
        try:
            self._queue.put_nowait((datetime.datetime.now(datetime.UTC), what, facts))
        except queue.Full:
            with self._lock:
                self._untold += 1
                self.dropped += 1

    def flush(self) -> None:
        """Wait until all that was noted is on the disk, or was dropped."""
        written = threading.Event()
        self._queue.put(written)
        written.wait()

    def close(self) -> None:
        """Write what was noted, and end."""
        if self._fd >= 0:
            self._queue.put(None)
            self._thread.join()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _BATCH:
                    batch.append(self._queue.get_nowait())
            self._write([one for one in batch if isinstance(one, tuple)])
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()
            if None in batch:
                return

    def _write(self, entries: list[Entry]) -> None:
        """Add lines. Where the disk takes none they are dropped, and nothing is left of them."""
        with self._lock:
            untold, self._untold = self._untold, 0
        head, lines = self._head, []
        if untold:
            entries = [
                (datetime.datetime.now(datetime.UTC), "dropped", {"count": untold}),
                *entries,
            ]
        for at, what, facts in entries:
            line = chain.line_of(head, at, what, facts)
            lines.append(line)
            head = chain.after(head, line)
        if not lines:
            return
        text = b"".join(lines)
        try:
            left = memoryview(text)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            lost = len(entries) - bool(untold)
            with self._lock:
                self._untold += untold + lost
                self.dropped += lost
            return
        self._head, self._size = head, self._size + len(text)
