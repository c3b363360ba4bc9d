"""The rules of a policy that is a model, as far as they need neither its file nor a driver."""

from collections.abc import Iterator
from pathlib import PurePath

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import known_of
from inphase.schedule.tables import Policy, Schedule

_TENSORS_MAX = 16
_KINDS = ("call", "model", "remote", "server")
_OF_A_MODEL = ("inputs", "outputs", "normalise", "images", "state", "providers")


def check(inspection: Inspection) -> None:
    """Apply them to a schedule's policy."""
    inspection.apply(_check_kind)
    inspection.apply(_check_call)
    if inspection.attempt(_network) is None:
        return
    inspection.apply(_check_module)
    inspection.apply(_check_args)
    inspection.apply(_check_providers)
    for key in ("model", "weights"):
        inspection.apply(_check_file, key)
    for key in ("inputs", "outputs"):
        inspection.apply(_check_count, key)
    inspection.apply(_check_inputs)
    inspection.apply(_check_outputs)
    inspection.apply(_check_all_move)
    inspection.apply(_check_normalise)
    inspection.apply(_check_images)
    inspection.apply(_check_state)


def faults_of_inputs(schedule: Schedule) -> Iterator[ScheduleFault]:
    """The faults of a model's file and of what goes into it."""
    yield from _check_file(schedule, "model")
    yield from _check_count(schedule, "inputs")
    yield from _check_inputs(schedule)
    yield from _check_normalise(schedule)
    yield from _check_images(schedule)


