"""`inphase score`: a lag, frames of reference and errors that are known come back."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from inphase import schedule
from inphase.command.cli import cli
from inphase.command.score.alignment import Trajectory, matrices, score
from inphase.episodes import lockstep
from inphase.errors import RecordingError
from inphase.recording.recorder_process import RecorderOptions
from peers import BOUND_S, ROOT, free_port

Floats = NDArray[np.float64]
LAG_NS = 37_400_000
SHIFT = np.array([0.3, -1.2, 0.7])
LEVER = np.array([0.02, -0.05, 0.11])
TRACKED = ROOT / "schedules" / "tracked.toml"
ESTIMATE = f"{ROOT}/schedules/tracked_estimate.py:tool"


def turn(axis: tuple[float, float, float], angle: float) -> Floats:
    """A quaternion, w first."""
    unit = np.array(axis) / np.linalg.norm(axis)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * unit)])


def times(first: Floats, second: Floats) -> Floats:
    """The product of quaternions."""
    a, b, c, d = np.moveaxis(first, -1, 0)
    w, x, y, z = np.moveaxis(second, -1, 0)
    return np.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


WORLD, BODY = turn((1, 2, -1), 0.8), turn((0, 1, 1), -0.4)


def motion(seconds: Floats) -> tuple[Floats, Floats]:
    """A body that moves and turns about all axes."""
    s = seconds[:, None]
    position = np.hstack([np.sin(1.3 * s), 0.5 * np.cos(0.9 * s), 0.4 * np.sin(2.1 * s + 1)])
    turned = np.array([turn((1, 0, 0), 0.7 * np.sin(1.1 * t)) for t in seconds])
    other = np.array([turn((0, 0, 1), 0.9 * np.cos(0.7 * t)) for t in seconds])
    return position, times(turned, other)


def both(body: bool = True) -> tuple[Trajectory, Trajectory]:
    """The estimate at 100 Hz with late stamps, and the truth at 1 kHz: X E Y."""
    at = np.arange(0.2, 7.8, 0.01)
    position, turned = motion(at)
    estimate = Trajectory((at * 1e9).astype(np.int64) + LAG_NS, position, turned)
    at = np.arange(0.0, 8.0, 0.001)
    position, turned = motion(at)
    lever = matrices(turned) @ LEVER if body else 0.0
    world = matrices(WORLD[None])[0]
    true = times(np.broadcast_to(WORLD, turned.shape), turned)
    if body:
        true = times(true, np.broadcast_to(BODY, turned.shape))
    return estimate, Trajectory(
        np.rint(at * 1e9).astype(np.int64), (position + lever) @ world.T + SHIFT, true
    )


def test_a_lag_and_a_frame_of_reference_come_back() -> None:
    found = score(*both(body=False), "se3", 200e6)
    assert found.lag_ns == pytest.approx(LAG_NS, abs=2_000)
    assert found.alignment.turn == pytest.approx(matrices(WORLD[None])[0], abs=1e-5)
    assert found.alignment.shift == pytest.approx(SHIFT, abs=1e-5)
    assert found.rmse_m < 1e-5
    assert found.errors_rad is not None and found.errors_rad.max() < 1e-5


def test_the_place_on_the_body_comes_back_too() -> None:
    found = score(*both(), "hand-eye", 200e6)
    assert found.lag_ns == pytest.approx(LAG_NS, abs=2_000)
    assert found.alignment.turn == pytest.approx(matrices(WORLD[None])[0], abs=1e-5)
    assert found.alignment.shift == pytest.approx(SHIFT, abs=1e-5)
    assert found.alignment.body_turn == pytest.approx(matrices(BODY[None])[0], abs=1e-5)
    assert found.alignment.body_shift == pytest.approx(LEVER, abs=1e-5)
    assert found.rmse_m < 1e-5


def test_an_error_that_is_known_is_what_is_left() -> None:
    """Half of the poses 3 mm up, half 3 mm down, in turns: no frame of reference takes it away."""
    estimate, truth = both(body=False)
    off = 0.003 * np.where(np.arange(len(estimate)) % 2, 1.0, -1.0)
    assert estimate.turns is not None
    shaken = Trajectory(
        estimate.times_ns, estimate.positions + off[:, None] * [0, 0, 1], estimate.turns
    )
    found = score(shaken, truth, "se3", 200e6)
    assert found.rmse_m == pytest.approx(0.003, rel=0.01)
    assert found.lag_ns == pytest.approx(LAG_NS, abs=500_000)


def test_without_alignment_all_of_it_is_error() -> None:
    estimate, truth = both(body=False)
    found = score(estimate, truth, "none", 0)
    assert (found.lag_ns, found.alignment.turn.tolist()) == (0.0, np.eye(3).tolist())
    assert found.rmse_m > 0.5


def poses(count: int, spread: Floats, turned: bool = True) -> Trajectory:
    at = np.arange(count) * 10_000_000
    way = np.sin(np.arange(count) * 0.1)[:, None] * spread
    turns = np.array([turn((0, 0, 1), 0.5 * np.sin(0.1 * n)) for n in range(count)])
    return Trajectory(at, way, turns if turned else None)


LINE, ROUND = np.array([1.0, 0, 0]), np.array([1.0, 1.0, 0])


@pytest.mark.parametrize(
    ("estimate", "frames", "words"),
    [
        (poses(5, LINE), "se3", r"an estimate of 5 poses .* record for longer"),
        (poses(50, LINE), "se3", r"lies on a line, or is none: .* give --frames none"),
        (poses(50, LINE), "hand-eye", r"turns about one axis alone: .* give --frames se3"),
        (poses(50, LINE, turned=False), "hand-eye", r"needs orientations of both"),
    ],
)
def test_what_the_motion_does_not_show_is_refused(
    estimate: Trajectory, frames: Any, words: str
) -> None:
    with pytest.raises(RecordingError, match=words):
        score(estimate, poses(50, LINE), frames, 0)


def test_trajectories_of_other_times_are_refused() -> None:
    early = poses(50, LINE)
    late = Trajectory(early.times_ns + 10**12, early.positions, early.turns)
    with pytest.raises(RecordingError, match=r"0 poses of the estimate lie within"):
        score(early, late, "none", 0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ready schedule in lock step, where the arm moves and the tracker's twin stands."""
    path = tmp_path_factory.mktemp("score") / "run.mcap"
    lockstep.run(schedule.load(TRACKED), 300, record=path, recorder=RecorderOptions())
    return path


