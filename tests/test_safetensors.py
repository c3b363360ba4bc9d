"""Weights in a safetensors file: read as what they are, or refused with what is wrong."""

import contextlib
import json
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inphase import load
from inphase.errors import ScheduleError
from inphase.models import safetensors_file
from inphase.models.protobuf import Refused
from robots import demo_schedule

_NAMES = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


def written(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, values in tensors.items():
        at = len(data)
        data += values.tobytes()
        header[name] = {
            "dtype": _NAMES[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [at, len(data)],
        }
    return of_header(header, data)


def of_header(header: Any, data: bytes = b"") -> bytes:
    """A file with such a header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def check(data: bytes) -> safetensors_file.Weights:
    """The file's own check."""
    return safetensors_file.check(Path("net.safetensors"), data)


SMALL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}


def test_what_is_in_a_file_is_found_where_it_is() -> None:
    data = written(SMALL, {"inphase.mean.obs": "0.5"})
    found = check(data)
    assert found.metadata == {"inphase.mean.obs": "0.5"}
    for name, values in SMALL.items():
        held = found.tensors[name]
        assert held.shape == values.shape and held.dtype == "F32"
        assert data[held.begin : held.end] == values.tobytes()


def _entry(**changed: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changed}


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "says that its header has"),
    "a pickle": (pickle.dumps({"w": 1}), "is a pickle, which can hold code"),
    "a zip archive": (b"PK\x03\x04" + bytes(60), "is a zip archive, which can hold code"),
    "a header beyond the file": ((1 << 40).to_bytes(8, "little") + b"{}", "its header has"),
    "no JSON": (of_header(b"{nope}"), "is no JSON"),
    "deep JSON": (of_header(b"[" * 100_000 + b"]" * 100_000), "header that is"),
    "a list": (of_header([1, 2]), "not a table of tensors"),
    "a name twice": (of_header(b'{"a": 1, "a": 2}'), "stands there twice"),
    "numbers as metadata": (of_header({"__metadata__": {"a": 1}}), "metadata that are not texts"),
    "no entry": (of_header({"w": 5}), "has not dtype, shape and data_offsets"),
    "an unknown type": (of_header(_entry(dtype="OBJ"), bytes(8)), "is of 'OBJ'"),
    "a negative size": (of_header(_entry(shape=[-2]), bytes(8)), "has the shape [-2]"),
    "a size that is true": (of_header(_entry(shape=[True]), bytes(8)), "has the shape [True]"),
    "a rank of nine": (of_header(_entry(shape=[1] * 9), bytes(8)), "has the shape"),
    "offsets backwards": (of_header(_entry(data_offsets=[8, 0]), bytes(8)), "lies at [8, 0]"),
    "too few bytes": (of_header(_entry(shape=[3]), bytes(8)), "has 8 bytes, where [3] of F32"),
    "bytes that nobody told of": (of_header(_entry(), bytes(12)), "of which"),
    "a gap": (of_header(_entry(data_offsets=[4, 12]), bytes(12)), "begins at 4, not at 0"),
    "an overlap": (
        of_header(
            _entry() | {"b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)
        ),
        "begins at 4, not at 8",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none_is_refused_with_what_to_do(name: str) -> None:
    data, expected = BAD[name]
    with pytest.raises(Refused) as refused:
        check(data)
    assert str(refused.value).startswith("net.safetensors: ") and expected in str(refused.value)


def test_a_file_is_refused_wherever_it_is_cut_off() -> None:
    data = written(SMALL, {"a": "b"})
    check(data)
    for end in range(len(data)):
        with pytest.raises(Refused):
            check(data[:end])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(Refused):
        check(data)


def test_a_damaged_file_is_refused_or_read_within_its_bytes() -> None:
    data = written(SMALL)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        try:
            found = check(bytes(damaged))
        except Refused:
            continue
        assert all(0 < t.begin <= t.end <= len(damaged) for t in found.tensors.values())


KEYS = """call = "net.py:Net"
weights = "net.safetensors"
inputs = { obs = ["joints.position", "joints.velocity"] }
outputs = { action = "arm" }
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('call = "net.py:Net"', "", "exactly one of call, model, remote and"),
        ('call = "net.py:Net"', 'remote = "ipc:///tmp/x"', "call is missing"),
        ('"net.safetensors"', '"../net.safetensors"', r"policy\.weights: not beside the schedule"),
        ('"net.py:Net"', '"net.py:Net"\nruntime = "python"', "only applies to an ONNX model"),
        ('{ action = "arm" }', "{}", "0 tensors are bound"),
    ],
)
def test_what_does_not_belong_to_a_module_is_refused(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    path = demo_schedule(tmp_path)
    text = path.read_text()
    assert old in KEYS
    path.write_text(text[: text.index("[policy]")] + "[policy]\n" + KEYS.replace(old, new))
    with pytest.raises(ScheduleError, match=expected):
        load(path)
