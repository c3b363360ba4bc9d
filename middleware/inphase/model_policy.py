"""A policy that is a model, run by ONNX Runtime: from C without Python on the way, or from Python.

Both take a `model_binding.Binding`, whose file was checked, and the bytes that were checked: the
runtime opens no file. Needs the extra `onnx`.
"""

import contextlib
import importlib.util
import resource
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inphase import model_binding, store
from inphase._core import ffi, lib
from inphase.core import NativePolicy
from inphase.errors import RuntimeFault
from inphase.frame import Frame, Layout
from inphase.model_binding import FRAME, Binding, Tensor
from inphase.onnx_file import DOUBLE, FLOAT, UINT8
from inphase.packets import REASONS
from inphase.schedule import Schedule
from inphase.shaping import NotThere
from inphase.wire import STATUSES

_DATA_MAX = 4 << 30  # bytes
_opening = threading.Lock()  # the limit is the process's
_NUMPY = {FLOAT: np.float32, DOUBLE: np.float64, UINT8: np.uint8}
_MESSAGE = 1024
_CPU = "CPUExecutionProvider"
_WARM_UP = 16  # runs until a session has made all its memory


def bound(schedule: Schedule, layout: Layout) -> Binding:
    """The schedule's model, checked, bound to frames of a layout. Raises ScheduleError."""
    dtypes = dict(zip(layout.sensors, layout.dtypes, strict=True))
    channels = {name: count for name, count, _ in layout.actuators}
    return model_binding.make(schedule, dtypes, channels)


def _package(schedule: Schedule) -> Path:
    """The folder of the package onnxruntime, which is not imported."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or not found.submodule_search_locations:
        raise schedule.error(
            "policy.model",
            "the package onnxruntime, which runs models, is not installed; "
            "install it: pip install 'inphase[onnx]'",
        )
    return Path(found.submodule_search_locations[0])


def limit_memory() -> None:
    """Bound what this process may yet take: a model can ask for more than its file holds."""
    has = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [has + _DATA_MAX, *(n for n in (soft, hard) if n != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """The same for as long as a model is opened and first run."""
    with _opening:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        limit_memory()
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


# ---- from C ------------------------------------------------------------------------------------


class NativeModel:
    """The model as C runs it, warmed up. Whoever makes it closes it. Thread: one at a time.

    Raises ScheduleError: the runtime is not there, or refuses the model.
    """

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        folder = _package(schedule)
        found = sorted((folder / "capi").glob("libonnxruntime.so*"))
        if not found:
            raise schedule.error(
                "policy.model",
                f"no libonnxruntime.so in {folder / 'capi'}; install the package onnxruntime of "
                f'this platform, or give runtime = "python"',
            )
        keep: list[Any] = []
        message = ffi.new("char[]", _MESSAGE)
        out = ffi.new("inphase_model **")
        assert schedule.policy is not None
        config = _config(binding, str(found[0]), schedule.policy.threads, keep)
        with _bounded():
            rc = lib.inphase_model_open(out, config, message, _MESSAGE)
        if rc < 0:
            text = ffi.string(message).decode(errors="replace") or f"errno {-rc}"
            raise schedule.error(
                "policy.model",
                f"{binding.model.path}: ONNX Runtime does not run it: {text[:500]}; export the "
                f"network anew, or update the package onnxruntime",
            )
        self._keep = keep
        self._handle = out[0]
        # nobody's any more: its session must not stay in memory for good
        self._end = weakref.finalize(self, lib.inphase_model_close, self._handle)

    @property
    def native(self) -> NativePolicy:
        """As lock step runs it; this object stays its owner."""
        call = int(ffi.cast("uintptr_t", ffi.addressof(lib, "inphase_model_call")))
        return NativePolicy(call, int(ffi.cast("uintptr_t", self._handle)))

    def follow(self, reader: store.Reader) -> None:
        """Where the frames of its history are read, before the first; on the same thread."""
        if lib.inphase_model_follow(self._handle, reader.handle) < 0:
            raise RuntimeFault("policy: the model does not fit the frames of this store")

    def answer(self, reader: store.Reader, frame: Frame, values: Any) -> str | None:
        """A command to a frame of the reader's store, into `values` (a C double array); or why
        there is none, one of REASONS."""
        record = ffi.from_buffer(frame.record)
        reason = lib.inphase_model_answer(self._handle, reader.handle, record, values)
        return REASONS[reason] if reason else None

    def serve(
        self, reader: store.Reader, mailbox: store.Mailbox, every: int, valid_ns: int
    ) -> None:
        """Answer every due frame until the runtime is gone or SIGTERM comes, all of it in C. Raises
        RuntimeFault."""
        rc = lib.inphase_model_serve(
            self._handle, reader.handle, mailbox.segment.handle, every, valid_ns
        )
        if rc < 0:
            raise RuntimeFault(f"policy: the model's loop ended with errno {-rc}")

    def close(self) -> None:
        """End its session."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _config(binding: Binding, library: str, threads: int, keep: list[Any]) -> Any:
    """struct inphase_model_config."""

    def own(kind: str, value: Any) -> Any:
        made = ffi.new(kind, value)
        keep.append(made)
        return made

    statuses = {status: 1 << index for index, status in enumerate(STATUSES)}
    accepts = [
        sum(statuses[s] for s in binding.accepts[name]) if name in binding.accepts else 0xFF
        for name in binding.sensors
    ]

    def tensors(bound_ones: tuple[Tensor, ...], inputs: bool) -> Any:
        return own(
            "struct inphase_model_tensor[]",
            [_tensor(tensor, inputs, own) for tensor in bound_ones],
        )

    data = ffi.from_buffer(binding.model.data)
    keep.append(data)
    return own(
        "struct inphase_model_config *",
        {
            "library": own("char[]", library.encode()),
            "bytes": data,
            "size": len(binding.model.data),
            "inputs": len(binding.inputs),
            "outputs": len(binding.outputs),
            "sensors": len(binding.sensors),
            "values": binding.values,
            "threads": threads,
            "chunk": binding.chunk,
            "history": binding.history,
            "repeats": binding.repeats,
            "every": binding.every,
            "accepts": own("uint8_t[]", accepts),
            "input": tensors(binding.inputs, True),
            "output": tensors(binding.outputs, False),
        },
    )


