"""The skew of four triggered sensors, as the devices' own clocks say it.

Four processes sample when a datagram comes and answer with the time of it, at 100 Hz, over UDP. The
yardstick is one C thread that sends the same four datagrams by hand. A device answers 0.3 ms after
its sample: all of them share a core here, and would delay each other's samples by answering. Beside
it the same sensors running freely, paired by stamps.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import pairing, samplers
from benches.cost import open_core
from benches.distribution import Rounds, show
from benches.machine import Options
from benches.robot import wait_ended
from benches.samplers import Grid, Samplers
from inphase import Runner
from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.plan.plan import Plan

_SENSORS = 4
_GRID = Grid(10_000, 6_000, 8_000, depth=256)
_DELAY_NS = 300_000
_CYCLES = 100
_GOAL = 1.2
_SAMPLED_NS = 1  # channel of a sample: when the device took it
_TRIGGERED_US = (0, 0, 250, 1)
_INJECTED_NS = (0, 1, 123_457, 41)
_PAIRED_SETS = 5000
_DEBIAN = "/usr/lib/python3/dist-packages"


def _schedule_text(ports: list[int], options: Options, device: str = "") -> str:
    tables = [samplers.sensor(f"s{i}", port, device=device) for i, port in enumerate(ports)]
    return samplers.head("skew", _GRID, options) + "".join(tables)


def true_skew(frame: Frame) -> int | None:
    """The spread of the devices' own times; None unless all samples are FRESH."""
    samples = list(frame.samples.values())
    if any(sample.status != "FRESH" for sample in samples):
        return None
    times = [int(sample.value["x"][_SAMPLED_NS]) for sample in samples]
    return max(times) - min(times)


# ---- virtual time ------------------------------------------------------------------------------


def virtual(options: Options) -> dict[str, Any]:
    """What frames report of a skew that is injected."""
    text = samplers.head("skew", _GRID, options)
    for i, (triggered_us, injected_ns) in enumerate(zip(_TRIGGERED_US, _INJECTED_NS, strict=True)):
        device, timing = f"acquire_ns = {injected_ns}", f"trigger_us = {triggered_us}"
        text += samplers.sensor(f"s{i}", i + 1, device=device, timing=timing)
    at_ns = [1000 * us + ns for us, ns in zip(_TRIGGERED_US, _INJECTED_NS, strict=True)]
    injected = max(at_ns) - min(at_ns)
    with LockStep(samplers.plan_of(text).schedule, digest=False) as run:
        reported = {run.step().skew_ns for _ in range(_CYCLES)}
    print(f"virtual time: injected {injected} ns, reported {reported} in {_CYCLES} cycles")
    return {
        "name": "skew in virtual time",
        "injected_ns": injected,
        "reported_ns": sorted(map(int, filter(None, reported))),
        "verdict": "reached" if reported == {injected} else "missed",
    }


# ---- the wall clock ----------------------------------------------------------------------------


def _block(plan: Plan, fds: list[int]) -> tuple[NDArray[np.int64], dict[str, int]]:
    """A block of the core: true skews, and what became of every trigger."""
    skews: list[int] = []
    with open_core(plan, cycles=_CYCLES) as core:
        follower = StoreFollower(core.segment.path)
        for device, fd in enumerate(fds):
            core.attach(device, fd)
        core.start()
        wait_ended(core)
        seen = 0
        try:
            while seen < _CYCLES:
                skew = true_skew(follower.next(timeout_s=0.0))
                seen += 1
                if skew is not None:
                    skews.append(skew)
        except (TimeoutError, store.Lost):
            pass
        said = {"triggers": _SENSORS * _CYCLES, "fresh": 0, "said_missed": 0}
        for row in follower.reader.statuses():
            said["fresh"] += row["FRESH"]
            said["said_missed"] += sum(row.values()) - row["FRESH"]
        follower.close()
    return np.array(skews, np.int64), said


