"""All that was seen of a stretch of time in which the cycle thread was late: who could have had
its core, and its own doings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.runtime.attribution.page import Rows

Kind = Literal["idle", "cycle", "sentinel", "ours", "kernel", "other"]
_BACK = 2000
"""turns of a core before a stretch in which a thread is looked for"""
TICK_NS = 10_000_000
"""in which the kernel counts the time of a core"""
_STOPPED = (ord("T"), ord("t"))
_DISK = ord("D")


class Thread(NamedTuple):
    """A thread that had the core."""

    process: int
    thread: int
    name: str
    kind: Kind
    """`ours`: a process of this run. `kernel`: a thread of the kernel"""
    priority: int | None
    """of SCHED_FIFO and the like, 0: an ordinary thread; None: it has ended"""


class CoreTurn(NamedTuple):
    """How long a thread had the core in that stretch."""

    who: Thread
    ns: int


@dataclass(frozen=True, kw_only=True)
class CoreCounted:
    """Counters of the cycle thread and its core, over the shortest known stretch around; None: the
    kernel does not tell."""

    from_ns: int
    until_ns: int
    ran_ns: int | None = None
    waited_ns: int | None = None
    """that the thread was ready and had no core"""
    minor: int | None = None
    """page faults"""
    major: int | None = None
    """those that waited for a disk"""
    stolen_ns: int | None = None
    """of the core, in steps of a tick, as the next two"""
    interrupt_ns: int | None = None
    softirq_ns: int | None = None
    is_stopped: bool = False
    """a signal or a debugger had stopped the process"""
    is_on_disk: bool = False
    """the thread was seen to wait for a disk"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of one stretch."""

    late_ns: int
    """that the stretch lasted, beyond the moment at which the thread was to go on"""
    held_ns: int | None = None
    """of it, in which the sentinel was due and not awake either; None: it was not due in it"""
    is_sentinel_above: bool = False
    """it has a higher real-time priority than the cycle thread"""
    is_realtime: bool = False
    """the cycle thread has its priority"""
    priority: int = 0
    """of the cycle thread"""
    turns: tuple[CoreTurn, ...] | None = None
    """the longest first; None: it is not known who had the core"""
    counted: CoreCounted | None = None
    """None: nobody counted then"""
    unran_ns: int | None = None
    """that the cycle thread had its core and was not let run, while it was counted"""

    def had(self, *kinds: Kind) -> int | None:
        """How long threads of these kinds had the core, ns."""
        if self.turns is None:
            return None
        return sum(turn.ns for turn in self.turns if turn.who.kind in kinds)

    def thief(self) -> CoreTurn | None:
        """The one that had the core longest, of those other than the cycle thread."""
        others = (turn for turn in self.turns or () if turn.who.kind in ("ours", "kernel", "other"))
        return next(others, None)


@dataclass(frozen=True, kw_only=True)
class PeerEvidence:
    """Of a stretch in which the cycle thread waited for another process: the policy, an emulator, a
    driver's worker. It is that of its main thread."""

    late_ns: int
    own_ns: int | None = None
    """that its main thread had a core; None: it is not known who had the cores"""
    threads_ns: int = 0
    """that other threads of the process had one"""
    idle_ns: int = 0
    """that the cores had nobody, all of them together"""
    priority: int = 0
    turns: tuple[CoreTurn, ...] = ()
    """of the core that it had last"""
    counted: CoreCounted | None = None
    unran_ns: int | None = None
    """that it had a core and was not let run"""


def held_ns(wakes: NDArray[Any], from_ns: int, until_ns: int) -> int | None:
    """How long the sentinel was due and not awake, within a stretch; None: it was not due there."""
    first = int(np.searchsorted(wakes["woke_ns"], from_ns))
    stop = int(np.searchsorted(wakes["point_ns"], until_ns))
    found = wakes[first:stop]
    if not len(found):
        return None
    late = np.minimum(found["woke_ns"], until_ns) - np.maximum(found["point_ns"], from_ns)
    return int(np.maximum(late, 0).sum())


def core_of(
    turns: Mapping[int, NDArray[Any]], thread: int, from_ns: int, until_ns: int
) -> int | None:
    """The core that a thread had last before a stretch, else first in it; None: not known."""
    before, within = [], []
    for core, rows in turns.items():
        first, stop = np.searchsorted(rows["at_ns"], (from_ns, until_ns), side="right")
        had = np.flatnonzero(rows["thread"][max(0, first - _BACK) : first] == thread)
        if len(had):
            before.append((int(rows["at_ns"][max(0, first - _BACK) + had[-1]]), core))
        has = np.flatnonzero(rows["thread"][first:stop] == thread)
        if len(has):
            within.append((int(rows["at_ns"][first + has[0]]), core))
    if before:
        return max(before)[1]
    return min(within)[1] if within else None


def thread_ns(turns: NDArray[Any], from_ns: int, until_ns: int) -> dict[tuple[int, int], int]:
    """How long each (process, thread) had the core of these turns within a stretch; empty: it is
    not known."""
    if not len(turns) or turns["at_ns"][0] > from_ns:
        return {}
    first = int(np.searchsorted(turns["at_ns"], from_ns, side="right")) - 1
    stop = int(np.searchsorted(turns["at_ns"], until_ns))
    found = turns[first:stop]
    begins = np.maximum(found["at_ns"], from_ns)
    lasts = np.append(begins[1:], until_ns) - begins
    had: dict[tuple[int, int], int] = {}
    for process, thread, ns in zip(found["process"], found["thread"], lasts, strict=True):
        key = int(process), int(thread)
        had[key] = had.get(key, 0) + int(ns)
    return had


def counted(looks: NDArray[Any], from_ns: int, until_ns: int) -> CoreCounted | None:
    """The counters' growth from the last look before a stretch to the first one behind it."""
    first = int(np.searchsorted(looks["ended_ns"], from_ns, side="right")) - 1
    last = int(np.searchsorted(looks["began_ns"], until_ns))
    if first < 0 or last >= len(looks):
        return None
    before, after = looks[first], looks[last]
    # the kernel adds to those of a core at its next tick
    core_first = int(np.searchsorted(looks["core_ns"], from_ns, side="right")) - 1
    core_last = int(np.searchsorted(looks["core_ns"], until_ns + TICK_NS))
    core_is_known = core_first >= 0 and core_last < len(looks) and looks["core_ns"][core_first] > 0

    def grew(name: str) -> int | None:
        known = before[name] >= 0 and after[name] >= 0
        return int(after[name] - before[name]) if known else None

    def core_grew(name: str) -> int | None:
        return int(looks[name][core_last] - looks[name][core_first]) if core_is_known else None

    within = looks["state"][first + 1 : last]
    return CoreCounted(
        from_ns=int(before["began_ns"]),
        until_ns=int(after["ended_ns"]),
        ran_ns=grew("ran_ns"),
        waited_ns=grew("waited_ns"),
        minor=grew("minor"),
        major=grew("major"),
        stolen_ns=core_grew("stolen_ns"),
        interrupt_ns=core_grew("interrupt_ns"),
        softirq_ns=core_grew("softirq_ns"),
        is_stopped=any(bool((within == state).any()) for state in _STOPPED),
        is_on_disk=bool((within == _DISK).any()),
    )


def is_known(rows: Rows, until_ns: int) -> bool:
    """True once the counters of a time and behind it are there."""
    looks = rows.looks[0]
    return len(looks) > 0 and bool(looks["core_ns"][-1] >= until_ns + TICK_NS)
