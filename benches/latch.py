"""From the latch to a Python subscriber process through the store, against a bare futex.

The writer is a C thread at the cycle thread's priority; it writes the payloads, stamps, publishes
and wakes. The reader is one Python process that takes turns: the product's StoreFollower, and a
futex wait through cffi on a mapping with NumPy views made before.
"""

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.native import ffi, lib
from inphase.frames import record_layout, store, wire

DEPTH = 16
_HEAD = 4096


@dataclass(frozen=True)
class Row:
    """One row of the figure."""

    name: str
    sensors: int
    payload: int
    period_us: int
    cycles: int
    touch: str = "none"
    goal: float | None = 1.15
    same_core: bool = False


IMAGE = 1920 * 1080 * 3
ROWS = (
    Row("64 B", 1, 64, 1000, 200),
    Row("64 B, reader on the writer's core", 1, 64, 1000, 200, same_core=True),
    Row("4 kB", 1, 4096, 1000, 200),
    Row("64 kB", 1, 65_536, 1000, 200),
    Row("1 MB", 1, 1 << 20, 2000, 200),
    Row("6.2 MB", 1, IMAGE, 5000, 100),
    Row("one value of each of 16 sensors", 16, 64, 1000, 200, "sixteen", 1.3),
    Row("the same, then frame.intact", 16, 64, 1000, 200, "checked", None),
    Row("sum of 6.2 MB", 1, IMAGE, 8000, 100, "sum", 1.3),
)