def asked(*words: str) -> Any:
    return CliRunner().invoke(cli, ["score", *words], catch_exceptions=True)


def test_the_command_says_what_it_compared_and_draws_it(recorded: Path) -> None:
    picture = recorded.with_suffix(".png")
    line = [str(recorded), "--estimate", ESTIMATE, "--truth", "mocap", "--frames", "none"]
    told = asked(*line, "--max-lag", "0", "--picture", str(picture), "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["compared"] > 250
    # the twin stands at 0, and the tool is 0.3 m beside 1 m
    assert found["position_m"]["p50"] == pytest.approx(np.hypot(0.3, 1.0), abs=0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = asked(*line, "--max-lag", "0", "--truth-body", "board")
    assert "position [mm]: RMSE" in told.output


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (
            ["--estimate", "nobody", "--truth", "mocap"],
            "has no sensor nobody; it has joints, mocap",
        ),
        (["--estimate", "joints", "--truth", "mocap"], "joints has no field position of 3 numbers"),
        (["--estimate", "mocap", "--truth", "mocap", "--truth-body", "x"], "has no body x; it has"),
        (["--estimate", "mocap", "--truth", "mocap", "--truth-body", "9"], "has 2 bodies, got"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(
    recorded: Path, words: list[str], refusal: str
) -> None:
    told = asked(str(recorded), *words)
    assert told.exit_code != 0
    assert refusal in str(told.exception)


@pytest.mark.real
@pytest.mark.long
def test_the_emulated_tracker_agrees_with_the_arm(tmp_path: Path) -> None:
    """Both see one motion by clocks of their own: no lag is left between them."""
    text = TRACKED.read_text().replace("15210 ", f"{free_port(socket.SOCK_DGRAM)} ")
    text = text.replace("/tmp/inphase-tracked", str(tmp_path))
    text = text.replace("demo_policy.py:", f"{ROOT}/schedules/demo_policy.py:")
    path, record = tmp_path / "tracked.toml", tmp_path / "run.mcap"
    path.write_text(text)
    command = [sys.executable, "-m", "inphase", "run", str(path)]
    subprocess.run(
        [*command, "--cycles", "600", "--record", str(record)], timeout=BOUND_S, check=True
    )
    told = asked(str(record), "--estimate", ESTIMATE, "--truth", "mocap", "--json")
    found = json.loads(told.stdout)
    assert found["compared"] > 100
    assert found["position_m"]["p50"] < 0.002
    assert abs(found["lag_ns"]) < 3_000_000
