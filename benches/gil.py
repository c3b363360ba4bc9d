"""Cycles without a command while others hold their GILs, against a bare C program.

The real core and the real policy process, with a policy of one line in Python, at 500 Hz. A thread
of the core's own process holds that process's GIL for 20 ms at a time, and another Python process
its own. The yardstick is a thread of C that wakes a loop of C in another process, at the same
priorities and cores, under the same load.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benches import policy_process, robot
from benches.latch import Reader, Writer
from benches.machine import Options
from benches.policy import contents_of, schedule_file
from benches.wake import gil_held
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.host.process import thread_environment
from inphase.plan.plan import Plan

_PAIRS = 10
_CYCLES = 5000
_PERIOD_US, _ACT_US = 2000, 1600
_PRIORITY = 60  # of the policy and of the loop in C
_T_9 = 2.262  # Student's t for 95 % of ten
_GOAL = 0.001  # of all cycles

_OTHER = "import ctypes\nwhile True: ctypes.PyDLL(None).usleep(20_000); sum(range(100_000))"


@contextmanager
def held() -> Iterator[None]:
    """A thread here and another process hold their GILs."""
    other = subprocess.Popen([sys.executable, "-S", "-c", _OTHER])
    try:
        with gil_held():
            yield
    finally:
        other.kill()
        other.wait()


def _ours(plan: Plan, fds: list[int], options: Options, schedule: Path, cycles: int) -> float:
    """The share of cycles in which the policy owed a command and had posted none."""
    core = robot.open_core(plan, cycles=cycles)
    mailbox, bell = core.mailbox()
    with core:
        ends = [mailbox.fd, bell.fd]
        policy = policy_process.start(schedule, core.segment.path, ends, thread_environment(1))
        follower = StoreFollower(core.segment.path)
        for device, fd in enumerate(fds):
            core.attach(device, fd)
        with held():
            core.start()
            robot.wait_ended(core)
        missed = follower.reader.counts()["missed"]
        follower.close()
        policy.stop()
    mailbox.close()
    bell.close()
    return missed / cycles


def _bare(writer: Writer, loop: Reader, cycles: int) -> float:
    """The same of the bare program."""
    loop.ask("work", int(writer.bare.word) + cycles)
    with held():
        late = writer.bare_block(_PERIOD_US, cycles, _ACT_US)
    loop.answer()
    return float(np.mean(late < 0))


def run(options: Options) -> list[dict[str, Any]]:
    """Ten runs of each, in turns."""
    pairs, cycles = (4, 1000) if options.quick else (_PAIRS, _CYCLES)
    pairs, cycles = options.many(pairs, 2), options.many(cycles, 100)
    plan = robot.plan_of(robot.demo(options.priority, options.cycle_cpu, policy=True))
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        schedule = schedule_file(folder)
        rights = f"priority = {_PRIORITY if options.realtime else 0}\ncpu = {options.other_cpu}"
        text, count = re.subn(r"(?m)^priority = \d+", rights, schedule.read_text())
        assert count == 1, "the demo's policy has a priority, and nothing else has one"
        schedule.write_text(text)
        writer = Writer(options, contents_of(plan, store.new_epoch()))
        where = (options.other_cpu, _PRIORITY if options.realtime else 0)
        loop = Reader(schedule, writer.mapping, *where, "none", module="benches.answerer")
        with robot.socket_pairs(options.priority, options.other_cpu) as fds:
            for _ in range(pairs):
                bare.append(_bare(writer, loop, cycles))
                ours.append(_ours(plan, fds, options, schedule, cycles))
        loop.close()
        writer.close()
    return [_result(np.array(ours), np.array(bare), cycles)]


def _result(ours: Any, bare: Any, cycles: int) -> dict[str, Any]:
    difference = ours - bare
    half = _T_9 * float(np.std(difference, ddof=1)) / len(difference) ** 0.5
    low, high = float(np.mean(difference)) - half, float(np.mean(difference)) + half
    reached = low <= 0.0 or float(np.mean(difference)) < _GOAL
    print(f"\ncycles without a command, GILs held: {len(ours)} runs of {cycles} cycles each")
    for name, shares in (("ours", ours), ("yardstick", bare)):
        shown = " ".join(f"{100 * share:.3f}" for share in sorted(shares))
        print(f"  {name:<10} {100 * float(np.mean(shares)):.3f} %  ({shown})")
    print(f"  difference {100 * float(np.mean(difference)):.3f} %, 95 %: {100 * low:.3f}..", end="")
    print(f"{100 * high:.3f}; goal 0 in it, or below 0.1: {'reached' if reached else 'missed'}")
    return {
        "name": "cycles without a command, GILs held",
        "runs": len(ours),
        "cycles": cycles,
        "ours": ours.tolist(),
        "yardstick": bare.tolist(),
        "difference": float(np.mean(difference)),
        "difference_95": [low, high],
        "verdict": "reached" if reached else "missed",
    }
