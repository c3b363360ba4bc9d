"""Page faults of the cycle thread, counted from outside of it."""

from pathlib import Path

from inphase.core.core import Core
from inphase.frames import store


class PageFaults:
    """Those since the cycle thread was looked at first. Thread: the supervisor's."""

    def __init__(self, core: Core, reader: store.Reader) -> None:
        self._core = core
        self._reader = reader
        self._first: int | None = None

    def count(self) -> None:
        """Read the cycle thread's page faults off the cycle thread, for its frames."""
        thread = self._reader.status()["thread_id"]
        if not thread:
            return
        try:
            text = Path(f"/proc/self/task/{thread}/stat").read_text()
        except OSError:
            return
        fields = text.rpartition(")")[2].split()
        faults = int(fields[7]) + int(fields[9])  # minflt and majflt, proc(5)
        if self._first is None:
            self._first = faults
        self._core.page_faults(faults - self._first)
