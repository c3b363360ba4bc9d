"""NatNet's messages, versions 3.0 to 4.1 and later, as far as rigid bodies need them.

A message is its kind (u16), the size of its payload (u16) and the payload; low bytes first. From
4.1 on every part of a frame and of a description says its size, so that unknown parts are skipped.
Source: OptiTrack's NatNet SDK (PacketClient), read through the packages natnet 0.3.0, natnetsdk
4.1.1 and new-natnet-client 4.1.2.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct("<HH")
PACKET_MAX = 65_507
OLDEST = (3, 0)
SIZED = (4, 1)  # from this version on parts say their size
ASKED = (4, 1, 0, 0)

_INT = struct.Struct("<i")
_BODY = struct.Struct("<i3f4ffh")
_SUFFIX = struct.Struct("<IIdQQQ")
_TAILS = {6: 0, 14: 8}  # bytes behind the stamps: parameters and end, before them the precision
_COUNT_MAX = 10_000
_NAME_SIZE = 256
_INFO = struct.Struct(f"<{_NAME_SIZE}s4B4BQHB4B")
_RIGID_BODY = 1


class Kind(IntEnum):
    """The kinds of messages that are used."""

    CONNECT = 0
    SERVER_INFO = 1
    REQUEST = 2
    RESPONSE = 3
    REQUEST_MODELS = 4
    MODELS = 5
    FRAME = 7
    DISCONNECT = 9
    KEEP_ALIVE = 10
    ECHO_REQUEST = 12
    ECHO_RESPONSE = 13


class NotNatNetError(ValueError):
    """Bytes that are no message of NatNet, or end too soon."""


class ServerInfo(NamedTuple):
    """The first answer of a server."""

    name: str
    version: tuple[int, ...]
    natnet: tuple[int, ...]
    clock_hz: int
    data_port: int
    multicast: str
    """its group; empty: it sends to each client"""


class Body(NamedTuple):
    """A rigid body in a frame: metres, and x, y, z, w."""

    position: tuple[float, float, float]
    turn: tuple[float, float, float, float]
    error: float
    tracked: bool


class MocapFrame(NamedTuple):
    """A frame: its number, its bodies by their ids, and its stamps in ticks of the server."""

    number: int
    bodies: dict[int, Body]
    mid_exposure: int
    transmitted: int
    models_changed: bool


def pack(kind: Kind, payload: bytes = b"") -> bytes:
    """A message as it goes on the wire."""
    return HEADER.pack(kind, len(payload)) + payload


def connect() -> bytes:
    """The first message: "Ping", and the version that is asked for."""
    return pack(Kind.CONNECT, b"Ping".ljust(265, b"\0") + bytes(ASKED) + b"\0")


def split(packet: bytes) -> tuple[int, bytes]:
    """Kind and payload. Raises NotNatNetError."""
    if len(packet) < HEADER.size:
        raise NotNatNetError(f"a packet of {len(packet)} bytes")
    kind, size = HEADER.unpack_from(packet)
    if size > len(packet) - HEADER.size:
        raise NotNatNetError(f"a packet of {len(packet)} bytes that says {size + HEADER.size}")
    return kind, packet[HEADER.size : HEADER.size + size]


def server_info(payload: bytes) -> ServerInfo:
    """Raises NotNatNetError; a server before version 3 tells no clock."""
    if len(payload) < _INFO.size:
        raise NotNatNetError(f"a server's description of {len(payload)} bytes: older than NatNet 3")
    name, *rest = _INFO.unpack_from(payload)
    group = ".".join(map(str, rest[11:15])) if rest[10] else ""
    return ServerInfo(
        name.partition(b"\0")[0].decode("utf-8", "replace"),
        tuple(rest[:4]),
        tuple(rest[4:8]),
        rest[8],
        rest[9],
        group,
    )


class _Walk:
    """Goes through a payload. Raises NotNatNetError past its end."""

    def __init__(self, data: bytes, version: tuple[int, ...]) -> None:
        self.data = data
        self.at = 0
        self.is_sized = version >= SIZED

    def skip(self, size: int) -> None:
        if not 0 <= size <= len(self.data) - self.at:
            raise NotNatNetError(f"it ends at byte {len(self.data)}, {size} more from {self.at} on")
        self.at += size

    def count(self) -> int:
        self.skip(_INT.size)
        found: int = _INT.unpack_from(self.data, self.at - _INT.size)[0]
        if not 0 <= found <= _COUNT_MAX:
            raise NotNatNetError(f"a count of {found} at byte {self.at - _INT.size}")
        return found

    def number(self) -> int:
        self.skip(_INT.size)
        found: int = _INT.unpack_from(self.data, self.at - _INT.size)[0]
        return found

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise NotNatNetError(f"a name without an end at byte {self.at}")
        found = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return found

    def body(self) -> tuple[int, Body]:
        self.skip(_BODY.size)
        ident, x, y, z, qx, qy, qz, qw, error, flags = _BODY.unpack_from(
            self.data, self.at - _BODY.size
        )
        return ident, Body((x, y, z), (qx, qy, qz, qw), error, bool(flags & 1))

    def part(self) -> tuple[int, int | None]:
        """Number of the elements of a part, and where it ends by what it says."""
        count = self.count()
        if not self.is_sized:
            return count, None
        size = self.number()
        end = self.at + size
        if not 0 <= size <= len(self.data) - self.at:
            raise NotNatNetError(f"a part of {size} bytes at byte {self.at}")
        return count, end


def frame(payload: bytes, version: tuple[int, ...]) -> MocapFrame:
    """A frame of that version of NatNet. Raises NotNatNetError."""
    walk = _Walk(payload, version)
    number = walk.number()
    bodies: dict[int, Body] = {}
    for part in _parts(version):
        count, end = walk.part()
        if part == "bodies":
            bodies = dict(walk.body() for _ in range(count))
            if end is not None and walk.at != end:
                raise NotNatNetError(f"rigid bodies end at byte {walk.at}, and should at {end}")
        elif end is not None:
            walk.at = end
        else:
            for _ in range(count):
                _PASS[part](walk)
    walk.skip(_SUFFIX.size)
    _, _, _, exposed, _, transmitted = _SUFFIX.unpack_from(payload, walk.at - _SUFFIX.size)
    left = len(payload) - walk.at
    if left not in _TAILS:
        raise NotNatNetError(f"{left} bytes behind a frame's stamps, where 6 or 14 are due")
    walk.skip(_TAILS[left])
    flags = int.from_bytes(payload[walk.at : walk.at + 2], "little")
    return MocapFrame(number, bodies, exposed, transmitted, bool(flags & 2))


def _parts(version: tuple[int, ...]) -> tuple[str, ...]:
    assets = ("assets",) if version >= SIZED else ()
    return ("sets", "others", "bodies", "skeletons", *assets, "labelled", "analogue", "analogue")


def _pass_set(walk: _Walk) -> None:
    walk.text()
    walk.skip(12 * walk.count())


def _pass_skeleton(walk: _Walk) -> None:
    walk.number()
    for _ in range(walk.count()):
        walk.body()


def _pass_channels(walk: _Walk) -> None:
    walk.number()
    for _ in range(walk.count()):
        walk.skip(4 * walk.count())


_PASS = {
    "sets": _pass_set,
    "others": lambda walk: walk.skip(12),
    "skeletons": _pass_skeleton,
    "labelled": lambda walk: walk.skip(26),
    "analogue": _pass_channels,
}
"""Passing over one element of a part, in versions whose parts do not say their size."""


def models(payload: bytes, version: tuple[int, ...]) -> dict[str, int]:
    """The ids of rigid bodies by their names. Raises NotNatNetError.

    Before version 4.1 what follows another kind of model than a rigid body or a set of markers is
    not read.
    """
    walk = _Walk(payload, version)
    found: dict[str, int] = {}
    for _ in range(walk.count()):
        kind = walk.number()
        end = walk.number() + walk.at if walk.is_sized else None
        if end is not None and not walk.at <= end <= len(payload):
            raise NotNatNetError(f"a model of {end - walk.at} bytes at byte {walk.at}")
        if kind == _RIGID_BODY:
            name = walk.text()
            found[name] = walk.number()
            _pass_model(walk, version)
        elif end is None and kind == 0:
            walk.text()
            for _ in range(walk.count()):
                walk.text()
        elif end is None:
            break
        if end is not None:
            walk.at = end
    return found


def _pass_model(walk: _Walk, version: tuple[int, ...]) -> None:
    """The rest of a rigid body's model, where its end is not told."""
    if walk.is_sized:
        return
    walk.skip(16)  # its parent, and where it stands to it
    markers = walk.count()
    walk.skip(16 * markers)
    for _ in range(markers if version >= (4,) else 0):
        walk.text()
