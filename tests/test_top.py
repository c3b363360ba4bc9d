"""`inphase top`: the live table of a robot that somebody else runs."""

import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from inphase.command.live.counted import CountedInFrames
from inphase.command.live.top import OthersRobot
from inphase.command.pictures import shown_actuator
from inphase.command.pictures.live_picture import Picture
from inphase.errors import StoreError
from inphase.frames.store_follower import StoreFollower
from inphase.frames.subscription import Subscription
from inphase.recording.recording import Recording
from inphase.replay.player import Player
from peers import BOUND_S, until
from recorded_runs import record
from robots import demo_schedule
from runtimes import Robot
from terminals import Terminal
from test_live import JOINTS, WRENCH, Watched

NO_ROBOT = 5


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """The demo robot."""
    watched = Watched(demo_schedule(tmp_path))
    yield watched
    watched.close()


def printed(picture: Picture) -> str:
    """As a terminal shows it."""
    console = Console(width=100, height=60, file=io.StringIO(), color_system=None)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_is_the_same_for_whoever_follows_the_store(watched: Watched) -> None:
    source = Subscription(StoreFollower(watched.robot.core.segment.path), BOUND_S)
    others = OthersRobot(source).watch()
    for _ in range(3):
        watched.fault("silent", WRENCH, 3)
        view = watched.run(40)
        others.look()
        seen = others.view()
        assert seen is not None
    picture, other = (Picture(view, watched.actuators), Picture(seen, others.actuators))
    assert others.actuators == watched.actuators
    assert printed(other) == printed(picture)
    assert others.end is None
    watched.robot.close()
    others.look()
    assert isinstance(others.end, StoreError)
    others.close()


def test_what_is_counted_in_frames_is_what_the_core_counts(watched: Watched) -> None:
    counted = CountedInFrames(2)
    watched.run(20)
    watched.fault("silent", WRENCH, 12)
    watched.run(50)
    watched.fault("gone", JOINTS, 40)
    view = watched.run(100)
    for frame in watched.frames:
        counted.take(frame)
    assert counted.statuses() == view.statuses
    for name, count in counted.status().items():
        assert count == view.status[name], name
    assert view.status["latched"]
    for name, count in counted.counts().items():
        assert count == pytest.approx(view.counts[name], abs=1), name  # of the last act
    assert counted.counts()["missed"] or counted.counts()["limited"]
    assert counted.policy()["p50"] == pytest.approx(view.policy["p50"], rel=0.2)


def test_a_replay_is_counted_in_its_frames_for_it_has_no_core(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record(demo_schedule(tmp_path), 30, path)
    with Recording(path) as recording, Player(recording) as player:
        others = OthersRobot(Subscription(StoreFollower(player.store.path), BOUND_S)).watch()
        for frame in recording:
            player.play(frame)
            others.look()
        view = others.view()
        assert view is not None
        assert [counts["FRESH"] for counts in view.statuses] == [30, 30]
        assert view.counts["commands"] == 29
        assert "frames seen" in printed(Picture(view, others.actuators))
        others.close()


def test_a_schedule_that_cannot_be_read_leaves_out_ranges_and_what_is_measured(
    watched: Watched,
) -> None:
    view = watched.run(20)
    source = StoreFollower(watched.robot.core.segment.path)
    described = {**source.description, "schedule": "[actuator.arm]\nlimits = 7\n"}
    text = printed(Picture(view, shown_actuator.of_description(described)))
    source.close()
    assert "asked" in text and "measured" not in text


# ---- as a user sees it ---------------------------------------------------------------------------


@pytest.fixture
def robot() -> Iterator[Robot]:
    """The emulated arm, with a gateway."""
    with Robot() as robot:
        endpoint = f'[gateway]\nendpoint = "ipc://{robot.folder}/frames"\n'
        robot.write(("[sensor.joints]", f"{endpoint}[sensor.joints]"))
        yield robot


@pytest.mark.real
def test_top_shows_a_robot_until_its_end_by_the_store_and_over_zeromq(robot: Robot) -> None:
    with robot.run("--cycles", "600") as run:
        run.moving()
        tops = {
            way: subprocess.Popen(
                [sys.executable, "-m", "inphase", "top", robot.name, "--transport", way],
                stderr=subprocess.PIPE,
                text=True,
            )
            for way in ("store", "zmq")
        }
        run.end()
        said = {way: top.communicate(timeout=BOUND_S)[1] for way, top in tops.items()}
    for way, top in tops.items():
        assert top.returncode == 0, said[way]
        first, *lines = said[way].splitlines()
        assert f"{robot.name} by {way}; ^C ends this view" in first
        assert re.search(r"cycle \d+  \w+ .*joints [A-Z]+ .*wrench .* missed \d+", lines[0])
        assert re.search(rf"{robot.name} stopped, done, in cycle \d+", lines[-1])


@pytest.mark.real
@pytest.mark.long
def test_top_is_a_table_on_a_terminal_and_its_end_is_not_the_robots(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        terminal = Terminal(robot.name, command="top")
        until(lambda: terminal.shown.count(b"frames so far") > 1)
        assert b"measured" in terminal.shown and b"emergency stop" not in terminal.shown
        terminal.press(b"\x03")
        assert terminal.process.wait(BOUND_S) == 0
        terminal.close()
        newest = run.follower.next(BOUND_S).cycle
        run.frame(lambda frame: frame.cycle > newest + 10)
        run.signal(signal.SIGINT)
        run.end()


def test_top_of_nobody_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "top", "nobody-is-there"],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (NO_ROBOT, "")
    assert "no robot 'nobody-is-there' runs on this host" in done.stderr
