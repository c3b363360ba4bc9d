"""Subscribing to a robot's frames: from the store on the same host, else over ZeroMQ."""

import contextlib
import math
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import zmq

from inphase.access.client_key import ClientKey
from inphase.errors import StoreError, WireError
from inphase.frames import store, wire
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names

Transport = Literal["auto", "store", "zmq"]

_QUEUE = 64  # messages that wait here for a slow reader; further ones are dropped and counted
_MESSAGE_BYTES = 64 << 20
_DEAF_S = 3.0  # of silence, after which the socket may be deaf for good; a cycle has 1 s at most


def subscribe(
    endpoint: str,
    *,
    transport: Transport = "auto",
    timeout_s: float | None = 5.0,
    key: str | Path | None = None,
) -> "Subscription":
    """Follow a robot's frames; a context manager and an iterator.

    endpoint: a robot's name (on this host), its store's path, or its gateway's `ipc://` or `tcp://`
    address.

    transport: "auto" reads the store without copying when the robot is on this host; "store" and
    "zmq" insist. timeout_s: the longest wait for the robot, now and for each frame; None: for ever.

    key: the client file that `inphase keys create` wrote, for a gateway that asks for keys.

    Raises AccessError for a file that is no key, or that others may read. Raises StoreError when
    there is no such robot or store, or two of that name run. Raises TimeoutError when nobody
    answers, and WireError for an answer in another format.
    """
    if transport not in ("auto", "store", "zmq"):
        raise ValueError(f"transport must be auto, store or zmq, got {transport!r}")
    if "://" not in endpoint:
        follower = StoreFollower.of_robot(endpoint)
        if transport != "zmq":
            return Subscription(follower, timeout_s)
        endpoint = _gateway_of(follower)
        follower.close()
    source = ZmqFollower(endpoint, timeout_s, key=None if key is None else ClientKey.load(key))
    if transport == "zmq":
        source.start()
        return Subscription(source, timeout_s)
    local = _local_store(source.description)
    if local is None and transport == "auto":
        source.start()
        return Subscription(source, timeout_s)
    source.close()
    if local is None:
        raise StoreError(f"the store of {endpoint} cannot be read here; use transport='zmq'")
    return Subscription(local, timeout_s)


def _gateway_of(follower: StoreFollower) -> str:
    """The endpoint in the schedule of a robot on this host. Raises StoreError."""
    robot = follower.layout.robot
    try:
        described = tomllib.loads(follower.description["schedule"])
        gateway = described.get("gateway")
        endpoint = None if gateway is None else str(gateway["endpoint"])
    except Exception as error:  # another process wrote it
        raise StoreError(f"the store of {robot} has no schedule: {error!r}") from error
    if endpoint is None:
        raise StoreError(f"{robot} has no [gateway]; use transport='store'")
    return endpoint


