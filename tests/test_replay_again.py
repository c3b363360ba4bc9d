"""A recording of lock step, run once more from its seed."""

import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from inphase import load
from inphase.command.cli import cli
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.frames.record_layout import HEADER, ROW
from inphase.recording.recorder import Recorder
from inphase.recording.recorder_process import RecorderOptions
from inphase.recording.recording import Recording
from inphase.replay.state_machine import decide_again
from peers import ROOT
from recorded_runs import DEMO, ODD, record
from robots import demo_schedule
from runtimes import Robot
from test_recording_files import record as record_by_steps

PERIOD_NS = 2_000_000  # of the demo
POLICY = """
import os


def hold(frame):
    step = float(os.environ.get("STEP", "0"))
    return frame["joints"]["position"] + (step if frame.cycle > 20 else 0)
"""


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """A schedule, and a recording of it with seed 3."""
    tmp_path.joinpath("still.py").write_text(POLICY)
    schedule = demo_schedule(tmp_path, policy="still.py:hold")
    path = tmp_path / "run.mcap"
    record(schedule, 60, path, seed=3)
    return schedule, path


def again(path: Path, schedule: Path) -> Result:
    return CliRunner().invoke(cli, ["replay", str(path), "--again", str(schedule)])


def test_the_same_seed_gives_the_same_bytes(run: tuple[Path, Path]) -> None:
    schedule, path = run
    with Recording(path) as recording:
        assert recording.description["lockstep"] == {"seed": 3, "episode": 0, "observe": False}
    done = again(path, schedule)
    assert done.exit_code == 0, done.output
    assert "content: equal, bit for bit: 60 frames" in done.output


def test_another_behaviour_is_told_with_its_first_cycle(
    run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, path = run
    monkeypatch.setenv("STEP", "0.001")
    done = again(path, schedule)
    assert done.exit_code == 13, done.output
    line = next(row for row in done.output.splitlines() if "arm.requested" in row)
    assert " 22│" in line  # the frame after the act of cycle 21


def test_another_schedule_is_refused(run: tuple[Path, Path]) -> None:
    schedule, path = run
    schedule.write_text(schedule.read_text() + "\n# another text\n")
    done = again(path, schedule)
    assert done.exception is not None
    assert "was recorded with another schedule" in str(done.exception)


# ---- the core's own decisions --------------------------------------------------------------------


def disturb(cycle: int, robot: LockStep, _: Recorder) -> None:
    """A sensor that falls silent, an emergency stop, and arming after each."""
    if cycle == 160:
        robot.core.fault("silent", 0, 170, 60)
        robot.core.fault("nan", 1, 200, 10)
    elif cycle == 640:
        robot.core.estop()
    elif cycle in (480, 960):
        robot.core.arm()


def test_states_ramps_and_commands_are_decided_again_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record_by_steps(DEMO, 1280, path, RecorderOptions(), disturb)
    with Recording(path) as recording:
        met = {(frame.state, frame.reason) for frame in recording}
        ramps = {("ramping", "none"), ("ramping", "estop")}  # no feedback, and the stop
        assert ramps | {("running", "none"), ("faulted", "estop"), ("armed", "none")} == met
        found = decide_again(recording, load(DEMO))
        assert (found.compared, found.differ, found.first) == (1280, {}, "")
        slower = load(DEMO)
        arm = slower.actuator["arm"]
        limits = structs.replace(arm.limits, velocity=arm.limits.velocity / 4)
        slower = structs.replace(slower, actuator={"arm": structs.replace(arm, limits=limits)})
        found = decide_again(recording, slower)
        assert found.differ["arm.applied"] > 10 and "arm.applied was [" in found.first


def test_a_cycle_that_took_too_long_leaves_the_same_ones_out(tmp_path: Path) -> None:
    def delay(cycle: int, robot: LockStep, _: Recorder) -> None:
        if cycle == 160:
            robot.core.fault("wake", 0, 200, 1, int(2.5 * PERIOD_NS))
            robot.core.fault("wake", 0, 260, 1, PERIOD_NS - 20_000)

    path = tmp_path / "run.mcap"
    record_by_steps(DEMO, 640, path, RecorderOptions(), delay)
    with Recording(path) as recording:
        assert sum(frame.skipped for frame in recording) >= 2
        found = decide_again(recording, load(DEMO))
        assert (found.compared, found.differ, found.first) == (len(recording), {}, "")


def test_the_last_cycles_count_whatever_a_sensor_repeats_after(tmp_path: Path) -> None:
    def delay(cycle: int, robot: LockStep, _: Recorder) -> None:
        if cycle == 0:
            robot.core.fault("wake", 0, 63, 1, 15_000_000)

    schedule, path = tmp_path / "odd.toml", tmp_path / "run.mcap"
    schedule.write_text(ODD.replace("every = 4", "every = 7"))  # of which 63 is a multiple
    record_by_steps(schedule, 64, path, RecorderOptions(), delay)
    with Recording(path) as recording:
        assert recording[-1].cycle > len(recording) - 1, "a cycle was left out"
        found = decide_again(recording, load(schedule))
        assert (found.compared, found.differ) == (len(recording), {})


def test_the_draws_of_randomise_are_no_sensor_of_the_robot(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="a world needs the package mujoco (extra sim)")
    pytest.importorskip("onnxruntime", reason="a model needs it: pip install 'inphase[onnx]'")
    path = tmp_path / "run.mcap"
    record(ROOT / "schedules" / "press.toml", 200, path, seed=1)
    with Recording(path) as recording:
        found = decide_again(recording, load(ROOT / "schedules" / "press.toml"))
        assert (found.compared, found.differ) == (200, {})


def test_outcomes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with LockStep(load(DEMO), digest=False) as robot:
        robot.run(3)
        frame = robot.follower.peek(robot.core.frames - 1)
        rows = [HEADER.size + index * ROW.size for index in (0, 1, 2)]
        good = frame.record[rows[0] : rows[2]]
        robot.core.given(good, [None, None], 0)
        bad = bytearray(good)
        bad[ROW.offset("status")] = 8
        for outcomes, values in (
            (bytes(bad), [None, None]),
            (good[:-1], [None, None]),
            (good, [None]),
            (good, [np.zeros(1), None]),
        ):
            with pytest.raises(ValueError, match=r"are not those of|does not know"):
                robot.core.given(outcomes, values, 0)
        robot.run(3)


def test_a_recording_that_begins_later_is_refused(tmp_path: Path) -> None:
    record_by_steps(DEMO, 640, tmp_path / "run.mcap", RecorderOptions(split_ns=500_000_000))
    with Recording(tmp_path / "run.2.mcap") as recording:
        assert recording[0].cycle > 0
        with pytest.raises(RecordingError, match="does not begin with cycle 0"):
            decide_again(recording, load(DEMO))


@pytest.mark.real
def test_a_run_of_emulated_hardware_is_decided_again_as_it_was() -> None:
    with Robot() as robot:
        path = robot.folder / "run.mcap"
        with robot.run("--record", str(path)) as run:
            run.frame(lambda frame: frame.cycle > 200)
            run.signal(signal.SIGINT)
            run.end()
        with Recording(path) as recording:
            if recording.state != "COMPLETE":
                pytest.skip("the recorder was too slow for a frame: what was in it is not known")
            frames = len(recording)
        done = again(path, robot.schedule)
        assert done.exit_code == 0, done.output
        assert f"are equal, bit for bit, in {frames} frames" in done.output
