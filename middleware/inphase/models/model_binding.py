"""How the tensors of a model are bound to a schedule: which fields go in, which actuators come out.

`make` checks the model's file against the schedule. Touches no device, and no runtime of models.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import RecordLayout
from inphase.models import (
    image_tensor,
    model_states,
    normalisation,
    onnx_file,
    safetensors_file,
    tensor,
)
from inphase.models.model_file import Refused
from inphase.models.onnx_file import DOUBLE, FLOAT, ModelPort
from inphase.models.tensor import File, Tensor, TensorPart, Wanted, refuse
from inphase.schedule import Schedule, toml_position
from inphase.schedule.tables import Status

_ACCEPTS: tuple[Status, ...] = ("FRESH", "HELD")
FRAME = 0xFFFFFFFF
"""Instead of a sensor: numbers of the frame's record; INPHASE_MODEL_FRAME of inphase.h."""
ACTS = ("requested", "applied")
"""The values of an actuator that can go in: the act before the frame's latch."""


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
    states: int
    """the last so many inputs: each is the output of the run before, of the last outputs"""


def make(
    schedule: Schedule,
    dtypes: Mapping[str, np.dtype[Any]],
    channels: Mapping[str, int],
    commanded: Mapping[str, int] | None = None,
) -> Binding:
    """Bind the schedule's model. dtypes: of each sensor's sample; channels: of each actuator; both
    in the schedule's order. commanded: what comes out, with its channels, in place of the
    actuators. Raises ScheduleError."""
    policy = schedule.policy
    assert policy is not None
    commanded = channels if commanded is None else commanded
    model = _read(schedule)
    wanted_in = [_input(schedule, name, dtypes, channels) for name in policy.inputs]
    wanted_out = _outputs(schedule, commanded)
    inputs = [_bind(schedule, model, wanted) for wanted in wanted_in]
    outputs = [_bind(schedule, model, wanted) for wanted in wanted_out]
    if isinstance(model, onnx_file.Model):
        states = model_states.bind(schedule, model)
        inputs += [state for state, _ in states]
        outputs += [state for _, state in states]
        model_states.refuse_unbound(schedule, model)
    parts = [part for one in inputs for part in one.parts]
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
        sum(commanded.values()),
        policy.chunk,
        policy.history,
        policy.every,
        policy.history_start == "repeat",
        len(policy.state),
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


# ---- what the schedule wants -------------------------------------------------------------------


def _input(
    schedule: Schedule,
    name: str,
    dtypes: Mapping[str, np.dtype[Any]],
    channels: Mapping[str, int],
) -> Wanted:
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
    return Wanted("inputs", name, parts, image, schedule.policy.history)


def _act(sensors: int, channels: Mapping[str, int], actuator: str, what: str) -> TensorPart:
    """The requested or applied values of an actuator, in the frame's record."""
    layout, index = RecordLayout(sensors, list(channels.values())), list(channels).index(actuator)
    place = {"requested": layout.requested, "applied": layout.applied}[what]
    return TensorPart(FRAME, what, channels[actuator], place(index))


def _outputs(schedule: Schedule, channels: Mapping[str, int]) -> list[Wanted]:
    assert schedule.policy is not None
    starts, at = {}, 0
    for actuator, count in channels.items():
        starts[actuator] = at
        at += count
    wanted = []
    for name, named in schedule.policy.outputs.items():
        actuators = [named] if isinstance(named, str) else named
        parts = [TensorPart(starts[a], a, channels[a]) for a in actuators]
        wanted.append(Wanted("outputs", name, parts, rows=schedule.policy.chunk))
    return wanted


# ---- what the model has ------------------------------------------------------------------------


def _bind(schedule: Schedule, model: File, wanted: Wanted) -> Tensor:
    """The tensor of a name, once type and shape fit; a module's are what is wanted, in a batch of
    one."""
    port = None
    if isinstance(model, onnx_file.Model):
        ports = model.inputs if wanted.what == "inputs" else model.outputs
        port = tensor.port_of(schedule, model, ports, wanted.name, wanted.key)
    if wanted.image is not None:
        return image_tensor.bind(schedule, model, wanted, port)
    image_tensor.refuse_key(schedule, wanted)
    mean, std = _normalisation(schedule, model, wanted)
    if port is None:
        return Tensor(wanted.name, FLOAT, (1, *wanted.shape), tuple(wanted.parts), mean, std)
    if port.type not in (FLOAT, DOUBLE):
        refuse(
            schedule, model,
            f"{wanted.what[:-1]} {port.name!r} is of {tensor.type_name(port.type)}",
            "export it as float32 or float64",
        )  # fmt: skip
    shape = _shape(schedule, model, wanted, port)
    return Tensor(port.name, port.type, shape, tuple(wanted.parts), mean, std)


def _shape(schedule: Schedule, model: File, wanted: Wanted, port: ModelPort) -> tuple[int, ...]:
    """The shape of a tensor with one element in its batch, where it leaves that open."""
    given = tensor.fitting(port, wanted.shape)
    if given is None:
        own = wanted.shape
        what = ", ".join(part.name for part in wanted.parts)
        rows = "frames" if wanted.what == "inputs" else "commands"
        times = f" in each of {wanted.rows} {rows}" if wanted.rows > 1 else ""
        refuse(
            schedule, model,
            f"{wanted.what[:-1]} {port.name!r} has the shape {list(port.shape)}",
            f"the schedule binds {wanted.width} numbers to it ({what}){times}: give it {list(own)} "
            f"or {[1, *own]}",
        )  # fmt: skip
    return given


def _normalisation(
    schedule: Schedule, model: File, wanted: Wanted
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Mean and std of every number of a tensor."""
    found = normalisation.of_tensor(schedule, model, wanted.name, wanted.width)
    if found is None:
        return None, None
    mean, std = found
    return np.tile(mean, wanted.rows), np.tile(std, wanted.rows)
