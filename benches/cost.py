"""What a cycle costs its thread: CPU time, instructions and system calls, for 1 to 64 sensors.

The sensors are exchanges of 64 bytes over socket pairs, all answered by one process, together,
100 us after the last of them was asked. The yardstick is a bare C loop that does exactly one write
and one read per device, one wait for the last reply and one sleep per cycle.
"""

import collections
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benches import samplers
from benches.distribution import Rounds, show
from benches.instructions import steps
from benches.machine import Options
from benches.samplers import Grid, Samplers
from inphase.core.core import Core
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.plan.plan import Plan

SIZES = (1, 2, 4, 8, 16, 32, 64)
_JUDGED = 16
_GOAL = 1.2
_CYCLES = 250
_GRID = Grid(4000, 2600, 3400)
_TRACED = Grid(40_000, 26_000, 34_000)
_TRACED_CYCLES = 100
_STEPPED = Grid(1_000_000, 650_000, 850_000)
_STEPPED_CYCLES = 5
_DELAY_NS = 100_000


def plan_of(count: int, grid: Grid, options: Options) -> Plan:
    """So many sensors, all triggered at the cycle's start."""
    tables = [samplers.sensor(f"s{i:02}", i + 1) for i in range(count)]
    return samplers.plan_of(samplers.head("bench", grid, options) + "".join(tables))


def open_core(plan: Plan, cycles: int = 0) -> Core:
    """A core on that plan; nothing attached."""
    epoch = store.new_epoch()
    return Core(plan, epoch=epoch, description=plan.description(epoch), cycles=cycles)


def _started(core: Core, fds: list[int]) -> StoreFollower:
    """Devices attached, two frames seen."""
    follower = StoreFollower(core.segment.path)
    for device, fd in enumerate(fds):
        core.attach(device, fd)
    core.start()
    for _ in range(2):
        follower.next(timeout_s=10.0)
    return follower


def _thread_cpu_ns(tid: int) -> int:
    """CPU time of a thread of this process."""
    return time.clock_gettime_ns((~tid << 3) | 6)  # as Linux makes the number of such a clock


def _ours(plan: Plan, fds: list[int]) -> tuple[float, float]:
    """A block of the core: CPU time per cycle, and the share of samples that were FRESH."""
    with open_core(plan) as core:
        follower = _started(core, fds)
        reader = follower.reader
        tid = reader.status()["thread_id"]
        first, cpu_ns = reader.status()["cycles"], _thread_cpu_ns(tid)
        time.sleep(_CYCLES * _GRID.period_us * 1e-6)
        cycles, cpu_ns = reader.status()["cycles"] - first, _thread_cpu_ns(tid) - cpu_ns
        fresh = [row["FRESH"] / max(sum(row.values()), 1) for row in reader.statuses()]
        follower.close()
    return cpu_ns / cycles, float(np.mean(fresh))


def measure_cpu(count: int, options: Options, rounds: int) -> dict[str, Any]:
    """CPU time per cycle: a number per block."""
    judged = count == _JUDGED
    figure = Rounds(f"CPU time of a cycle, {count} sensors", goal=_GOAL if judged else None)
    fresh, missed, waits = [], [], []
    plan = plan_of(count, _GRID, options)
    with Samplers(options, count, delay_ns=_DELAY_NS, pairs=True) as devices:

        def bare() -> np.ndarray[Any, np.dtype[np.int64]]:
            asked = samplers.ask_bare(
                devices.fds,
                (options.priority, options.cycle_cpu),
                period_us=_GRID.period_us,
                deadline_us=_GRID.read_deadline_us,
                cycles=_CYCLES,
            )
            missed.append(float(np.mean(asked.skew_ns < 0)))
            waits.append(asked.waits)
            return np.array([asked.cpu_ns], np.int64)

        for _ in range(rounds):
            first = bare()
            cpu_ns, share = _ours(plan, devices.fds)
            figure.add(first, np.array([cpu_ns], np.int64), bare())
            fresh.append(share)
    result = figure.result()
    result["sensors"] = count
    result["fresh"] = float(np.mean(fresh))
    result["yardstick_missed"] = float(np.mean(missed))
    result["yardstick_waits"] = float(np.mean(waits))
    show(result)
    print(
        f"  FRESH {np.mean(fresh):.1%}, the yardstick missed {np.mean(missed):.1%} of its cycles, "
        f"and waited {np.mean(waits):.2f} times in each"
    )
    return result


# ---- system calls ------------------------------------------------------------------------------


def count_calls(count: int, options: Options) -> dict[str, Any]:
    """System calls per cycle, by strace, on slow cycles."""
    plan = plan_of(count, _TRACED, options)
    with (
        Samplers(options, count, delay_ns=_DELAY_NS, pairs=True) as devices,
        open_core(plan) as core,
        tempfile.NamedTemporaryFile("r") as log,
    ):
        follower = _started(core, devices.fds)
        tid = follower.reader.status()["thread_id"]
        tracer = subprocess.Popen(["strace", "-q", "-p", str(tid), "-o", log.name])
        time.sleep(_TRACED_CYCLES * _TRACED.period_us * 1e-6)
        tracer.terminate()
        tracer.wait()
        follower.close()
        calls = re.findall(r"^(\w+)\(", log.read(), re.MULTILINE)
    cycles = calls.count("futex")
    sums = {name: n / cycles for name, n in collections.Counter(calls).items()}
    mean, waits = len(calls) / cycles, sums["ppoll"]
    listed = ", ".join(f"{name} {n:.2f}" for name, n in sorted(sums.items()))
    print(f"{count:>4} sensors: {mean:.2f} system calls, {waits:.2f} of them waits: {listed}")
    return {
        "name": f"system calls of a cycle, {count} sensors",
        "sensors": count,
        "cycles": cycles,
        "calls": sums,
        "mean": mean,
        "goal": 4 + 2 * count + waits - 1,
        "yardstick": 2 + 2 * count,
    }


