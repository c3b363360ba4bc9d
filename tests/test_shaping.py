"""What a policy is given beside its frame: a history, samples of one instant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from robots import demo_schedule
from test_chunks import JOINTS, START, run, schedule


@pytest.mark.parametrize("inference_ms", [0.1, 17.0])
def test_a_history_is_the_last_due_frames_also_when_the_policy_was_too_slow_for_them(
    tmp_path: Path, inference_ms: float
) -> None:
    described = schedule(tmp_path, inference_ms, every=3, history=4)
    seen = []

    def call(frame: Frame) -> Any:
        seen.append([one.cycle for one in frame.history])
        for one in frame.history[1:]:
            assert one.command.cycle == one.cycle - 1
            assert one["joints"].value["position"].shape == (JOINTS,)
        return START

    _, counts = run(described, 96, call)
    assert seen[0][-1] == 9 if inference_ms < 1 else seen[0][-1] >= 9
    assert all(one == list(range(one[-1] - 9, one[-1] + 1, 3)) for one in seen)
    assert counts["refused_answers"] > 0


def test_until_there_is_a_history_the_first_frame_may_stand_for_it(tmp_path: Path) -> None:
    described = schedule(tmp_path, every=3, history=4, history_start="repeat")
    seen = []

    def call(frame: Frame) -> Any:
        seen.append([one.cycle for one in frame.history])
        return START

    _, counts = run(described, 32, call)
    assert seen[:4] == [[0, 0, 0, 0], [0, 0, 0, 3], [0, 0, 3, 6], [0, 3, 6, 9]]
    assert counts["refused_answers"] == 0


def test_a_frame_without_a_history_is_its_own(tmp_path: Path) -> None:
    with LockStep(schedules.load(demo_schedule(tmp_path))) as robot:
        frame = robot.step()
        assert frame.history == (frame,)


# ---- aligned -------------------------------------------------------------------------------------


def slow_wrist(folder: Path, **keys: Any) -> schedules.Schedule:
    """The demo with a wrench in every fifth cycle, which is in the frame 3 cycles later."""
    described = schedule(folder, **keys)
    before = 'device = "wrist"\ntrigger_us = 0\nmax_age_ms = 10'
    assert before in described.text
    slow = 'device = "wrist"\ntrigger_us = 0\nmax_age_ms = 60\nevery = 5\nlatency_cycles = 3'
    described.path.write_text(described.text.replace(before, slow))
    return schedules.load(described.path)


def test_samples_are_those_of_the_sensor_that_is_aligned_to(tmp_path: Path) -> None:
    described = slow_wrist(tmp_path, align="wrench")
    with LockStep(described, call=lambda frame: seen.append(frame) or START) as robot:
        seen: list[Frame] = []
        for _ in range(60):
            latched = robot.step()
            if not seen or seen[-1].cycle != latched.cycle:
                assert latched["wrench"].sequence < 0, "the first one was not there yet"
                continue
            given, line = seen[-1], latched.at("wrench", "linear")
            joints = given["joints"]
            assert joints.acquired_ns == given["wrench"].acquired_ns == line.acquired_ns
            assert joints.age_ns == given["wrench"].age_ns
            assert joints.value.tobytes() == line["joints"].value.tobytes()
            assert (joints.status, joints.cycle, joints.triggered_ns) == ("FRESH", None, None)
            assert joints.intact
            assert given["wrench"].value.tobytes() == latched["wrench"].value.tobytes()
    assert len(seen) > 50


def test_each_frame_of_a_history_is_aligned_to_its_own_sample(tmp_path: Path) -> None:
    described = slow_wrist(tmp_path, align="wrench", history=3, every=5)
    seen: list[Frame] = []
    with LockStep(described, call=lambda frame: seen.append(frame) or START) as robot:
        robot.run(100)
        for frame in seen[-4:]:
            times = [one["joints"].acquired_ns for one in frame.history]
            assert times == [one["wrench"].acquired_ns for one in frame.history]
            assert np.abs(np.diff(np.array(times)) - 10_000_000).max() < 100_000
    assert len(seen) > 10
