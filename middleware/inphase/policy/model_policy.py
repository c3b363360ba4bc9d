"""A policy that is a model, run by ONNX Runtime: from C without Python on the way, or from Python.

Both take a `model_binding.Binding`, whose file was checked, and the bytes that were checked: the
runtime opens no file. Needs the extra `onnx`.
"""

import contextlib
import errno
import importlib.util
import math
import resource
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.core.lockstep_config import NativePolicy
from inphase.errors import RuntimeFault, ScheduleError, install
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.record_layout import REASONS, STATUSES
from inphase.models import model_binding
from inphase.models.model_binding import Binding
from inphase.models.onnx_file import DOUBLE, FLOAT, UINT8
from inphase.models.tensor import Tensor
from inphase.schedule import Schedule
from inphase.schedule.rules.classifier_rules import SCORE, ClassifierSchedule

_DATA_MAX = 4 << 30  # bytes
_opening = threading.Lock()  # the limit is the process's
NUMPY = {FLOAT: np.float32, DOUBLE: np.float64, UINT8: np.uint8}
_MESSAGE = 1024
_CPU = "CPUExecutionProvider"
_WARM_UP = 16  # runs until a session has made all its memory
_RAISED = REASONS.index("raised")
_SLICE_NS = 200_000_000  # how long one wait in C lasts before Python may handle a signal
_TRACEBACKS = 3  # shown in full; later ones would flood


def bound(schedule: Schedule, layout: Layout) -> Binding:
    """The schedule's model, checked, bound to frames of a layout. Raises ScheduleError."""
    dtypes = dict(zip(layout.sensors, layout.dtypes, strict=True))
    channels = {name: count for name, count, _ in layout.actuators}
    return model_binding.make(schedule, dtypes, channels)


def bound_classifier(described: ClassifierSchedule, layout: Layout) -> Binding:
    """The model of a task's classifier, likewise."""
    dtypes = dict(zip(layout.sensors, layout.dtypes, strict=True))
    channels = {name: count for name, count, _ in layout.actuators}
    return model_binding.make(described, dtypes, channels, {SCORE: 1})


def _package(schedule: Schedule) -> Path:
    """The folder of the package onnxruntime, which is not imported."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or not found.submodule_search_locations:
        raise schedule.error(
            "policy.model",
            "the package onnxruntime, which runs models, is not installed; "
            + install("onnxruntime"),
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


class Numbers:
    """The tensors of a model in C: frames are gathered into them, commands are made of them.

    Subclasses compute the one from the other. Its maker closes it. Thread: one at a time. Raises
    ScheduleError.
    """

    def __init__(self, schedule: Schedule, binding: Binding, library: Path | None = None) -> None:
        keep: list[Any] = []
        message = ffi.new("char[]", _MESSAGE)
        out = ffi.new("inphase_model **")
        assert schedule.policy is not None
        config = _config(binding, library, schedule.policy.threads, keep)
        with _bounded():
            rc = lib.inphase_model_open(out, config, message, _MESSAGE)
        if rc < 0:
            text = ffi.string(message).decode(errors="replace") or f"errno {-rc}"
            raise does_not_run(schedule, binding, text)
        self._keep = keep
        self._handle = out[0]
        # nobody's any more: its session must not stay in memory for good
        self._end = weakref.finalize(self, lib.inphase_model_close, self._handle)

    def arrays(self, tensors: tuple[Tensor, ...], outputs: bool) -> list[NDArray[Any]]:
        """Views of the inputs' or outputs' numbers, valid until it is closed."""
        views = []
        for index, tensor in enumerate(tensors):
            dtype = np.dtype(NUMPY[tensor.type])
            size = math.prod(tensor.shape) * dtype.itemsize
            pointer = lib.inphase_model_numbers(self._handle, outputs, index)
            memory: Any = ffi.buffer(pointer, size)
            views.append(np.frombuffer(memory, dtype).reshape(tensor.shape))
        return views

    def follow(self, reader: store.Reader) -> None:
        """Where the frames of its history are read, before the first; on the same thread."""
        if lib.inphase_model_follow(self._handle, reader.handle) < 0:
            raise RuntimeFault("policy: the model does not fit the frames of this store")

    def answer(self, reader: store.Reader, frame: Frame, values: Any) -> str | None:
        """A command to a frame of the reader's store, into `values` (a C double array); or why
        there is none, one of REASONS."""
        raise NotImplementedError

    def serve(
        self, reader: store.Reader, mailbox: store.Mailbox, every: int, valid_ns: int
    ) -> None:
        """Answer due frames until the runtime is gone or SIGTERM comes. Raises RuntimeFault."""
        raise NotImplementedError

    def close(self) -> None:
        """End its session."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def does_not_run(schedule: Schedule, binding: Binding, why: str) -> ScheduleError:
    """The error for a model that the runtime refuses."""
    return schedule.error(
        "policy.model",
        f"{binding.model.path}: ONNX Runtime does not run it: {why[:500]}; export the "
        f"network anew, or update the package onnxruntime",
    )


