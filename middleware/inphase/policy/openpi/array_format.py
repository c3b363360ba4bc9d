"""The messages of openpi's protocol: MessagePack, with NumPy arrays as small dicts.

An array is `{b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": [...]}`, as the
package openpi-client writes it. Nothing here is unpickled or evaluated, and no object is made of a
type that a message names: only numbers of a few dtypes are read.
"""

import math
import re
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

_ARRAY = b"__ndarray__"
_DTYPE = re.compile(r"[<>=|][fiu][1248]")
_SIDES_MAX = 8
_SHOWN = 60


class Malformed(Exception):  # noqa: N818 - named for what it says
    """A message that is no answer. The text is for a person."""


def pack(content: dict[str, Any]) -> bytes:
    """A message of texts, dicts and arrays of numbers."""
    packed: bytes = msgpack.packb(content, default=_packed_array)
    return packed


def _packed_array(value: Any) -> dict[bytes, Any]:
    assert isinstance(value, np.ndarray), f"{type(value)} cannot be sent"
    return {
        _ARRAY: True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }


def unpack(message: bytes) -> dict[Any, Any]:
    """The dict of a message; its arrays stay as they came. Raises Malformed."""
    try:
        content = msgpack.unpackb(message)
    except Exception as error:  # msgpack raises a dozen kinds, and the bytes are anybody's
        raise Malformed(f"{len(message)} bytes that are no MessagePack ({error})") from error
    if not isinstance(content, dict):
        raise Malformed(f"a {type(content).__name__} where a dict belongs")
    return content


def array(value: Any, name: str) -> NDArray[Any]:
    """The numbers of a packed array, as they came. Raises Malformed."""
    if not isinstance(value, dict) or value.get(_ARRAY) is not True:
        raise Malformed(f"{name!r} is {_shown(value)}, which is no array")
    data, dtype, shape = (value.get(key) for key in (b"data", b"dtype", b"shape"))
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise Malformed(f"{name!r} is of dtype {_shown(dtype)}, which is none of numbers")
    if not isinstance(data, bytes) or not _is_shape(shape):
        raise Malformed(f"{name!r} has the shape {_shown(shape)}, which is none")
    assert isinstance(shape, list)
    try:
        kind = np.dtype(dtype)
    except TypeError as error:  # such as f1
        raise Malformed(f"{name!r} is of dtype {dtype!r}, which is none of numbers") from error
    if math.prod(shape) * kind.itemsize != len(data):
        raise Malformed(f"{name!r} has {len(data)} bytes for {dtype!r} of {_shown(shape)}")
    return np.frombuffer(data, kind).reshape(shape)


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= _SIDES_MAX
        and all(type(side) is int and 0 <= side <= 2**31 for side in shape)
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
