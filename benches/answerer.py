"""A bare process that answers with a model: a futex word, one inference, a stamp, nothing else.

    python -m benches.answerer SCHEDULE MAPPING CPU PRIORITY RUNTIME

RUNTIME: c, python, or none, without a model: a wake and a stamp in C. A session is made as the
product's policy process makes it. A line of JSON on stdin asks for a block: `last`, the number
after which it ends. `ready` comes back, and a line at its end.
"""

import gc
import json
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benches.native import ffi, lib
from inphase import schedule
from inphase._core import ffi as core_ffi
from inphase._core import lib as core
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.policy import model_policy

Block = Callable[[int], None]


class InC:
    """The loop and the call are C."""

    def __init__(self, plan: Plan, head: Any) -> None:
        assert plan.model is not None
        self._model = model_policy.NativeModel(plan.schedule, plan.model)
        sizes = [sensor.dtype.itemsize for sensor in plan.sensors]
        self._kept = [ffi.new("uint8_t[]", size) for size in sizes]
        call = int(core_ffi.cast("uintptr_t", core_ffi.addressof(core, "inphase_model_call")))
        self._work = ffi.new(
            "struct bench_work *",
            {
                "call": ffi.cast("void *", call),
                "user": ffi.cast("void *", self._model.native.user),
                "record": ffi.new("uint8_t[]", 4096),
                "samples": ffi.new("void *[]", self._kept),
                "command": ffi.new("double[]", plan.values),
            },
        )
        self._kept += [self._work.record, self._work.samples, self._work.command]
        self._head = head

    def block(self, last: int) -> None:
        """Answer every number up to `last`."""
        lib.bench_bare_work(self._head, last, self._work)


class Nothing:
    """Answers at once, in C."""

    def __init__(self, plan: Plan, head: Any) -> None:
        self._work = ffi.new("struct bench_work *")
        self._head = head

    def block(self, last: int) -> None:
        """Answer every number up to `last`."""
        lib.bench_bare_work(self._head, last, self._work)


class InPython:
    """`session.run` in a loop of Python."""

    def __init__(self, plan: Plan, head: Any) -> None:
        import onnxruntime

        assert plan.model is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            plan.model.model.data, options, providers=["CPUExecutionProvider"]
        )
        self._names = [tensor.name for tensor in plan.model.outputs]
        self._feeds = {t.name: np.zeros(t.shape, np.float32) for t in plan.model.inputs}
        self._head = head

    def block(self, last: int) -> None:
        """Answer every number up to `last`."""
        wait, answer, head = lib.bench_bare_wait, lib.bench_bare_echo, self._head
        run, names, feeds = self._session.run, self._names, self._feeds
        newest = int(head.word)
        while newest < last:
            newest = wait(head, newest)
            run(names, feeds)
            answer(head, newest)


def main() -> None:
    """Serve blocks until stdin ends."""
    path, mapping, cpu, priority, runtime = sys.argv[1:]
    os.sched_setaffinity(0, [int(cpu)])
    if int(priority):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(int(priority)))
    plan = planning.make(schedule.load(Path(path)))
    with Path(mapping).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    head = ffi.cast("struct bench_bare *", ffi.from_buffer(memory))
    kinds = {"c": InC, "python": InPython, "none": Nothing}
    block: Block = kinds[runtime](plan, head).block
    gc.collect()
    gc.freeze()
    gc.disable()
    for line in sys.stdin:
        print("ready", flush=True)
        block(json.loads(line)["last"])
        print("[]", flush=True)


if __name__ == "__main__":
    main()
