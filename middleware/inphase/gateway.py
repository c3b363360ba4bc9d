"""The gateway: a process that puts a store's frames on ZeroMQ. WIRE.md is the format's page.

    python -m inphase.gateway SCHEDULE STORE

One thread follows the store and sends; asyncio on uvloop serves the control socket and nothing on
the way of a frame.
"""

import asyncio
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import msgpack
import uvloop
import zmq
import zmq.asyncio

from inphase import process, schedule, store, wire
from inphase.follow import SLOT_HEADER, StoreFollower
from inphase.frame import Frame
from inphase.packets import clock_ns
from inphase.schedule import Gateway, Schedule

_QUEUE = 64  # frames that wait for a slow subscriber before they are dropped, and seen as lost
_REQUEST_BYTES = 65_536
_HEARTBEAT_MS = 1_000
_WAIT_S = 0.1
_DRAIN_EVERY = 32  # frames between two looks at who subscribed


def set_defaults(socket: "zmq.Socket[Any]", queue: int) -> None:
    """What libzmq leaves without bound by default: queues, message size, linger, heartbeat."""
    socket.setsockopt(zmq.LINGER, 100)
    socket.setsockopt(zmq.SNDHWM, queue)
    socket.setsockopt(zmq.RCVHWM, queue)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS)


def _bind(socket: "zmq.Socket[Any]", endpoint: str, readable_by_group: bool) -> None:
    """Bind; an ipc socket is its owner's (and its group's) alone."""
    path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc:///") else None
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    socket.bind(endpoint)
    if path is not None:
        mode = stat.S_IRUSR | stat.S_IWUSR
        Path(path).chmod(mode | (stat.S_IRGRP | stat.S_IWGRP if readable_by_group else 0))


class Encoder:
    """Makes a frame's message parts. Thread: the sender's."""

    def __init__(self, follower: StoreFollower) -> None:
        self._follower = follower
        self._hash = follower.layout.hash
        self._packer = msgpack.Packer()
        sizes = [ring[2] for ring in follower.reader.rings]
        self._offsets = wire.part_offsets(sizes)
        self._packed = bytearray(sum(s for s in sizes if s <= wire.PACKED_MAX))
        self._number = -1

    def parts(self, frame: Frame) -> list[Any]:
        """Topic, header, packed samples, then one part per large sample."""
        self._number += 1 + frame.lost
        layout = self._follower.layout
        rows = list(wire.ROW.iter_unpack(frame.record[wire.HEADER.size : layout.acts_offset]))
        large: list[bytes] = []
        recycled = []
        for sensor, row in enumerate(rows):
            if row[0] >= 0 and not self._copy(sensor, row[0], large):
                recycled.append(sensor)
        header = self._packer.pack(
            [
                wire.VERSION,
                self._hash,
                self._number,
                clock_ns(),
                frame.header,
                rows,
                frame.record[layout.acts_offset :],
                recycled,
            ]
        )
        return [wire.TOPIC_FRAME, header, bytes(self._packed), *large]

    def _copy(self, sensor: int, sequence: int, large: list[bytes]) -> bool:
        """Copy a payload once out of the ring, then check its slot."""
        reader = self._follower.reader
        start, stride, size, depth = reader.rings[sensor]
        at = start + (sequence & (depth - 1)) * stride + SLOT_HEADER
        offset = self._offsets[sensor]
        if offset < 0:
            large.append(reader.memory[at : at + size])
        else:
            self._packed[offset : offset + size] = reader.memory[at : at + size]
        return reader.intact(sensor, sequence)