def _local_store(description: dict[str, Any]) -> StoreFollower | None:
    """The robot's store, if this is its host, it is that very run's, and we may read it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = description.get("store")
    if description.get("host") != boot or not isinstance(path, str):
        return None
    if not store_names.is_alive(path):
        return None
    try:
        follower = StoreFollower(path)
    except StoreError:
        return None
    if follower.layout.epoch != description["epoch"]:
        follower.close()
        return None
    return follower


class Subscription:
    """An iterator over frames; `close` ends it. Thread: one at a time."""

    def __init__(self, source: "StoreFollower | ZmqFollower", timeout_s: float | None) -> None:
        self._source = source
        self._timeout_s = timeout_s

    @property
    def transport(self) -> str:
        """`store` or `zmq`."""
        return "store" if isinstance(self._source, StoreFollower) else "zmq"

    @property
    def store(self) -> store.Reader | None:
        """The store that is followed; None: over ZeroMQ."""
        return self._source.reader if isinstance(self._source, StoreFollower) else None

    @property
    def number(self) -> int:
        """Number in the store of the frame that was given last; -1 before the first."""
        return self._source.number

    @property
    def layout(self) -> Layout:
        """Names, dtypes, units."""
        return self._source.layout

    @property
    def description(self) -> dict[str, Any]:
        """All that the robot says of itself, its schedule included; WIRE.md names the keys."""
        return self._source.description

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame; timeout_s: None waits as long as was said to `subscribe`.

        Raises TimeoutError, and store.Lost when the robot has stopped.
        """
        return self._source.next(self._timeout_s if timeout_s is None else timeout_s)

    def newest(self, at_s: float) -> Frame:
        """The newest frame at a time of `time.monotonic`, or the first one after it. `lost` of it
        counts those that were left out.

        Raises TimeoutError, and store.Lost when the robot has stopped.
        """
        if isinstance(self._source, ZmqFollower):
            return self._source.newest(at_s, self._timeout_s)
        time.sleep(max(0.0, at_s - time.monotonic()))
        return self._source.next(self._timeout_s, newest=True)

    def __iter__(self) -> Iterator[Frame]:
        following, timeout_s = self._source.next, self._timeout_s
        try:
            while True:
                yield following(timeout_s)
        except store.Lost:
            return

    def close(self) -> None:
        """End it. Views that are held stay readable."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_of(timeout_s: float | None) -> float:
    """When that time from now is over, by the monotonic clock."""
    return math.inf if timeout_s is None else time.monotonic() + timeout_s


class ZmqFollower:
    """Follows a gateway. Frames come after `start`. Thread: one at a time.

    A socket that hears nothing for 3 s is replaced: libzmq leaves one deaf that was refused with
    400, or that was sent a message above its bound, and says so to nobody.
    """

    def __init__(
        self,
        endpoint: str,
        timeout_s: float | None,
        queue: int = _QUEUE,
        key: ClientKey | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._queue = queue
        self._key = key
        self._context: zmq.Context[Any] = zmq.Context()
        self._ended = self._is_started = False
        self._number = -1
        self._epoch = -1
        try:
            self._connect()
            until_s = _end_of(timeout_s)
            message = self._receive(timeout_s, until_s)[0]
            while not message.startswith(wire.TOPIC_DESCRIPTION):
                message = self._receive(timeout_s, until_s)[0]
            self._take_description(message)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        socket = self._socket = self._context.socket(zmq.SUB)
        self._heard_s = time.monotonic()
        self._waits_ms = -1
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, self._queue)
        socket.setsockopt(zmq.MAXMSGSIZE, _MESSAGE_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 0)  # see endpoint.set_bounds
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 2_000)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_DESCRIPTION)
        socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_END)
        if self._is_started:
            socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_FRAME)
        if self._key is not None:
            self._key.secure(socket)
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            raise StoreError(
                f"{self._endpoint!r} cannot be connected to: {error.strerror}; "
                f"give ipc:///path or tcp://host:port"
            ) from error

    def start(self) -> None:
        """Ask for frames."""
        self._is_started = True
        self._socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_FRAME)

    def _take_description(self, message: bytes) -> None:
        """Raises WireError."""
        packed = message[len(wire.TOPIC_DESCRIPTION) :]
        try:
            self.description = wire.unpack_description(packed)
            self._form = Form.from_description(self.description)
        except ValueError as error:
            raise WireError(f"{self._endpoint}: not a description of inphase: {error}") from error
        self.layout = self._form.layout
        if self._epoch != self.layout.epoch:
            self._number = -1  # another run counts anew; a connection made again goes on
        self._epoch = self.layout.epoch
        # a message of small samples is cheaper to copy than to keep
        self._copy = len(self._form.sizes) == wire.PART_PACKED + 1

    def _receive(self, timeout_s: float | None, until_s: float, copy: bool = True) -> list[Any]:
        """A message's parts. Raises TimeoutError, which tells of timeout_s."""
        waits_s = min(until_s - time.monotonic(), _DEAF_S)
        while True:
            try:
                parts = self._receive_within(max(0, round(waits_s * 1000)), copy)
            except zmq.Again:
                now_s = time.monotonic()
                if now_s >= self._heard_s + _DEAF_S:
                    self._socket.close()
                    self._connect()
                waits_s = min(until_s - now_s, _DEAF_S)
                if waits_s > 0:
                    continue
                raise self._silence(timeout_s) from None
            self._heard_s = time.monotonic()
            return parts

    def _silence(self, timeout_s: float | None) -> TimeoutError:
        asks = "" if self._key is None else f"is the key of {self._key.name} admitted there, "
        return TimeoutError(
            f"nothing from {self._endpoint} within {timeout_s} s; {asks}does the robot run, and "
            f"has its schedule a [gateway] with that endpoint?"
        )

    def _receive_within(self, waits_ms: int, copy: bool) -> list[Any]:
        """Raises zmq.Again."""
        if waits_ms != self._waits_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, waits_ms)
            self._waits_ms = waits_ms
        if copy:
            parts: list[Any] = self._socket.recv_multipart()
            return parts
        return [part.buffer for part in self._socket.recv_multipart(copy=False)]

    @property
    def number(self) -> int:
        """Number of the frame that was given last; -1 before the first."""
        return self._number

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame; None waits for ever.

        Raises TimeoutError, WireError, and store.Lost when the robot has said its end.
        """
        # all in all: a socket that was replaced hears the description again, and no frame
        until_s = _end_of(timeout_s)
        while not self._ended:
            parts = self._receive(timeout_s, until_s, self._copy)
            if parts[0] == wire.TOPIC_FRAME:
                frame, number = self._form.read(parts)
                if self._number >= 0:
                    frame.lost = max(0, number - self._number - 1)
                self._number = number
                return frame
            self._note(bytes(parts[0]))
        raise store.Lost(f"the robot at {self._endpoint} has stopped")

    def newest(self, at_s: float, timeout_s: float | None) -> Frame:
        """The newest frame at a time of `time.monotonic`, or the first one after it.

        Messages are taken as they come: ZeroMQ would drop the newest ones where they wait. Raises
        as `next` does.
        """
        frame, number = None, self._number
        with contextlib.suppress(TimeoutError, store.Lost):
            while (left_s := at_s - time.monotonic()) > 0:
                frame = self.next(left_s)
            for _ in range(_QUEUE):
                frame = self.next(0.0)
        if frame is None:
            return self.next(timeout_s)
        frame.lost = max(0, self._number - number - 1) if number >= 0 else frame.lost
        return frame

    def _note(self, message: bytes) -> None:
        """An end; or the description of a gateway that was started again."""
        if message == wire.TOPIC_END:
            self._ended = True
        elif message.startswith(wire.TOPIC_DESCRIPTION):
            self._take_description(message)

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()
