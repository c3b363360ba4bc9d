"""Layouts that both sides of the wire share: descriptions, samples, and the parts of a message.

WIRE.md is the format's page, with test vectors. Nothing here knows ZeroMQ.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

if TYPE_CHECKING:
    import numpy as np

VERSION = 5

TOPIC_DESCRIPTION = b"inphase.description\0"
TOPIC_FRAME = b"inphase.frame\0"
TOPIC_END = b"inphase.end\0"

PACKED_MAX = 4096
"""bytes up to which a sample travels in the one packed part; a larger one has a part of its own"""

_DESCRIPTION_BYTES = 4 << 20
_ITEMS_MAX = 65_536
_NUMBERS = re.compile(r"[<>|][fiu][1248]|\|b1")
_SIDE_MAX = 1 << 28


def unpack_description(packed: bytes) -> dict[str, Any]:
    """A description as it was packed, sizes bound before it is decoded. Raises ValueError."""
    if len(packed) > _DESCRIPTION_BYTES:
        raise ValueError(f"{len(packed)} bytes are more than {_DESCRIPTION_BYTES}")
    try:
        description = msgpack.unpackb(
            packed, max_array_len=_ITEMS_MAX, max_map_len=_ITEMS_MAX, max_ext_len=0
        )
    except Exception as error:  # a decoder's errors are of many kinds
        raise ValueError(f"no MessagePack: {error!r}") from error
    if not isinstance(description, dict):
        raise ValueError(f"no map, but {type(description).__name__}")
    return description


def sample_dtype(fields: list[tuple[str, tuple[int, ...], str]]) -> "np.dtype[Any]":
    """Layout of a sample from (name, shape, dtype) of its fields: no gaps, padded to 8 bytes.

    Raises ValueError for a dtype that is not plain numbers: descriptions come over the network.
    """
    import numpy as np  # here: who only sends samples does without

    for name, shape, kind in fields:
        if not _NUMBERS.fullmatch(kind):
            raise ValueError(f"field {name}: {kind!r} is no number's dtype, such as <f8 or |u1")
        if not all(0 < n <= _SIDE_MAX for n in shape):
            raise ValueError(f"field {name}: {shape} is no shape")
    packed = np.dtype([(name, kind, tuple(shape)) for name, shape, kind in fields])
    names = list(packed.names or ())
    places = [packed.fields[name] for name in names] if packed.fields else []
    return np.dtype(
        {
            "names": names,
            "formats": [place[0] for place in places],
            "offsets": [place[1] for place in places],
            "itemsize": -(-packed.itemsize // 8) * 8,
        }
    )


class Place(NamedTuple):
    """Where a message carries a sensor's sample."""

    part: int
    """counted from 0, the topic"""
    offset: int
    size: int


PART_PACKED = 2
"""the part with all samples that are not large; large ones follow it"""


def places(sizes: list[int], packed_max: int = PACKED_MAX) -> list[Place]:
    """Where the samples of these sizes, in the schedule's order, lie in a message."""
    found, at, part = [], 0, PART_PACKED
    for size in sizes:
        if size <= packed_max:
            found.append(Place(PART_PACKED, at, size))
            at += size
        else:
            part += 1
            found.append(Place(part, 0, size))
    return found
