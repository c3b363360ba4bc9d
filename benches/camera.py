"""Joints at 1 kHz with and without a 6.2 MB camera at 30 Hz beside them.

The joints are an exchange on the cycle thread, the camera a driver in a process of its own, which
reads every image from a local socket right into shared memory. The yardstick is the same robot
without its camera. The joints' device is on the cycle's core: it stands for hardware, which no
image holds up. Wakes and trigger-to-sample times are the store's histograms (exact to 1 %).

    python -m benches.camera PATH    the camera's own side
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import samplers
from benches.distribution import Rounds, show
from benches.machine import Options
from benches.sampler import IMAGE_BYTES
from benches.samplers import Grid, Samplers
from benches.wake import buckets
from inphase import Runner
from inphase import schedule as schedules
from inphase.frames.store_follower import StoreFollower

_GRID = Grid(1000, 600, 800)
_EVERY = 33
_CYCLES = 1980
_SETTLE_S = 0.3
_HISTOGRAMS = {"wake": 0, "trigger to sample": 5}
_CAMERA = """
[device.camera]
driver = "benches.sampler:Camera"
home = "process"
path = "{path}"
{cpu}
[sensor.camera]
device = "camera"
trigger_us = 0
every = {every}
latency_cycles = 31
max_age_ms = 10000
"""


def _schedule(
    folder: str, options: Options, port: int, *, camera: bool, pin: bool
) -> schedules.Schedule:
    text = samplers.head("camera", _GRID, options) + samplers.sensor("joints", port)
    if camera:
        cpu = f"cpu = {options.other_cpu}" if pin else ""
        text += _CAMERA.format(path=f"{folder}/camera", every=_EVERY, cpu=cpu)
    path = Path(folder) / "camera.toml"
    path.write_text(text)
    return schedules.load(path)


def _block(schedule: schedules.Schedule) -> tuple[dict[str, NDArray[np.int64]], dict[str, float]]:
    """A run: its distributions, and the share of FRESH samples of each sensor that was due one."""
    with Runner(schedule) as runner:
        follower = StoreFollower(runner.store_path)
        time.sleep(_SETTLE_S)
        path = runner.store_path
        before = {name: buckets(path, index) for name, index in _HISTOGRAMS.items()}
        counted = follower.reader.statuses()
        time.sleep(_CYCLES * _GRID.period_us * 1e-6)
        after = {name: buckets(path, index) for name, index in _HISTOGRAMS.items()}
        rows = follower.reader.statuses()
        follower.close()
    fresh = {}
    for name, old, new in zip(schedule.sensor, counted, rows, strict=True):
        due = sum(new[status] - old[status] for status in new if status != "HELD")
        fresh[name] = (new["FRESH"] - old["FRESH"]) / due
    found = {}
    for name, (count, top) in after.items():
        found[name] = np.repeat(top, count - before[name][0])
    return found, fresh


def _measure(where: str, options: Options, *, pin: bool) -> list[dict[str, Any]]:
    """Rounds without, with, without."""
    what = {
        name: Rounds(f"{name}, {where}", goal=1.0 if pin else None, judged=("p50", "p99"))
        for name in _HISTOGRAMS
    }
    shares: dict[str, list[float]] = {}
    with (
        Samplers(options, 1, cpu=options.cycle_cpu) as devices,
        tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "benches.camera", f"{folder}/camera"], stdout=subprocess.PIPE
        )
        if pin:
            os.sched_setaffinity(process.pid, [options.other_cpu])
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            for _ in range(options.many(max(options.rounds // 3, 5), 1)):
                blocks = []
                for camera in (False, True, False):
                    schedule = _schedule(folder, options, devices.ports[0], camera=camera, pin=pin)
                    found, fresh = _block(schedule)
                    blocks.append(found)
                    kind = "with" if camera else "without"
                    for name, share in fresh.items():
                        shares.setdefault(f"{name} {kind} camera", []).append(share)
                for name, figure in what.items():
                    figure.add(*(block[name] for block in blocks))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    results = [figure.result() for figure in what.values()]
    means = {name: float(np.mean(values)) for name, values in shares.items()}
    for result in results:
        result["fresh"] = means
        show(result)
    print("  FRESH: " + ", ".join(f"{name} {share:.2%}" for name, share in means.items()))
    return results


def run(options: Options) -> list[dict[str, Any]]:
    """The camera and its worker on the other core, as a schedule says it; and on any."""
    results = _measure("with a camera on the other core", options, pin=True)
    if options.smoke:
        return results
    return results + _measure("with a camera on any core", options, pin=False)


def _is_asked(line: socket.socket) -> bool:
    try:
        return bool(line.recv(1))
    except ConnectionResetError:
        return False


def main() -> None:
    """Answer each byte with an image, for one driver after the other."""
    image = bytearray(IMAGE_BYTES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        print("ready", flush=True)
        number = 0
        while True:
            line, _ = listener.accept()
            with line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                while _is_asked(line):
                    number += 1
                    image[:8] = number.to_bytes(8, "little")
                    try:
                        line.sendall(image)
                    except (BrokenPipeError, ConnectionResetError):
                        break


if __name__ == "__main__":
    main()
