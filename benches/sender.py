"""Bare pyzmq: woken by a futex, it sends the same bytes in the same parts as the gateway.

python -m benches.sender MAPPING ENDPOINT PAYLOAD DEPTH HEADER_BYTES
"""

import gc
import mmap
import struct
import sys
from pathlib import Path
from typing import Any

import zmq

from benches.native import ffi, lib

_HEAD = 4096
STAMP = struct.Struct("<qq")
"""number, when it was latched; the rest of the header is zeros"""


def main() -> None:
    """Send every number until the parent closes stdin and ends this process."""
    mapping, endpoint, *numbers = sys.argv[1:]
    payload, depth, header_bytes = map(int, numbers)
    with Path(mapping).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    head = ffi.cast("struct bench_bare *", ffi.from_buffer(memory))
    view = memoryview(memory)
    slots = [view[_HEAD + i * payload :][:payload] for i in range(depth)]
    header = bytearray(header_bytes)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    socket.setsockopt(zmq.SNDHWM, 64)
    socket.bind(endpoint)
    print("ready", flush=True)
    gc.collect()
    gc.freeze()
    gc.disable()
    _send(socket, head, slots, header)


def _send(socket: Any, head: Any, slots: list[memoryview], header: bytearray) -> None:
    wait, pack, stamps, depth = lib.bench_bare_wait, STAMP.pack_into, head.stamp_ns, len(slots)
    large = len(slots[0]) > 4096
    number = newest = int(head.word)
    while True:
        number += 1
        while newest < number:
            newest = wait(head, newest)
        pack(header, 0, number, stamps[number % 64])
        body = slots[number % depth]
        parts = [b"inphase.frame\0", header, *([b"", body] if large else [body])]
        socket.send_multipart(parts, copy=True)


if __name__ == "__main__":
    main()
