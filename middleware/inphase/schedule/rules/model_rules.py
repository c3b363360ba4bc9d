"""The rules of a policy that is a model, as far as they need neither its file nor a driver."""

from pathlib import PurePath

from inphase.schedule import toml_position
from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.tables import Policy, Schedule

_TENSORS_MAX = 16
_OF_A_MODEL = ("inputs", "outputs", "normalise", "providers")


def check(schedule: Schedule) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    policy = schedule.policy
    assert policy is not None
    kinds = ("call", "model", "remote")
    found = [f"{kind} = {show(getattr(policy, kind))}" for kind in kinds if getattr(policy, kind)]
    if len(found) != 1:
        raise schedule.error(
            "policy",
            f"exactly one of call, model and remote is needed, got {', '.join(found) or 'none'}; "
            f"give one",
        )
    if not policy.is_network:
        _check_call(schedule, policy)
        return
    if policy.weights is not None:
        _check_module(schedule, policy)
    if policy.args and policy.model is not None:
        raise schedule.error(
            "policy.args",
            f"only applies to call, and this policy has model, got {show(policy.args)}; remove it",
        )
    for key in ("model", "weights"):
        name = getattr(policy, key)
        if name is not None and PurePath(name).name != name:
            raise schedule.error(
                f"policy.{key}",
                f"not beside the schedule, got {name!r}; copy the file there and give its name",
            )
    for what in ("inputs", "outputs"):
        count = len(getattr(policy, what))
        if not 0 < count <= _TENSORS_MAX:
            raise schedule.error(
                f"policy.{what}",
                f"{count} tensors are bound, got {show(getattr(policy, what))}; give 1 to "
                f"{_TENSORS_MAX}: {MEANING[what]}",
            )
    _check_inputs(schedule, policy)
    _check_outputs(schedule, policy)
    for name in policy.normalise:
        if name not in policy.inputs and name not in policy.outputs:
            raise schedule.error(
                toml_position.format_path(("policy", "normalise", name)),
                f"no such tensor in inputs or outputs, got {name!r}; those are: "
                f"{', '.join([*policy.inputs, *policy.outputs])}",
            )
    if policy.providers and policy.runtime == "c" and policy.model is not None:
        raise schedule.error(
            "policy.providers",
            f'{show(policy.providers)} is for runtime = "python"; add that, or remove providers',
        )


def _check_module(schedule: Schedule, policy: Policy) -> None:
    """A PyTorch module: its class, and its weights."""
    if policy.call is None:
        raise schedule.error(
            "policy.weights",
            f"{policy.weights!r} needs a PyTorch module, and call is missing; give the module's "
            f"class as call, or remove weights",
        )
    for key in ("providers", *(["runtime"] if policy.runtime != "c" else [])):
        if value := getattr(policy, key):
            raise schedule.error(
                f"policy.{key}", f"only applies to an ONNX model, got {show(value)}; remove it"
            )


def _check_call(schedule: Schedule, policy: Policy) -> None:
    for key in (*_OF_A_MODEL, *(["runtime"] if policy.runtime != "c" else [])):
        value = getattr(policy, key)
        if value:
            raise schedule.error(
                f"policy.{key}",
                f"only applies to a model, got {show(value)}; remove it, or add model",
            )
    if policy.remote is not None and policy.args:
        raise schedule.error(
            "policy.args", f"only applies to call, got {show(policy.args)}; remove it"
        )


def _check_inputs(schedule: Schedule, policy: Policy) -> None:
    for name, places in policy.inputs.items():
        for index, place in enumerate(places):
            key = toml_position.format_path(("policy", "inputs", name, index))
            sensor, dot, field = place.partition(".")
            if not (sensor and dot and field):
                raise schedule.error(key, f'not a field, got {place!r}; give "sensor.field"')
            if sensor in schedule.actuator and sensor not in schedule.sensor:
                if field not in ("requested", "applied"):
                    raise schedule.error(
                        key, f"no such part of an act, got {place!r}; give requested or applied"
                    )
            elif sensor not in schedule.sensor:
                known = ", ".join([*schedule.sensor, *schedule.actuator])
                raise schedule.error(
                    key, f"no such sensor, got {place!r}; the schedule has: {known}"
                )


def _check_outputs(schedule: Schedule, policy: Policy) -> None:
    users: dict[str, str] = {}
    for name, named in policy.outputs.items():
        for actuator in [named] if isinstance(named, str) else named:
            key = toml_position.format_path(("policy", "outputs", name))
            if actuator not in schedule.actuator:
                known = ", ".join(schedule.actuator) or "none"
                raise schedule.error(
                    key, f"no such actuator, got {actuator!r}; the schedule has: {known}"
                )
            if actuator in users:
                raise schedule.error(
                    key, f"{actuator!r} is moved by {users[actuator]!r} already; name it once"
                )
            users[actuator] = name
    left = [actuator for actuator in schedule.actuator if actuator not in users]
    if left:
        raise schedule.error(
            "policy.outputs",
            f"no output moves {', '.join(left)}, got {show(policy.outputs)}; a command is for all "
            f"actuators: bind them too",
        )
