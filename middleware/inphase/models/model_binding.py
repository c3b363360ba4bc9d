"""How the tensors of a model are bound to a schedule: which fields go in, which actuators come out.

`make` checks the model's file against the schedule. Touches no device, and no runtime of models.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import RecordLayout
from inphase.models import onnx_file, safetensors_file
from inphase.models.model_file import Refused
from inphase.models.onnx_file import DOUBLE, FLOAT, UINT8, ModelPort
from inphase.schedule import Schedule, toml_position
from inphase.schedule.document import show
from inphase.schedule.tables import Status

TYPES = {FLOAT: "float32", DOUBLE: "float64", UINT8: "uint8"}
_ACCEPTS: tuple[Status, ...] = ("FRESH", "HELD")
FRAME = 0xFFFFFFFF
"""Instead of a sensor: numbers of the frame's record; INPHASE_MODEL_FRAME of inphase.h."""
ACTS = ("requested", "applied")
"""The values of an actuator that can go in: the act before the frame's latch."""


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
class Tensor:
    """One input or output; mean and std per number, or neither."""

    name: str
    type: int
    shape: tuple[int, ...]
    parts: tuple[TensorPart, ...]
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Binding:
    """A checked model and where its numbers come from and go to."""

    model: File
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sensors: tuple[str, ...]
    accepts: dict[str, tuple[Status, ...]]
    """per sensor that is looked at, the statuses on which the model is run"""
    values: int
    chunk: int
    """commands that a run gives: rows of each output, where there is more than one"""
    history: int
    """frames that go in: rows of each input, likewise"""
    every: int
    """cycles from one of those to the next"""
    repeats: bool
    """the first one stands for those before it, while there are fewer"""


@dataclass(frozen=True)
class _Wanted:
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


def make(
    schedule: Schedule, dtypes: Mapping[str, np.dtype[Any]], channels: Mapping[str, int]
) -> Binding:
    """Bind the schedule's model. dtypes: of each sensor's sample; channels: of each actuator; both
    in the schedule's order. Raises ScheduleError."""
    policy = schedule.policy
    assert policy is not None
    model = _read(schedule)
    wanted_in = [_input(schedule, name, dtypes, channels) for name in policy.inputs]
    wanted_out = _outputs(schedule, channels)
    inputs = [_bind(schedule, model, wanted) for wanted in wanted_in]
    outputs = [_bind(schedule, model, wanted) for wanted in wanted_out]
    for port in model.inputs if isinstance(model, onnx_file.Model) else ():
        if port.name not in policy.inputs:
            _refuse(
                schedule, model, f"the input {port.name!r} is not among [policy] inputs",
                f"say what goes in: inputs = {{ {port.name} = [\"sensor.field\"] }}",
            )  # fmt: skip
    parts = [part for tensor in inputs for part in tensor.parts]
    read = {list(dtypes)[part.index] for part in parts if part.index != FRAME}
    accepts = {
        name: policy.accepts.get(name, _ACCEPTS)
        for name in dtypes
        if name in read or name in policy.accepts
    }
    return Binding(
        model,
        tuple(inputs),
        tuple(outputs),
        tuple(dtypes),
        accepts,
        sum(channels.values()),
        policy.chunk,
        policy.history,
        policy.every,
        policy.history_start == "repeat",
    )


def _read(schedule: Schedule) -> File:
    """The file of the schedule's network, checked."""
    policy = schedule.policy
    assert policy is not None
    key, name = ("model", policy.model) if policy.model else ("weights", policy.weights)
    assert name is not None
    try:
        path = schedule.path.parent / name
        return onnx_file.read(path) if policy.model else safetensors_file.read(path)
    except Refused as error:
        raise schedule.error(f"policy.{key}", str(error)) from error


def _refuse(schedule: Schedule, model: File, what: str, remedy: str) -> NoReturn:
    key = "model" if schedule.policy is not None and schedule.policy.model else "weights"
    raise schedule.error(f"policy.{key}", f"{model.path}: {what}; {remedy}")


# ---- what the schedule wants -------------------------------------------------------------------


def _input(
    schedule: Schedule,
    name: str,
    dtypes: Mapping[str, np.dtype[Any]],
    channels: Mapping[str, int],
) -> _Wanted:
    assert schedule.policy is not None
    parts, kinds = [], set()
    image = None
    for index, place in enumerate(schedule.policy.inputs[name]):
        key = toml_position.format_path(("policy", "inputs", name, index))
        owner, _, field = place.partition(".")
        if owner not in dtypes:
            parts.append(_act(len(dtypes), channels, owner, field))
            kinds.add(np.dtype("<f8"))
            continue
        layout: Mapping[str, Any] = dtypes[owner].fields or {}
        if field not in layout:
            raise schedule.error(
                key, f"no such field, got {place!r}; {owner} has: {', '.join(layout)}"
            )
        kind, offset = layout[field][:2]
        if kind.base not in (np.dtype("<f8"), np.dtype("|u1")):
            raise schedule.error(
                key,
                f"{place!r} is of {kind.base}; give fields of float64, or one of uint8",
            )
        kinds.add(kind.base)
        count = math.prod(kind.shape)
        if kind.base == np.uint8:
            image = kind.shape
        parts.append(TensorPart(list(dtypes).index(owner), field, count, offset))
    if len(kinds) > 1 or (image is not None and len(parts) > 1):
        raise schedule.error(
            toml_position.format_path(("policy", "inputs", name)),
            "an image is an input of its own; give it alone",
        )
    return _Wanted("inputs", name, parts, image, schedule.policy.history)


