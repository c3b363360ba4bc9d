"""Six Feetech servos at 200 Hz on an emulated wire of 1 Mbaud: the CPU time of a cycle.

Ours is `inphase run` as a whole: cycle thread, supervisor, policy process and guard. The policy in
Python hands the positions back as goals. The yardstick is a plain loop in Python over the maker's
SDK, whose group read and group write LeRobot's bus uses too. Both run on the same emulator, which
is counted on neither side. CPU times are the kernel's, of all threads: a block gives one number.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benches.distribution import Rounds, quantiles_of, show
from benches.machine import Options

RATE_HZ = 200
IDS = (1, 2, 3, 4, 5, 6)
POSITION, GOAL = 56, 42
_SETTLE_S = 4.0  # a run's processes have started and made their imports
_SCHEDULE = """
name = "servos"
[cycle]
rate_hz = 200
read_deadline_us = 3400
act_us = 4400
realtime = "prefer"
overrun_limit = 1000000
[emulator]
module = "inphase_drivers.emulator"
[device.arm]
driver = "feetech"
port = "{folder}/arm"
ids = [1, 2, 3, 4, 5, 6]
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 50
[actuator.arm]
device = "arm"
feedback = "joints.position"
first_command = "approach"
[actuator.arm.limits]
position = [-3.0, 3.0]
velocity = 3.0
acceleration = 20.0
step = 0.3
[policy]
call = "benches.servos:hold"
priority = 60
"""


def hold(frame: Any) -> Any:
    """The positions as goals."""
    return frame["joints"].value["position"].copy()


def loop(port: str, seconds: float) -> dict[str, Any]:
    """The yardstick: read all positions and write them as goals, on a grid of absolute times."""
    import scservo_sdk as sdk

    line = sdk.PortHandler(port)
    line.openPort()
    line.setBaudRate(1_000_000)
    servos = sdk.sms_sts(line)
    read = sdk.GroupSyncRead(servos, POSITION, 2)
    write = sdk.GroupSyncWrite(servos, GOAL, 2)
    for ident in IDS:
        read.addParam(ident)
    lost, lasted, cycle = 0, list[int](), 0
    start = time.monotonic() + 0.1
    while (cycle := cycle + 1) < seconds * RATE_HZ:
        cycle = max(cycle, int((time.monotonic() - start) * RATE_HZ))  # cycles gone by are skipped
        due = start + cycle / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        if read.txRxPacket() != sdk.COMM_SUCCESS:
            lost += 1
            continue
        for ident in IDS:
            at = read.getData(ident, POSITION, 2)
            write.addParam(ident, [at & 0xFF, at >> 8])
        write.txPacket()
        write.clearParam()
        lasted.append(int((time.monotonic() - due) * 1e9))
    done = len(lasted) / (seconds * RATE_HZ)
    return {"done": done, "lost": lost, "loop_ns": quantiles_of(np.array(lasted or [0]))}


def _cpu_ns(process: psutil.Process) -> int:
    """CPU time of all threads of a process and its children, without emulators."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            if any("emulator" in word for word in one.cmdline()):
                continue
            for task in Path(f"/proc/{one.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        except (psutil.Error, OSError):  # it has ended
            continue
    return total


def _cost(command: list[str], seconds: float) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """CPU time per cycle of a program in its steady state, and the JSON that it prints last."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    watched = psutil.Process(process.pid)
    time.sleep(_SETTLE_S)
    before, began = _cpu_ns(watched), time.monotonic()
    time.sleep(seconds)
    spent, lasted = _cpu_ns(watched) - before, time.monotonic() - began
    said, _ = process.communicate(timeout=60)
    told = json.loads(said.splitlines()[-1])
    cycles = lasted * RATE_HZ * told.get("done", 1.0)
    return np.array([spent / cycles], np.int64), told


def _ours(path: Path, seconds: float) -> tuple[NDArray[np.int64], dict[str, Any]]:
    command = [sys.executable, "-m", "inphase", "run", str(path), "--json", "--seconds"]
    cost, said = _cost([*command, str(seconds + 2 * _SETTLE_S)], seconds)
    joints = said["sensors"]["joints"]
    return cost, {"status": joints["status"], "trigger_to_sample": joints["trigger_to_sample_ns"]}


def _theirs(path: Path, port: str, seconds: float) -> tuple[NDArray[np.int64], dict[str, Any]]:
    emulator = subprocess.Popen(
        [sys.executable, "-m", "inphase_drivers.emulator", str(path)], stdout=subprocess.PIPE
    )
    try:
        assert emulator.stdout is not None
        assert emulator.stdout.readline() == b"ready\n"
        whole = str(seconds + 2 * _SETTLE_S)
        return _cost([sys.executable, "-m", "benches.servos", port, whole], seconds)
    finally:
        emulator.kill()
        emulator.wait()


def run(options: Options) -> list[dict[str, Any]]:
    """Rounds of theirs, ours, theirs."""
    figure = Rounds("CPU time per cycle of six Feetech servos at 200 Hz", goal=0.5)
    seconds = options.many(5, 1)
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name:
        path, port = Path(name) / "servos.toml", f"{name}/arm"
        path.write_text(_SCHEDULE.format(folder=name))
        for _ in range(options.many(max(options.rounds // 3, 5), 1)):
            first, said_first = _theirs(path, port, seconds)
            ours, said_ours = _ours(path, seconds)
            second, said_second = _theirs(path, port, seconds)
            figure.add(first, ours, second)
            told.append({"ours": said_ours, "yardstick": [said_first, said_second]})
    result = figure.result() | {"told": told}
    show(result)
    for one in told:
        lost = sum(part["lost"] for part in one["yardstick"])
        print(f"  ours {one['ours']['status']}; lost by the yardstick: {lost}")
        print(f"  cycles that the yardstick kept: {one['yardstick'][0]['done']:.3f}")
        print(f"  loop of the yardstick [ns]: {one['yardstick'][0]['loop_ns']}")
    return [result]


if __name__ == "__main__":
    print(json.dumps(loop(sys.argv[1], float(sys.argv[2]))))
