"""Tensors of a network as a schedule binds them, and how one that does not fit is refused."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from inphase.models import onnx_file, safetensors_file
from inphase.models.onnx_file import DOUBLE, FLOAT, UINT8, ModelPort
from inphase.schedule import Schedule, toml_position

TYPES = {
    FLOAT: "float32",
    DOUBLE: "float64",
    UINT8: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    16: "bfloat16",
}
"""of TensorProto.DataType: names for a person"""

File = onnx_file.Model | safetensors_file.Weights


@dataclass(frozen=True)
class TensorPart:
    """Numbers of a tensor that belong together: a field of a sensor, or an actuator's channels."""

    index: int
    """of the sensor, or FRAME; of the first value in the command"""
    name: str
    """of the field; of the actuator"""
    count: int
    offset: int = 0
    """of the field in its sample, or in the frame's record, in bytes"""


@dataclass(frozen=True)
class Pixels:
    """How an image's values of uint8 go in."""

    channels: int
    is_planar: bool
    """one channel after the other"""
    numbers: NDArray[np.float64] | None = None
    """of each channel and value, of shape [channels, 256]; None: the values themselves"""


@dataclass(frozen=True)
class Tensor:
    """One input or output; mean and std per number, or neither. A state has no parts."""

    name: str
    type: int
    shape: tuple[int, ...]
    parts: tuple[TensorPart, ...] = ()
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Wanted:
    """One tensor as the schedule binds it."""

    what: str
    name: str
    parts: list[TensorPart]
    image: tuple[int, ...] | None = None
    """the shape of the one uint8 field that it is"""
    rows: int = 1
    """times that the parts come, one after the other"""

    @property
    def width(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        one = (self.width,) if self.image is None else self.image
        return one if self.rows == 1 else (self.rows, *one)

    @property
    def key(self) -> str:
        return toml_position.format_path(("policy", self.what, self.name))


def refuse(schedule: Schedule, model: File, what: str, remedy: str) -> NoReturn:
    key = "model" if schedule.policy is not None and schedule.policy.model else "weights"
    raise schedule.error(f"policy.{key}", f"{model.path}: {what}; {remedy}")


def type_name(kind: int) -> str:
    """The name of a type of numbers."""
    return TYPES.get(kind, f"type {kind}")


def port_of(
    schedule: Schedule,
    model: onnx_file.Model,
    ports: tuple[ModelPort, ...],
    name: str,
    key: str,
) -> ModelPort:
    """The port of a name. Raises ScheduleError, at `key`, with those that there are."""
    port = next((port for port in ports if port.name == name), None)
    if port is None:
        known = ", ".join(repr(port.name) for port in ports) or "none"
        what = "inputs" if ports is model.inputs else "outputs"
        raise schedule.error(
            key, f"{model.path} has no such tensor among its {what}, got {name!r}; it has: {known}"
        )
    return port


def fitting(port: ModelPort, own: tuple[int, ...]) -> tuple[int, ...] | None:
    """A port's shape, where it is `own`, or that in a batch of one or open; None: it is not."""
    given = port.shape
    if len(given) == len(own) + 1 and isinstance(given[0], str):
        given = (1, *given[1:])
    return tuple(int(side) for side in given) if given in (own, (1, *own)) else None


def filled(port: ModelPort, own: tuple[int, ...]) -> ModelPort:
    """A port whose sides take those of `own` where they are open; one name is one size."""
    sizes: dict[str, int] = {}
    given = list(port.shape)
    first = len(given) - len(own)
    for at, size in enumerate(own) if first >= 0 else ():
        side = given[first + at]
        if isinstance(side, str):
            given[first + at] = sizes.setdefault(side, size) if side else size
    return ModelPort(port.name, port.type, tuple(given))
