"""Subscribing to a robot's frames: from the store on the same host, else over ZeroMQ."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from inphase import store, wire
from inphase.errors import StoreError
from inphase.follow import StoreFollower
from inphase.frame import Frame, Layout

Transport = Literal["auto", "store", "zmq"]

_QUEUE = 64
_LARGEST = 64 << 20
_POLL_MS = 200


def subscribe(
    endpoint: str, *, transport: Transport = "auto", timeout_s: float = 5.0
) -> "Subscription":
    """Follow a robot's frames.

    endpoint: a robot's name (on this host), or its gateway's `ipc://` or `tcp://` address.
    transport: "auto" reads the store without copying when the robot is on this host; "store" and
    "zmq" insist. timeout_s: how long to wait for the robot.

    Raises StoreError when there is no such robot or store, TimeoutError when the gateway is silent.
    """
    if "://" not in endpoint:
        if transport == "zmq":
            raise StoreError(f"{endpoint!r} is a name; give the gateway's address for ZeroMQ")
        return Subscription(StoreFollower.of_robot(endpoint))
    source = ZmqFollower(endpoint, timeout_s)
    if transport == "zmq":
        return Subscription(source)
    path = _local_store(source.description)
    if path is None:
        if transport == "store":
            source.close()
            raise StoreError(f"the store of {endpoint} cannot be read here; use transport='zmq'")
        return Subscription(source)
    source.close()
    return Subscription(StoreFollower(path))


def _local_store(description: dict[str, Any]) -> str | None:
    """The robot's segment, if this is its host and we may read it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = description.get("store")
    if description.get("host") != boot or not isinstance(path, str):
        return None
    return path if store.is_alive(path) else None


class Subscription:
    """An iterator over frames; `close` ends it. Thread: one at a time."""

    def __init__(self, source: "StoreFollower | ZmqFollower") -> None:
        self._source = source

    @property
    def transport(self) -> str:
        """`store` or `zmq`."""
        return "store" if isinstance(self._source, StoreFollower) else "zmq"

    @property
    def layout(self) -> Layout:
        """Names, dtypes, units."""
        return self._source.layout

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError, and store.Lost when the robot has stopped."""
        return self._source.next(timeout_s)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)

    def close(self) -> None:
        """End it. Views that are held stay readable."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Message:
    """A frame's payloads in the message that brought them."""

    def __init__(self, layout: Layout, parts: list[bytes], recycled: list[int]) -> None:
        self._layout = layout
        self._parts = parts
        self._recycled = recycled

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A read-only view into the message."""
        dtypes = self._layout.dtypes
        offsets = wire.part_offsets([dtype.itemsize for dtype in dtypes])
        part, at = self._parts[0], offsets[sensor]
        if at < 0:
            part, at = self._parts[1 + offsets[:sensor].count(-1)], 0
        return np.ndarray((), dtypes[sensor], part, at)

    def intact(self, sensor: int, sequence: int) -> bool:
        """False for a sample whose slot was recycled before the gateway had copied it."""
        return sensor not in self._recycled


class ZmqFollower:
    """Follows a gateway. Thread: one at a time."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1_000)
        self._socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_DESCRIPTION)
        self._socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_END)
        self._ended = False
        self._next = -1
        try:
            self._socket.connect(endpoint)
            self._describe(timeout_s)
        except BaseException:
            self.close()
            raise
        self._socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_FRAME)

    def _describe(self, timeout_s: float) -> None:
        """The description comes first, before any frame is asked for."""
        if not self._socket.poll(int(timeout_s * 1000)):
            raise TimeoutError(
                f"no robot answers at {self._endpoint} within {timeout_s:.1f} s; does it run, and "
                f"has its schedule a [gateway] with that endpoint?"
            )
        message = self._socket.recv()
        self.description: dict[str, Any] = msgpack.unpackb(
            message.removeprefix(wire.TOPIC_DESCRIPTION)
        )
        self.layout = Layout.from_description(self.description)

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError, and store.Lost when the robot has said its end."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended:
            left_ms = _POLL_MS
            if until is not None:
                left_ms = min(_POLL_MS, int((until - time.monotonic()) * 1000))
            if not self._socket.poll(max(0, left_ms)):
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError
                continue
            parts = self._socket.recv_multipart()
            if parts[0] == wire.TOPIC_FRAME:
                return self._frame(parts)
            self._note(parts[0])
        raise store.Lost(f"the robot at {self._endpoint} has stopped")

    def _note(self, message: bytes) -> None:
        """An end; or the description of a gateway that was started again."""
        if message == wire.TOPIC_END:
            self._ended = True
        elif message.startswith(wire.TOPIC_DESCRIPTION):
            self.description = msgpack.unpackb(message.removeprefix(wire.TOPIC_DESCRIPTION))
            self.layout = Layout.from_description(self.description)
            self._next = -1

    def _frame(self, parts: list[bytes]) -> Frame:
        _, _, number, _, header, rows, acts, recycled = msgpack.unpackb(parts[1], use_list=False)
        record = b"".join((wire.HEADER.pack(*header), *(wire.ROW.pack(*row) for row in rows), acts))
        lost = number - self._next if self._next >= 0 else 0
        self._next = number + 1
        return Frame(self.layout, record, Message(self.layout, parts[2:], recycled), lost)

    def __iter__(self) -> Iterator[Frame]:
        try:
            while True:
                yield self.next()
        except store.Lost:
            return

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()