class NativeModel(Numbers):
    """The model as C runs it, warmed up. Raises ScheduleError: the runtime is not there, or refuses
    the model."""

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        folder = _package(schedule)
        found = sorted((folder / "capi").glob("libonnxruntime.so*"))
        if not found:
            raise schedule.error(
                "policy.model",
                f"no libonnxruntime.so in {folder / 'capi'}; install the package onnxruntime of "
                f'this platform, or give runtime = "python"',
            )
        super().__init__(schedule, binding, found[0])

    @property
    def native(self) -> NativePolicy:
        """As lock step runs it; this object stays its owner."""
        call = int(ffi.cast("uintptr_t", ffi.addressof(lib, "inphase_model_call")))
        return NativePolicy(call, int(ffi.cast("uintptr_t", self._handle)))

    def answer(self, reader: store.Reader, frame: Frame, values: Any) -> str | None:
        """A command to a frame of the reader's store, into `values` (a C double array); or why
        there is none, one of REASONS."""
        record = ffi.from_buffer(frame.record)
        reason = lib.inphase_model_answer(self._handle, reader.handle, record, values)
        return REASONS[reason] if reason else None

    def serve(
        self, reader: store.Reader, mailbox: store.Mailbox, every: int, valid_ns: int
    ) -> None:
        """As Numbers.serve; all of it is C."""
        rc = lib.inphase_model_serve(
            self._handle, reader.handle, mailbox.segment.handle, every, valid_ns
        )
        if rc < 0:
            raise RuntimeFault(f"policy: the model's loop ended with errno {-rc}")


def _config(binding: Binding, library: Path | None, threads: int, keep: list[Any]) -> Any:
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
            "runtime": own("char[]", str(library).encode()) if library else ffi.NULL,
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
            "states": binding.states,
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
    if tensor.pixels is not None:
        made["channels"] = tensor.pixels.channels
        made["planar"] = tensor.pixels.is_planar
        if tensor.pixels.numbers is not None:
            made["pixels"] = own("double[]", tensor.pixels.numbers.ravel().tolist())
    if tensor.mean is not None and tensor.std is not None:
        made["mean"] = own("double[]", tensor.mean.tolist())
        made["std"] = own("double[]", tensor.std.tolist())
    return made


class ModelTurn:
    """A model's turn at frames that Python asks for; as policy.Turn."""

    def __init__(self, model: Numbers, reader: store.Reader, buffer: Any) -> None:
        self._model = model
        self._reader = reader
        model.follow(reader)
        self.buffer = buffer

    def take(self, frame: Frame) -> str | None:
        """Run it; its command is in `buffer`, or the reason why there is none."""
        return self._model.answer(self._reader, frame, self.buffer.pointer)


