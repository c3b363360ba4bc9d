"""A gigabyte recording read into NumPy columns, against the official Python reader.

    python -m benches.reading WAY FILE    one reading, in a process of its own: JSON on stdout

The recording is the demo robot's, with the chunks of some 25 MB again and again. Ours reads every
number of every frame and of both sensors, a stretch at a time, and keeps three columns. `mcap`
gives each message as bytes, in the order of the file, and no number is read: less than what ours
does. With protobuf it also parses each message and takes those three columns out, on a tenth of
the file. A sample is the CPU time of a reading after its imports. Columns are compared.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options

_ROOT = Path(__file__).resolve().parent.parent
_CYCLES = 20_000
_STRETCH = 8192
_GIGABYTE = 1_000_000_000
_GOAL = 1 / 3
"""of the CPU time of the reader that gives messages alone"""
Columns = dict[str, NDArray[Any]]


def make(path: Path, size: int) -> int:
    """A recording of at least so many bytes; the number of its frames."""
    from mcap import records

    from inphase.episodes import lockstep
    from inphase.recording import facts
    from inphase.recording.chunk import Chunk
    from inphase.recording.mcap_file import McapFile
    from inphase.recording.mcap_scan import mapped, scan
    from inphase.schedule import load

    short = path.with_name("short.mcap")
    lockstep.run(load(_ROOT / "schedules" / "demo.toml"), _CYCLES, record=short)
    memory = mapped(short)
    found = scan(memory)
    described = [one for one in found.metadata if one.name != facts.END]
    schemas, channels = list(found.schemas.values()), list(found.channels.values())
    file = McapFile(path, "benches", schemas, channels, described)
    chunks: list[Chunk] = list(_chunks(memory))
    while file.size < size:
        for chunk in chunks:
            assert file.write(chunk)
    end = {"state": facts.COMPLETE, "frames": str(file.counts[0])}
    file.close(records.Metadata(facts.END, end))
    memory.close()
    short.unlink()
    return file.counts[0]


def _chunks(memory: Any) -> Any:
    """Those of a whole file, as they are written."""
    from mcap.opcode import Opcode

    from inphase.recording.chunk import Chunk
    from inphase.recording.mcap_file import MAGIC

    at, held = len(MAGIC), None
    while memory[at] != Opcode.DATA_END:
        opcode, length = memory[at], int.from_bytes(memory[at + 1 : at + 9], "little")
        end = at + 9 + length
        if opcode == Opcode.CHUNK:
            head = at + 9 + 40  # without a name of a compression
            start, last = (
                int.from_bytes(memory[at + place : at + place + 8], "little") for place in (9, 17)
            )
            crc = int.from_bytes(memory[at + 33 : at + 37], "little")
            held = Chunk((memory[head:end],), crc, {}, start, last)
        elif opcode == Opcode.MESSAGE_INDEX:
            assert held is not None
            channel = int.from_bytes(memory[at + 9 : at + 11], "little")
            held.indices[channel] = bytes(memory[at + 15 : end])
        at = end
        if held is not None and memory[at] != Opcode.MESSAGE_INDEX:
            yield held
            held = None


# ---- ways --------------------------------------------------------------------------------------


def read_ours(path: Path) -> Columns:
    """All numbers of all frames and samples, and three columns of them."""
    from inphase.recording.recording import Recording

    with Recording(path) as recording:
        cycles = np.empty(len(recording), np.int64)
        ages = np.empty(len(recording), np.int64)
        first = 0
        for frames in recording.stretches(_STRETCH):
            stretch = slice(first, first + len(frames))
            cycles[stretch] = frames["cycle"]
            ages[stretch] = frames["sensors.wrench.age_ns"]
            first += len(frames)
        positions = []
        for sensor in recording.layout.sensors:
            for at in range(0, len(recording.sequences(sensor)), _STRETCH):
                samples = recording.samples(sensor, at, at + _STRETCH)
                if sensor == "joints":
                    positions.append(np.ascontiguousarray(samples["value.position"]))
                recording.forget()
        return {"cycle": cycles, "age": ages, "position": np.concatenate(positions)}


def read_messages(path: Path) -> Columns:
    """Each message as bytes."""
    from mcap.reader import make_reader

    count = 0
    with path.open("rb") as file:
        for _, channel, _message in make_reader(file).iter_messages(log_time_order=False):
            count += channel.topic == "/frame"
    return {"count": np.array(count)}


def read_parsed(path: Path) -> Columns:
    """Each message parsed by protobuf, and three columns."""
    from mcap.reader import make_reader

    sys.path.insert(0, str(_ROOT / "tests"))
    from recorded_runs import message_class

    cycles, ages, positions = [], [], []
    kinds: dict[int, Any] = {}
    with path.open("rb") as file:
        for schema, channel, one in make_reader(file).iter_messages(log_time_order=False):
            assert schema is not None
            if schema.id not in kinds:
                kinds[schema.id] = message_class(schema.data, schema.name)
            parsed = kinds[schema.id].FromString(one.data)
            if channel.topic == "/frame":
                row = parsed.sensors.wrench
                cycles.append(parsed.cycle)
                ages.append(row.age_ns if row.HasField("age_ns") else -0x7FFFFFFFFFFFFFFF)
            elif channel.topic == "/sensors/joints":
                positions.append(parsed.value.position)
    return {"cycle": np.array(cycles), "age": np.array(ages), "position": np.array(positions)}


WAYS: dict[str, Callable[[Path], Columns]] = {
    "ours": read_ours,
    "mcap": read_messages,
    "parsed": read_parsed,
}


def child(way: str, path: Path) -> None:
    """One reading: CPU time, peak memory beyond the columns, and sums of the columns."""
    import google.protobuf
    import mcap.reader

    import inphase.recording.recording

    del google, mcap, inphase
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time_ns()
    columns = WAYS[way](path)
    took = time.process_time_ns() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    kept = sum(column.nbytes for column in columns.values())
    print(
        json.dumps(
            {
                "cpu_ns": took,
                "peak_mb": peak / 1024,
                "kept_mb": kept / 1e6,
                "rows": {name: len(np.atleast_1d(one)) for name, one in columns.items()},
                "sums": {name: float(np.sum(one, dtype=float)) for name, one in columns.items()},
            }
        )
    )


def read(way: str, path: Path) -> dict[str, Any]:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benches.reading", way, str(path)],
        cwd=_ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _compare(name: str, ours: str, other: str, path: Path, rounds: int) -> dict[str, Any]:
    """Rounds of other, ours, other."""
    figure = Rounds(name, goal=_GOAL)
    peak = 0.0
    for _ in range(rounds):
        found = [read(way, path) for way in (other, ours, other)]
        if other == "parsed":
            assert found[0]["sums"] == found[1]["sums"], "both read the same numbers"
        peak = max(peak, found[1]["peak_mb"])
        figure.add(*(np.array([one["cpu_ns"]]) for one in found))
    result = figure.result()
    result |= {"bytes": path.stat().st_size, "peak_mb": peak, "kept_mb": found[1]["kept_mb"]}
    show(result)
    print(
        f"  {1 / result['ratio']['p50']:.1f} times as fast; at most {peak:.0f} MB more in memory, "
        f"of which the columns are {result['kept_mb']:.0f}",
        flush=True,
    )
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """A gigabyte against messages alone, a tenth of it against numbers."""
    size = _GIGABYTE // 10 if options.quick else _GIGABYTE
    size = options.many(size, 10_000_000)
    rounds = options.many(max(3, options.rounds // 20), 1)
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        large, small = Path(folder) / "large.mcap", Path(folder) / "small.mcap"
        frames = make(large, size)
        make(small, size // 10)
        print(f"{large.stat().st_size} bytes, {frames} frames")
        return [
            _compare("columns, against messages of mcap", "ours", "mcap", large, rounds),
            _compare("columns, against mcap and protobuf", "ours", "parsed", small, rounds),
        ]


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]))
