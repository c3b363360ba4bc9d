"""From the latch to the command posted by a model: the real policy process, against bare inference.

The network is two hidden layers of 256 with ELU. The yardstick is the same session in this process,
called once per period on the other core with a frame that is there already: no wait, no store and
no mailbox, but caches as cold as the policy's.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import robot
from benches.distribution import Rounds, show
from benches.latch import Writer
from benches.machine import Options
from benches.policy import contents_of
from inphase import model_policy, schedule, store
from inphase import plan as planning
from inphase._core import ffi, lib
from inphase.plan import Plan
from inphase.process import Process

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the writer of ONNX files
from models import network, with_model

_CYCLES = 200
_PERIOD_US, _ACT_US = 2000, 1700
_LAYERS = (12, 256, 256, 6)


class Bare:
    """The model without anything around it."""

    def __init__(self, plan: Plan) -> None:
        assert plan.model is not None
        self._model = model_policy.NativeModel(plan.schedule, plan.model)
        sizes = [sensor.dtype.itemsize for sensor in plan.sensors]
        self._kept = [ffi.new("uint8_t[]", size) for size in sizes]
        self._samples = ffi.new("void *[]", self._kept)
        self._record = ffi.new("uint8_t[]", 4096)
        self._command = ffi.new("double[]", plan.values)
        self._user = ffi.cast("void *", self._model.native.user)

    def block(self, cpu: int) -> NDArray[np.int64]:
        """How long each call takes, one per period."""
        before = os.sched_getaffinity(0)
        if cpu >= 0:
            os.sched_setaffinity(0, {cpu})
        spans = np.zeros(_CYCLES, np.int64)
        due = time.perf_counter()
        for i in range(_CYCLES):
            due += _PERIOD_US / 1e6
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.perf_counter_ns()
            reason = lib.inphase_model_call(self._user, self._record, self._samples, self._command)
            spans[i] = time.perf_counter_ns() - start
            assert reason == 0, reason
        os.sched_setaffinity(0, before)
        return spans

    def close(self) -> None:
        """End its session."""
        self._model.close()


def _measure(name: str, options: Options, runtime: str) -> dict[str, Any]:
    figure = Rounds(f"latch to command posted, {name}")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.toml"
        path.write_text((robot.SCHEDULES / "demo.toml").read_text())
        with_model(path, network(_LAYERS))
        path.write_text(f'{path.read_text()}runtime = "{runtime}"\n')
        plan = planning.make(schedule.load(path))
        writer = Writer(options, contents_of(plan, store.new_epoch()))
        mailbox = writer.path.removesuffix("core") + "policy"
        bare = Bare(plan)
        worker = Process("policy", "inphase.policy", [str(path), writer.path, mailbox])
        worker.wait_ready()
        os.sched_setaffinity(worker.pid, [options.other_cpu])
        for _ in range(options.rounds + 1):
            first = bare.block(options.other_cpu)
            late = writer.frames_block(_PERIOD_US, _CYCLES, _ACT_US, mailbox)
            missed += int(np.sum(late < 0))
            figure.add(first, late[late >= 0], bare.block(options.other_cpu))
        for side in (figure.first, figure.ours, figure.second):
            del side[0]  # warms up
        worker.stop()
        bare.close()
        writer.close()
    result = figure.result() | {"missed": missed / _CYCLES / (options.rounds + 1)}
    show(result)
    print(f"  no answer by the act offset: {result['missed']}")
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """The loop in C, and the same model in Python."""
    results = [_measure("a model of 2 x 256 in C", options, "c")]
    results.append(_measure("the same model in Python", options, "python"))
    return results