class Sender(threading.Thread):
    """Follows the store and sends each frame, until the store ends or `stop` is set."""

    def __init__(self, follower: StoreFollower, endpoint: str, readable_by_group: bool) -> None:
        super().__init__(name="inphase gateway", daemon=True)
        self._follower = follower
        self.stop = threading.Event()
        self.done = threading.Event()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        set_defaults(self._socket, _QUEUE)
        description = wire.TOPIC_DESCRIPTION + follower.reader.description
        self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, description)
        _bind(self._socket, endpoint, readable_by_group)

    def run(self) -> None:
        """The frame path."""
        encoder = Encoder(self._follower)
        socket, follower = self._socket, self._follower
        sent = 0
        while not self.stop.is_set():
            try:
                frame = follower.next(timeout_s=_WAIT_S)
            except TimeoutError:
                self._drain()
                continue
            except store.Lost:
                break
            socket.send_multipart(encoder.parts(frame), copy=True)
            sent += 1
            if sent % _DRAIN_EVERY == 0:
                self._drain()
        socket.send(wire.TOPIC_END)
        socket.close()
        self.done.set()

    def _drain(self) -> None:
        """Take in who subscribed; libzmq acts on it by itself, but only when it is read."""
        for _ in range(_QUEUE):
            if not self._socket.poll(0):
                return
            self._socket.recv()


class Control:
    """The ROUTER socket: MessagePack requests, each answered or refused."""

    def __init__(self, follower: StoreFollower) -> None:
        self._follower = follower

    def answer(self, request: bytes) -> bytes:
        """The reply to one request, whatever it holds."""
        ident: Any = None
        try:
            asked = msgpack.unpackb(
                request,
                max_str_len=4096,
                max_bin_len=4096,
                max_array_len=64,
                max_map_len=64,
                max_ext_len=0,
            )
            if not isinstance(asked, dict) or not isinstance(asked.get("do"), str):
                raise ValueError('a request is a map with a string "do"')
            ident = asked.get("id")
            return bytes(msgpack.packb({"id": ident, "ok": True, **self._do(asked["do"])}))
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            return bytes(msgpack.packb({"id": ident, "ok": False, "error": str(error)}))

    def _do(self, what: str) -> dict[str, Any]:
        reader = self._follower.reader
        if what == "ping":
            return {}
        if what == "describe":
            return {"description": reader.description}
        if what == "status":
            return {"status": reader.status(), "counts": reader.counts()}
        raise ValueError(f"no request {what!r}; there are describe, ping, status")

    async def serve(self, endpoint: str, readable_by_group: bool) -> None:
        """Answer until cancelled; a client that does not take its reply is dropped."""
        socket = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
        set_defaults(socket, _QUEUE)
        socket.setsockopt(zmq.MAXMSGSIZE, _REQUEST_BYTES)
        _bind(socket, endpoint, readable_by_group)
        try:
            while True:
                client, *parts = await socket.recv_multipart()
                if parts:
                    await socket.send_multipart([client, *parts[:-1], self.answer(parts[-1])])
        finally:
            socket.close()


async def _serve(gateway: Gateway, store_path: str, readable_by_group: bool) -> None:
    sender = Sender(StoreFollower(store_path), gateway.endpoint, readable_by_group)
    sender.start()
    control = None
    if gateway.control is not None:
        server = Control(StoreFollower(store_path))
        control = asyncio.create_task(server.serve(gateway.control, readable_by_group))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.run_in_executor(None, lambda: (sender.done.wait(), loop.call_soon_threadsafe(ended.set)))
    await asyncio.sleep(0)
    if control is not None and control.done():
        control.result()
    process.say_ready()
    await ended.wait()
    sender.stop.set()
    sender.join(1.0)
    if control is not None:
        control.cancel()


def serve(described: Schedule, store_path: str) -> None:
    """Run the gateway until the store ends or SIGTERM comes."""
    assert described.gateway is not None
    uvloop.run(_serve(described.gateway, store_path, described.store.group is not None))


def main() -> None:
    """Entry of the process."""
    process.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path, store_path = sys.argv[1:3]
    described = schedule.load(Path(path))
    try:
        serve(described, store_path)
    except zmq.ZMQError as error:
        print(f"gateway: {described.gateway}: {error}; is another robot using it?", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
