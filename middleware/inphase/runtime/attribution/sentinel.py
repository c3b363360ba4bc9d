"""The sentinel's process, as the supervisor sees it: its start, its rights, what it saw.

The process is C (native/src/sentinel.c). It is started before the cycle thread, and told the grid
once there is one.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from inphase import _core
from inphase.core.realtime import is_realtime
from inphase.host.process import keep_rights
from inphase.plan.plan import Plan
from inphase.runtime.attribution import evidence
from inphase.runtime.attribution.evidence import CoreTurn, Evidence, Kind, Thread
from inphase.runtime.attribution.page import POINTS, Rows, SentinelPage

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

    def watch(self, thread: int, start_ns: int) -> None:
        """Tell it the cycle thread and its grid."""
        cycle = self._plan.schedule.cycle
        self.thread = thread
        self.page.begin(
            period_ns=cycle.period_ns,
            origin_ns=start_ns,
            after_ns=points_after_ns(self._plan),
            priority=min(cycle.priority + 1, _PRIORITY_MAX) if self._is_realtime else 0,
            cpu=-1 if cycle.cpu is None else cycle.cpu,
            process=os.getpid(),
            thread=thread,
        )

    def seen(self, rows: Rows, from_ns: int, until_ns: int, late_ns: int) -> Evidence:
        """All that was seen of a stretch of time in which the cycle thread was late by so much."""
        head, cycle = self.page.head, self._plan.schedule.cycle
        counted = evidence.counted(rows.looks, from_ns, until_ns)
        core = evidence.core_of(rows.turns, self.thread, from_ns, until_ns)
        of_core = rows.turns[rows.turns["cpu"] == core]
        had = evidence.thread_ns(of_core, from_ns, until_ns)
        turns = tuple(
            CoreTurn(self._who(*key), ns)
            for key, ns in sorted(had.items(), key=lambda one: -one[1])
        )
        unran_ns = None
        if counted is not None and counted.ran_ns is not None:
            own = evidence.thread_ns(of_core, counted.from_ns, counted.until_ns)
            own_ns = sum(ns for (_, thread), ns in own.items() if thread == self.thread)
            unran_ns = max(0, own_ns - counted.ran_ns) if own else None
        above = cycle.priority < _PRIORITY_MAX and not int(head["priority_errno"])
        return Evidence(
            late_ns=late_ns,
            held_ns=evidence.held_ns(rows.wakes, from_ns, until_ns),
            is_sentinel_above=self._is_realtime and above and not int(head["cpu_errno"]),
            is_realtime=self._is_realtime,
            priority=cycle.priority,
            turns=turns or None,
            counted=counted,
            unran_ns=unran_ns,
        )

    def cost_ns(self) -> tuple[int, int]:
        """Its processor time on the cycle thread's core, and in how much time."""
        head = self.page.head
        looks = int(head["looks"])
        since_ns = int(head["since_ns"])
        if not looks or not since_ns:
            return 0, 0
        ended_ns = int(head["look"]["ended_ns"][(looks - 1) % len(head["look"])])
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