def wall_clock(options: Options) -> dict[str, Any]:
    """The core against one C thread."""
    figure = Rounds("true skew of four sensors at 100 Hz", goal=_GOAL, judged=("p50", "p99"))
    said = {"triggers": 0, "fresh": 0, "said_missed": 0}
    missed = 0
    with Samplers(options, _SENSORS, processes=_SENSORS, delay_ns=_DELAY_NS) as devices:
        plan = samplers.plan_of(_schedule_text(devices.ports, options))

        def bare() -> NDArray[np.int64]:
            nonlocal missed
            skew = samplers.ask_bare(
                devices.fds,
                (options.priority, options.cycle_cpu),
                period_us=_GRID.period_us,
                deadline_us=_GRID.read_deadline_us,
                cycles=_CYCLES,
            ).skew_ns
            missed += int(np.sum(skew < 0))
            return skew[skew >= 0]

        for _ in range(options.rounds):
            first = bare()
            ours, found = _block(plan, devices.fds)
            figure.add(first, ours, bare())
            said = {name: count + found[name] for name, count in said.items()}
    result = figure.result()
    silent = said["triggers"] - said["fresh"] - said["said_missed"]
    result |= said | {"dropped_silently": silent, "yardstick_missed": missed}
    show(result)
    print(
        f"  {said['triggers']} triggers: {said['fresh']} samples FRESH, {said['said_missed']} said "
        f"not to be, {silent} dropped silently; the yardstick missed {missed} cycles"
    )
    return result


def in_processes(options: Options, cycles: int) -> dict[str, Any]:
    """Four Python drivers, each in a process of its own: stated."""
    skews: list[int] = []
    frames = 0
    with (
        Samplers(options, _SENSORS, processes=_SENSORS, delay_ns=_DELAY_NS) as devices,
        tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder,
    ):
        path = Path(folder) / "skew.toml"
        device = f'home = "process"\npriority = {max(options.priority - 5, 0)}'
        path.write_text(_schedule_text(devices.ports, options, device))
        with Runner(schedules.load(path), cycles=cycles) as runner:
            for frame in runner:
                skew = true_skew(frame)
                frames += 1
                if skew is not None:
                    skews.append(skew)
    marks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    quantiles = {q: int(np.quantile(skews, mark, method="higher")) for q, mark in marks.items()}
    shown = ", ".join(f"{q} {ns / 1000:.1f}" for q, ns in quantiles.items())
    print(f"in the process home: {shown} us, {len(skews)} of {frames} frames all FRESH")
    return {
        "name": "true skew of four sensors at 100 Hz, home process",
        "ours_ns": quantiles,
        "frames": frames,
        "all_fresh": len(skews),
    }


# ---- for orientation ---------------------------------------------------------------------------


def paired() -> dict[str, Any]:
    """message_filters on the stamps of free-running sensors."""
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), _DEBIAN)))
    done = subprocess.run(
        [sys.executable, "-m", "benches.pairing", str(_PAIRED_SETS)],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    name = "true skew of four free-running sensors, ApproximateTime"
    if done.returncode:
        print(f"ApproximateTime: not measured: {done.stderr.strip().splitlines()[-1]}")
        return {"name": name, "skipped": "no message_filters"}
    found = json.loads(done.stdout)
    skews = found["skew_ns"]
    p50, p99 = (int(np.quantile(skews, mark)) for mark in (0.5, 0.99))
    dropped = found["samples"] - pairing.SENSORS * len(skews)
    cpu_us = found["cpu_ns"] / len(skews) / 1000
    print(
        f"free-running, message_filters: p50 {p50 / 1e6:.2f} ms, p99 {p99 / 1e6:.2f} ms, "
        f"{cpu_us:.0f} us of CPU per set; {dropped} of {found['samples']} samples dropped silently"
    )
    return {
        "name": name,
        "ours_ns": {"p50": p50, "p99": p99},
        "cpu_us": cpu_us,
        "samples": found["samples"],
        "dropped_silently": dropped,
    }


def run(options: Options) -> list[dict[str, Any]]:
    """All of it."""
    cycles = options.many(500 if options.quick else 3000, 50)
    results = [virtual(options), wall_clock(options), in_processes(options, cycles)]
    return results if options.smoke else [*results, paired()]
