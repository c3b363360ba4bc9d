"""The frame header's codec against msgspec's typed struct codec, 16 sensors and 2 actuators.

Both start and end with what Python needs: ours writes a header from a frame record and reads it
back into one, as message.py does for every frame; msgspec encodes a tree of array_like Structs that
is already made, into a buffer that is already there, and decodes into one. Instructions are
counted by callgrind between two calls of getppid, the loop around the calls included on both sides;
times are the best of many short blocks in turns.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np

from benches.machine import Options
from inphase._core import ffi, lib
from inphase.frames import record_layout, wire
from inphase.frames.layout import Layout
from inphase.frames.message import Form

SENSORS = 16
ACTUATORS = (6, 1)
GOAL = 0.6
_CALLS = 500
_BLOCKS = 200
_NOW_NS = 5_000_000_000_000
_MARK = "getppid"
_CASES = ("loop", "ours encode", "ours decode", "msgspec encode", "msgspec decode")


# `struct inphase_frame` as msgspec has it; whatever the header says today
Frame = msgspec.defstruct(
    "Frame",
    [(name, int) for name, _ in ffi.typeof("struct inphase_frame").fields],
    array_like=True,
    gc=False,
)
Row = msgspec.defstruct(
    "Row",
    [(f"n{i}", int) for i in range(len(record_layout.ROW.unpack(bytes(record_layout.ROW.size))))]
    + [("where", int)],
    array_like=True,
    gc=False,
)


class Act(msgspec.Struct, array_like=True, gc=False):
    """`struct inphase_act` and its values."""

    flags: int
    reason: int
    channels: int
    detail: int
    requested: bytes
    applied: bytes


class Header(msgspec.Struct, array_like=True, gc=False):
    """Part 1 of a message."""

    version: int
    hash: str
    epoch: int
    number: int
    sent_ns: int
    frame: Frame  # type: ignore[valid-type]
    rows: list[Row]  # type: ignore[valid-type]
    acts: list[Act]


def make_form() -> Form:
    """16 sensors of one double."""
    layout = Layout(
        robot="bench",
        hash="0123456789abcdef",
        epoch=0x1122334455667788,
        period_ns=1_000_000,
        sensors=tuple(f"s{i}" for i in range(SENSORS)),
        dtypes=(wire.sample_dtype([("x", (), "<f8")]),) * SENSORS,
        units=({"x": ""},) * SENSORS,
        depths=(16,) * SENSORS,
        actuators=tuple((f"a{i}", count, "rad") for i, count in enumerate(ACTUATORS)),
        rates=({},) * SENSORS,
    )
    return Form(layout, wire.places([8] * SENSORS))


def make_record() -> bytes:
    """A frame record with the numbers of a robot that has run for a while."""
    times = [_NOW_NS + 1000 * i for i in range(8)]
    head = (123_456, *times[:5], 123_455, *times[5:7], 40_000, 123_455, -1)
    record = record_layout.HEADER.pack(*head, *[0] * (len(record_layout.HEADER.names) - len(head)))
    count = len(record_layout.ROW.unpack(bytes(record_layout.ROW.size)))
    for sensor in range(SENSORS):
        stamps = [_NOW_NS + 100 * sensor + i for i in range(count - 4)]
        record += record_layout.ROW.pack(123_456, *stamps, 0, 0, 0)
    for channels in ACTUATORS:
        record += record_layout.ACT.pack(1, 0, channels, 0) + np.arange(2.0 * channels).tobytes()
    return record


def make_calls() -> dict[str, Callable[[], Any]]:
    """What is measured, by name. Both sides' headers hold the same values."""
    form, record, there = make_form(), make_record(), bytes([lib.INPHASE_WIRE_HERE] * SENSORS)
    size, c = form.header_size, form.c
    header, back = ffi.new("uint8_t[]", size), ffi.new("uint8_t[]", len(record))
    back_bytes = ffi.buffer(back, len(record))
    number, found = ffi.new("int64_t *"), ffi.new("uint8_t[]", SENSORS)
    found_bytes = ffi.buffer(found, SENSORS)
    pack, unpack, from_buffer = lib.inphase_wire_pack, lib.inphase_wire_unpack, ffi.from_buffer
    source = from_buffer(record)

    def ours_encode() -> None:
        pack(c, source, 123_456, _NOW_NS, there, header, size)

    ours_encode()
    received = bytes(ffi.buffer(header, size))

    def ours_decode() -> tuple[bytes, bytes]:
        unpack(c, from_buffer(received), size, back, number, found)
        return back_bytes[:], found_bytes[:]

    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Header)
    tree = decoder.decode(received)
    assert ours_decode() == (record, there)
    buffer = bytearray(size)
    compact = encoder.encode(tree)
    assert msgpack.unpackb(compact) == msgpack.unpackb(received), "both hold the same"

    def msgspec_encode() -> None:
        encoder.encode_into(tree, buffer)

    def msgspec_decode() -> Any:
        return decoder.decode(compact)

    calls = (lambda: None, ours_encode, ours_decode, msgspec_encode, msgspec_decode)
    return dict(zip(_CASES, calls, strict=True))


