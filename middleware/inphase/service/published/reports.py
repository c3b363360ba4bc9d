"""The reports of recordings: made when they are first asked for, by `inphase report`, and kept."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from inphase.client.kinds import PIECE_BYTES
from inphase.errors import ServiceError
from inphase.host.process import thread_environment

_WAITING = 8
_KEPT = 64
_LONGEST_S = 600.0
_NICE = 10  # the robots' processes come first
_WORDS = 5


class _Making(NamedTuple):
    name: str
    process: "subprocess.Popen[bytes]"
    begun_s: float


class Reports:
    """Makes them one at a time; the newest 64 are kept. Nothing here waits. Thread: the service's.

    recordings: the folder of the recordings. folder: of the reports, made where there is none.
    Raises ServiceError.
    """

    def __init__(self, recordings: Path, folder: Path) -> None:
        self._recordings = recordings
        self._folder = folder
        self._waiting: list[str] = []
        self._making: _Making | None = None
        self._failed: dict[str, str] = {}
        """why, by name, until it is told"""
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ServiceError(f"{folder} cannot be made: {error.strerror}; remove it") from error

    def ask(self, name: str, offset: int) -> dict[str, Any]:
        """A piece of the report on a recording: `state` is `made`, `making` or `failed`.

        name: of the recording, without its ending. Raises ServiceError where there is none, or too
        many reports wait.
        """
        page = self._page(name)
        if not self._recording(name).is_file():
            raise ServiceError(f"there is no recording {name}; see: inphase leases")
        if self._is_made(name):
            with page.open("rb") as file:
                file.seek(offset)
                return {
                    "state": "made",
                    "size": page.stat().st_size,
                    "piece": file.read(PIECE_BYTES),
                }
        if name in self._failed:
            return {"state": "failed", "why": self._failed.pop(name)}
        making = self._making.name if self._making is not None else ""
        if name != making and name not in self._waiting:
            if len(self._waiting) >= _WAITING:
                raise ServiceError(f"{len(self._waiting)} reports wait already; ask again later")
            self._waiting.append(name)
        return {"state": "making"}

    def _recording(self, name: str) -> Path:
        return self._recordings / f"{name}.mcap"

    def _page(self, name: str) -> Path:
        return self._folder / f"{name}.html"

    def _is_made(self, name: str) -> bool:
        """True where its report is there, and newer than the recording."""
        try:
            made_ns = self._page(name).stat().st_mtime_ns
            return made_ns >= self._recording(name).stat().st_mtime_ns
        except OSError:
            return False

    def advance(self) -> None:
        """Look after the process that makes one, and start the next."""
        making = self._making
        if making is not None and making.process.poll() is None:
            if time.monotonic() - making.begun_s < _LONGEST_S:
                return
            making.process.kill()
        if making is not None:
            making.process.wait()
            self._making = None
            self._end(making.name)
        if self._waiting:
            self._begin(self._waiting.pop(0))

    def _begin(self, name: str) -> None:
        files = [str(self._recording(name)), "--output", str(self._page(name))]
        try:
            with self._said.open("wb") as said:
                process = subprocess.Popen(
                    [sys.executable, "-m", "inphase", "report", *files],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=os.environ | thread_environment(1),
                    start_new_session=True,  # ^C is the service's
                )
        except OSError as error:
            self._failed[name] = f"no report can be made: {error.strerror}"
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
        self._making = _Making(name, process, time.monotonic())

    def _end(self, name: str) -> None:
        if not self._is_made(name):
            said = self._said.read_text(errors="replace").strip().splitlines()[-_WORDS:]
            self._failed[name] = "; ".join(said)[:2000] or "the report took too long"
            while len(self._failed) > _KEPT:
                del self._failed[next(iter(self._failed))]
            return
        pages = sorted(self._folder.glob("*.html"), key=lambda page: page.stat().st_mtime_ns)
        for old in pages[:-_KEPT]:
            old.unlink(missing_ok=True)

    @property
    def _said(self) -> Path:
        return self._folder / "said"

    def close(self) -> None:
        """End what makes one."""
        if self._making is not None:
            self._making.process.kill()
            self._making.process.wait()
            self._making = None
