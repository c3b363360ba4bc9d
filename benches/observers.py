"""A driving client beside 100 observers and floods at the service's ports, against the same alone.

The observers are subscribers under CURVE; one of their processes is stopped by SIGSTOP. Ten more
come and go in a loop. Two floods beside them: connections that send random bytes, and messages
above the bound from somebody with a key. A time is that of `remote`: from a frame's latch to the
post of the command that answers it. Beside it: the robot's cycles that were lost, by whose fault it
was (LATENESS.md), and how much the processes of the service grew.

The crowd stands for other machines. So it has what time the robot and its client leave over
(SCHED_IDLE), and takes none from them but by what it sends.

    python -m benches.observers watch|again PORT KEY COUNT    the processes of the observers
    python -m benches.observers garbage|oversized PORT KEY COUNT    those of the floods
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import zmq

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.remote import ServedDemo, drive_block, served
from inphase import subscribe
from inphase.access.client_key import ClientKey
from inphase.access.keys import KeyFolder
from inphase.core.late_moment import LATE, LateMoment
from inphase.frames.store_follower import StoreFollower

_PROCESSES, _EACH = 10, 10  # observers
_AGAIN = 10
_SETTLE_S = 3.0
_FRAMES = 3  # ports after the first
_PHASES = "wake", "overrun"
"""of moments that cost cycles"""
_LOOK_S = 0.02
_DECIDED_S = 1.5
"""in which the supervisor decides whose fault a late cycle was"""
_OVERSIZED = 1 << 20
_PAUSE_S = 0.001


def watch(port: int, key: Path, count: int) -> None:
    """So many subscriptions, each of which takes its frames."""
    place = f"tcp://127.0.0.1:{port + _FRAMES}"
    sources = [subscribe(place, transport="zmq", key=key, timeout_s=60) for _ in range(count)]
    while True:
        for source in sources:
            source.next()


def again(port: int, key: Path, count: int) -> None:
    """One subscription after the other, for a frame each."""
    place = f"tcp://127.0.0.1:{port + _FRAMES}"
    while True:
        for _ in range(count):
            with subscribe(place, transport="zmq", key=key, timeout_s=60) as source:
                source.next()


def garbage(port: int, key: Path, count: int) -> None:
    """Connections to each port that send random bytes."""
    while True:
        for offset in range(_FRAMES + 1):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port + offset)) as line,
            ):
                line.sendall(os.urandom(count))
            time.sleep(_PAUSE_S)


def oversized(port: int, key: Path, count: int) -> None:
    """Messages that are larger than a request may be, by a key that may come in."""
    context: zmq.Context[Any] = zmq.Context()
    ours = ClientKey.load(key)
    while True:
        made = context.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        ours.secure(made)
        made.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(10):
            with contextlib.suppress(zmq.Again):
                made.send(bytes(count), zmq.NOBLOCK)
            time.sleep(_PAUSE_S)
        made.close()


@contextmanager
def _crowd(port: int, key: Path) -> Iterator[None]:
    """All of them, once they have come."""
    wanted = [("watch", _EACH)] * _PROCESSES
    wanted += [("again", _AGAIN), ("garbage", 256), ("oversized", _OVERSIZED)]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benches.observers", what, str(port), str(key), str(count)],
            stderr=subprocess.DEVNULL,
        )
        for what, count in wanted
    ]
    try:
        time.sleep(_SETTLE_S)
        children[0].send_signal(signal.SIGSTOP)
        yield
        ended = [what for (what, _), child in zip(wanted, children, strict=True) if child.poll()]
        assert not ended, f"{', '.join(ended)} ended by itself"
    finally:
        for child in children:
            child.kill()
            child.wait()


def _resident(demo: ServedDemo) -> dict[str, int]:
    """Bytes of memory of the service's processes, by their module."""
    top = psutil.Process(demo.service.pid)
    found: dict[str, int] = {}
    for one in [top, *top.children(recursive=True)]:
        modules = [word for word in one.cmdline() if word.startswith("inphase.")]
        found[f"{(modules or ['inphase'])[-1]} {one.pid}"] = one.memory_info().rss
    return found


class _Mark(NamedTuple):
    """A moment of the run."""

    cycle: int
    skipped: int


class _Lost:
    """The cycles that a robot skips, by whose fault that was. A store keeps few late moments, so
    they are collected as they are told."""

    def __init__(self) -> None:
        follower = StoreFollower.of_robot("bench")
        self._reader = follower.reader
        self._period_ns = follower.layout.period_ns
        self._moments: list[LateMoment] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        number = 0
        while not self._over.wait(_LOOK_S):
            while number < self._reader.lates():
                row = self._reader.late(number)
                number += 1
                if row is not None:
                    moment = LateMoment.of(np.frombuffer(row, LATE)[0])
                    self._moments += [moment] * (moment.phase in _PHASES)

    def mark(self) -> _Mark:
        """Now."""
        status = self._reader.status()
        return _Mark(int(status["cycle"]), int(status["skipped"]))

    def between(self, first: _Mark, last: _Mark) -> Counter[str]:
        """A while later: the supervisor has to look at each late cycle first."""
        found = Counter[str]()
        for moment in self._moments:
            if first.cycle < moment.cycle <= last.cycle:
                found[f"{moment.cause}: {moment.why}"] += moment.late_ns // self._period_ns
        untold = last.skipped - first.skipped - found.total()
        return found + Counter(untold=max(0, untold))

    def close(self) -> None:
        """Collect no more."""
        self._over.set()
        self._thread.join()


def _told(lost: Counter[str]) -> str:
    if not lost:
        return "0"
    causes = "; ".join(f"{count} {cause}" for cause, count in lost.most_common())
    return f"{lost.total()} ({causes})"


def run(options: Options) -> list[dict[str, Any]]:
    """One figure, with what was lost and what grew."""
    figure = Rounds("latch to a command from afar, beside 100 observers and floods")
    alone, beside = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name, served(Path(name)) as demo:
        key = Path(name) / "wes.key"
        KeyFolder(Path(name) / "keys").create("wes", "watch", key)
        drive_block(demo.drive)
        lost = _Lost()
        before = _resident(demo)
        for _ in range(options.rounds):
            begun = lost.mark()
            first = drive_block(demo.drive)
            left_alone = lost.mark()
            with _crowd(demo.port, key):
                crowded = lost.mark()
                ours = drive_block(demo.drive)
                over = lost.mark()
            figure.add(first, ours, drive_block(demo.drive))
            time.sleep(_DECIDED_S)
            alone += lost.between(begun, left_alone)
            beside += lost.between(crowded, over)
        lost.close()
        after = _resident(demo)
    result = figure.result()
    show(result)
    grew = {name: after[name] - size for name, size in before.items() if name in after}
    most = max(grew, key=lambda one: grew[one])
    print(f"  cycles lost: {_told(beside)} beside them, {_told(alone)} alone; goal: ours 0")
    print(f"  memory: {most.split()[0]} grew most, by {grew[most] / 1e6:.1f} MB")
    counts = {"alone": dict(alone), "beside": dict(beside)}
    return [result | {"lost": counts, "grew_bytes": grew[most]}]


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    call = {"watch": watch, "again": again, "garbage": garbage, "oversized": oversized}[sys.argv[1]]
    call(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
