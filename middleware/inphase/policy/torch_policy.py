"""A policy that is a PyTorch module: its class by `call`, its weights from a safetensors file.

Neither is ever unpickled: `torch.save` and `torch.export` files are zip archives with a pickle in
them, which runs what its author wrote. The numbers go in and out as those of an ONNX model do.
Needs PyTorch, which no extra brings: its builds differ by machine.
"""

from collections.abc import Mapping
from typing import Any

from inphase.errors import ScheduleError, install
from inphase.models.model_binding import Binding
from inphase.models.safetensors_file import Weights
from inphase.policy.model_policy import Called
from inphase.schedule import Schedule, import_by_name


class TorchModel(Called):
    """The module, in evaluation mode and without gradients, warmed up on zeros.

    It is called with a tensor per input, by name, of shape [1, ...], and returns a tensor, a tuple
    in the order of the schedule's outputs, or a dict by their names. Raises ScheduleError.
    """

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        policy = schedule.policy
        assert policy is not None and policy.call is not None
        assert isinstance(binding.model, Weights)
        try:
            import torch
        except ImportError as error:
            raise schedule.error(
                "policy.weights", f"PyTorch cannot be imported ({error}); {install('torch')}"
            ) from error
        super().__init__(schedule, binding)
        self._torch = torch
        torch.set_num_threads(policy.threads)
        self._module = _made(schedule, torch)
        self._load(schedule, binding.model)
        self._names = [tensor.name for tensor in binding.outputs]
        self._feeds = {
            tensor.name: torch.from_numpy(array)
            for tensor, array in zip(binding.inputs, self.inputs, strict=True)
        }
        self._results = [torch.from_numpy(array) for array in self.outputs]
        try:
            self.warm_up()
        except Exception as error:
            raise schedule.error(
                "policy.call",
                f"{policy.call} does not run on zeros: {error!r}{import_by_name.place_of(error)}; "
                f"its inputs are {_shapes(self._feeds)}, its outputs have to be "
                f"{_shapes(dict(zip(self._names, self._results, strict=True)))}",
            ) from error

    def _load(self, schedule: Schedule, weights: Weights) -> None:
        torch = self._torch
        types = {
            "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
            "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32,
            "F32": torch.float32, "I64": torch.int64, "F64": torch.float64,
        }  # fmt: skip
        state = {}
        for name, held in weights.tensors.items():
            memory = bytearray(weights.data[held.begin : held.end])
            kind = types[held.dtype]
            flat = torch.frombuffer(memory, dtype=kind) if memory else torch.empty(0, dtype=kind)
            state[name] = flat.reshape(held.shape)
        try:
            self._module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise schedule.error(
                "policy.weights",
                f"{weights.path} is not of {schedule.policy.call if schedule.policy else ''}: "
                f"{str(error)[:500]}; save the state of that module",
            ) from error
        self._module.eval().requires_grad_(False)

    def compute(self) -> None:
        """One call of the module."""
        with self._torch.inference_mode():
            given = self._module(**self._feeds)
            if isinstance(given, Mapping):
                given = [given[name] for name in self._names]
            elif isinstance(given, self._torch.Tensor):
                given = [given]
            for to, result in zip(self._results, given, strict=True):
                if result.shape != to.shape:
                    raise ValueError(f"came as {list(result.shape)}, not as {list(to.shape)}")
                to.copy_(result)


def _made(schedule: Schedule, torch: Any) -> Any:
    policy = schedule.policy
    assert policy is not None and policy.call is not None
    try:
        found: Any = import_by_name.resolve_call(policy.call, schedule.path.parent)
        module = found(**policy.args) if isinstance(found, type) or callable(found) else found
    except ScheduleError as error:
        raise schedule.error("policy.call", str(error)) from error
    except Exception as error:
        raise schedule.error(
            "policy.args", f"{policy.call} cannot be constructed: {error!r}; correct args"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise schedule.error(
            "policy.call", f"{policy.call} makes no torch.nn.Module, got {type(module).__name__}"
        )
    return module


def _shapes(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