# ---- from Python -------------------------------------------------------------------------------


class Called(Numbers):
    """A model that something in Python computes: `compute` fills `outputs` from `inputs`."""

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        super().__init__(schedule, binding)
        self.inputs = self.arrays(binding.inputs, False)
        self.outputs = self.arrays(binding.outputs, True)
        self._shown = 0

    def warm_up(self) -> None:
        """Run it some times on zeros. Raises what it raises."""
        for _ in range(_WARM_UP):
            self.compute()

    def compute(self) -> None:
        """Fill the outputs."""
        raise NotImplementedError

    def put(self, results: Sequence[Any]) -> None:
        """Take the outputs in, in the order in which they are bound. Raises ValueError."""
        for to, result in zip(self.outputs, results, strict=True):
            if result.shape != to.shape:
                raise ValueError(f"came as {result.shape}, not as {to.shape}")
            to[...] = result

    def answer(self, reader: store.Reader, frame: Frame, values: Any) -> str | None:
        """As Numbers.answer."""
        record = ffi.from_buffer(frame.record)
        reason = lib.inphase_model_take(self._handle, reader.handle, record)
        if not reason:
            reason = self._fill_outputs()
        if reason:
            return REASONS[reason]
        lib.inphase_model_give(self._handle, values)
        return None

    def serve(
        self, reader: store.Reader, mailbox: store.Mailbox, every: int, valid_ns: int
    ) -> None:
        """As Numbers.serve."""
        self.follow(reader)
        wait, post = lib.inphase_model_wait, lib.inphase_model_post
        handles = (self._handle, reader.handle, mailbox.segment.handle)
        while True:
            reason = wait(*handles, every, _SLICE_NS)
            if reason == 0:
                reason = self._fill_outputs()
            if reason >= 0:
                reason = post(*handles, valid_ns, reason)
            if reason == -errno.EPIPE:
                return
            if reason < 0 and reason not in (-errno.ETIMEDOUT, -errno.EINTR):
                raise RuntimeFault(f"policy: the model's loop ended with errno {-reason}")

    def _fill_outputs(self) -> int:
        """Compute; the number of a reason."""
        try:
            self.compute()
            return 0
        except Exception:  # what others wrote must not end the loop
            self._shown += 1
            if self._shown <= _TRACEBACKS:
                print("policy raised:", file=sys.stderr)
                traceback.print_exc()
            return _RAISED


class PythonModel(Called):
    """The model through ONNX Runtime's Python interface, on any of its execution providers.

    Raises ScheduleError.
    """

    def __init__(self, schedule: Schedule, binding: Binding) -> None:
        _package(schedule)
        import onnxruntime

        super().__init__(schedule, binding)
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
        names = [tensor.name for tensor in binding.inputs]
        self._feeds = dict(zip(names, self.inputs, strict=True))
        self._in_place: Any = None
        # other providers map far more memory than they use
        bounded = _bounded() if providers == [_CPU] else contextlib.nullcontext()
        try:
            with bounded:
                self._session = onnxruntime.InferenceSession(
                    binding.model.data, options, providers=providers
                )
                if providers == [_CPU]:
                    self._in_place = self._bind(binding)
                self.warm_up()
        except Exception as error:
            raise does_not_run(schedule, binding, str(error)) from error

    def _bind(self, binding: Binding) -> Any:
        """A binding by which the session reads and writes the arrays in place."""
        bound_to = self._session.io_binding()
        for tensors, arrays, bind in (
            (binding.inputs, self.inputs, bound_to.bind_input),
            (binding.outputs, self.outputs, bound_to.bind_output),
        ):
            for tensor, array in zip(tensors, arrays, strict=True):
                bind(tensor.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return bound_to

    def compute(self) -> None:
        """One run of the session."""
        if self._in_place is not None:
            self._session.run_with_iobinding(self._in_place)
        else:
            self.put(self._session.run(self._names, self._feeds))