def child() -> None:
    """Under callgrind: each case between two marks."""
    calls = make_calls()
    for call in calls.values():
        call()
    for call in calls.values():
        os.getppid()
        for _ in repeat(None, _CALLS):
            call()
        os.getppid()


def count_instructions() -> dict[str, float]:
    """Per call, of a process under callgrind."""
    if shutil.which("valgrind") is None:
        sys.exit("benches: instructions are counted by callgrind; install valgrind")
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        options = [f"--dump-before={_MARK}", f"--callgrind-out-file={folder}/out"]
        subprocess.run(
            ["valgrind", "--tool=callgrind", *options, sys.executable, "-m", "benches.codec"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
            capture_output=True,
        )
        # dump 1 is what came before the first mark, dump 2 the first case, dump 3 what is between
        dumps = [Path(folder, f"out.{2 * i + 2}").read_text() for i in range(len(_CASES))]
    return {name: _total(dump) / _CALLS for name, dump in zip(_CASES, dumps, strict=True)}


def _total(dump: str) -> int:
    (line,) = (line for line in dump.splitlines() if line.startswith("totals:"))
    return int(line.split()[1])


def measure_times(blocks: int) -> dict[str, float]:
    """Nanoseconds per call, the best block of each."""
    calls = make_calls()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(blocks):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            for _ in repeat(None, _CALLS):
                call()
            best[name] = min(best[name], (time.perf_counter_ns() - start) / _CALLS)
    return best


def run(options: Options) -> list[dict[str, Any]]:
    """Encode and decode."""
    if options.smoke and shutil.which("valgrind") is None:
        print("instructions: not counted, valgrind is not installed")
        measure_times(1)
        return []
    instructions = count_instructions()
    times = measure_times(_BLOCKS // 10 if options.quick else _BLOCKS)
    print(
        f"loop and an empty call: {instructions['loop']:.0f} instructions, {times['loop']:.0f} ns"
    )
    results = []
    for way in ("encode", "decode"):
        ours, yardstick = f"ours {way}", f"msgspec {way}"
        ratio = instructions[ours] / instructions[yardstick]
        result = {
            "name": f"header codec, {way}, {SENSORS} sensors",
            "instructions": round(instructions[ours]),
            "yardstick_instructions": round(instructions[yardstick]),
            "ratio": ratio,
            "ns": times[ours],
            "yardstick_ns": times[yardstick],
            "ratio_time": times[ours] / times[yardstick],
            "goal": GOAL,
            "verdict": "reached" if ratio <= GOAL else "missed",
        }
        print(
            f"{way}: {result['instructions']} instructions, msgspec "
            f"{result['yardstick_instructions']}, ratio {ratio:.2f} (goal {GOAL}, "
            f"{result['verdict']}); {times[ours]:.0f} ns, msgspec {times[yardstick]:.0f} ns, "
            f"ratio {result['ratio_time']:.2f}"
        )
        results.append(result)
    return results


if __name__ == "__main__":
    child()
