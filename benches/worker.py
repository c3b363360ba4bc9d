"""A Python driver in the process home at 1 kHz, while another worker never gives up its own GIL.

What counts is whether the sample is in hand by the read deadline: FRESH, for ours. The yardstick
does the same input and output on a thread without Python: sleep to the trigger, ask, wait, read.
The busy worker and a core that follows it run beside both. Runs alternate; what is stated is the
difference of the two shares and its 95 % interval over the pairs of runs.
"""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benches import samplers
from benches.machine import Options
from benches.samplers import Grid, Samplers
from inphase import Runner
from inphase import schedule as schedules
from inphase.frames.store_follower import StoreFollower

_GRID = Grid(1000, 600, 800)
_RUNS = 10
_GOAL = 0.001
_STUDENT_95 = {2: 12.706, 5: 2.776, 10: 2.262, 20: 2.093}  # two-sided, by number of pairs
_SETTLE_S = 0.5
_BUSY = """
[device.busy]
driver = "benches.sampler:Busy"
home = "process"
[sensor.busy]
device = "busy"
max_age_ms = 10000
"""


def _schedule(folder: str, options: Options, port: int | None) -> schedules.Schedule:
    text = samplers.head("worker", _GRID, options) + _BUSY
    if port is not None:
        device = f'home = "process"\npriority = {max(options.priority - 5, 0)}'
        if options.realtime:
            device += f"\ncpu = {options.other_cpu}"
        text += samplers.sensor("fast", port, device=device)
    path = Path(folder) / "worker.toml"
    path.write_text(text)
    return schedules.load(path)


def _ours(schedule: schedules.Schedule, cycles: int) -> float:
    """The share of cycles in which the sample was FRESH, once the run has settled."""
    with Runner(schedule) as runner:
        follower = StoreFollower(runner.store_path)
        time.sleep(_SETTLE_S)
        before = follower.reader.statuses()[1]
        time.sleep(cycles * _GRID.period_us * 1e-6)
        after = follower.reader.statuses()[1]
        follower.close()
    counts = {name: after[name] - before[name] for name in after}
    return counts["FRESH"] / sum(counts.values())


def _bare(schedule: schedules.Schedule, fds: list[int], cycles: int, options: Options) -> float:
    """The same of a bare thread, on the core and at the priority of our worker."""
    rights = (max(options.priority - 5, 0), options.other_cpu if options.realtime else -1)
    with Runner(schedule):
        time.sleep(_SETTLE_S)
        asked = samplers.ask_bare(
            fds,
            rights,
            period_us=_GRID.period_us,
            deadline_us=_GRID.read_deadline_us,
            cycles=cycles,
        )
    return float(np.mean(asked.skew_ns >= 0))


def run(options: Options) -> list[dict[str, Any]]:
    """Ten pairs of runs."""
    runs, cycles = (5, 2000) if options.quick else (_RUNS, 5000)
    runs, cycles = options.many(runs, 2), options.many(cycles, 200)
    ours: list[float] = []
    bare: list[float] = []
    with (
        Samplers(options, 1) as devices,
        tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder,
    ):
        for _ in range(runs):
            alone = _schedule(folder, options, None)
            bare.append(_bare(alone, devices.fds, cycles, options))
            both = _schedule(folder, options, devices.ports[0])
            ours.append(_ours(both, cycles))
            print(
                f"  in hand by the deadline: bare {bare[-1]:.3%}, ours {ours[-1]:.3%}", flush=True
            )
    off = np.array(bare) - np.array(ours)
    mean = float(np.mean(off))
    half = _STUDENT_95[runs] * float(np.std(off, ddof=1)) / math.sqrt(runs)
    reached = abs(mean) < _GOAL or mean - half <= 0 <= mean + half
    print(
        f"worker at 1 kHz beside a busy one, {runs} pairs of {cycles} cycles: FRESH "
        f"{np.mean(ours):.3%}, bare {np.mean(bare):.3%}, bare less ours {mean:+.3%}, 95 % interval "
        f"{mean - half:+.3%}..{mean + half:+.3%}: {'reached' if reached else 'missed'}"
    )
    return [
        {
            "name": "FRESH cycles of a Python driver at 1 kHz beside a busy worker",
            "runs": runs,
            "cycles": cycles,
            "ours": ours,
            "yardstick": bare,
            "difference": mean,
            "interval_95": [mean - half, mean + half],
            "goal": _GOAL,
            "verdict": "reached" if reached else "missed",
        }
    ]
