"""The state of a recurrent network: outputs of a run that are inputs of the next.

`[policy] state` names them. The state is zeros at first, and after a stop or an arming.
"""

import difflib
import math

from inphase.models import tensor
from inphase.models.onnx_file import DOUBLE, FLOAT, UINT8, Model, ModelPort
from inphase.models.tensor import Tensor, refuse
from inphase.schedule import Schedule, toml_position

_IMAGE_RANK = 3


def bind(schedule: Schedule, model: Model) -> list[tuple[Tensor, Tensor]]:
    """Each state as it goes in and as it comes out. Raises ScheduleError."""
    assert schedule.policy is not None
    return [_bind(schedule, model, *names) for names in schedule.policy.state.items()]


def _bind(schedule: Schedule, model: Model, name: str, output: str) -> tuple[Tensor, Tensor]:
    key = toml_position.format_path(("policy", "state", name))
    into = tensor.port_of(schedule, model, model.inputs, name, key)
    out = tensor.port_of(schedule, model, model.outputs, output, key)
    for port, what in ((into, "input"), (out, "output")):
        if port.type not in (FLOAT, DOUBLE):
            refuse(
                schedule, model, f"{what} {port.name!r} is of {tensor.type_name(port.type)}",
                "export the state as float32 or float64",
            )  # fmt: skip
    if not _may_follow(into, out):
        raise schedule.error(
            key,
            f"{output!r} is {_said(out)}, and {name!r} is {_said(into)}; give an output that comes "
            f"out as {name!r} goes in",
        )
    shape = tuple(1 if isinstance(side, str) else side for side in into.shape)
    return Tensor(name, into.type, shape), Tensor(output, out.type, shape)


def _said(port: ModelPort) -> str:
    return f"{tensor.type_name(port.type)} of {list(port.shape)}"


def _may_follow(into: ModelPort, out: ModelPort) -> bool:
    """True if an output can be the next value of an input."""
    return (
        into.type == out.type
        and len(into.shape) == len(out.shape)
        and all(
            a == b or isinstance(a, str) or isinstance(b, str)
            for a, b in zip(into.shape, out.shape, strict=True)
        )
    )


def refuse_unbound(schedule: Schedule, model: Model) -> None:
    """Raise ScheduleError for inputs that are bound to nothing, with what can be done."""
    policy = schedule.policy
    assert policy is not None
    unbound = [
        p for p in model.inputs if p.name not in policy.inputs and p.name not in policy.state
    ]
    if not unbound:
        return
    taken = {*policy.outputs, *policy.state.values()}
    free = [port for port in model.outputs if port.name not in taken]
    states = _pairs(unbound, free)
    names = ", ".join(repr(port.name) for port in unbound)
    others = [port for port in unbound if port.name not in states] or unbound
    remedy = _binding(others)
    if states:
        both = ", ".join(f'{into} = "{out}"' for into, out in (policy.state | states).items())
        added = f"add state = {{ {both} }} to [policy]"
        what = "it is its state" if len(states) == 1 else "they are its state"
        alone = len(states) == len(unbound)
        remedy = f"if {what}, {added}; else {remedy}" if alone else f"{added}, and {remedy}"
    elif any(_is_image(port) for port in unbound):
        remedy += ', and of an image images = { image = { layout = "NCHW", scale = ... } }'
    refuse(schedule, model, f"inputs that [policy] does not bind: {names}", remedy)


def _binding(ports: list[ModelPort]) -> str:
    """How inputs are bound, those that can be: a field is float64, or an image of uint8."""
    able = [port for port in ports if port.type in (FLOAT, DOUBLE) or _takes_bytes(port)]
    rest = [port for port in ports if port not in able]
    parts = []
    if able:
        fields = ", ".join(f'{port.name} = ["sensor.field"]' for port in able)
        them = "it" if len(able) == 1 else "them"
        parts.append(
            f"say what goes in: inputs = {{ {fields} }}, or export the network without {them}"
        )
    if rest:
        kinds = ", ".join(f"{port.name!r} is of {tensor.type_name(port.type)}" for port in rest)
        them = "it" if len(rest) == 1 else "them"
        parts.append(
            f"{kinds}, and no field is: export the network without {them} (a constant inside it), "
            f"or with {them} as float32 and bind that"
        )
    return "; ".join(parts)


def _takes_bytes(port: ModelPort) -> bool:
    return port.type == UINT8 and _is_image(port)


def _is_image(port: ModelPort) -> bool:
    return (
        len(port.shape) >= _IMAGE_RANK
        and math.prod(side for side in port.shape if isinstance(side, int)) > 1
    )


def _pairs(unbound: list[ModelPort], free: list[ModelPort]) -> dict[str, str]:
    """The outputs whose next values inputs may be, by form and then by name."""
    left, pairs = list(free), {}
    for into in unbound:
        candidates = {port.name: port for port in left if _may_follow(into, port)}
        if into.type not in (FLOAT, DOUBLE) or not candidates:
            continue
        alike = difflib.get_close_matches(into.name, candidates, n=1, cutoff=0.0)
        pairs[into.name] = alike[0]
        left.remove(candidates[alike[0]])
    return pairs
