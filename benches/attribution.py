"""How often whose fault a late cycle was is found rightly: each kind of trouble is made on purpose.

    python -m benches attribution

A robot of an arm behind the emulator and a force sensor behind a program runs at 500 Hz. Its cycle
thread is on the last core. Someone makes it late, at times of which nobody else knows: a hog of
higher priority, SIGSTOP, a flood of datagrams, a silent device, code and page faults of the cycle
thread itself, and a policy that computes, sleeps, touches memory, or waits for the GIL. A deed
counts as found if the longest moment in it has the right cause.
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benches.late_policy import DEEDS, FIRST
from benches.machine import Options
from inphase.core.late_moment import LATE, LateMoment
from inphase.errors import StoreError
from inphase.frames.store_follower import StoreFollower

_HERE = Path(__file__).parent
_GOAL = 0.95
_THREAD = ("wake", "overrun", "latch", "act", "trigger")
_PRIORITY_WORD = 5
_MS = 1_000_000
_SEED = 3
_EMULATOR, _OURS = 70, 90
"""priorities, so that a busy machine hinders no deed"""
_WAIT_S = 20.0
_FIRST_CYCLES = 1000


class Deed(NamedTuple):
    """One kind of trouble."""

    word: int
    """of the page of times; -1: a signal"""
    lasts_ms: float
    phases: tuple[str, ...]
    cause: str
    whys: tuple[str, ...]
    """any of which is right"""


KINDS = {
    "hog of higher priority": Deed(0, 6, _THREAD, "other process", ("preempted",)),
    "SIGSTOP": Deed(-1, 12, _THREAD, "other process", ("stopped",)),
    "busy interrupt": Deed(1, 12, _THREAD, "kernel",
                           ("not preemptible", "interrupts", "kernel thread")),
    "slow device": Deed(2, 7, ("read",), "ours", ("device",)),
    "own code": Deed(3, 5, _THREAD, "ours", ("own code",)),
    "own page faults": Deed(4, 5, _THREAD, "ours", ("page faults",)),
    **{
        name: Deed(FIRST + DEEDS.index(deed), 6, ("command",), "ours", whys)
        for name, deed, whys in (
            ("slow policy", "slow", ("policy",)),
            ("sleeping policy", "asleep", ("policy",)),
            ("page-fault storm", "faults", ("policy faults",)),
            ("GIL holder", "gil", ("policy threads",)),
        )
    },
}  # fmt: skip
_SCHEDULE = """
name = "attribution"
[cycle]
rate_hz = 500
read_deadline_us = 1300
act_us = 1700
priority = 80
cpu = {cpu}
realtime = "prefer"
overrun_limit = 1000000
resumed_after_ms = 60000
[guard]
max_hold_ms = 20000
{device}
[device.wrist]
driver = "inphase_drivers.ati:NetFT"
host = "127.0.0.1"
port = 49178
counts_per_force = 1e6
counts_per_torque = 1e6
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 1000
[sensor.wrench]
device = "wrist"
trigger_us = 0
max_age_ms = 1000
[actuator.arm]
device = "arm"
feedback = "joints.position"
[actuator.arm.limits]
position = [-2.6, 2.6]
velocity = 2.0
acceleration = 20.0
step = 0.2
[policy]
call = "late_policy.py:Late"
priority = 60
cpu = {other}
accepts = {{ joints = ["FRESH", "HELD", "LATE", "MISSING"], wrench = ["FRESH", "HELD", "LATE",
"MISSING"] }}
allow = ["files"]
"""
_ARM = """
[device.arm]
driver = "inphase_drivers.dynamixel:Servos"
port = "{port}"
baud = 4_000_000
ids = [1, 2, 3, 4, 5, 6]
watchdog_ms = 2000
"""


class Times:
    """The page of times."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(4096))
        self._file = path.open("r+b", buffering=0)

    def put(self, word: int, value: int) -> None:
        """Write one."""
        os.pwrite(self._file.fileno(), struct.pack("q", value), 8 * word)


@contextmanager
def robot(folder: Path, cycle_cpu: int, other_cpu: int) -> Iterator[tuple[Times, int]]:
    """The page of times, and the number of the runtime's process."""
    page = Times(folder / "page")
    page.put(_PRIORITY_WORD, 80)
    arm = _ARM.format(port=folder / "arm")
    (folder / "emulator.toml").write_text(arm)
    (folder / "run.toml").write_text(_SCHEDULE.format(cpu=cycle_cpu, other=other_cpu, device=arm))
    shutil.copy(_HERE / "late_policy.py", folder)
    for name, more in (("thief", ()), ("thief.so", ("-shared", "-fPIC"))):
        subprocess.run(
            ["cc", "-O2", *more, _HERE / "thief.c", "-o", folder / name, "-ldl"], check=True
        )
    thieves = [("hog", 95, cycle_cpu), ("flood", 0, cycle_cpu), ("device", 70, other_cpu)]
    children = [
        subprocess.Popen([folder / "thief", mode, page.path, str(priority), str(cpu)])
        for mode, priority, cpu in thieves
    ]
    children.append(
        subprocess.Popen(
            [sys.executable, "-m", "inphase_drivers.emulator", folder / "emulator.toml"],
            stdout=subprocess.DEVNULL,
        )
    )
    os.sched_setscheduler(children[-1].pid, os.SCHED_FIFO, os.sched_param(_EMULATOR))
    try:
        until_s = time.monotonic() + _WAIT_S
        while not (folder / "arm").exists() and time.monotonic() < until_s:
            time.sleep(0.05)
        environment = {"LD_PRELOAD": str(folder / "thief.so"), "THIEF_PAGE": str(page.path)}
        run = subprocess.Popen(
            [sys.executable, "-m", "inphase", "run", folder / "run.toml", "--json"],
            env=os.environ | environment,
            stdout=(folder / "summary.json").open("w"),
        )
        children.append(run)
        yield page, run.pid
        run.send_signal(signal.SIGINT)
        run.wait(_WAIT_S)
    finally:
        for child in children:
            child.kill()
            child.wait()


