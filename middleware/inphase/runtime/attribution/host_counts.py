"""Disturbances of the cycle thread by its host, counted from outside of it.

They are page faults, preemption, and processor time that the hypervisor of a virtual machine took.
"""

import os
import re
import time
from pathlib import Path

from inphase.core.core import Core
from inphase.frames import store

Counts = dict[str, int]
"""struct inphase_host_counts by field name"""
_UNKNOWN = -1
_INVOLUNTARY = re.compile(r"^nonvoluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
_STEAL = 8  # the word of a line of /proc/stat, proc(5)
_COUNTED = ("page_faults", "preemptions", "waited_ns", "stolen_ns")


class HostCounts:
    """Those since the cycle thread was looked at first. Thread: the supervisor's."""

    def __init__(self, core: Core, reader: store.Reader) -> None:
        self._core = core
        self._reader = reader
        self._first: Counts | None = None

    def count(self) -> None:
        """Look at the cycle thread from outside of it, and give the core what was found."""
        thread = self._reader.status()["thread_id"]
        now = of_thread(thread) if thread else None
        if now is None:
            return
        if self._first is None:
            self._first = now
        self._core.host(now | {name: _since(self._first[name], now[name]) for name in _COUNTED})


def _since(first: int, now: int) -> int:
    return now - first if _UNKNOWN not in (first, now) else _UNKNOWN


def of_thread(thread: int) -> Counts | None:
    """The counts of a thread of this process since its own start, and of the processors that it may
    run on since theirs; -1: the kernel does not tell. None: there is no such thread."""
    own = Path(f"/proc/self/task/{thread}")
    began_ns = time.monotonic_ns()
    try:
        fields = (own / "stat").read_text().rpartition(")")[2].split()
        involuntary = _INVOLUNTARY.search((own / "status").read_text())
        processors = os.sched_getaffinity(thread)
    except OSError:
        return None
    return {
        "began_ns": began_ns,
        "page_faults": int(fields[7]) + int(fields[9]),  # minflt and majflt, proc(5)
        "preemptions": int(involuntary[1]) if involuntary else _UNKNOWN,
        "waited_ns": _waited_ns(own),
        "stolen_ns": _stolen_ns(processors),
        "ended_ns": time.monotonic_ns(),
    }


def _waited_ns(own: Path) -> int:
    """How long a thread was ready to run and had no processor. Kernels may be built without it."""
    try:
        return int((own / "schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return _UNKNOWN


def _stolen_ns(processors: set[int]) -> int:
    """In steps of a kernel's tick, 10 ms as a rule."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return _UNKNOWN
    rows = [line.split() for line in lines]
    ours = [row for row in rows if row[0] in {f"cpu{number}" for number in processors}]
    if not ours or min(map(len, ours)) <= _STEAL:
        return _UNKNOWN
    return sum(int(row[_STEAL]) for row in ours) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
