"""Instructions of the cycle thread in user space between system calls, by single steps.

Exact, and the same on every run; needs no hardware counter, which virtual machines often lack. The
thread belongs to a child process, whose cycles are long enough to be stepped through.
"""

import collections
import os
import subprocess
import sys
from typing import Any

import numpy as np
from msgspec.structs import replace

from benches import robot
from benches.machine import Options
from benches.native import ffi, lib
from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep

_PERIOD_US = 300_000
_PIECES = 80
_LOCKSTEP_CYCLES = 10

_NAMES = {"x86_64": {0: "read", 1: "write", 202: "futex", 230: "clock_nanosleep", 271: "ppoll"}}
_NAMES["aarch64"] = {63: "read", 64: "write", 98: "futex", 115: "clock_nanosleep", 73: "ppoll"}
_GETPPID = {"x86_64": 110, "aarch64": 173}


def steps(tid: int, pieces: int) -> list[tuple[str, str, int]]:
    """Pieces of what a thread runs: system call before, system call after, instructions."""
    known = _NAMES[os.uname().machine]
    out = ffi.new("struct bench_piece[]", pieces)
    done = lib.bench_steps(tid, out, pieces, ffi.new("struct bench_watched *", [0, 0, -1]))
    if done < 0:
        raise OSError(-done, os.strerror(-done), "ptrace")

    def name(call: int) -> str:
        return known.get(call, str(call))

    return [(name(p.call_from), name(p.call_to), p.instructions) for p in out[0:done]]


def child_cycles(options: Options) -> None:
    """A core on slow cycles; prints its thread."""
    schedule = robot.demo(options.priority, options.cycle_cpu, period_us=_PERIOD_US, policy=True)
    with robot.running(schedule, 0, options.other_cpu) as follower:
        for _ in range(2):
            follower.next(timeout_s=10.0)
        print(follower.reader.status()["thread_id"], flush=True)
        sys.stdin.readline()


def child_lockstep(options: Options) -> None:
    """Lock step between two system calls that mark it; first an empty run, then cycles."""
    read = schedules.load(robot.SCHEDULES / "demo.toml")
    with LockStep(replace(read, policy=None), digest=False) as run:
        run.run(1000)
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        while True:
            for cycles in (0, _LOCKSTEP_CYCLES):
                os.getppid()
                run.core.run(cycles)
                os.getppid()


def _child(which: str, options: Options) -> subprocess.Popen[str]:
    realtime = "" if options.realtime else "--no-realtime"
    return subprocess.Popen(
        [sys.executable, "-m", "benches.instructions", which, realtime],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def count_cycle(options: Options) -> dict[str, Any]:
    """Per piece of a cycle."""
    process = _child("cycles", options)
    assert process.stdout is not None
    pieces = steps(int(process.stdout.readline()), _PIECES)
    process.kill()
    process.wait()

    # from the sleep to the due time on: the sleep to the act offset follows the futex
    places: dict[str, list[int]] = collections.defaultdict(list)
    place = -1
    for (before, call, count), (earlier, _, _) in zip(pieces[1:], pieces, strict=False):
        if before == "clock_nanosleep" and earlier != "futex":
            place = 0
        elif place >= 0:
            place += 1
        if place >= 0:
            places[f"{place} {before} -> {call}"].append(count)
    medians = {name: int(np.median(counts)) for name, counts in places.items()}
    print("instructions in user space between system calls, one cycle (median, cycles)")
    for name, count in medians.items():
        print(f"  {name:<36}{count:>8}  {len(places[name]):>4}")
    first = next(n for name, n in medians.items() if name.startswith("0 "))
    act = [n for name, n in medians.items() if name.endswith("clock_nanosleep -> write")][-1]
    print(f"  wake to first trigger: {first}; act offset to write: {act}")
    return {
        "name": "instructions of a cycle",
        "wake_to_trigger": first,
        "act_to_write": act,
        "pieces": medians,
    }


def count_lockstep(options: Options) -> dict[str, Any]:
    """Per lock-step cycle, without a policy."""
    marker = str(_GETPPID[os.uname().machine])
    process = _child("lockstep", options)
    assert process.stdin is not None
    assert process.stdout is not None
    tid = int(process.stdout.readline())
    process.stdin.write("\n")
    process.stdin.flush()
    pieces = steps(tid, 8)
    process.kill()
    process.wait()
    counts = sorted(count for before, call, count in pieces if before == call == marker)
    per_cycle = (counts[-1] - counts[0]) / _LOCKSTEP_CYCLES
    print(f"instructions per lock-step cycle, no policy: {per_cycle:,.0f}")
    return {"name": "instructions per lock-step cycle", "no_policy": per_cycle}


def run(options: Options) -> list[dict[str, Any]]:
    """Both."""
    return [count_cycle(options), count_lockstep(options)]


if __name__ == "__main__":
    asked = Options(1, "--no-realtime" not in sys.argv, False, False)
    (child_cycles if sys.argv[1] == "cycles" else child_lockstep)(asked)
