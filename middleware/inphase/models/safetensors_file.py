"""A safetensors file, read strictly: weights of a network, and nothing that could be run.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of a header, the
header as JSON, then the tensors' bytes without gaps. It holds no code, as a pickle does.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inphase.models import model_file
from inphase.models.model_file import Refused
from inphase.schedule.document import show

SIZE_MAX = 1 << 30
"""Bytes of a file."""
_HEADER_MAX = 4 << 20
_TENSORS_MAX = 20_000
_RANK_MAX = 8
DTYPES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "F32": 4,
    "I64": 8,
    "F64": 8,
}
"""Bytes of a number."""


@dataclass(frozen=True)
class Held:
    """One tensor: where its bytes are in the file's data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, and the bytes that were checked."""

    path: Path
    data: bytes
    tensors: dict[str, Held]
    metadata: dict[str, str]


def read(path: Path) -> Weights:
    """Read and check a file. Raises Refused."""
    return check(path, model_file.read_bytes(path, SIZE_MAX))


def check(path: Path, data: bytes) -> Weights:
    """Check the bytes of a file. Raises Refused."""
    with model_file.named(path):
        return _check(path, data)


def _check(path: Path, data: bytes) -> Weights:
    if len(data) > SIZE_MAX:
        raise Refused(f"is larger than {SIZE_MAX} bytes; give a smaller network")
    for start, what in ((b"PK", "a zip archive"), (b"\x80", "a pickle")):
        if data.startswith(start):
            raise Refused(
                f"is {what}, which can hold code; save it with safetensors.torch.save_file"
            )
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(_HEADER_MAX, len(data) - 8):
        raise Refused(f"says that its header has {size} bytes, of {len(data)}; save it anew")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as error:
        raise Refused(f"has a header that is no JSON: {error}; save it anew") from error
    if not isinstance(header, dict) or len(header) > _TENSORS_MAX + 1:
        raise Refused(f"has a header that is not a table of tensors, got {show(header)}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Refused(f"has metadata that are not texts, got {show(metadata)}; save it anew")
    tensors = {name: _held(name, told) for name, told in header.items()}

    # one after the other, from the first byte behind the header to the last
    at = 0
    for name, held in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if held.begin != at:
            raise Refused(f"{show(name)} begins at {held.begin}, not at {at}; save it anew")
        at = held.end
    if 8 + size + at != len(data):
        raise Refused(
            f"has {len(data)} bytes, of which {8 + size + at} are described; save it anew"
        )
    offset = 8 + size
    return Weights(
        path,
        data,
        {n: Held(t.dtype, t.shape, offset + t.begin, offset + t.end) for n, t in tensors.items()},
        metadata,
    )


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _held(name: str, told: Any) -> Held:
    """One entry of the header."""
    what = f"tensor {show(name)}"
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"{what} has not dtype, shape and data_offsets, got {show(told)}")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Refused(f"{what} is of {show(dtype)}; give one of {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > _RANK_MAX:
        raise Refused(f"{what} has the shape {show(shape)}; give at most {_RANK_MAX} sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Refused(f"{what} lies at {show(offsets)}; give its first byte and the one after it")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype]:
        raise Refused(
            f"{what} has {offsets[1] - offsets[0]} bytes, where {show(shape)} of {dtype} are "
            f"{math.prod(shape) * DTYPES[dtype]}; save it anew"
        )
    return Held(dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= SIZE_MAX for item in value
    )
