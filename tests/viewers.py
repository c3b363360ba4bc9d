"""A viewer: a WebSocket client, with protobuf's own decoder of what it is told of the messages."""

import base64
import contextlib
import json
import struct
from typing import Any, Self

from websockets.sync.client import connect

from peers import BOUND_S
from recorded_runs import message_class

_MESSAGE = 1  # binary opcode of the protocol
_ASKED = "asked"


class Seen:
    """A message as it came."""

    def __init__(self, topic: str, log_ns: int, data: bytes, value: Any) -> None:
        self.topic = topic
        self.log_ns = log_ns
        self.data = data
        self.value = value


class Viewer:
    """Connects to a server, and subscribes to all that it advertises, or to some topics."""

    def __init__(self, address: str, topics: set[str] | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(
            connect(
                address,
                subprotocols=["foxglove.sdk.v1"],  # type: ignore[list-item]
                max_size=None,
                max_queue=1,
                open_timeout=BOUND_S,
                close_timeout=0.2,  # what it did not read may be in the way of a goodbye
                compression=None,
            )
        )
        self._topics = topics
        self._kinds: dict[int, Any] = {}
        self.channels: dict[int, dict[str, Any]] = {}
        self.info: dict[str, Any] = {}
        self.said: list[str] = []
        self.parameters: dict[str, Any] = {}
        self.gone: list[str] = []
        """topics that were taken back"""

    def next(self) -> Seen | None:
        """Take what comes; the message, if it is one. Raises ConnectionClosed at the end."""
        came = self._socket.recv(BOUND_S)
        if isinstance(came, str):
            self._take(json.loads(came))
            return None
        if came[0] != _MESSAGE:
            return None
        number, log_ns = struct.unpack_from("<IQ", came, 1)
        channel, data = self.channels[number], came[13:]
        if channel["encoding"] == "json":
            return Seen(channel["topic"], log_ns, data, json.loads(data))
        return Seen(channel["topic"], log_ns, data, self._kinds[number].FromString(data))

    def messages(self, count: int, topic: str | None = None) -> list[Seen]:
        """So many messages, of one topic or of any."""
        found: list[Seen] = []
        while len(found) < count:
            came = self.next()
            if came is not None and topic in (None, came.topic):
                found.append(came)
        return found

    def _take(self, said: dict[str, Any]) -> None:
        match said["op"]:
            case "serverInfo":
                self.info = said
            case "advertise":
                self._subscribe(said["channels"])
            case "unadvertise":
                self.gone += [self.channels.pop(one)["topic"] for one in said["channelIds"]]
            case "status":
                self.said.append(said["message"])
            case "parameterValues":
                if said.get("id") == _ASKED:  # else it answers something else
                    self.parameters = {one["name"]: one["value"] for one in said["parameters"]}

    def _subscribe(self, channels: list[dict[str, Any]]) -> None:
        wanted = []
        for one in channels:
            self.channels[one["id"]] = one
            if one["schemaEncoding"] == "protobuf":
                one["descriptors"] = base64.b64decode(one["schema"] + "===")
                self._kinds[one["id"]] = message_class(one["descriptors"], one["schemaName"])
            if self._topics is None or one["topic"] in self._topics:
                wanted.append({"id": one["id"], "channelId": one["id"]})
        self.send({"op": "subscribe", "subscriptions": wanted})

    def send(self, request: dict[str, Any]) -> None:
        """Ask for something."""
        self._socket.send(json.dumps(request))

    def ask_parameters(self, *names: str) -> dict[str, Any]:
        """The server's parameters, all or some."""
        self.parameters = {}
        self.send({"op": "getParameters", "parameterNames": names, "id": _ASKED})
        while not self.parameters:
            self.next()
        return self.parameters

    def close(self) -> None:
        """Leave."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
