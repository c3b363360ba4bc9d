"""`--view`: a window shows the simulated world, in its own process, where there is a display."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inphase.command.drafts import schedule_draft
from inphase.world import view
from peers import BOUND_S, ROOT, until
from test_run import inphase

pytest.importorskip("mujoco")
ImageGrab = pytest.importorskip("PIL.ImageGrab", reason="pillow takes the screenshots")
pytestmark = pytest.mark.real


@pytest.fixture
def display() -> Iterator[str]:
    """An X server without a screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is missing: apt install xvfb libgl1")
    ours, theirs = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[theirs],
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    number = os.read(ours, 16).decode().strip()  # once it is there
    yield f":{number}"
    server.terminate()
    server.wait(timeout=BOUND_S)
    os.close(ours)


@pytest.fixture
def schedule(tmp_path: Path) -> Path:
    """The arm, moved by a new policy, on a machine that may be busy; without its cameras."""
    model = tmp_path / "arm.xml"
    lines = (ROOT / "schedules" / "arm.xml").read_text().splitlines()
    model.write_text("\n".join(line for line in lines if "<camera" not in line))
    made = schedule_draft.new_schedule(model, tmp_path / f"view{os.getpid()}.toml").files[0]
    patient = "[cycle]\nresumed_after_ms = 20000\noverrun_limit = 1000000"
    made.write_text(made.read_text().replace("[cycle]", patient))
    return made


def run(schedule: Path, **environment: str) -> subprocess.Popen[str]:
    """A run with a view that goes on until it is stopped."""
    clean = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "inphase", "run", "--simulate", "--view", str(schedule)],
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shot(display: str) -> NDArray[np.int16]:
    return np.asarray(ImageGrab.grab(xdisplay=display), np.int16)


def is_drawn(display: str) -> bool:
    """An arm and a table have more shades than an empty screen."""
    return len(np.unique(shot(display))) > 20


def window(pid: int) -> int:
    """The process of a run's window."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        if b"inphase.world.view" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise LookupError(f"no window among {children}")


def is_shown(pid: int) -> bool:
    """Whether the window's process is there, and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{window(pid)}/status").read_text()
    except (LookupError, FileNotFoundError):
        return False


def ended(robot: subprocess.Popen[str]) -> str:
    """What it said. Its exit code is the machine's: samples that come too late are told by it."""
    robot.send_signal(signal.SIGINT)
    output, _ = robot.communicate(timeout=BOUND_S)
    assert "Traceback" not in output
    return output


def test_a_window_shows_the_arm_moving_and_closing_it_ends_nothing(
    schedule: Path, display: str
) -> None:
    robot = run(schedule, DISPLAY=display)
    try:
        until(lambda: robot.poll() is not None or has_frames(robot.pid))
        until(lambda: is_drawn(display))
        first = shot(display)
        until(lambda: bool((np.abs(shot(display) - first).max(axis=2) > 30).sum() > 200))
        os.kill(window(robot.pid), signal.SIGTERM)
        until(lambda: not is_drawn(display))
        time.sleep(0.5)
        assert robot.poll() is None
    finally:
        output = ended(robot)
    assert "cannot be shown" not in output


def test_without_a_display_one_sentence_says_so_and_the_run_goes_on(schedule: Path) -> None:
    robot = run(schedule)
    try:
        until(lambda: robot.poll() is not None or has_frames(robot.pid))
        with pytest.raises(LookupError):
            window(robot.pid)
    finally:
        output = ended(robot)
    assert output.count(view.NO_DISPLAY) == 1


def has_frames(pid: int) -> bool:
    """Whether a run has come as far as its policy."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(b"inphase.policy" in Path(f"/proc/{c}/cmdline").read_bytes() for c in children)


def test_a_display_that_cannot_be_opened_is_told_and_the_run_goes_on(schedule: Path) -> None:
    robot = run(schedule, DISPLAY=":4711")
    try:
        until(lambda: is_shown(robot.pid))
        until(lambda: not is_shown(robot.pid))
        assert robot.poll() is None
    finally:
        output = ended(robot)
    assert "the world cannot be shown: " in output


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("run", "--view", "x.toml"), "--view is for --simulate"),
        (("demo", "demo", "--view"), "no simulated world to show; try press or arm"),
    ],
)
def test_what_has_no_world_has_no_view(arguments: tuple[str, ...], what: str) -> None:
    done = inphase(*arguments)
    assert done.returncode == 2
    assert what in done.stderr
