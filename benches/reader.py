"""A process that receives: through the product's follower, or bare, as little as Python can do.

    python -m benches.reader CPU STORE MAPPING SENSORS WORDS DEPTH

A line of JSON on stdin asks for a block: kind (store, bare, echo), touch (none, sixteen, checked,
sum), last (the number after which it ends). `ready`, then the latencies come back on stdout.
"""

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.blocks import serve
from benches.native import ffi, lib
from inphase.frame import Frame
from inphase.frames.store_follower import StoreFollower

_HEAD = 4096


class Bare:
    """The yardstick: a futex word, stamps, and NumPy views that were made before."""

    def __init__(self, path: str, sensors: int, words: int, depth: int) -> None:
        with Path(path).open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        dtype = np.dtype([("x", "<f8", (words,))])
        self.views: list[list[NDArray[Any]]] = [
            [
                np.ndarray((), dtype, self.memory, _HEAD + (slot * sensors + i) * words * 8)
                for i in range(sensors)
            ]
            for slot in range(depth)
        ]
        self.depth = depth
        self.head = ffi.cast("struct bench_bare *", ffi.from_buffer(self.memory))

    def receive(self, touch: str, last: int) -> list[int]:
        """Latencies of the numbers up to `last`."""
        use = _BARE[touch]
        wait, head, views, depth = lib.bench_bare_wait, self.head, self.views, self.depth
        stamps = head.stamp_ns
        number = newest = int(head.word)
        late = []
        while number < last:
            number += 1
            while newest < number:
                newest = wait(head, newest)
            use(views[number % depth])
            late.append(monotonic_ns() - stamps[number % 64])
        return late

    def echo(self, last: int) -> None:
        """Answer every number, newest first, and measure nothing."""
        wait, answer, head = lib.bench_bare_wait, lib.bench_bare_echo, self.head
        newest = int(head.word)
        while newest < last:
            newest = wait(head, newest)
            answer(head, newest)


def _bare_sixteen(views: list[NDArray[Any]]) -> float:
    total = 0.0
    for view in views:
        total += view["x"][0]
    return total


_BARE: dict[str, Callable[[list[NDArray[Any]]], object]] = {
    "none": lambda views: None,
    "sixteen": _bare_sixteen,
    "checked": _bare_sixteen,
    "sum": lambda views: views[0]["x"].sum(),
}


def _frame_sixteen(frame: Frame) -> float:
    total = 0.0
    for sample in frame.samples.values():
        total += sample.value["x"][0]
    return total


def _frame_checked(frame: Frame) -> float:
    total = _frame_sixteen(frame)
    assert frame.intact
    return total


_FRAME: dict[str, Callable[[Frame], object]] = {
    "none": lambda frame: None,
    "sixteen": _frame_sixteen,
    "checked": _frame_checked,
    "sum": lambda frame: frame["s0"].value["x"].sum(),
}


def receive_frames(follower: StoreFollower, touch: str, last: int) -> list[int]:
    """Latencies of the frames up to cycle `last`."""
    use = _FRAME[touch]
    late = []
    while True:
        frame = follower.next()
        use(frame)
        late.append(monotonic_ns() - frame.latched_ns)
        if frame.cycle >= last:
            return late


def main() -> None:
    """Serve blocks until stdin ends."""
    cpu, store_path, mapping, *shape = sys.argv[1:]
    if int(cpu) >= 0:
        os.sched_setaffinity(0, [int(cpu)])
    bare = Bare(mapping, *map(int, shape))
    follower = StoreFollower(store_path) if store_path else None

    def receive(asked: dict[str, Any]) -> list[int]:
        if asked["kind"] == "echo":
            bare.echo(asked["last"])
            return []
        if asked["kind"] == "bare":
            return bare.receive(asked["touch"], asked["last"])
        assert follower is not None
        return receive_frames(follower, asked["touch"], asked["last"])

    serve(receive)


if __name__ == "__main__":
    main()