def _tensor(tensor: Tensor, is_input: bool, own: Any) -> dict[str, Any]:
    """The fields of struct inphase_model_tensor."""
    parts = [
        {"sensor": p.index, "count": p.count, "offset": p.offset}
        if is_input
        else {"sensor": 0, "count": p.count, "offset": p.index}
        for p in tensor.parts
    ]
    made = {
        "name": own("char[]", tensor.name.encode()),
        "type": tensor.type,
        "rank": len(tensor.shape),
        "shape": list(tensor.shape),
        "parts": len(parts),
        "part": own("struct inphase_model_part[]", parts),
    }
    if tensor.mean is not None and tensor.std is not None:
        made["mean"] = own("double[]", tensor.mean.tolist())
        made["std"] = own("double[]", tensor.std.tolist())
    return made


class NativeTurn:
    """A native model's turn at frames that Python asks for; as policy.Turn."""

    def __init__(self, model: NativeModel, reader: store.Reader, buffer: Any) -> None:
        self._model = model
        self._reader = reader
        model.follow(reader)
        self.buffer = buffer

    def take(self, frame: Frame) -> str | None:
        """Run it; its command is in `buffer`, or the reason why there is none."""
        return self._model.answer(self._reader, frame, self.buffer.pointer)


# ---- from Python -------------------------------------------------------------------------------


