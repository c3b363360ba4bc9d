"""NatNet 4.1 as a server writes it: its description, its models, its frames.

Source: OptiTrack's NatNet SDK (PacketClient), as the packages natnet, natnetsdk and
new-natnet-client read it. Every part of a frame and of a model says its size.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

VERSION = (4, 1, 0, 0)
SERVER_VERSION = (3, 1, 0, 0)
NAME = "Motive"
CLOCK_HZ = 10_000_000

CONNECT, SERVER_INFO, REQUEST, RESPONSE, REQUEST_MODELS, MODELS = range(6)
FRAME, DISCONNECT, KEEP_ALIVE = 7, 9, 10
ECHO_REQUEST, ECHO_RESPONSE, UNRECOGNIZED = 12, 13, 100
_RIGID_BODY = 1
_MARKER_M = ((0.03, 0.0, 0.0), (0.0, 0.03, 0.0), (0.0, 0.0, 0.05))
"""where the markers of each body are on it"""


class Body(NamedTuple):
    """A rigid body: metres, and x, y, z, w."""

    ident: int
    position: tuple[float, float, float]
    turn: tuple[float, float, float, float]
    error: float
    is_tracked: bool


class Stamps(NamedTuple):
    """The stamps of a frame in ticks of the server's clock."""

    mid_exposure: int
    received: int
    transmitted: int


def message(kind: int, payload: bytes = b"") -> bytes:
    """A message as it goes on the wire."""
    return struct.pack("<HH", kind, len(payload)) + payload


def server_info(data_port: int, group: str) -> bytes:
    """Name, versions, clock, and where data goes."""
    address = bytes(map(int, group.split("."))) if group else bytes(4)
    return message(
        SERVER_INFO,
        NAME.encode().ljust(256, b"\0")
        + bytes(SERVER_VERSION)
        + bytes(VERSION)
        + struct.pack("<QHB", CLOCK_HZ, data_port, bool(group))
        + address,
    )


def models(ids: dict[str, int]) -> bytes:
    """A model for each rigid body, with its markers."""
    parts = []
    for name, ident in ids.items():
        count = len(_MARKER_M)
        body = name.encode() + b"\0" + struct.pack("<ii3fi", ident, -1, 0.0, 0.0, 0.0, count)
        body += b"".join(struct.pack("<3f", *marker) for marker in _MARKER_M)
        body += struct.pack(f"<{count}i", *([0] * count))
        body += b"".join(f"Marker {number + 1}".encode() + b"\0" for number in range(count))
        parts.append(struct.pack("<ii", _RIGID_BODY, len(body)) + body)
    return message(MODELS, struct.pack("<i", len(parts)) + b"".join(parts))


def frame(number: int, bodies: Sequence[Body], stamps: Stamps, models_changed: bool) -> bytes:
    """A frame: rigid bodies, and a labelled marker for each marker of them."""
    rigid = b"".join(
        struct.pack("<i3f4ffh", b.ident, *b.position, *b.turn, b.error, b.is_tracked)
        for b in bodies
    )
    sets = b"all\0" + struct.pack("<i", 0)
    labelled = b"".join(
        struct.pack("<i3ffhf", b.ident << 16 | n + 1, *b.position, 0.014, 0, b.error)
        for b in bodies
        for n in range(len(_MARKER_M))
    )
    empty = _part(0, b"")
    seconds = stamps.transmitted / CLOCK_HZ
    return message(
        FRAME,
        struct.pack("<i", number)
        + _part(1, sets)
        + empty  # other markers
        + _part(len(bodies), rigid)
        + empty  # skeletons
        + empty  # assets
        + _part(len(bodies) * len(_MARKER_M), labelled)
        + empty  # force plates
        + empty  # devices
        + struct.pack("<IIdQQQ", 0, 0, seconds, *stamps)
        + struct.pack("<IIhi", 0, 0, 2 * models_changed, 0),
    )


def _part(count: int, data: bytes) -> bytes:
    return struct.pack("<ii", count, len(data)) + data
