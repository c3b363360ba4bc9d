"""Wake, trigger and act lateness of the cycle thread against the bare algorithm of cyclictest.

Both run at the same priority on the same core, on the demo's grid. The yardstick sleeps to the same
two absolute times and looks at the clock. Ours are the frames' own stamps; act lateness is taken
from the store's histogram (exact to 1 %), before the command is written.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import robot
from benches.distribution import Rounds, show
from benches.machine import Options, hogs
from benches.native import extension, ffi, lib
from inphase.frame import Frame
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names
from inphase.plan.plan import Plan

CYCLES = 200
_HIST_ACT = 2
_HOLD_NS = 5_000_000


@contextmanager
def gil_held() -> Iterator[None]:
    """A thread of this process that holds the GIL for 5 ms at a time, busy."""
    busy = ctypes.PyDLL(str(extension())).bench_busy
    busy.argtypes = [ctypes.c_int64]
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            busy(_HOLD_NS)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def yardstick(plan: Plan, options: Options) -> dict[str, NDArray[np.int64]]:
    """A block of the bare algorithm."""
    cycle = plan.schedule.cycle
    wake = np.zeros(CYCLES, np.int64)
    act = np.zeros(CYCLES, np.int64)
    grid = ffi.new(
        "struct bench_grid *",
        [cycle.period_ns, cycle.act_ns, CYCLES, options.priority, options.cycle_cpu],
    )
    done = lib.bench_cyclic(
        grid,
        ffi.cast("int64_t *", ffi.from_buffer(wake)),
        ffi.cast("int64_t *", ffi.from_buffer(act)),
    )
    assert done == CYCLES, done
    return {"wake": wake, "trigger": wake, "act": act}


def ours(plan: Plan, fds: list[int], options: Options) -> dict[str, NDArray[np.int64]]:
    """A block of a fresh core."""
    core = robot.open_core(plan, cycles=CYCLES)
    with core:
        follower = StoreFollower(core.segment.path)
        for device, fd in enumerate(fds):
            core.attach(device, fd)
        core.start()
        robot.wait_ended(core)
        granted = follower.reader.realtime()["granted"]
        assert granted or not options.realtime, follower.reader.realtime()
        frames: list[Frame] = []
        try:
            while len(frames) < CYCLES:
                frames.append(follower.next(timeout_s=0.0))
        except (TimeoutError, store.Lost):
            pass
        count, top = buckets(core.segment.path, _HIST_ACT)
        fresh = [sum(s.status == "FRESH" for s in frame.samples.values()) for frame in frames]
        follower.close()
    wake = np.array([frame.woke_ns - frame.due_ns for frame in frames])
    trigger = np.array(
        [f.triggered_ns - f.due_ns for f in frames if f.triggered_ns is not None], np.int64
    )
    return {
        "wake": wake,
        "trigger": trigger,
        "act": np.repeat(top, count),
        "fresh": np.array(fresh),
    }


def buckets(path: str, histogram: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each bucket of a store's histogram was hit, and the largest value of each."""
    count = np.zeros(lib.BENCH_BUCKETS, np.uint64)
    top = np.zeros(lib.BENCH_BUCKETS, np.int64)
    fds = store_names.descriptors(path)
    rc = lib.bench_buckets(
        fds[0],
        histogram,
        ffi.cast("uint64_t *", ffi.from_buffer(count)),
        ffi.cast("int64_t *", ffi.from_buffer(top)),
    )
    for fd in fds:
        os.close(fd)
    assert rc == 0, rc
    return count.astype(np.int64), top


def _measure(
    name: str, plan: Plan, fds: list[int], options: Options, rounds: int
) -> list[dict[str, Any]]:
    what = {
        kind: Rounds(f"{kind}, {name}", goal=1.0, judged=("p50", "p99"))
        for kind in ("wake", "trigger", "act")
    }
    fresh = []
    for _ in range(rounds):
        first = yardstick(plan, options)
        block = ours(plan, fds, options)
        second = yardstick(plan, options)
        fresh.append(block["fresh"])
        for kind, figure in what.items():
            figure.add(first[kind], block[kind], second[kind])
    results = [figure.result() for figure in what.values()]
    both = np.concatenate(fresh)
    for result in results:
        result["cycles_with_both_fresh"] = float(np.mean(both == 2))
        show(result)
    print(f"  cycles with both samples FRESH: {np.mean(both == 2):.1%}")
    return results


def run(options: Options) -> list[dict[str, Any]]:
    """All loads over socket pairs; idle and hogs over a pty."""
    schedule = robot.demo(options.priority, options.cycle_cpu)
    results = []
    loads: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "idle": nullcontext,
        "GIL held": gil_held,
        "a hog on every core": hogs,
    }
    with robot.socket_pairs(options.priority, options.other_cpu) as fds:
        plan = robot.plan_of(schedule)
        for load, context in loads.items():
            with context():
                results += _measure(f"{load}, socket pairs", plan, fds, options, options.rounds)
    with robot.emulated(schedule) as (plan, fds):
        for load in ("idle", "a hog on every core"):
            with loads[load]():
                name = f"{load}, pty and emulator"
                results += _measure(
                    name, plan, fds, options, options.many(max(options.rounds // 4, 5), 1)
                )
    return results