def _check_kind(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is None:
        return
    # a module has a class as `call`, and its weights beside it
    given = {kind: getattr(policy, kind) for kind in _KINDS if getattr(policy, kind)}
    if policy.server is not None:
        given["server"] = policy.server.url
    found = [f"{kind} = {show(value)}" for kind, value in given.items()]
    if len(found) != 1:
        remedy = "keep one" if found else f"add call = {MEANING['call']}, or one of the others"
        yield schedule.fault(
            "policy",
            f"exactly one of call, model, remote and server is needed, got "
            f"{', '.join(found) or 'none'}; {remedy}",
            tuple(f"policy.{kind}" for kind in _KINDS),
        )


def _check_call(schedule: Schedule) -> Iterator[ScheduleFault]:
    """A policy that is no network takes no key of one; one elsewhere no arguments."""
    policy = schedule.policy
    if policy is None or policy.is_network:
        return
    known = known_of(policy)
    for key in (*_OF_A_MODEL, *(["runtime"] if known.get("runtime") != "c" else [])):
        if value := known.get(key):
            yield schedule.fault(
                f"policy.{key}",
                f"only applies to a model, got {show(value)}; remove it, or add model",
            )
    is_elsewhere = policy.remote is not None or policy.server is not None
    if is_elsewhere and (value := known.get("args")):
        yield schedule.fault("policy.args", f"only applies to call, got {show(value)}; remove it")


def _network(schedule: Schedule) -> Policy | None:
    """The policy, where it is a network."""
    policy = schedule.policy
    return policy if policy is not None and policy.is_network else None


def _check_module(schedule: Schedule) -> Iterator[ScheduleFault]:
    """A PyTorch module: its class, and its weights."""
    policy = schedule.policy
    if policy is None or policy.weights is None:
        return
    if policy.call is None:
        yield schedule.fault(
            "policy.weights",
            f"{policy.weights!r} needs a PyTorch module, and call is missing; give the module's "
            f"class as call, or remove weights",
        )
        return
    for key in ("providers", *(["runtime"] if policy.runtime != "c" else [])):
        if value := getattr(policy, key):
            yield schedule.fault(
                f"policy.{key}", f"only applies to an ONNX model, got {show(value)}; remove it"
            )


def _check_args(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    if policy is not None and policy.args and policy.model is not None:
        yield schedule.fault(
            "policy.args",
            f"only applies to call, and this policy has model, got {show(policy.args)}; remove it",
        )


def _check_providers(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    if policy is not None and policy.providers and policy.runtime == "c" and policy.model:
        yield schedule.fault(
            "policy.providers",
            f'{show(policy.providers)} is for runtime = "python"; add that, or remove providers',
        )


def _check_file(schedule: Schedule, key: str) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    name = None if policy is None else getattr(policy, key)
    if name is not None and PurePath(name).name != name:
        yield schedule.fault(
            f"policy.{key}",
            f"not beside the schedule, got {name!r}; copy the file there and give its name",
        )


def _check_count(schedule: Schedule, key: str) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    if policy is None:
        return
    bound, most = getattr(policy, key), _TENSORS_MAX - len(policy.state)
    if not 0 < len(bound) <= most:
        yield schedule.fault(
            f"policy.{key}",
            f"{len(bound)} tensors are bound, got {show(bound)}; give 1 to "
            f"{max(most, 1)}: {MEANING[key]}",
        )


def _check_inputs(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    for name, places in {} if policy is None else policy.inputs.items():
        for index, place in enumerate(places):
            yield from _check_input(schedule, name, index, place)


def _check_input(schedule: Schedule, name: str, index: int, place: str) -> Iterator[ScheduleFault]:
    key = toml_position.format_path(("policy", "inputs", name, index))
    sensor, dot, field = place.partition(".")
    if not (sensor and dot and field):
        yield schedule.fault(key, f'not a field, got {place!r}; give "sensor.field"')
    elif sensor in schedule.actuator and sensor not in schedule.sensor:
        if field not in ("requested", "applied"):
            yield schedule.fault(
                key, f"no such part of an act, got {place!r}; give requested or applied"
            )
    elif sensor not in schedule.sensor:
        known = ", ".join([*schedule.sensor, *schedule.actuator])
        yield schedule.fault(key, f"no such sensor, got {place!r}; the schedule has: {known}")


def _check_outputs(schedule: Schedule) -> Iterator[ScheduleFault]:
    """Outputs move actuators that there are, and no two of them the same."""
    policy = _network(schedule)
    users: dict[str, str] = {}
    for name, named in {} if policy is None else policy.outputs.items():
        for actuator in [named] if isinstance(named, str) else named:
            key = toml_position.format_path(("policy", "outputs", name))
            if actuator not in schedule.actuator:
                known = ", ".join(schedule.actuator) or "none"
                yield schedule.fault(
                    key, f"no such actuator, got {actuator!r}; the schedule has: {known}"
                )
            elif actuator in users:
                yield schedule.fault(
                    key, f"{actuator!r} is moved by {users[actuator]!r} already; name it once"
                )
            users[actuator] = name


def _check_all_move(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    if policy is None:
        return
    lists = [[named] if isinstance(named, str) else named for named in policy.outputs.values()]
    moved = {actuator for named in lists for actuator in named}
    left = [actuator for actuator in schedule.actuator if actuator not in moved]
    if left:
        yield schedule.fault(
            "policy.outputs",
            f"no output moves {', '.join(left)}, got {show(policy.outputs)}; a command is for all "
            f"actuators: bind them too",
        )


def _check_normalise(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    for name in () if policy is None else policy.normalise:
        assert policy is not None
        if name not in policy.inputs and name not in policy.outputs:
            yield schedule.fault(
                toml_position.format_path(("policy", "normalise", name)),
                f"no such tensor in inputs or outputs, got {name!r}; those are: "
                f"{', '.join([*policy.inputs, *policy.outputs])}",
            )


def _check_images(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = _network(schedule)
    for name in () if policy is None else policy.images:
        assert policy is not None
        if name not in policy.inputs:
            yield schedule.fault(
                toml_position.format_path(("policy", "images", name)),
                f"no such tensor in inputs, got {name!r}; those are: {', '.join(policy.inputs)}",
            )


def _check_state(schedule: Schedule) -> Iterator[ScheduleFault]:
    """A state is no field and no command, and each output is the next value of one input."""
    policy = _network(schedule)
    if policy is None or not policy.state:
        return
    if policy.model is None:
        yield schedule.fault(
            "policy.state",
            f"a module's file does not say the shape of a state, got {show(policy.state)}; export "
            f"the module to ONNX, or keep the state in a class that is call alone",
        )
    if len(policy.state) >= _TENSORS_MAX:
        yield schedule.fault(
            "policy.state",
            f"{len(policy.state)} states are more than {_TENSORS_MAX - 1}; export the network with "
            f"fewer, larger ones",
        )
    outputs = list(policy.state.values())
    for name, output in policy.state.items():
        key = toml_position.format_path(("policy", "state", name))
        if name in policy.inputs:
            yield schedule.fault(
                key, f"{name!r} is bound to fields already; remove it from inputs or from state"
            )
        if output in policy.outputs:
            yield schedule.fault(
                key, f"{output!r} moves an actuator already; remove it from outputs or from state"
            )
        if outputs.count(output) > 1:
            yield schedule.fault(
                key, f"{output!r} is the next value of two inputs; give each an output of its own"
            )