# ---- instructions ------------------------------------------------------------------------------


def child_ours(count: int, options: Options) -> None:
    """A core on slow cycles; prints its thread."""
    plan = plan_of(count, _STEPPED, options)
    with (
        Samplers(options, count, delay_ns=_DELAY_NS, pairs=True) as devices,
        open_core(plan) as core,
    ):
        follower = _started(core, devices.fds)
        print(follower.reader.status()["thread_id"], flush=True)
        sys.stdin.readline()
        follower.close()


def child_bare(count: int, options: Options) -> None:
    """The bare loop on the same cycles."""
    here = {entry.name for entry in Path("/proc/self/task").iterdir()}
    with Samplers(options, count, delay_ns=_DELAY_NS, pairs=True) as devices:
        asked = {"period_us": _STEPPED.period_us, "deadline_us": _STEPPED.read_deadline_us}
        rights = (options.priority, options.cycle_cpu)
        thread = threading.Thread(
            target=samplers.ask_bare, args=(devices.fds, rights), kwargs={**asked, "cycles": 100}
        )
        thread.start()
        while True:
            more = {entry.name for entry in Path("/proc/self/task").iterdir()} - here
            more.discard(str(thread.native_id))
            if more:
                break
        print(min(more), flush=True)
        sys.stdin.readline()


def _count_one(which: str, count: int, options: Options) -> float:
    realtime = "" if options.realtime else "--no-realtime"
    process = subprocess.Popen(
        [sys.executable, "-m", "benches.cost", which, str(count), realtime],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pieces = steps(int(process.stdout.readline()), (2 * count + 5) * _STEPPED_CYCLES)
    process.stdout.close()
    process.terminate()
    process.wait()

    # whole cycles: from the first write behind a sleep to the next
    cycles: list[int] = []
    begun = False
    for before, call, instructions in pieces:
        if before == "clock_nanosleep" and call == "write":
            cycles.append(0)
            begun = True
        if begun:
            cycles[-1] += instructions
    return float(np.median(cycles[1:-1]))


def count_instructions(count: int, options: Options) -> dict[str, Any]:
    """Instructions in user space, by single steps."""
    ours, bare = (_count_one(which, count, options) for which in ("ours", "bare"))
    print(f"{count:>4} sensors: {ours:,.0f} instructions in user space, the bare loop {bare:,.0f}")
    return {
        "name": f"instructions of a cycle in user space, {count} sensors",
        "sensors": count,
        "ours": ours,
        "yardstick": bare,
    }


def _fit(what: str, unit: str, points: dict[int, float]) -> dict[str, Any]:
    """A straight line through the figures of all sizes, and how far off it they are."""
    sizes, values = np.array(list(points)), np.array(list(points.values()))
    # relative errors: the small sizes say as much as the large ones
    slope, start = np.polyfit(sizes, values, 1, w=1 / values)
    off = np.abs(values / (start + slope * sizes) - 1)
    print(f"{what}: {start:,.1f} + {slope:,.2f} per sensor {unit}, at most {off.max():.1%} off it")
    return {"name": f"fit of {what}", "start": start, "slope": slope, "off": float(off.max())}


def run(options: Options) -> list[dict[str, Any]]:
    """All sizes."""
    results = []
    sizes = (1, 4, _JUDGED, 64) if options.quick else SIZES
    sizes = (1, _JUDGED) if options.smoke else sizes
    ours, bare = {}, {}
    for count in sizes:
        rounds = options.rounds if count == _JUDGED else max(options.rounds // 3, 3)
        rounds = options.many(rounds, 1)
        result = measure_cpu(count, options, rounds)
        ours[count] = result["ours_ns"]["p50"] / 1000
        bare[count] = result["yardstick_ns"]["p50"] / 1000
        results.append(result)
    results.append(_fit("CPU time", "us", ours))
    results.append(_fit("CPU time of the bare loop", "us", bare))
    counted = [
        count_instructions(count, options) for count in (1, 4, _JUDGED)[: options.many(3, 2)]
    ]
    results += counted
    results.append(_fit("instructions", "", {c["sensors"]: c["ours"] for c in counted}))
    if shutil.which("strace") is None:
        print("system calls: not counted, strace is not installed")
        return results
    calls = [count_calls(count, options) for count in sizes]
    results += calls
    results.append(_fit("system calls", "", {c["sensors"]: c["mean"] for c in calls}))
    return results


if __name__ == "__main__":
    asked = Options(1, "--no-realtime" not in sys.argv, False, False)
    (child_ours if sys.argv[1] == "ours" else child_bare)(int(sys.argv[2]), asked)
