"""A recording of lock step, run once more from its seed."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inphase import load
from inphase.command.cli import cli
from inphase.errors import RecordingError
from inphase.recording.recording import Recording
from inphase.replay.again import run_again
from recorded_runs import record
from robots import demo_schedule

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


def test_a_recording_that_cannot_come_again_says_why(
    run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, path = run
    real = Recording(path)
    real.description.pop("lockstep")
    with pytest.raises(
        RecordingError, match="the wall clock does not come again; follow its timing"
    ):
        run_again(real, load(schedule), lambda *_: None)
    real.close()
    schedule.write_text(schedule.read_text() + "\n# another text\n")
    done = again(path, schedule)
    assert done.exception is not None
    assert "was recorded with another schedule" in str(done.exception)
