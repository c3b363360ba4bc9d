"""The audit log of a service: who asked what, when, with which result; lines are only added.

`chain` has its format. A thread writes, so that nobody waits for a disk. It gives each batch
to the disk (fdatasync) before it takes the next: after a power cut the lines are missing that were
noted while the last batch was written. An entry that finds the queue full is dropped, and the next
line that is written counts it. A file that is full is followed by another (`files`).
"""

import contextlib
import datetime
import errno
import fcntl
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from inphase.access.audit import chain, files
from inphase.access.audit.chain import Break, ChainHead
from inphase.errors import AccessError

_QUEUE = 4096  # entries that wait
_BATCH = 512  # entries per fdatasync
_TOO_MANY = 2  # times the bytes of a file that is to be followed by another, and cannot be
_NEW = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

Entry = tuple[datetime.datetime, str, Mapping[str, object]]


class AuditLog:
    """An audit log in a service's own folder, to add lines to. `note` may come from any thread.

    A last line that a crash has cut is taken away, and a line says so. Raises AccessError: another
    process writes it, it cannot be opened, or a line of its newest file does not fit.

    file_bytes: of a file that is followed by another one.
    """

    def __init__(self, folder: Path, file_bytes: int = files.FILE_BYTES) -> None:
        self.path = folder / files.FILE
        self._file_bytes = file_bytes
        self.dropped = 0
        """entries that were lost since the log was opened: the queue was full, or the disk"""
        self._untold = 0
        self._lock = threading.Lock()
        self._queue: queue.Queue[Entry | threading.Event | None] = queue.Queue(_QUEUE)
        self._folder_fd = self._fd = -1
        try:
            self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._take_folder()
            self._fd = os.open(self.path, _NEW, 0o600)
            self._head, self._size, cut = self._continued()
            if not self._size and files.older(folder):
                self._follow(files.older(folder)[-1])
        except BaseException as error:
            self._let_go()
            if isinstance(error, OSError):
                text = f"{self.path}: cannot be opened: {error.strerror}"
                raise AccessError(text) from error
            raise
        self._thread = threading.Thread(target=self._run, name="inphase audit", daemon=True)
        self._thread.start()
        if cut is not None:
            self.note("a cut last line was taken away", text=cut.decode(errors="replace"))

    def _take_folder(self) -> None:
        """No other process writes there. Raises AccessError."""
        try:
            fcntl.flock(self._folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AccessError(
                f"{self.path}: another process writes it; stop that service first"
            ) from error

    def _let_go(self) -> None:
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1

    def _follow(self, path: Path) -> None:
        """Begin a file after an older one. Raises AccessError, OSError."""
        verdict = chain.read(path)
        if verdict.trouble is not None:
            raise AccessError(_unfit(path, verdict.trouble))
        self._head = verdict.head
        self._begin()

    def _begin(self) -> None:
        """Go on in a new file. Raises OSError: the log goes on in the one that it has."""
        fd, line = files.begin(self.path.parent, self._head)
        os.close(self._fd)
        self._fd, self._size, self._head = fd, len(line), chain.after(self._head, line)

    def _continued(self) -> tuple[ChainHead, int, bytes | None]:
        """The head of what is there, and what is taken away of it. Raises AccessError."""
        if os.fstat(self._fd).st_mode & 0o077:
            raise AccessError(f"{self.path}: others may use it; chmod 600 {self.path}")
        verdict = chain.read(self.path)
        cut = None
        if verdict.trouble is not None:
            if not verdict.is_cut:
                raise AccessError(_unfit(self.path, verdict.trouble))
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
            self._let_go()

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
        if self._size >= self._file_bytes:
            with contextlib.suppress(OSError):  # it is tried again with the next lines
                self._begin()
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
            if self._size >= _TOO_MANY * self._file_bytes:
                raise OSError(errno.EFBIG, "the next file cannot be begun")
            files.write(self._fd, text)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            lost = len(entries) - bool(untold)
            with self._lock:
                self._untold += untold + lost
                self.dropped += lost
            return
        self._head, self._size = head, self._size + len(text)


def _unfit(path: Path, trouble: Break) -> str:
    return (
        f"{path}:{trouble.line}: {trouble.reason}; keep it as evidence, and begin anew: "
        f"mv {path} {path}.broken"
    )
