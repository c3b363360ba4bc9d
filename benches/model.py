"""From the latch to the command posted by a model: the real policy process, against a bare process.

The network is two hidden layers of 256 with ELU. The yardstick is a process that waits on a bare
futex, runs the same session on numbers that are there already, and stamps: `session.run` in a loop
of Python, or the C call in a loop of C. The same writer wakes both, with the same period on the
same cores, so that caches and cores are as cold for one as for the other.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import policy_process, robot
from benches.distribution import Rounds, show
from benches.latch import Reader, Writer
from benches.machine import Options
from benches.policy import contents_of
from inphase import schedule
from inphase.frames import store
from inphase.host.process import thread_environment
from inphase.plan import plan as planning

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the writer of ONNX files
from models import network, with_model

_CYCLES = 200
_PERIOD_US, _ACT_US = 2000, 1700
_LAYERS = (12, 256, 256, 6)
_GOALS = {"c": 1.1, "python": 1.2}


def _measure(name: str, options: Options, runtime: str) -> dict[str, Any]:
    figure = Rounds(f"latch to command posted, {name}", goal=_GOALS[runtime])
    missed = [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.toml"
        path.write_text((robot.SCHEDULES / "demo.toml").read_text())
        with_model(path, network(_LAYERS))
        path.write_text(f'{path.read_text()}runtime = "{runtime}"\n')
        plan = planning.make(schedule.load(path))
        writer = Writer(options, contents_of(plan, store.new_epoch()))
        fds = writer.mailbox(_LAYERS[-1])
        arguments = (path, writer.mapping, options.other_cpu, 0, runtime)
        answerer = Reader(*arguments, module="benches.answerer")
        worker = policy_process.start(path, writer.path, fds, thread_environment(1))
        os.sched_setaffinity(worker.pid, [options.other_cpu])

        def kept(side: int, late: NDArray[np.int64]) -> NDArray[np.int64]:
            missed[side] += int(np.sum(late < 0))
            return late[late >= 0]

        def bare() -> NDArray[np.int64]:
            answerer.ask("work", int(writer.bare.word) + _CYCLES)
            late = writer.bare_block(_PERIOD_US, _CYCLES, _ACT_US)
            answerer.answer()
            return kept(0, late)

        def ours() -> NDArray[np.int64]:
            return kept(1, writer.frames_block(_PERIOD_US, _CYCLES, _ACT_US))

        bare(), ours()  # warm up
        for _ in range(options.rounds):
            figure.add(bare(), ours(), bare())
        worker.stop()
        answerer.close()
        writer.close()
    result = figure.result()
    cycles = _CYCLES * (options.rounds + 1)
    result["missed"] = {"ours": missed[1] / cycles, "yardstick": missed[0] / (2 * cycles - _CYCLES)}
    show(result)
    print(f"  no answer by the act offset: {result['missed']}")
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """The loop in C, and the same model in Python."""
    results = [_measure("a model of 2 x 256 in C", options, "c")]
    results.append(_measure("the same model in Python", options, "python"))
    return results
