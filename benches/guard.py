"""What a dead and a frozen runtime cost: from the kill to the stop on the wire, to the arm at rest.

Whole runs of the demo at 500 Hz in front of the emulator, each killed (SIGKILL) or frozen (SIGSTOP)
at a random moment while the arm moves fast. Times are of CLOCK_MONOTONIC: ours from right before
the signal, the guard's from its note, the wire's from the emulator, as it reads its end of the
pseudo-terminal. The yardstick, in turn with ours: a bare process that sleeps is killed, and what
waits on its handle is woken, which is the least that the kernel takes.
"""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from benches.distribution import quantiles_of, show_samples
from benches.machine import Options
from benches.robot import SCHEDULES
from inphase.host import store_names

_SYNC_WRITE = 0x83
_GOAL_PREFIX = "74000400"  # register 116, four bytes each
_FAST = 0.5  # rad/s
_ZERO = 0.012  # rad/s: half a count of the velocity that a servo reports
_BOUND_S = 60.0
_STEPS = ("noticed", "dead", "written", "on the wire", "third on the wire", "at rest")
_POLICY = '''
"""Swings every joint by 1 rad towards the middle of its range and back, from where it was found."""

import math

import numpy as np


class Swing:
    start = None

    def __call__(self, frame):
        joints = frame["joints"]
        if self.start is None:
            if joints.status != "FRESH":
                return None
            self.start, self.start_ns = joints.value["position"].copy(), frame.due_ns
            self.way = -np.copysign(1.0, self.start)
        seconds = (frame.due_ns - self.start_ns) * 1e-9
        return self.start + self.way * (0.5 - 0.5 * math.cos(math.pi * seconds))
'''