class PythonModel:
    """The model as a policy in Python, on any of ONNX Runtime's execution providers.

    Raises ScheduleError.
    """

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        _package(schedule)
        import onnxruntime

        assert schedule.policy is not None
        providers = schedule.policy.providers or [_CPU]
        known = onnxruntime.get_available_providers()
        for index, name in enumerate(providers):
            if name not in known:
                raise schedule.error(
                    f"policy.providers[{index}]",
                    f"this onnxruntime has no {name!r}; it has: {', '.join(known)}",
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = schedule.policy.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._names = [tensor.name for tensor in binding.outputs]
        zeros = {t.name: np.zeros(t.shape, _NUMPY[t.type]) for t in binding.inputs}
        # other providers map far more memory than they use
        bounded = _bounded() if providers == [_CPU] else contextlib.nullcontext()
        try:
            with bounded:
                self._session = onnxruntime.InferenceSession(
                    binding.model.data, options, providers=providers
                )
                for _ in range(_WARM_UP):
                    given = self._session.run(self._names, zeros)
            for tensor, result in zip(binding.outputs, given, strict=True):
                _check_shape(tensor, result)
        except Exception as error:
            raise schedule.error(
                "policy.model",
                f"{binding.model.path}: ONNX Runtime does not run it: {str(error)[:500]}; export "
                f"the network anew, or update the package onnxruntime",
            ) from error
        self._binding = binding
        self._command = np.zeros((binding.chunk, binding.values))

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        """The command, or those of a chunk. Raises NotThere."""
        rows: list[list[NDArray[Any]]] = []
        for one in reversed(frame.history):
            row = self._row(one)
            if row is None:
                break
            rows.append(row)
        missing = self._binding.history - len(rows)
        if missing and not (rows and self._binding.repeats):
            raise NotThere
        rows += [rows[-1]] * missing
        feeds = {
            tensor.name: _taken_in(tensor, np.concatenate(numbers))
            for tensor, numbers in zip(
                self._binding.inputs, zip(*reversed(rows), strict=True), strict=True
            )
        }
        given = self._session.run(self._names, feeds)
        for tensor, result in zip(self._binding.outputs, given, strict=True):
            self._put(tensor, np.asarray(result))
        return self._command if self._binding.chunk > 1 else self._command[0]

    def _row(self, frame: Frame) -> list[NDArray[Any]] | None:
        """One frame's numbers for each input; None: some are not there."""
        sensors, row = self._binding.sensors, []
        for tensor in self._binding.inputs:
            values = []
            for part in tensor.parts:
                if part.index == FRAME:
                    value = np.frombuffer(frame.record, "<f8", part.count, part.offset)
                    if np.isnan(value).any():
                        return None
                elif frame[sensors[part.index]].sequence < 0:
                    return None
                else:
                    value = frame[sensors[part.index]].value[part.name].reshape(-1)
                values.append(value)
            row.append(np.concatenate(values))
        read = {p.index for t in self._binding.inputs for p in t.parts if p.index != FRAME}
        return row if all(frame[sensors[index]].intact for index in read) else None

    def _put(self, tensor: Tensor, result: NDArray[Any]) -> None:
        _check_shape(tensor, result)
        numbers = result.reshape(-1).astype(np.float64)
        if tensor.mean is not None and tensor.std is not None:
            numbers = numbers * tensor.std + tensor.mean
        rows = numbers.reshape(len(self._command), -1)
        at = 0
        for part in tensor.parts:
            to = slice(part.index, part.index + part.count)
            self._command[:, to] = rows[:, at : at + part.count]
            at += part.count


def _check_shape(tensor: Tensor, result: NDArray[Any]) -> None:
    if result.shape != tensor.shape:
        raise ValueError(f"{tensor.name} came as {result.shape}, not as {tensor.shape}")


def _taken_in(tensor: Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    if tensor.mean is not None and tensor.std is not None:
        numbers = (numbers - tensor.mean) / tensor.std
    return numbers.astype(_NUMPY[tensor.type]).reshape(tensor.shape)


def check(schedule: Schedule, binding: Binding) -> None:
    """See that the runtime takes the model. Raises ScheduleError."""
    assert schedule.policy is not None
    if schedule.policy.runtime == "python":
        PythonModel(schedule, binding)
    else:
        NativeModel(schedule, binding).close()
