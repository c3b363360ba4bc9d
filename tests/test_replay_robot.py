"""Recorded commands on a robot: eased in, through the limiter, and to be stopped at any time."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.plan import plan
from inphase.recording.recording import Recording
from inphase.replay.recorded_commands import CommandTrack, RecordedCommands
from peers import BOUND_S, ROOT, until
from recorded_runs import DEMO, ODD, record
from runtimes import Robot

NOT_KNOWN_TO_REST = 8  # of a machine so busy that the last feedback is old
SLOWEST = 0.5  # of the limits, on the way to the first command


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    path = tmp_path_factory.mktemp("recorded") / "run.mcap"
    record(DEMO, 600, path)
    with Recording(path) as opened:
        yield opened


def replayed(recording: Recording, **options: Any) -> tuple[RecordedCommands, list[Any]]:
    """The commands on a robot that stands where the demo starts; what was requested and applied of
    its arm, and the flags, by cycle."""
    described = inphase.load(DEMO)
    commands = RecordedCommands(recording, plan.make(described), **options)
    acts = []
    with LockStep(described, call=commands, digest=False) as robot:
        while not commands.is_over:
            robot.run(1)
            act = robot.follower.peek(robot.core.frames - 1).command["arm"]
            acts.append((act.requested.copy(), act.applied.copy(), act.flags))
    return commands, acts


def test_the_commands_of_a_recording_come_again_as_they_were(recording: Recording) -> None:
    track = CommandTrack.of(recording)
    frames = recording.frames()
    asked = frames[np.isfinite(frames["actuators.arm.requested"]).any(axis=1)]
    assert track.left_out == 0
    np.testing.assert_array_equal(track.cycles, asked["acted_cycle"])
    _, acts = replayed(recording)
    requested = np.array([requested for requested, _, _ in acts])
    start = len(acts) - len(track.cycles) + 1  # the last one is given, and acts in the next cycle
    np.testing.assert_array_equal(requested[start:], track.applied["arm"][:-1])
    applied = np.array([applied for _, applied, _ in acts])
    np.testing.assert_allclose(applied[start:], requested[start:], atol=1e-4)  # from rest
    np.testing.assert_allclose(applied[start + 20 :], requested[start + 20 :], atol=1e-12)


def test_the_way_to_the_first_command_keeps_half_of_the_limits(recording: Recording) -> None:
    commands, acts = replayed(recording, first_cycle=300)
    described = inphase.load(DEMO)
    limits = plan.make(described).actuators[0].limits
    period_s = described.cycle.period_ns / 1e9
    requested = np.array([one for one, _, _ in acts if np.isfinite(one).all()])
    way = requested[: len(requested) - len(commands.track.cycles) + 2]
    assert len(way) > 20
    assert np.abs(way[0] - way[-1]).max() > 0.05
    velocity = np.abs(np.diff(way, axis=0)) / period_s
    acceleration = np.abs(np.diff(way, n=2, axis=0)) / period_s**2
    for channel, one in enumerate(limits):
        assert velocity[:-1, channel].max() <= SLOWEST * one.velocity * 1.001
        assert acceleration[:-1, channel].max() <= SLOWEST * one.acceleration * 1.001
    assert not any("INVALID" in flags for _, _, flags in acts)


def test_half_the_speed_goes_between_the_recorded_commands(recording: Recording) -> None:
    commands, acts = replayed(recording, speed=0.5)
    track = commands.track
    requested = np.array([one for one, _, _ in acts if np.isfinite(one).all()])
    slow = requested[-2 * (len(track.cycles) - 1) :]
    np.testing.assert_array_equal(slow[::2], track.applied["arm"][:-1])
    between = (track.applied["arm"][1:] + track.applied["arm"][:-1]) / 2
    np.testing.assert_allclose(slow[1::2], between, atol=1e-12)


def test_a_recording_of_another_robot_or_without_a_command_is_refused(
    recording: Recording, tmp_path: Path
) -> None:
    described = inphase.load(ROOT / "schedules" / "rig.toml")
    with pytest.raises(RecordingError, match=r"has the actuators arm \(6, position\), and .*rig"):
        RecordedCommands(recording, plan.make(described))
    with pytest.raises(RecordingError, match="has no command of a policy from cycle 5000 on"):
        CommandTrack.of(recording, 5000)
    schedule = tmp_path / "odd.toml"
    schedule.write_text(ODD)
    record(schedule, 50, tmp_path / "odd.mcap")
    with (
        Recording(tmp_path / "odd.mcap") as other,
        pytest.raises(RecordingError, match="has no command of a policy"),
    ):
        CommandTrack.of(other)


# ---- in real time ------------------------------------------------------------------------------


def replay(robot: Robot, path: Path, *options: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "inphase", "replay", str(path), *options]
    return subprocess.Popen(
        [*line, "--robot", str(robot.schedule)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.real
@pytest.mark.long
def test_a_robot_moves_as_it_was_recorded_until_it_is_stopped() -> None:
    with Robot() as robot:
        path = robot.folder / "run.mcap"
        record(robot.schedule, 700, path)
        whole = replay(robot, path)
        said, errors = whole.communicate(timeout=BOUND_S)
        assert whole.returncode in (0, NOT_KNOWN_TO_REST), said + errors
        played, total = (float(word) for word in said.split("played ")[1].split()[:3:2])
        assert played == total > 1
        # in motion, ^C ramps it
        cut = replay(robot, path, "--speed", "0.1")
        until(lambda: robot.speed > 0.01)
        cut.send_signal(signal.SIGINT)
        said, errors = cut.communicate(timeout=BOUND_S)
        assert cut.returncode == 130, said + errors
        assert "stopped before the last command: ^C" in errors
        until(lambda: robot.speed < 0.01)