class Arm:
    """The emulator, with its control channel. Bytes take no time on its wire: where its process is
    held up, what it reads late would seem to have met a reply, and be garbled."""

    def __init__(self, schedule: Path) -> None:
        command = [sys.executable, "-m", "inphase_drivers.emulator", str(schedule)]
        command += ["--control", "--no-wire-time"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if _pipe(self._process.stdout).readline() != b"ready\n":
            raise RuntimeError("the emulator did not start")

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request of the control channel."""
        stdin = _pipe(self._process.stdin)
        stdin.write(json.dumps({"device": "arm", **request}).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(_pipe(self._process.stdout).readline())
        return answer

    def speed(self) -> float:
        """Of the fastest joint, rad/s."""
        return max(abs(velocity) for velocity in self.ask()["velocity"])

    def close(self) -> None:
        """End it."""
        _pipe(self._process.stdin).close()
        self._process.wait()
        _pipe(self._process.stdout).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _until(condition: Any) -> None:
    end_s = time.monotonic() + _BOUND_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {_BOUND_S} s")
        time.sleep(0.001)


@contextlib.contextmanager
def _robot(options: Options) -> Iterator[tuple[Path, Arm, str]]:
    """The demo in a folder of its own, without its gateway and with a faster wave."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        text = (SCHEDULES / "demo.toml").read_text().replace("/tmp/inphase-demo", folder)
        name = Path(folder).name.lower()
        for old, new in (
            ('name = "demo"', f'name = "{name}"'),
            ("config_port = 8088", "config_port = 8098\nport = 49162"),
            ('"demo_policy.py:Wave"', '"swing.py:Swing"'),
            ("args = { amplitude = 0.4, seconds = 4.0 }\n", ""),
            ('realtime = "prefer"', f'realtime = "prefer"\ncpu = {options.cycle_cpu}'),
        ):
            assert old in text, old
            text = text.replace(old, new)
        text = _without(_without(text, "\n[gateway]\n"), "\n[emulator]\n")
        path = Path(folder) / "demo.toml"
        path.write_text(text)
        path.with_name("swing.py").write_text(_POLICY)
        arm = Arm(path)
        try:
            yield path, arm, name
        finally:
            arm.close()
            for left in store_names.folder().glob(f"{name}.*"):
                left.unlink()


def _without(text: str, table: str) -> str:
    """A schedule's text without a table."""
    before, _, after = text.partition(table)
    return before + after[after.index("\n[") :]


class _Stalled(NamedTuple):
    """A run that its guard ended before our signal: the machine held its cycle thread up."""

    beat_age_ms: float


def _notes(name: str) -> list[Path]:
    """The guards' notes that lie there."""
    return list(store_names.folder().glob(f"{name}.*.note"))


def _age_ms(name: str) -> float:
    """How old the heartbeat was, of the run that its guard ended; its note is removed."""
    _until(lambda: _notes(name))
    path = _notes(name)[0]
    age_ms: float = _whole(path)["beat_age_ns"] / 1e6
    path.unlink()
    return age_ms


def _end_one(
    path: Path, arm: Arm, name: str, how: signal.Signals, draw: random.Random
) -> list[int] | _Stalled | None:
    """One run, from its start to its end: nanoseconds from the signal to each of _STEPS; None where
    the stop was not on the wire as it has to be."""
    command = [sys.executable, "-m", "inphase", "run", str(path), "--json"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        _until(lambda: arm.speed() > _FAST or process.poll() is not None)
        if process.poll() is not None:
            return _Stalled(_age_ms(name))
        time.sleep(0.02 * draw.random())
        signalled_ns = time.monotonic_ns()
        process.send_signal(how)
        still_ns = 0
        while not still_ns or not _notes(name):
            if not still_ns and arm.speed() < _ZERO:
                still_ns = time.monotonic_ns()
            if time.monotonic_ns() - signalled_ns > _BOUND_S * 1e9:
                break
            time.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    notes = _notes(name)
    if not notes or not still_ns:
        print(f"  no note, or not at rest: {notes}, {arm.speed()} rad/s")
        return None
    note = _whole(notes[0])
    notes[0].unlink()
    heard = [item for item in arm.ask(heard=True)["heard"]][-3:]
    goals = {item[3] for item in heard}
    as_it_has_to_be = (
        len(goals) == 1
        and all(item[2] == _SYNC_WRITE and item[3].startswith(_GOAL_PREFIX) for item in heard)
        and goals.pop() in note["stopped"][0]["bytes"]
        and note["stopped"][0]["sent"] == 3
        and arm.speed() < _ZERO
    )
    if not as_it_has_to_be:
        print(f"  not as it has to be: {note}, {heard}, {arm.speed()} rad/s")
        return None
    noticed_ns = note["noticed_ns"]
    at_ns = (
        noticed_ns,
        noticed_ns + note["dead_ns"],
        noticed_ns + note["first_ns"],
        heard[0][0],
        heard[2][0],
        still_ns,
    )
    return [at - signalled_ns for at in at_ns]


def _whole(path: Path) -> dict[str, Any]:
    """A note, once it is written."""
    while True:
        note = tomllib.loads(path.read_text())
        if note.get("stopped"):
            return note
        time.sleep(0.001)


def _end_bare() -> int:
    """From the signal to the wake: a process that sleeps."""
    process = subprocess.Popen(["sleep", "1000"])
    handle = os.pidfd_open(process.pid)
    time.sleep(0.01)
    signalled_ns = time.monotonic_ns()
    process.kill()
    select.select([handle], [], [])
    woke_ns = time.monotonic_ns()
    os.close(handle)
    process.wait()
    return woke_ns - signalled_ns


def run(options: Options) -> list[dict[str, Any]]:
    """As many runs of each kind as there are rounds."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    results = []
    print(f"seed {seed}")
    with _robot(options) as (path, arm, name):
        for how, title in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "frozen")):
            taken, bare, stalled, failed = [], [], [], 0
            while len(taken) + failed < options.rounds:
                steps = _end_one(path, arm, name, how, draw)
                bare.append(_end_bare())
                if steps is None:
                    failed += 1
                elif isinstance(steps, _Stalled):
                    stalled.append(round(steps.beat_age_ms, 1))
                else:
                    taken.append(steps)
            columns = dict(zip(_STEPS, np.array(taken).T, strict=True))
            columns["yardstick"] = np.array(bare)
            show_samples(f"{title}: from the signal to", columns)
            stops = f"{options.rounds - failed} of {options.rounds}"
            print(f"  stopped three times on the wire, and at rest: {stops}")
            if stalled:
                print(f"  beside them, frozen by the machine before our signal: {stalled} ms")
            results.append(
                {
                    "name": f"guard, runtime {title}",
                    "rounds": options.rounds,
                    "stopped": options.rounds - failed,
                    "stalled_ms": stalled,
                    "ours_ns": {what: quantiles_of(column) for what, column in columns.items()},
                    "seed": seed,
                    "verdict": "reached" if not failed else "missed",
                }
            )
    return results
