"""The cycle of a served robot from afar: its frames come, and commands go."""

import contextlib
import time
import tomllib
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Self

import msgpack
import msgspec
import zmq

from inphase.client.camera_view import Images, decoded, views_of
from inphase.client.clocks import RobotClock
from inphase.client.connection import ServiceConnection
from inphase.client.kinds import PING, PONG
from inphase.client.pace import Pace, Rhythm, pace_of
from inphase.errors import LeaseRefused, WireError
from inphase.frames import wire, zero_frame
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.store import Lost
from inphase.policy.command_buffer import CommandBuffer
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, REFUSED

_HELLO_S = 0.1
_PING_S = 1.0
_TRIPS = 9
_WAY_S = 3.0
# plain numbers: pyzmq's flags cost more to be combined than a short message to be sent
_NOW, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)


class RemoteDrive:
    """Frames from a robot, and commands to it. A context manager and an iterator. Thread: one.

    The arguments are those of `RemoteLease.drive`.
    """

    def __init__(
        self,
        connection: ServiceConnection,
        standing: dict[str, Any],
        *,
        images: Images = True,
        person: bool = False,
        inference_s: float = 0.0,
        adapt: bool = False,
    ) -> None:
        self._lease = int(standing["lease"])
        self._views = views_of(images)
        self._codecs: dict[int, str] = {}
        """by sensor, of those whose images come encoded"""
        hello = {"lease": self._lease, "token": standing["token"], "person": person}
        self._hello = msgspec.msgpack.encode(hello | {"images": self._views})
        self._inference_ns = round(inference_s * 1e9)
        self._adapts = adapt
        self.round_trip_ns: int | None = None
        """the shortest of those that were measured at the start; None: none was"""
        self.pace = Pace()
        """the frames that are answered"""
        self._connection = connection  # whose end is this one's
        self._socket = connection.socket(standing["drive"])
        self._form: Form | None = None
        self._image_cycle = -1
        self._pinged_s = 0.0
        self._wait_ms = -1
        """that a receive waits at most; -1: without end"""
        self.clock = RobotClock()
        """the robot's clock as this host sees it"""
        self.frame: Frame | None = None
        """the newest one"""
        self.description: dict[str, Any] = {}
        """all that the robot says of itself"""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self, timeout_s: float = 20.0) -> None:
        """Greet the robot until it answers: its recording begins before it can be driven."""
        end_s = time.monotonic() + timeout_s
        why = "nobody answers"
        self._measure_way()
        while time.monotonic() < end_s:
            self._send(HELLO, self._hello)
            if not self._socket.poll(int(_HELLO_S * 1000)):
                continue
            kind, *content = self._socket.recv_multipart()
            if kind == GREETING:
                self._take_greeting(msgpack.unpackb(content[0]))
                if self.round_trip_ns is None:
                    self._measure_way()
                self._find_pace()
                return
            if kind == REFUSED:
                refused = msgpack.unpackb(content[0])
                why = refused["error"]
                if not refused["early"]:
                    break
                time.sleep(_HELLO_S)
        raise LeaseRefused(f"the robot is not to be driven: {why}")

    def _measure_way(self) -> None:
        """The round trip is the shortest of some: no answer can be quicker."""
        trips: list[int] = []
        end_s = time.monotonic() + _WAY_S
        while len(trips) < _TRIPS and (left_s := end_s - time.monotonic()) > 0:
            sent_ns = time.monotonic_ns()
            self._send(PING, sent_ns.to_bytes(8, "little"))
            while self._socket.poll(max(1, int(left_s * 1000))):
                kind, *parts = self._socket.recv_multipart()
                if kind == PONG:
                    sent, _ = msgpack.unpackb(parts[0])  # of an earlier one too
                    trips.append(time.monotonic_ns() - int.from_bytes(sent, "little"))
                    self._hear(kind, parts)
                    break
                left_s = end_s - time.monotonic()
        self.round_trip_ns = min(trips, default=None)

    def _find_pace(self) -> None:
        """Raises ServiceError: the answers would be too late."""
        if self.round_trip_ns is not None:
            self.pace = pace_of(
                self._rhythm, self.round_trip_ns, self._inference_ns, adapt=self._adapts
            )

    def measure(self, policy: Callable[[Frame], Any], times: int = 10) -> float:
        """How long a policy takes, in seconds: the median of so many calls with a frame of zeros.

        Its `reset` is called afterwards, if it has one. From then on answers are paced by that.
        Raises ServiceError where they would be too late, with the figures, and what it raises.
        """
        blank = zero_frame.frame(self.layout)
        took_ns = []
        for _ in range(times):
            begun_ns = time.perf_counter_ns()
            policy(blank)
            took_ns.append(time.perf_counter_ns() - begun_ns)
        reset = getattr(policy, "reset", None)
        if callable(reset):
            reset()
        self._inference_ns = int(median(took_ns))
        self._find_pace()
        while self._socket.poll(0):  # frames that came meanwhile are too old to be answered
            with contextlib.suppress(TimeoutError):
                self._next(0.05)
        return self._inference_ns * 1e-9

    def _take_greeting(self, greeting: dict[str, Any]) -> None:
        """Raises WireError."""
        try:
            description = greeting["description"]
            self._rhythm = Rhythm.of(greeting)
            self._form = Form.from_description(description)
            policy = tomllib.loads(description["schedule"]).get("policy", {})
            chunk = int(policy.get("chunk", 1))
        except Exception as error:  # it came over a network
            raise WireError(f"the robot is of another version: {error}") from error
        if not isinstance(self._views, bool):
            indices = self._form.layout.indices
            views = {indices[name]: view.codec for name, view in self._views.items()}
            self._codecs = {sensor: codec for sensor, codec in views.items() if codec != "raw"}
        self.description = description
        actuators = self._form.layout.actuators
        self._buffer = CommandBuffer(actuators, chunk)
        channels = sum(count for _, count, _ in actuators)
        self._shape = [channels] if chunk == 1 else [chunk, channels]

    @property
    def layout(self) -> Layout:
        """Names, dtypes and units of the robot's sensors and actuators."""
        assert self._form is not None
        return self._form.layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a command: (channels,), or (chunk, channels) where the schedule has chunks."""
        return tuple(self._shape)

    def next(self, timeout_s: float | None = 5.0) -> Frame:
        """The next frame that is to be answered. Raises TimeoutError, LeaseRefused where the lease
        has ended, and store.Lost where the robot has.

        At a pace of fewer answers it is the newest that has come.
        """
        frame = self._next(timeout_s)
        skipped = 1
        while self.pace.answers > 1 and (skipped < self.pace.answers or self._socket.poll(0)):
            frame = self._next(timeout_s)
            skipped += 1
        return frame

    def _next(self, timeout_s: float | None) -> Frame:
        assert self._form is not None
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._ping()
            left_s = _PING_S if end_s is None else min(_PING_S, end_s - time.monotonic())
            if left_s < 0:
                raise TimeoutError("no frame came in time: the robot, or the way to it, is away")
            try:
                kind, *parts = self._receive(int(left_s * 1000) + 1)
            except zmq.Again:
                continue
            if kind == FRAME:
                self.frame, _ = self._form.read(self._decoded([wire.TOPIC_FRAME, *parts]))
                self._note_images(self.frame)
                return self.frame
            self._hear(kind, parts)

    def _receive(self, wait_ms: int) -> list[Any]:
        """A message: a wait in one call, where it has to be waited for. Raises zmq.Again."""
        if wait_ms != self._wait_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            self._wait_ms = wait_ms
        part = self._socket.recv(copy=False)
        parts = [part.bytes]
        while part.more:
            part = self._socket.recv(copy=False)
            parts.append(part.bytes)
        return parts

    def _decoded(self, parts: list[bytes]) -> list[bytes]:
        """The message with the images as pixels."""
        assert self._form is not None
        for sensor, codec in self._codecs.items():
            part = self._form.places[sensor].part
            if part < len(parts) and parts[part]:
                layout = self._form.layout
                name, dtype = layout.sensors[sensor], layout.dtypes[sensor]
                parts[part] = decoded(name, parts[part], codec, dtype)
        return parts

    def _note_images(self, frame: Frame) -> None:
        """The newest image that is here, and no other one, is what a command is made from."""
        assert self._form is not None
        for sensor in self._form.large:
            sample = frame[self._form.layout.sensors[sensor]]
            is_here = sample.sequence >= 0 and sample.intact
            if is_here and sample.cycle is not None and sample.status in ("FRESH", "HELD"):
                self._image_cycle = max(self._image_cycle, sample.cycle)

    def _ping(self) -> None:
        now_s = time.monotonic()
        if now_s - self._pinged_s > _PING_S:
            self._pinged_s = now_s
            self._send(PING, time.monotonic_ns().to_bytes(8, "little"))

    def _send(self, kind: bytes, content: bytes) -> None:
        """Never waits: where the way is full it is dropped, and a later one is as good."""
        with contextlib.suppress(zmq.Again):
            self._socket.send(kind, _MORE)
            self._socket.send(content, _NOW)

    def _hear(self, kind: bytes, parts: list[bytes]) -> None:
        if kind == PONG:
            sent, robot_ns = msgpack.unpackb(parts[0])
            self.clock.hear(int.from_bytes(sent, "little"), robot_ns, time.monotonic_ns())
        elif kind == REFUSED:
            raise LeaseRefused(str(msgpack.unpackb(parts[0])["error"]))
        elif kind == END:
            raise Lost("the robot has stopped")

    def act(self, command: Any, frame: Frame | None = None) -> None:
        """Answer a frame, the newest by default.

        command: as a policy's: float64 of shape (channels,) of all actuators in schedule order, in
        SI, or a dict of such by actuator; of shape (chunk, channels) where the schedule has chunks.
        Never waits. Raises ValueError for what is no command.
        """
        frame = frame or self.frame
        assert frame is not None, "no frame has come yet"
        if trouble := self._buffer.fill(command):
            raise ValueError(f"no command ({trouble}): {command!r}; it has the shape {self._shape}")
        content = {
            "lease": self._lease,
            "cycle": frame.cycle,
            "image_cycle": self._image_cycle,
            "shape": self._shape,
            "values": self._buffer.tobytes(),
        }
        self._send(COMMAND, msgpack.packb(content))

    def __iter__(self) -> Iterator[Frame]:
        with contextlib.suppress(Lost):
            while True:
                yield self.next()

    def close(self) -> None:
        """Drive no more; the robot ramps."""
        with contextlib.suppress(zmq.ZMQError):  # closed already
            self._send(END, b"")
        self._socket.close(100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
