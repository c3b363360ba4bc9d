"""The sentinel's process, as the supervisor sees it: its start, its rights, what it saw.

The process is C (native/src/sentinel.c). It is started before the cycle thread, and told the grid
once there is one.
"""

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import _core
from inphase.core.realtime import is_realtime
from inphase.host.process import keep_rights
from inphase.plan.plan import Plan
from inphase.runtime.attribution import evidence
from inphase.runtime.attribution.evidence import (
    CoreCounted,
    CoreTurn,
    Evidence,
    Kind,
    PeerEvidence,
    Thread,
)
from inphase.runtime.attribution.page import LOOKED, POINTS, TURN, Rows, SentinelPage

PROGRAM = Path(_core.__file__).with_name("_sentinel")
_PRIORITY_MAX = 99
_LEAST_NS, _SHARE = 100_000, 20
_SPARSE_NS = 6_000_000
"""cycles that are shorter have the sentinel once, not three times"""
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the word 9 of /proc/PID/stat, proc(5)
_PARENTS = 4


def threshold_ns(period_ns: int) -> int:
    """From how much on a moment of a cycle counts as late: a twentieth of it, 0.1 ms at least."""
    return max(_LEAST_NS, period_ns // _SHARE)


def points_after_ns(plan: Plan) -> list[int]:
    """When the sentinel wakes, after each grid point: once a moment that was due is late."""
    cycle = plan.schedule.cycle
    late_ns = threshold_ns(cycle.period_ns)
    due = [0] if cycle.period_ns < _SPARSE_NS else [0, cycle.read_deadline_ns, cycle.act_ns]
    found: list[int] = []
    for offset in due:
        if not found or offset + late_ns > found[-1] + late_ns:
            found.append(offset + late_ns)
    return found + [-1] * (POINTS - len(found))


class Sentinel:
    """One sentinel's process. Thread: the supervisor's. Its maker closes it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.page = SentinelPage()
        self._is_realtime = is_realtime(plan.schedule.cycle)
        self._names: dict[tuple[int, int], Thread] = {}
        self.thread = 0
        """number of the cycle thread; 0: it is not watched"""
        self._peers: dict[str, int] = {}
        """numbers of the processes that are watched"""
        keep_rights()
        try:
            self._child: subprocess.Popen[bytes] | None = subprocess.Popen(
                [PROGRAM, str(self.page.fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[self.page.fd],
            )
        except OSError:
            self._child = None  # causes are then not known, which every one of them says

    def watch(self, thread: int, start_ns: int, peers: Mapping[str, int]) -> None:
        """Tell it the cycle thread, its grid, and the processes that this one waits for, by what
        they are."""
        self._peers = dict(list(peers.items())[: LOOKED - 1])
        numbers = list(self._peers.values())
        numbers += [0] * (LOOKED - 1 - len(numbers))
        cycle = self._plan.schedule.cycle
        self.thread = thread
        self.page.begin(
            period_ns=cycle.period_ns,
            origin_ns=start_ns,
            after_ns=points_after_ns(self._plan),
            priority=min(cycle.priority + 1, _PRIORITY_MAX) if self._is_realtime else 0,
            cpu=-1 if cycle.cpu is None else cycle.cpu,
            process=[os.getpid(), *numbers],
            thread=[thread, *numbers],
        )

    def seen(self, rows: Rows, from_ns: int, until_ns: int) -> Evidence:
        """All that was seen of a stretch of time in which the cycle thread was late."""
        head, cycle = self.page.head, self._plan.schedule.cycle
        of_core = _of_core(rows, self.thread, from_ns, until_ns)
        counted = evidence.counted(rows.looks[0], from_ns, until_ns)
        above = cycle.priority < _PRIORITY_MAX and not int(head["priority_errno"])
        return Evidence(
            late_ns=until_ns - from_ns,
            held_ns=evidence.held_ns(rows.wakes, from_ns, until_ns),
            is_sentinel_above=self._is_realtime and above and not int(head["cpu_errno"]),
            is_realtime=self._is_realtime,
            priority=cycle.priority,
            turns=self._turns(of_core, from_ns, until_ns) or None,
            counted=counted,
            unran_ns=_unran_ns(of_core, self.thread, counted),
        )

    def seen_of(self, peer: str, rows: Rows, from_ns: int, until_ns: int) -> PeerEvidence | None:
        """All that was seen of the main thread of another process; None: it is not watched."""
        if peer not in self._peers:
            return None
        process = self._peers[peer]
        of_core = _of_core(rows, process, from_ns, until_ns)
        counted = evidence.counted(rows.looks[1 + list(self._peers).index(peer)], from_ns, until_ns)
        own_ns, threads_ns, idle_ns = 0, 0, 0
        for turns in rows.turns.values():
            for (owner, thread), ns in evidence.thread_ns(turns, from_ns, until_ns).items():
                own_ns += ns if thread == process else 0
                idle_ns += ns if thread == 0 else 0
                threads_ns += ns if owner == process and thread != process else 0
        return PeerEvidence(
            late_ns=until_ns - from_ns,
            own_ns=own_ns if len(of_core) else None,
            threads_ns=threads_ns,
            idle_ns=idle_ns,
            priority=self._who(process, process).priority or 0,
            turns=self._turns(of_core, from_ns, until_ns),
            counted=counted,
            unran_ns=_unran_ns(of_core, process, counted),
        )

    def _turns(self, of_core: NDArray[Any], from_ns: int, until_ns: int) -> tuple[CoreTurn, ...]:
        """Threads that had a core, the longest first."""
        had = evidence.thread_ns(of_core, from_ns, until_ns)
        longest = sorted(had.items(), key=lambda one: -one[1])
        return tuple(CoreTurn(self._who(*key), ns) for key, ns in longest)

    def cost_ns(self) -> tuple[int, int]:
        """Its processor time on the cycle thread's core, and in how much time."""
        head = self.page.head
        looks = int(head["looks"][0])
        since_ns = int(head["since_ns"])
        if not looks or not since_ns:
            return 0, 0
        ended_ns = int(head["look"][0]["ended_ns"][(looks - 1) % head["look"].shape[1]])
        return int(head["used_ns"]), max(0, ended_ns - since_ns)

    def _who(self, process: int, thread: int) -> Thread:
        key = process, thread
        known = self._names.get(key)
        if known is None:
            self._names[key] = known = self._ask(process, thread)
        return known

    def _ask(self, process: int, thread: int) -> Thread:
        if thread == 0:
            return Thread(0, 0, "idle", "idle", None)
        if thread == self.thread:
            return Thread(process, thread, "cycle", "cycle", None)
        name, flags, priority = _of_proc(thread)
        kind: Kind = "kernel" if flags & _KERNEL_THREAD else "other"
        if self._child is not None and process == self._child.pid:
            kind = "sentinel"
        elif _is_child(process, os.getpid()):
            kind = "ours"
        return Thread(process, thread, name, kind, priority)

    def close(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self.page.close()


def _of_core(rows: Rows, thread: int, from_ns: int, until_ns: int) -> NDArray[Any]:
    """The turns of the core that a thread had last."""
    core = evidence.core_of(rows.turns, thread, from_ns, until_ns)
    return rows.turns[core] if core is not None else np.empty(0, TURN)


def _unran_ns(of_core: NDArray[Any], thread: int, counted: CoreCounted | None) -> int | None:
    """How long a thread had its core, by the turns, and did not run, by its own clock."""
    if counted is None or counted.ran_ns is None:
        return None
    had = evidence.thread_ns(of_core, counted.from_ns, counted.until_ns)
    own_ns = sum(ns for (_, other), ns in had.items() if other == thread)
    return max(0, own_ns - counted.ran_ns) if had else None


def _of_proc(thread: int) -> tuple[str, int, int | None]:
    """Name, flags and real-time priority of a thread; without them if it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{thread}/stat").read_text()
        words = text.rpartition(")")[2].split()
        return text.partition("(")[2].rpartition(")")[0], int(words[6]), int(words[37])
    return "", 0, None


def _is_child(process: int, parent: int) -> bool:
    """True for a process and what it has started, a few generations down."""
    for _ in range(_PARENTS):
        if process == parent:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