class Lates:
    """Reads all late moments of a robot. Thread: one at a time."""

    def __init__(self, robot_name: str) -> None:
        until_s = time.monotonic() + _WAIT_S
        while True:
            try:
                self._follower = StoreFollower.of_robot(robot_name)
                break
            except StoreError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.1)
        self._next = 0
        self.rows: list[tuple[int, int, LateMoment]] = []

    def take(self) -> None:
        """Those that came since."""
        reader = self._follower.reader
        while self._next < reader.lates():
            found, self._next = reader.late(self._next), self._next + 1
            if found is not None:
                row = np.frombuffer(found, LATE)[0]
                self.rows.append((int(row["due_ns"]), int(row["until_ns"]), LateMoment.of(row)))

    def wait(self, cycles: int) -> None:
        """Until the robot has run so many cycles."""
        until_s = time.monotonic() + _WAIT_S
        while self._follower.reader.status()["cycles"] < cycles:
            assert time.monotonic() < until_s, "the robot does not run"
            time.sleep(0.1)
        self.take()
        self.rows.clear()

    def close(self) -> None:
        """Stop."""
        self._follower.close()


def do(deeds: list[str], page: Times, runtime: int, lates: Lates) -> list[tuple[str, int, int]]:
    """Do them one after the other; each with its times."""
    draws = random.Random(_SEED)
    done = []
    for name in deeds:
        deed = KINDS[name]
        time.sleep(0.04 + draws.random() * 0.03)
        lates.take()
        from_ns = time.monotonic_ns()
        until_ns = from_ns + int(deed.lasts_ms * _MS)
        if deed.word < 0:
            os.kill(runtime, signal.SIGSTOP)
            time.sleep(deed.lasts_ms / 1e3)
            os.kill(runtime, signal.SIGCONT)
            until_ns = time.monotonic_ns()
        else:
            page.put(deed.word, until_ns)
            time.sleep(deed.lasts_ms / 1e3)
        done.append((name, from_ns, until_ns))
    time.sleep(2.0)
    lates.take()
    return done


def judge(done: list[tuple[str, int, int]], lates: Lates) -> dict[str, Counter[tuple[str, str]]]:
    """Per kind, how often which cause and reason was found; ("", ""): nothing was late."""
    found: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in KINDS}
    for name, from_ns, until_ns in done:
        within = [
            (min(until, until_ns) - max(due, from_ns), late)
            for due, until, late in lates.rows
            if late.phase in KINDS[name].phases
            and due < until_ns
            and until > from_ns
            and (name != "slow device" or late.sensor == 1)
        ]
        if not within:
            found[name]["", ""] += 1
            continue
        late = max(within, key=lambda one: one[0])[1]
        found[name][late.cause, late.why] += 1
    return found


def run(options: Options) -> list[dict[str, Any]]:
    """Deeds in a random order, as many of each kind as there are rounds."""
    names = [name for name in KINDS for _ in range(options.many(options.rounds, 1))]
    random.Random(_SEED).shuffle(names)
    with tempfile.TemporaryDirectory() as folder:
        with robot(Path(folder), options.cycle_cpu, options.other_cpu) as (page, runtime):
            lates = Lates("attribution")
            lates.wait(_FIRST_CYCLES)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_OURS))
            os.sched_setaffinity(0, {options.other_cpu})
            done = do(names, page, runtime, lates)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            found = judge(done, lates)
            lates.close()
        summary = json.loads((Path(folder) / "summary.json").read_text())
    if os.environ.get("DBG"):
        print(
            len(lates.rows),
            {k: v for k, v in summary.items() if k not in ("worst", "machine", "verdict")},
        )
    share = summary["late"]["sentinel_share"]
    print(f"\nthe sentinel took {100 * share:.2f} % of its core")
    return [_result(name, found[name], share) for name in KINDS]


def _result(name: str, found: Counter[tuple[str, str]], share: float) -> dict[str, Any]:
    deed = KINDS[name]
    late = found.total() - found["", ""]
    right = sum(n for (cause, _), n in found.items() if cause == deed.cause)
    known = sum(n for (_, why), n in found.items() if why in deed.whys)
    host = sum(n for (cause, _), n in found.items() if cause == "host")
    print(
        f"{name:<24} {right} of {late} late: {deed.cause}; {known} for the right reason; ", end=""
    )
    print(f"{host} given to the host; {dict(found)}")
    return {
        "name": f"attribution, {name}",
        "late": late,
        "right": right,
        "known": known,
        "host": host,
        "sentinel_share": share,
        "goal": _GOAL,
    }