def _act(sensors: int, channels: Mapping[str, int], actuator: str, what: str) -> TensorPart:
    """The requested or applied values of an actuator, in the frame's record."""
    layout, index = RecordLayout(sensors, list(channels.values())), list(channels).index(actuator)
    place = {"requested": layout.requested, "applied": layout.applied}[what]
    return TensorPart(FRAME, what, channels[actuator], place(index))


def _outputs(schedule: Schedule, channels: Mapping[str, int]) -> list[_Wanted]:
    assert schedule.policy is not None
    starts, at = {}, 0
    for actuator, count in channels.items():
        starts[actuator] = at
        at += count
    wanted = []
    for name, named in schedule.policy.outputs.items():
        actuators = [named] if isinstance(named, str) else named
        parts = [TensorPart(starts[a], a, channels[a]) for a in actuators]
        wanted.append(_Wanted("outputs", name, parts, rows=schedule.policy.chunk))
    return wanted


# ---- what the model has ------------------------------------------------------------------------


def _bind(schedule: Schedule, model: File, wanted: _Wanted) -> Tensor:
    """The tensor of a name, once type and shape fit; a module's are what is wanted, in a batch of
    one."""
    if isinstance(model, safetensors_file.Weights):
        kind = FLOAT if wanted.image is None else UINT8
        mean, std = _normalisation(schedule, model, wanted)
        return Tensor(wanted.name, kind, (1, *wanted.shape), tuple(wanted.parts), mean, std)
    ports = model.inputs if wanted.what == "inputs" else model.outputs
    port = next((port for port in ports if port.name == wanted.name), None)
    if port is None:
        known = ", ".join(repr(port.name) for port in ports) or "none"
        raise schedule.error(
            wanted.key,
            f"{model.path} has no such tensor among its {wanted.what}, got {wanted.name!r}; it "
            f"has: {known}",
        )
    types = (UINT8,) if wanted.image is not None else (FLOAT, DOUBLE)
    if port.type not in types:
        _refuse(
            schedule, model,
            f"{wanted.what[:-1]} {port.name!r} is of {TYPES.get(port.type, f'type {port.type}')}",
            f"export it as {' or '.join(TYPES[t] for t in types)}",
        )  # fmt: skip
    shape = _shape(schedule, model, wanted, port)
    mean, std = _normalisation(schedule, model, wanted)
    return Tensor(port.name, port.type, shape, tuple(wanted.parts), mean, std)


def _shape(
    schedule: Schedule, model: onnx_file.Model, wanted: _Wanted, port: ModelPort
) -> tuple[int, ...]:
    """The shape of a tensor with one element in its batch, where it leaves that open."""
    own = wanted.shape
    given = port.shape
    if len(given) == len(own) + 1 and isinstance(given[0], str):
        given = (1, *given[1:])
    if given not in (own, (1, *own)):
        what = ", ".join(part.name for part in wanted.parts)
        rows = "frames" if wanted.what == "inputs" else "commands"
        times = f" in each of {wanted.rows} {rows}" if wanted.rows > 1 else ""
        _refuse(
            schedule, model,
            f"{wanted.what[:-1]} {port.name!r} has the shape {list(port.shape)}",
            f"the schedule binds {wanted.width} numbers to it ({what}){times}: give it {list(own)} "
            f"or {[1, *own]}",
        )  # fmt: skip
    return tuple(int(side) for side in given)


def _normalisation(
    schedule: Schedule, model: File, wanted: _Wanted
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Mean and std of a tensor: the schedule's, else those in the model's metadata."""
    assert schedule.policy is not None
    given = schedule.policy.normalise.get(wanted.name)
    if given is not None:
        where = toml_position.format_path(("policy", "normalise", wanted.name))
        numbers = {"mean": given.mean, "std": given.std}
    else:
        where = "policy.model" if schedule.policy.model else "policy.weights"
        numbers = {what: _told(schedule, model, what, wanted.name) for what in ("mean", "std")}
    if numbers["mean"] is None and numbers["std"] is None:
        return None, None
    if wanted.image is not None:
        raise schedule.error(
            where, f"{wanted.name!r} is an image, which goes in as it is; remove its normalisation"
        )
    mean = _per_number(
        schedule, where, numbers["mean"], what="mean", count=wanted.width, otherwise=0.0
    )
    std = _per_number(
        schedule, where, numbers["std"], what="std", count=wanted.width, otherwise=1.0
    )
    if not (std > 0).all():
        raise schedule.error(
            where, f"std is not above 0, got {show(std.tolist())}; give positive numbers"
        )
    return np.tile(mean, wanted.rows), np.tile(std, wanted.rows)


def _told(schedule: Schedule, model: File, what: str, name: str) -> float | list[float] | None:
    """`inphase.mean.NAME` of the model's metadata: JSON, a number or a list of numbers."""
    key = f"inphase.{what}.{name}"
    text = model.metadata.get(key)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    items = found if isinstance(found, list) else [found]
    if not all(type(item) in (int, float) for item in items):
        _refuse(
            schedule, model, f"metadata {key} is not numbers, got {show(text)}",
            "give a list such as [0.0, 1.0]",
        )  # fmt: skip
    return found  # type: ignore[no-any-return]


def _per_number(
    schedule: Schedule,
    where: str,
    given: float | list[float] | None,
    *,
    what: str,
    count: int,
    otherwise: float,
) -> NDArray[np.float64]:
    if given is None:
        given = otherwise
    if isinstance(given, list) and len(given) != count:
        raise schedule.error(
            where,
            f"{what} has {len(given)} numbers for {count}, got {show(given)}; give one number for "
            f"all or one each",
        )
    try:
        numbers = np.full(count, given, dtype=np.float64)
    except OverflowError:
        numbers = np.full(count, np.inf)
    if not np.isfinite(numbers).all():
        raise schedule.error(where, f"{what} is not finite, got {show(given)}; give finite numbers")
    return numbers
