"""From the latch to the command posted: the real policy process, a trivial policy, against an echo.

The writer publishes frames of the demo robot as the core does and looks into the mailbox at the act
offset. The yardstick is a Python process that waits for a bare futex through cffi and stamps.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import policy_process, robot
from benches.distribution import Rounds, show
from benches.latch import DEPTH, Contents, Reader, Writer
from benches.machine import Options
from inphase.frames import record_layout, store
from inphase.plan.plan import Plan

_CYCLES = 200
_PERIOD_US, _ACT_US = 2000, 1700
_GOAL = 1.4
_WAVE = 'call = "demo_policy.py:Wave"\nargs = { amplitude = 0.4, seconds = 4.0 }'


def contents_of(plan: Plan, epoch: int) -> Contents:
    """The demo's store."""
    record = record_layout.HEADER.size + len(plan.sensors) * record_layout.ROW.size
    record += sum(record_layout.ACT.size + 16 * a.spec.channels for a in plan.actuators)
    payloads = [sensor.dtype.itemsize for sensor in plan.sensors]
    return Contents(epoch, plan.description(epoch), payloads, record)


def schedule_file(folder: str) -> Path:
    """The demo's schedule with the trivial policy."""
    text = (robot.SCHEDULES / "demo.toml").read_text()
    assert _WAVE in text
    path = Path(folder) / "demo.toml"
    path.write_text(text.replace(_WAVE, 'call = "benches.trivial:hold"'))
    return path


def _measure(name: str, options: Options, pin: bool) -> dict[str, Any]:
    figure = Rounds(f"latch to command posted, {name}", goal=_GOAL)
    epoch = store.new_epoch()
    plan = robot.plan_of(robot.demo(options.priority, options.cycle_cpu))
    writer = Writer(options, contents_of(plan, epoch))
    echo = Reader(options.other_cpu if pin else -1, "", writer.mapping, 1, 8, DEPTH)
    fds = writer.mailbox(robot.SERVOS)
    missed = [0, 0]

    def kept(side: int, late: NDArray[np.int64]) -> NDArray[np.int64]:
        missed[side] += int(np.sum(late < 0))
        return late[late >= 0]

    def bare() -> NDArray[np.int64]:
        echo.ask("echo", int(writer.bare.word) + _CYCLES)
        late = writer.bare_block(_PERIOD_US, _CYCLES, _ACT_US)
        echo.answer()
        return kept(0, late)

    def ours() -> NDArray[np.int64]:
        return kept(1, writer.frames_block(_PERIOD_US, _CYCLES, _ACT_US))

    with tempfile.TemporaryDirectory() as folder:
        path = schedule_file(folder)
        worker = policy_process.start(path, writer.path, fds)
        if pin:
            os.sched_setaffinity(worker.pid, [options.other_cpu])
        _take_turns(figure, options.rounds, bare, ours)
        worker.stop()
    echo.close()
    writer.close()
    result = figure.result()
    cycles = options.rounds * _CYCLES
    result["missed"] = {"ours": missed[1] / cycles, "yardstick": missed[0] / cycles / 2}
    show(result)
    print(f"  no answer by the act offset: {result['missed']}")
    return result


def _take_turns(
    figure: Rounds,
    rounds: int,
    bare: Callable[[], NDArray[np.int64]],
    ours: Callable[[], NDArray[np.int64]],
) -> None:
    bare()
    ours()
    for _ in range(rounds):
        figure.add(bare(), ours(), bare())


def run(options: Options) -> list[dict[str, Any]]:
    """On the other core, and wherever the kernel puts them."""
    results = [_measure("policy on the other core", options, pin=True)]
    if not options.quick:
        results.append(_measure("policy on any core", options, pin=False))
    return results