def describe(row: Row, epoch: int) -> bytes:
    """A description as the core's segment holds it."""
    fields = [["x", [row.payload // 8], "<f8", ""]]
    sensors = [
        {"name": f"s{i}", "fields": fields, "trigger_ns": 0, "max_age_ns": 0, "depth": DEPTH}
        for i in range(row.sensors)
    ]
    return bytes(
        msgpack.packb(
            {
                "wire": wire.VERSION,
                "robot": "bench",
                "hash": "0" * 16,
                "schedule": "",
                "epoch": epoch,
                "period_ns": row.period_us * 1000,
                "sensors": sensors,
                "actuators": [],
            }
        )
    )


@dataclass(frozen=True)
class Contents:
    """What a store holds."""

    epoch: int
    description: bytes
    payloads: list[int]
    """bytes of a sample of each sensor"""
    record: int
    """bytes of a frame's record"""


class Writer:
    """A store of the product's and a bare mapping, and the thread that writes either."""

    def __init__(self, options: Options, contents: Contents) -> None:
        self.options = options
        self._payloads = payloads = contents.payloads
        handle = ffi.new("bench_store **")
        rc = lib.bench_store_open(
            handle,
            contents.epoch,
            contents.description,
            len(contents.description),
            len(payloads),
            payloads,
            DEPTH,
            contents.record,
        )
        assert rc == 0, rc
        self._store = handle[0]
        self.path = f"/proc/{os.getpid()}/fd/{lib.bench_store_fd(self._store)}"
        self._file = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="inphase-bench-")  # noqa: SIM115
        size = _HEAD + DEPTH * len(payloads) * max(payloads)
        self._file.write(bytes(size))
        self._file.flush()
        self.mapping = self._file.name
        self._memory = mmap.mmap(self._file.fileno(), size)
        self.bare = ffi.cast("struct bench_bare *", ffi.from_buffer(self._memory))
        self.frames = 0

    def _grid(self, period_us: int, act_us: int, cycles: int) -> Any:
        rights = (self.options.priority, self.options.cycle_cpu)
        return ffi.new("struct bench_grid *", [period_us * 1000, act_us * 1000, cycles, *rights])

    def mailbox(self, values: int) -> list[int]:
        """Make a policy's mailbox and its bell; their descriptors."""
        fds = ffi.new("int[2]")
        rc = lib.bench_store_mailbox(self._store, values, fds)
        assert rc == 0, rc
        return list(fds)

    def frames_block(self, period_us: int, cycles: int, act_us: int = 0) -> NDArray[np.int64]:
        """Latch frames; what the policy took, or -1, if there is an act."""
        return self._block(period_us, cycles, act_us)[0]

    def wakes_block(self, period_us: int, cycles: int) -> NDArray[np.int64]:
        """Latch frames; what it took the writer to wake its followers."""
        return self._block(period_us, cycles, 0)[1]

    def _block(
        self, period_us: int, cycles: int, act_us: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        echo, rung = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
        done = lib.bench_store_block(
            self._store,
            self._grid(period_us, act_us, cycles),
            ffi.cast("int64_t *", ffi.from_buffer(echo)),
            ffi.cast("int64_t *", ffi.from_buffer(rung)),
        )
        assert done == cycles, done
        self.frames += cycles
        return echo, rung

    @contextmanager
    def followers(self, count: int) -> Iterator[None]:
        """So many processes that wait for each frame."""
        pids = ffi.new("int32_t[]", count)
        rc = lib.bench_followers_start(self._store, count, pids)
        assert rc == 0, rc
        try:
            yield
        finally:
            lib.bench_followers_end(count, pids)

    def bare_block(self, period_us: int, cycles: int, act_us: int = 0) -> NDArray[np.int64]:
        """The same on the bare mapping."""
        echo = np.zeros(cycles, np.int64)
        done = lib.bench_bare_block(
            self.bare,
            self._grid(period_us, act_us, cycles),
            len(self._payloads),
            max(self._payloads),
            DEPTH,
            ffi.cast("int64_t *", ffi.from_buffer(echo)),
        )
        assert done == cycles, done
        return echo

    def close(self) -> None:
        """Remove both."""
        lib.bench_store_close(self._store)
        self._file.close()


class Reader:
    """The receiving process."""

    def __init__(self, *arguments: object, module: str = "benches.reader") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, kind: str, last: int, touch: str = "none") -> None:
        """Start a block; returns when the process is about to wait."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"kind": kind, "touch": touch, "last": last}) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"

    def answer(self) -> NDArray[np.int64]:
        """Its latencies."""
        assert self._process.stdout is not None
        return np.array(json.loads(self._process.stdout.readline()), np.int64)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def processes(row: Row, options: Options) -> Iterator[tuple[Writer, Reader]]:
    """Writer and reader of one row."""
    epoch = store.new_epoch()
    record = record_layout.HEADER.size + row.sensors * record_layout.ROW.size
    contents = Contents(epoch, describe(row, epoch), [row.payload] * row.sensors, record)
    writer = Writer(options, contents)
    cpu = options.cycle_cpu if row.same_core else options.other_cpu
    shape = (row.sensors, row.payload // 8, DEPTH)
    reader = Reader(cpu, writer.path, writer.mapping, *shape)
    try:
        yield writer, reader
    finally:
        reader.close()
        writer.close()


def take_turns(
    figure: Rounds, row: Row, writer: Writer, reader: Reader, *, rounds: int, ours: str
) -> dict[str, Any]:
    """Blocks of frames (of the reader's kind `ours`) between bare ones; the figure, shown."""

    def bare_block() -> NDArray[np.int64]:
        reader.ask("bare", int(writer.bare.word) + row.cycles, row.touch)
        writer.bare_block(row.period_us, row.cycles)
        return reader.answer()

    def our_block() -> NDArray[np.int64]:
        reader.ask(ours, writer.frames + row.cycles - 1, row.touch)
        writer.frames_block(row.period_us, row.cycles)
        return reader.answer()

    bare_block()
    our_block()
    for _ in range(rounds):
        figure.add(bare_block(), our_block(), bare_block())
    result = figure.result()
    show(result)
    return result


def _measure(row: Row, options: Options) -> dict[str, Any]:
    figure = Rounds(f"latch to Python, {row.name}", goal=row.goal)
    with processes(row, options) as (writer, reader):
        return take_turns(figure, row, writer, reader, rounds=options.rounds, ours="store")


def run(options: Options) -> list[dict[str, Any]]:
    """All rows."""
    return [_measure(row, options) for row in ROWS[:: options.many(1, 3)]]
