"""A minimal writer of ONNX files, so that tests can also write what no exporter would."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float64": 11}


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes | str) -> bytes:
    """A field that is bytes, a text or a message."""
    if isinstance(value, str):
        value = value.encode()
    return varint(field << 3 | 2) + varint(len(value)) + value


def tensor(name: str, values: NDArray[Any], dims: Sequence[int] | None = None) -> bytes:
    """A TensorProto; other `dims` than its own make a wrong one."""
    sides = values.shape if dims is None else dims
    shape = b"".join(number(1, side) for side in sides)
    kind = number(2, TYPES[values.dtype.name])
    return shape + kind + data(8, name) + data(9, values.tobytes())


def attribute(name: str, value: int | NDArray[Any]) -> bytes:
    """An AttributeProto."""
    if isinstance(value, int):
        return data(1, name) + number(3, value) + number(20, 2)
    return data(1, name) + data(5, tensor("", value)) + number(20, 4)


def node(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *attributes: bytes,
    more: bytes = b"",
) -> bytes:
    """A NodeProto."""
    ends = b"".join(data(1, name) for name in inputs) + b"".join(data(2, name) for name in outputs)
    return ends + data(4, operator) + b"".join(data(5, one) for one in attributes) + more


def port(name: str, kind: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; a dimension that is a text has that name."""
    sides = [number(1, side) if isinstance(side, int) else data(2, side) for side in shape]
    dims = b"".join(data(1, side) for side in sides)
    return data(1, name) + data(2, data(1, number(1, TYPES[kind]) + data(2, dims)))


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    initializers: Sequence[bytes] = (),
    *,
    opset: int = 17,
    domain: str = "",
    metadata: dict[str, str] | None = None,
    graph: bytes = b"",
    more: bytes = b"",
) -> bytes:
    """A ModelProto; `graph` and `more` are put behind the graph's and its own fields."""
    body = b"".join(data(1, one) for one in nodes) + data(2, "network")
    body += b"".join(data(5, one) for one in initializers)
    body += b"".join(data(11, one) for one in inputs) + b"".join(data(12, one) for one in outputs)
    imported = data(8, (data(1, domain) if domain else b"") + number(2, opset))
    told = b"".join(
        data(14, data(1, key) + data(2, value)) for key, value in (metadata or {}).items()
    )
    return number(1, 8) + data(7, body + graph) + imported + told + more


def network(
    sizes: Sequence[int],
    *,
    seed: int = 0,
    kind: str = "float32",
    gain: float = 0.1,
    residual: bool = False,
    batch: Sequence[int | str] = (1,),
    **options: Any,
) -> bytes:
    """Layers with ELU between them, `obs` to `action`, from a seed.

    residual: what goes in first is added to what comes out, so that a robot stays near where it is.
    """
    random = np.random.default_rng(seed)
    nodes, weights, last = [], [], "obs"
    for i, (wide, next_wide) in enumerate(itertools.pairwise(sizes)):
        is_last = i == len(sizes) - 2
        weights.append(
            tensor(f"w{i}", (random.standard_normal((wide, next_wide)) * gain).astype(kind))
        )
        weights.append(tensor(f"b{i}", (random.standard_normal(next_wide) * gain).astype(kind)))
        out = ("change" if residual else "action") if is_last else f"sum{i}"
        nodes.append(node("Gemm", [last, f"w{i}", f"b{i}"], [out]))
        if not is_last:
            nodes.append(node("Elu", [out], [f"elu{i}"]))
        last = f"elu{i}"
    if residual:
        weights.append(tensor("here", np.eye(sizes[0], sizes[-1], dtype=kind)))
        nodes.append(node("MatMul", ["obs", "here"], ["pose"]))
        nodes.append(node("Add", ["pose", "change"], ["action"]))
    return model(
        nodes,
        [port("obs", kind, (*batch, sizes[0]))],
        [port("action", kind, (*batch, sizes[-1]))],
        weights,
        **options,
    )


def with_model(schedule: Path, data_: bytes, policy: str = "") -> Path:
    """Give a schedule a model in place of its policy: the arm's positions and velocities in."""
    text = schedule.read_text()
    schedule.with_name("policy.onnx").write_bytes(data_)
    keys = policy or (
        'model = "policy.onnx"\n'
        'inputs = { obs = ["joints.position", "joints.velocity"] }\n'
        'outputs = { action = "arm" }\n'
    )
    schedule.write_text(text[: text.index("[policy]")] + "[policy]\n" + keys)
    return schedule
