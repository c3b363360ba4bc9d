"""The live view of `inphase run`: what it shows of a robot on virtual time, and on a terminal."""

import dataclasses
import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import inphase
from inphase.command.live.counted import CountedByCore
from inphase.command.live.watch import Watch
from inphase.command.pictures import live_picture, shown_actuator
from inphase.command.pictures.live_picture import Picture, View
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from peers import BOUND_S
from robots import demo_schedule

JOINTS, WRENCH = 0, 1
BATCH = 50


class Watched:
    """A robot in lock step and the view of it."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.robot = LockStep(inphase.load(path), **options)
        follower = StoreFollower(self.robot.core.segment.path)
        self.actuators = shown_actuator.of_plan(self.robot.plan)
        self.watch = Watch(follower, CountedByCore(follower.reader), self.actuators)
        self.frames: list[Frame] = []

    def run(self, cycles: int) -> View:
        """Run; the view after it, looked at as often as the supervisor does."""
        for cycle in range(cycles):
            self.frames.append(self.robot.step())
            if cycle % BATCH == 0:
                self.watch.look()
        self.watch.look()
        view = self.watch.view()
        assert view is not None
        return view

    def fault(self, kind: str, sensor: int, count: int, argument: int = 0) -> None:
        self.robot.core.fault(kind, sensor, self.robot.cycles, count, argument)

    def close(self) -> None:
        self.watch.close()
        self.robot.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """The demo robot."""
    watched = Watched(demo_schedule(tmp_path))
    yield watched
    watched.close()


def text_of(watched: Watched, view: View, width: int, height: int = 40) -> list[str]:
    """The lines that a terminal of that size shows."""
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(Picture(view, watched.actuators))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row_of(lines: list[str], start: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(start))
    return line.split()


@pytest.mark.parametrize("width", [80, 120])
def test_every_sensor_and_channel_is_there_and_no_line_is_wider(
    watched: Watched, width: int
) -> None:
    watched.run(200)
    watched.fault("invalid", WRENCH, 3, REASONS.index("checksum"))
    view = watched.run(3)
    lines = text_of(watched, view, width)
    assert all(len(line) <= width for line in lines)
    assert row_of(lines, watched.robot.schedule.name)[1:6] == [
        *("running", "cycle", "202"),
        *("500", "Hz"),
    ]
    assert row_of(lines, "joints ")[1] == "FRESH"
    assert "INVALID checksum" in " ".join(row_of(lines, "wrench "))
    assert "skipped 0" in lines[0] and "missed 0" in lines[1]

    # the act's numbers, rounded
    command = view.frame.command["arm"]
    assert row_of(lines, "arm ")[:2] == ["arm", "[rad]"]
    assert "WRITTEN" in row_of(lines, "arm ")
    measured = view.frame["joints"]["position"]
    for channel in range(6):
        (row,) = (line.split() for line in lines if line.split()[:1] == [str(channel)])
        asked, applied, here = (
            command.requested[channel],
            command.applied[channel],
            measured[channel],
        )
        assert row[1:5] == [f"{one:.3f}" for one in (asked, applied, here, here - applied)]


def test_statuses_are_counted_and_the_worst_age_is_that_of_all_frames(watched: Watched) -> None:
    watched.run(100)
    watched.fault("silent", WRENCH, 12)
    view = watched.run(100)
    ages = [frame["wrench"].age_ns for frame in watched.frames]
    assert view.worst_ns["wrench"] == max(age for age in ages if age is not None)
    assert view.worst_ns["wrench"] > 10 * view.worst_ns["joints"]
    row = row_of(text_of(watched, view, 120), "wrench ")
    for status in ("FRESH", "LATE", "MISSING", "RECOVERING"):
        count = sum(frame["wrench"].status == status for frame in watched.frames)
        assert f"{status}:{count}" in row
    assert "HELD" not in " ".join(row)


@pytest.mark.parametrize("width", [60, 80])
def test_counts_of_many_statuses_cut_no_name_status_or_age(watched: Watched, width: int) -> None:
    view = watched.run(100)
    many = [dict.fromkeys(counts, 123_456) for counts in view.statuses]
    wide = text_of(watched, view, 200)
    lines = text_of(watched, dataclasses.replace(view, statuses=many), width)
    assert len(lines) == len(wide) and all(len(line) <= width for line in lines)
    for start in ("sensor ", "joints ", "wrench "):
        columns = 6 if start == "sensor " else 8  # without the counts: numbers have units
        assert row_of(lines, start)[: columns - 1] == row_of(wide, start)[: columns - 1]
    assert row_of(lines, "joints ")[-1].endswith("…")


def test_rates_are_those_of_frames_and_of_samples(watched: Watched) -> None:
    assert "  - Hz  " in text_of(watched, watched.run(1), 80)[0]
    for _ in range(10):
        watched.fault("silent", WRENCH, 1)
        view = watched.run(5)
    assert (view.rate_hz, view.rates_hz) == (500, {"joints": 500, "wrench": 400})


def test_frames_that_went_by_unseen_are_told(watched: Watched) -> None:
    watched.run(1)
    watched.robot.run(2 * watched.robot.plan.depth)
    view = watched.run(1)
    assert view.unseen > 0
    assert f"the ages leave out {view.unseen} frames" in "\n".join(text_of(watched, view, 80))


def test_what_was_not_asked_is_a_dash_and_channels_go_on_in_further_rows(tmp_path: Path) -> None:
    watched = Watched(demo_schedule(tmp_path), observe=True)
    view = watched.run(3)
    lines = text_of(watched, view, 40, 20)
    assert all(len(line) <= 40 for line in lines)
    channels = [line.split()[1:] for line in lines if line.startswith("channel")]
    assert channels == [["0", "1", "2"], ["3", "4", "5"]]
    values = [word for line in lines if line.startswith("applied") for word in line.split()[1:]]
    assert len(values) == 6
    assert "OBSERVING" in " ".join(lines)
    watched.close()


def test_latched_motion_is_said_with_its_reason(watched: Watched) -> None:
    watched.run(20)
    watched.fault("gone", JOINTS, 40)
    view = watched.run(30)
    text = "\n".join(text_of(watched, view, 80))
    assert "motion is latched: offline" in text
    assert re.search(r"joints +OFFLINE", text)


@pytest.mark.parametrize("rows", [5, 8, 20, 24])
def test_the_keys_stand_in_the_last_line_whatever_fits_above_them(
    watched: Watched, rows: int
) -> None:
    picture = Picture(watched.run(3), watched.actuators, has_keys=True)
    console = Console(width=80, height=rows, file=io.StringIO(), color_system=None)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[-1].rstrip() == live_picture.KEYS
    assert len(lines) <= rows and lines[0].startswith(watched.robot.schedule.name)
    assert ("more lines" in lines[-2]) == (rows < 20)


def test_what_is_measured_and_commanded_is_there_in_20_rows_of_80_columns(
    watched: Watched,
) -> None:
    view = watched.run(100)
    for height, is_tall in ((21, True), (18, False)):
        lines = text_of(watched, view, 80, height)
        assert len(lines) < height and all(len(line) <= 80 for line in lines)
        force = row_of(lines, "wrench.force [N]")[2:]
        assert force == [f"{one:.3f}" for one in view.frame["wrench"]["force"]]
        assert not [line for line in lines if line.startswith("joints.position")]  # is below arm
        words = " ".join(lines).split()
        assert {"asked", "applied", "measured", "off"} <= set(words)
        assert bool([line for line in lines if re.search(r"-o-|-\|o-|-o\|-", line)]) == is_tall


def test_a_bar_has_the_command_and_the_measured_value_at_their_places(watched: Watched) -> None:
    view = watched.run(3)
    low, high = watched.robot.plan.actuators[0].limits[0].range
    assert (low, high) == (-2.6, 2.6)
    view.values["joints"]["position"][:] = [low, high, 0, low, 0, 99.0]
    view.frame.command["arm"].applied = np.array([high, low, 0, np.nan, 1.3, 0])
    rows = text_of(watched, view, 80)
    (first,) = (number for number, line in enumerate(rows) if line.split()[:1] == ["0"])
    bars = [line.split()[5] for line in rows[first : first + 6]]
    size = len(bars[0])
    places = [(bar.find("|"), bar.find("o")) for bar in bars]
    middle, three_quarters = size // 2, round((size - 1) * 0.75)
    assert places[:4] == [(size - 1, 0), (0, size - 1), (-1, middle), (-1, 0)]
    assert places[4:] == [(three_quarters, middle), (middle, size - 1)]
    assert len(set(map(len, bars))) == 1


# ---- as a user sees it ---------------------------------------------------------------------


def emulated(folder: Path) -> Path:
    """The demo's schedule, patient enough for a loaded machine."""
    path = demo_schedule(folder, emulator=True)
    path.write_text(path.read_text().replace("wire_time = true", "wire_time = false"))
    return path


@pytest.mark.real
def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    path = emulated(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "run", str(path), "--cycles", "200"],
        capture_output=True,
        text=True,
        timeout=3 * BOUND_S,
        check=False,
    )
    assert "\x1b" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("inphase: cycle ")]
    assert lines, done.stderr
    assert re.search(r"skipped \d+  joints [A-Z]+ .*wrench .* missed \d+", lines[0])
    assert "statuses" in done.stdout


@pytest.mark.real
def test_on_a_terminal_the_table_is_written_over_and_leaves_with_the_run(tmp_path: Path) -> None:
    path = emulated(tmp_path)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "inphase", "run", str(path), "--cycles", "600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65_536)
        except OSError:  # the last writer has closed it
            break
        if not data:
            break
        shown += data
    os.close(ours)
    child.wait(BOUND_S)
    text = shown.decode()
    assert text.count("frames so far") >= 2
    assert "joints" in text and "measured" in text
    assert "\x1b[1A" in text  # up, over the last one
    assert text.rindex("\x1b[2K") > text.rindex("measured")  # and away at the end
