"""System calls, allocations and page faults of the cycle thread, counted.

System calls are counted with strace at 50 Hz, where its own delay does not matter; allocations by a
preloaded malloc, page faults from /proc, both over cycles of 200 us without strace.
"""

import collections
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benches import robot
from benches.machine import Options
from benches.native import preload

_TRACED_CYCLES = 200
_TRACE_PERIOD_US = 20_000
_PERIOD_US = 200
_CYCLES = 100_000
_EXCHANGES, _COMMANDS = 2, 1
_GOAL = 4 + 2 * _EXCHANGES + _COMMANDS

WHY = {
    "clock_nanosleep": "to the due time, and to the act offset",
    "write": "one per trigger, one per command",
    "read": "one per reply",
    "ppoll": "one for all replies; one more while some are missing",
    "futex": "one wake for all who follow the store",
}


def _trace(options: Options) -> list[list[str]]:
    """The system calls of each cycle, which ends with the first sleep (to the next due time)."""
    schedule = robot.demo(
        options.priority, options.cycle_cpu, period_us=_TRACE_PERIOD_US, policy=True
    )
    with (
        robot.running(schedule, options.priority, options.other_cpu) as follower,
        tempfile.NamedTemporaryFile("r") as log,
    ):
        follower.next(timeout_s=5.0)
        tid = follower.reader.status()["thread_id"]
        tracer = subprocess.Popen(["strace", "-q", "-p", str(tid), "-o", log.name])
        time.sleep(options.many(_TRACED_CYCLES, 20) * _TRACE_PERIOD_US * 1e-6)
        tracer.terminate()
        tracer.wait()
        calls = [m.group(1) for m in re.finditer(r"^(\w+)\(", log.read(), re.MULTILINE)]
    return _cycles(calls)


def _cycles(calls: list[str]) -> list[list[str]]:
    """Split at the wake: the sleep to the act offset is the call after it."""
    cycles: list[list[str]] = []
    present: list[str] = []
    for before, call in zip(["", *calls], calls, strict=False):
        if call == "clock_nanosleep" and before != "futex":
            cycles.append(present)
            present = []
        present.append(call)
    return cycles[2:]  # the tracer came in the middle of the first


def count_calls(options: Options) -> dict[str, Any]:
    """The table of system calls per cycle."""
    if shutil.which("strace") is None:
        print("system calls: not counted, strace is not installed")
        return {"name": "system calls per cycle", "skipped": "no strace"}
    cycles = _trace(options)
    sums = collections.Counter(call for cycle in cycles for call in cycle)
    sizes = collections.Counter(len(cycle) for cycle in cycles)
    print(f"system calls per cycle, {len(cycles)} cycles of the demo robot over socket pairs")
    for name, count in sums.most_common():
        print(f"  {name:<18}{count / len(cycles):>8.2f}  {WHY.get(name, 'not expected')}")
    mean = sum(sums.values()) / len(cycles)
    print(f"  {'all':<18}{mean:>8.2f}  cycles by number of calls: {dict(sorted(sizes.items()))}")
    print(f"  goal: at most {_GOAL}, and one more while replies are missing")
    order = " ".join(collections.Counter(map(" ".join, cycles)).most_common(1)[0][0].split())
    print(f"  most often: {order}")
    return {
        "name": "system calls per cycle",
        "cycles": len(cycles),
        "calls": {name: count / len(cycles) for name, count in sums.items()},
        "mean": mean,
        "largest": max(sizes),
        "goal": _GOAL,
    }


# ---- allocations and page faults, in a process of their own ------------------------------------


def _faults(tid: int) -> tuple[int, int]:
    """Minor and major page faults of a thread of this process."""
    fields = Path(f"/proc/self/task/{tid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[7]), int(fields[9])


def child(options: Options) -> None:
    """Run the cycles and print what was counted from the hundredth on."""
    schedule = robot.demo(options.priority, options.cycle_cpu, period_us=_PERIOD_US, policy=True)
    counter = ctypes.CDLL(None)
    with robot.running(schedule, options.priority, options.other_cpu) as follower:
        for _ in range(100):
            follower.next(timeout_s=5.0)
        status = follower.reader.status()
        tid = status["thread_id"]
        before = _faults(tid)
        counter.allocations_watch(tid)
        first = status["cycles"]
        while follower.reader.status()["cycles"] < first + options.many(_CYCLES, 1000):
            time.sleep(0.05)
        cycles = follower.reader.status()["cycles"] - first
        allocations = counter.allocations_watch(0)
        after = _faults(tid)
        fresh = [s["FRESH"] / max(sum(s.values()), 1) for s in follower.reader.statuses()]
    print(cycles, allocations, after[0] - before[0], after[1] - before[1], *fresh)


def count_memory(options: Options) -> dict[str, Any]:
    """Allocations and page faults in 100 000 cycles."""
    said = ["--no-realtime"] * (not options.realtime) + ["--smoke"] * options.smoke
    done = subprocess.run(
        [sys.executable, "-m", "benches.syscalls", *said],
        env={**os.environ, "LD_PRELOAD": str(preload())},
        check=True,
        capture_output=True,
        text=True,
    )
    cycles, allocations, minor, major, *fresh = done.stdout.split()
    result = {
        "name": "allocations and page faults of the cycle thread",
        "cycles": int(cycles),
        "allocations": int(allocations),
        "minor_faults": int(minor),
        "major_faults": int(major),
        "fresh": [float(share) for share in fresh],
        "goal": 0,
    }
    print(
        f"{cycles} cycles of {_PERIOD_US} us: {allocations} allocations, {minor} minor and {major} "
        f"major page faults (goal: 0); FRESH {', '.join(f'{float(f):.1%}' for f in fresh)}"
    )
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """Both."""
    return [count_calls(options), count_memory(options)]


if __name__ == "__main__":
    asked = Options(1, "--no-realtime" not in sys.argv, False, False, "--smoke" in sys.argv)
    child(asked)
