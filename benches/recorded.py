"""The demo robot with a 6.2 MB camera at 31 Hz, recorded beside itself, against not recorded.

Both run on the wall clock with everything that a run has: emulator, policy, guard, gateway. The
recorder is a process of its own, as `inphase record` starts it. It writes to the temporary folder,
with its `fdatasync`. Wakes and trigger-to-sample times are the store's histograms (exact to 1 %).
The CPU time of the cycle thread is the kernel's, per cycle: a block gives one number.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.wake import buckets
from inphase import Recording, Runner
from inphase import schedule as schedules
from inphase.frames.store_follower import StoreFollower
from inphase.recording.recorder_process import MODULE, RecorderOptions, arguments

_DEMO = Path(__file__).resolve().parent.parent / "schedules" / "demo.toml"
_CYCLES = 1500
_PERIOD_S = 0.002
_EVERY = 16
_SETTLE_S = 1.0
_BOUND_S = 60.0
_HISTOGRAMS = {"wake": 0, "trigger to sample": 5}
_CAMERA = """
[device.camera]
driver = "benches.sampler:Camera"
home = "process"
path = "{path}"
[sensor.camera]
device = "camera"
trigger_us = 0
every = {every}
latency_cycles = 15
max_age_ms = 10000
"""
_IMAGES = "camera"


def filmed(folder: Path) -> schedules.Schedule:
    """The demo's schedule with that camera, written into a folder."""
    text = _DEMO.read_text().replace("/tmp/inphase-demo", str(folder))
    text += _CAMERA.format(path=folder / "images", every=_EVERY)
    shutil.copy(_DEMO.with_name("demo_policy.py"), folder)
    path = folder / "filmed.toml"
    path.write_text(text.replace('name = "demo"', f'name = "filmed-{os.getpid()}"'))
    return schedules.load(path)


@contextlib.contextmanager
def filming(folder: Path) -> Iterator[None]:
    """The camera of that schedule."""
    camera = subprocess.Popen(
        [sys.executable, "-m", "benches.camera", str(folder / "images")], stdout=subprocess.PIPE
    )
    assert camera.stdout is not None
    assert camera.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        camera.kill()
        camera.wait()
        camera.stdout.close()


@contextlib.contextmanager
def _recorder(store_path: str, path: Path, schedule: schedules.Schedule) -> Iterator[None]:
    """A recorder that follows the robot; what it wrote is counted at its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, *arguments(store_path, path, schedule, RecorderOptions())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=_BOUND_S)
        assert path.is_file(), said


def _thread_cpu_ns(tid: int) -> int:
    """CPU time of a thread of any process."""
    return int(Path(f"/proc/{tid}/schedstat").read_text().split()[0])


def _block(
    schedule: schedules.Schedule, path: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run, recorded where there is a path: its distributions, and what was recorded."""
    with Runner(schedule) as runner, contextlib.ExitStack() as stack:
        if path is not None:
            stack.enter_context(_recorder(runner.store_path, path, schedule))
        follower = StoreFollower(runner.store_path)
        time.sleep(_SETTLE_S)
        store_path, reader = runner.store_path, follower.reader
        before = {name: buckets(store_path, index) for name, index in _HISTOGRAMS.items()}
        tid, first = reader.status()["thread_id"], reader.status()["cycles"]
        cpu_ns = _thread_cpu_ns(tid)
        time.sleep(_CYCLES * _PERIOD_S)
        cycles, cpu_ns = reader.status()["cycles"] - first, _thread_cpu_ns(tid) - cpu_ns
        after = {name: buckets(store_path, index) for name, index in _HISTOGRAMS.items()}
        follower.close()
    found: dict[str, NDArray[np.int64]] = {"CPU": np.array([cpu_ns // cycles])}
    for name, (count, top) in after.items():
        found[name] = np.repeat(top, count - before[name][0])
    told: dict[str, Any] = {}
    if path is not None:
        with Recording(path) as recording:
            told = {
                "cycles": cycles,
                "frames": _within(recording.frames()["cycle"], first, first + cycles),
                "images": len(recording.sequences(_IMAGES)),
                "bytes": path.stat().st_size,
            }
        path.unlink()
    return found, told


def _within(cycles: NDArray[np.int64], first: int, stop: int) -> int:
    """Frames of these cycles: the recorder comes to a robot that runs, and begins late."""
    return int(((cycles >= first) & (cycles < stop)).sum())


def run(options: Options) -> list[dict[str, Any]]:
    """Rounds without, with, without a recorder."""
    names = {"CPU": "CPU time of the cycle thread per cycle", **{n: n for n in _HISTOGRAMS}}
    figures = {
        name: Rounds(f"{text}, recorded", goal=1.0, judged=("p50",)) for name, text in names.items()
    }
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name:
        folder = Path(name)
        schedule = filmed(folder)
        with filming(folder):
            for _ in range(options.many(max(options.rounds // 3, 5), 1)):
                blocks = []
                for path in (None, folder / "run.mcap", None):
                    found, recorded = _block(schedule, path)
                    blocks.append(found)
                    told += [recorded] if recorded else []
                for key, figure in figures.items():
                    figure.add(*(block[key] for block in blocks))
    results = [figure.result() for figure in figures.values()]
    for result in results:
        result["recorded"] = told
        show(result)
    sums = {key: sum(one[key] for one in told) for key in ("cycles", "frames", "images", "bytes")}
    print(f"  while it was measured: {sums}")
    return results
