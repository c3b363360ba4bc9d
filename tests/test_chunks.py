"""When a policy's answers act: at what offset, in chunks, joined and interpolated."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import schedule as schedules
from inphase.frame import Frame
from inphase.lockstep import LockStep
from inphase.schedule import Schedule
from robots import demo_schedule

JOINTS = 6
PERIOD_MS, ACT_MS = 2.0, 1.7
START = np.array([0.3, -0.6, 0.9, -0.2, 0.5, 0.1])
UNIT = 1e-7  # so small that the limiter lets every command through
ENTRIES = 64


def schedule(folder: Path, inference_ms: str | float = 0.1, **keys: Any) -> Schedule:
    """The demo with these keys of [policy], and a policy that takes so long."""
    path = demo_schedule(folder)
    said = [f"{key} = {value!r}" for key, value in keys.items()]
    text = path.read_text().rstrip().replace("'", '"')
    timing = f"\n[timing]\npolicy.inference_ms = {inference_ms}\n"
    path.write_text("\n".join([text, *said, timing]).replace("'", '"'))
    return schedules.load(path)


def numbered(described: Schedule) -> Callable[[Frame], Any]:
    """A policy whose commands say which frame they answer, and which of the chunk they are."""
    assert described.policy is not None
    chunk = described.policy.chunk

    def call(frame: Frame) -> Any:
        numbers = (frame.cycle * ENTRIES + np.arange(chunk)) * UNIT
        return (START + numbers[:, None]) if chunk > 1 else START + numbers[0]

    return call


@dataclass
class Act:
    """What a cycle was commanded."""

    cycle: int
    requested: np.ndarray
    flags: tuple[str, ...]
    reason: str

    @property
    def source(self) -> tuple[int, int] | None:
        """The frame that was answered, and the number in its chunk; None: no command."""
        if np.isnan(self.requested).any():
            return None
        code = round(float(self.requested[0] - START[0]) / UNIT)
        return divmod(code, ENTRIES)


def acts(robot: LockStep, cycles: int) -> list[Act]:
    """Run so many cycles; what was commanded in all but the last."""
    found = []
    for _ in range(cycles):
        robot.core.run(1) if robot._turn is None else robot.run(1)
        number = robot.core.frames - 1
        record = robot.follower.reader.past(number)
        assert record is not None
        frame = Frame(robot.follower.layout, record, robot.follower)
        act = frame.command["arm"]
        if frame.command.cycle >= 0 and (not found or found[-1].cycle != frame.command.cycle):
            found.append(Act(frame.command.cycle, act.requested.copy(), act.flags, act.reason))
    return found


def run(described: Schedule, cycles: int, call: Any = None) -> tuple[list[Act], dict[str, int]]:
    """The acts of a run, and its counts."""
    with LockStep(described, call=call or numbered(described), digest=False) as robot:
        return acts(robot, cycles), robot.follower.reader.counts()


@pytest.mark.parametrize("inference_ms", [0.1, 1.0, 2.5, 6.6, 8.4])
def test_an_answer_acts_at_a_constant_offset_whatever_it_took(
    tmp_path: Path, inference_ms: float
) -> None:
    described = schedule(tmp_path, inference_ms, every=5, latency_cycles=4)
    found, counts = run(described, 200)
    for act in found:
        if act.cycle < 4:
            assert act.source is None and "MISSED" in act.flags
        else:
            assert act.source == ((act.cycle - 4) // 5 * 5, 0)
    assert counts["late_answers"] == 0 and counts["missed"] == 4
