"""A robot's frames for viewers that speak Foxglove's WebSocket protocol.

The SDK keeps messages for a viewer that does not take them: so many, whatever their size, and it
then drops the oldest one. The number follows from the largest message, so that their bytes have a
bound.
"""

import contextlib
import ipaddress
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import foxglove
from foxglove.websocket import (
    Capability,
    ChannelView,
    Client,
    ServerListener,
    WebSocketServer,
)

from inphase.errors import ViewError
from inphase.frames.frame import Frame
from inphase.recording.channels import PACKAGE
from inphase.viewing.frame_messages import FrameMessages
from inphase.viewing.seen_robot import SeenRobot

DESCRIPTION_TOPIC = "/description"
_BACKLOG_MAX = 1024  # messages for one viewer, however small they are
_DESCRIBE_NS = 1_000_000_000
_GOODBYE_S = 0.2
_LEAVE_S = 5.0
_RETRY_S = 0.05


class ToldChannel(NamedTuple):
    """A channel, as viewers are told of it."""

    topic: str
    encoding: str
    type_name: str
    schema_encoding: str
    schema: bytes
    about: str


class FoxgloveServer:
    """Serves one robot after the other; `begin` with each, then `show`, and `close` at the end.

    host, port: where it listens; 0 takes a port that is free. limit_bytes: the most that a viewer
    which takes nothing holds, if a message of each channel fits into it. Thread: one at a time.
    """

    def __init__(self, host: str, port: int, limit_bytes: int, say: Callable[[str], None]) -> None:
        self._host = host
        self._port = port
        self._limit_bytes = limit_bytes
        self._say = say
        self._context = foxglove.Context()
        self._server: WebSocketServer | None = None
        self._told: list[ToldChannel] = []
        self._backlog = 0
        self._channels: list[foxglove.Channel] = []
        """those of a recording, then that of the description"""
        self._described_ns = 0
        self._listener = ViewerListener()

    # ---- a run ---------------------------------------------------------------------------------

    def begin(self, robot: SeenRobot) -> None:
        """Show another run from now on. Raises ViewError where the port is taken.

        Viewers stay connected if the channels are the same, and messages no larger. Else each
        connects again: the SDK may refuse who subscribes to a channel as soon as it is made, and it
        keeps one number of messages for as long as it serves.
        """
        self._messages = FrameMessages(robot.forms, robot.wall_offset_ns)
        self._texts = json.dumps(robot.facts).encode()
        self._described_ns = 0
        self._listener.facts = robot.facts
        told = [*_told(robot)]
        largest = max([*self._messages.largest(), len(self._texts)])
        backlog = max(len(told), min(_BACKLOG_MAX, self._limit_bytes // largest))
        if self._server is not None and told == self._told and backlog >= self._backlog:
            return
        self._stop()
        self._backlog = backlog
        self._channels = [self._made(one) for one in told]
        self._places = {channel.id(): place for place, channel in enumerate(self._channels)}
        self._serve(robot)
        self._told = told
        self._say_how(backlog * largest)

    def _made(self, told: ToldChannel) -> foxglove.Channel:
        return foxglove.Channel(
            told.topic,
            message_encoding=told.encoding,
            schema=foxglove.Schema(
                name=told.type_name, encoding=told.schema_encoding, data=told.schema
            ),
            metadata={"about": told.about},
            context=self._context,
        )

    def _serve(self, robot: SeenRobot) -> None:
        """Listen. The server before this one may take a moment to leave the port."""
        until_s = time.monotonic() + (_LEAVE_S if self._told else 0.0)
        while True:
            try:
                self._server = self._started(robot)
                break
            except RuntimeError as error:
                if time.monotonic() < until_s:
                    time.sleep(_RETRY_S)
                    continue
                raise ViewError(
                    f"{self._host}:{self._port} cannot be listened on: {error}; give another "
                    f"--port, or --port 0 for one that is free"
                ) from error
        self._port = self._server.port

    def _started(self, robot: SeenRobot) -> WebSocketServer:
        return foxglove.start_server(
            name=f"inphase {robot.layout.robot}",
            host=self._host,
            port=self._port,
            capabilities=[Capability.Parameters],
            server_listener=self._listener,
            context=self._context,
            session_id=f"{robot.layout.epoch:016x}",
            message_backlog_size=self._backlog,
        )

    def _say_how(self, held: int) -> None:
        """held: bytes that wait for one viewer at most."""
        self._say(f"{self.address}: open it as a Foxglove WebSocket in Lichtblick or Foxglove")
        self._say(
            f"a viewer that takes nothing holds {self._backlog} messages here, {held / 1e6:.1f} MB "
            f"at most; then the oldest one is dropped"
        )
        if not _is_loopback(self._host):
            self._say("whoever reaches this address sees the robot: there is no password")

    @property
    def address(self) -> str:
        """For viewers."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._port}"

    # ---- frames --------------------------------------------------------------------------------

    def show(self, frame: Frame, number: int) -> None:
        """Hand a frame to the viewers; never waits for them."""
        for channel in self._listener.take():
            self._messages.again(self._places.get(channel, 0))
        for message in self._messages.of(frame, number, self._is_wanted):
            self._channels[message.channel].log(message.data, log_time=message.log_ns)
        now_ns = time.monotonic_ns()
        if self._is_wanted(-1) and now_ns - self._described_ns >= _DESCRIBE_NS:
            self._described_ns = now_ns
            self._channels[-1].log(self._texts, log_time=self._messages.log_ns(frame))

    def _is_wanted(self, channel: int) -> bool:
        return bool(self._channels[channel].has_sinks())

    @property
    def wanted(self) -> set[str]:
        """The topics that somebody has subscribed to."""
        return {one.topic() for one in self._channels if one.has_sinks()}

    @property
    def newcomers(self) -> int:
        """Subscriptions since the last frame."""
        return self._listener.waiting

    def tell(self, text: str) -> None:
        """A message that viewers show."""
        if self._server is not None:
            self._server.publish_status(text, foxglove.StatusLevel.Info)

    @property
    def holds_exit(self) -> bool:
        """Its end waits for nobody."""
        return False

    def close(self) -> None:
        """Say goodbye to the viewers, after a moment for what they were told last."""
        if self._server is not None:
            time.sleep(_GOODBYE_S)
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        for channel in self._channels:
            channel.close()
        self._channels = []


def _told(robot: SeenRobot) -> Iterator[ToldChannel]:
    """The channels of a recording, and one more."""
    about = robot.facts["channels"]
    for topic, (name, schema) in zip(robot.forms.topics, robot.forms.schemas, strict=True):
        yield ToldChannel(topic, "protobuf", name, "protobuf", schema, about[topic])
    texts = {name: {"type": "object"} for name in robot.facts}
    title = f"{PACKAGE}.Description"
    schema = json.dumps({"type": "object", "title": title, "properties": texts}).encode()
    told = "the facts that a recording has as metadata"
    yield ToldChannel(DESCRIPTION_TOPIC, "json", title, "jsonschema", schema, told)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class ViewerListener(ServerListener):
    """Answers the viewers. Its methods run in the server's thread."""

    def __init__(self) -> None:
        self.facts: dict[str, dict[str, str]] = {}
        self._subscribed: deque[int] = deque(maxlen=4096)

    @property
    def waiting(self) -> int:
        """Subscriptions since the last `take`."""
        return len(self._subscribed)

    def take(self) -> Iterator[int]:
        """Ids of the channels that were subscribed to since the last call."""
        while self._subscribed:
            yield self._subscribed.popleft()

    def on_subscribe(self, client: Client, channel: ChannelView) -> None:
        """A viewer wants a channel."""
        self._subscribed.append(channel.id)

    def on_get_parameters(
        self, client: Client, param_names: list[str], request_id: str | None = None
    ) -> list[foxglove.Parameter]:
        """The facts about the run, by names as `run.schedule_hash`."""
        every = {
            f"{group}.{key}": value
            for group, texts in self.facts.items()
            for key, value in texts.items()
        }
        names = [name for name in param_names or every if name in every]
        return [foxglove.Parameter(name, value=every[name]) for name in names]

    def on_set_parameters(
        self,
        client: Client,
        parameters: list[foxglove.Parameter],
        request_id: str | None = None,
    ) -> list[foxglove.Parameter]:
        """Nothing is set: the answer has the values as they are."""
        return self.on_get_parameters(client, [])
