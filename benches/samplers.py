"""The benches' devices; python -m benches.samplers DELAY_NS PRIORITY CPU FD... is one process.

They sample when they are asked and answer with the time of it, by this host's monotonic clock. The
module also writes schedules for them.
"""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benches.machine import Options
from benches.native import ffi, lib
from inphase import schedule as schedules
from inphase.plan import plan as planning
from inphase.plan.plan import Plan

_AT_ONCE = -1


class Samplers:
    """`count` devices in `processes` processes; use it with `with`.

    delay_ns: the devices of a process answer all together, so long after the last of them was
    asked; without it each answers at once. pairs: behind socket pairs, else on UDP ports. cpu:
    where they run; without it on the first core.
    """

    def __init__(
        self,
        options: Options,
        count: int,
        *,
        processes: int = 1,
        delay_ns: int = _AT_ONCE,
        pairs: bool = False,
        cpu: int | None = None,
    ) -> None:
        self.options = options
        self._cpu = options.other_cpu if cpu is None else cpu
        self._ours: list[socket.socket] = []
        self._theirs: list[socket.socket] = []
        self.ports = [0] * count
        for i in range(count):
            ours, theirs = _pair() if pairs else _udp()
            self._ours.append(ours)
            self._theirs.append(theirs)
            if not pairs:
                self.ports[i] = theirs.getsockname()[1]
        self._processes = [
            self._start(self._theirs[i::processes], delay_ns) for i in range(processes)
        ]
        for theirs in self._theirs:
            theirs.close()

    def _start(self, sockets: list[socket.socket], delay_ns: int) -> subprocess.Popen[bytes]:
        fds = [each.fileno() for each in sockets]
        priority = max(self.options.priority - 10, 0)
        given = [delay_ns, priority, self._cpu, *fds]
        process = subprocess.Popen(
            [sys.executable, "-m", "benches.samplers", *map(str, given)],
            stdout=subprocess.PIPE,
            pass_fds=fds,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    @property
    def fds(self) -> list[int]:
        """Connected sockets on which they are asked, non-blocking."""
        return [each.fileno() for each in self._ours]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for ours in self._ours:
            ours.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def _udp() -> tuple[socket.socket, socket.socket]:
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.bind(("127.0.0.1", 0))
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.connect(theirs.getsockname())
    ours.setblocking(False)
    return ours, theirs


@dataclass(frozen=True)
class Asked:
    """What the bare loop found."""

    skew_ns: NDArray[np.int64]
    """per cycle; -1: a sample was missing at the deadline"""
    cpu_ns: float
    waits: float
    """both per cycle"""


def ask_bare(
    fds: Sequence[int],
    rights: tuple[int, int],
    *,
    period_us: int,
    deadline_us: int,
    cycles: int,
) -> Asked:
    """A block of the bare loop, on a thread without Python. rights: its priority and its core."""
    skew = np.zeros(cycles, np.int64)
    descriptors = ffi.new("int32_t[]", list(fds))
    exchanges = ffi.new("struct bench_exchanges *")
    exchanges.fd, exchanges.count = descriptors, len(fds)
    exchanges.deadline_ns = deadline_us * 1000
    exchanges.skew_ns = ffi.cast("int64_t *", ffi.from_buffer(skew))
    grid = ffi.new("struct bench_grid *", [period_us * 1000, 0, cycles, *rights])
    done = lib.bench_exchanges(grid, exchanges)
    assert done == cycles, done
    return Asked(skew, exchanges.cpu_ns / cycles, exchanges.waits / cycles)


@dataclass(frozen=True)
class Grid:
    """The cycle of a schedule."""

    period_us: int
    read_deadline_us: int
    act_us: int
    depth: int = 16
    """of the store"""


def head(name: str, grid: Grid, options: Options) -> str:
    """A schedule's first tables."""
    return f"""
name = "{name}"
[cycle]
period_us = {grid.period_us}
read_deadline_us = {grid.read_deadline_us}
act_us = {grid.act_us}
realtime = "{"require" if options.realtime else "prefer"}"
priority = {max(options.priority, 1)}
cpu = {options.cycle_cpu}
overrun_limit = 1000000
resumed_after_ms = 20000
[store]
depth = {grid.depth}
"""


def sensor(name: str, port: int, *, device: str = "", timing: str = "trigger_us = 0") -> str:
    """Tables of one device of this module and its sensor."""
    return f"""
[device.{name}]
driver = "benches.sampler:Sampler"
port = {port}
{device}
[sensor.{name}]
device = "{name}"
max_age_ms = 10000
{timing}
"""


def plan_of(text: str) -> Plan:
    """The plan of a schedule's text."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(text)
        return planning.make(schedules.load(path))


def main() -> None:
    """One process of devices, until it is killed."""
    delay_ns, priority, cpu, *fds = map(int, sys.argv[1:])
    descriptors = ffi.new("int32_t[]", fds)
    print("ready", flush=True)
    rc = lib.bench_samplers_serve(
        ffi.new("struct bench_samplers *", [descriptors, len(fds), delay_ns, priority, cpu])
    )
    sys.exit(-rc)


if __name__ == "__main__":
    main()
