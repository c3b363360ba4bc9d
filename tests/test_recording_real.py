"""Recorders of a robot that runs: beside it, by its name, over ZeroMQ; killed, and without room."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import inphase
from inphase.frames.frame import Frame
from inphase.recording import facts
from inphase.recording.recorder import Recorder
from inphase.recording.recording import Recording
from peers import BOUND_S, until
from recorded_runs import Foreign
from runtimes import Robot

pytestmark = pytest.mark.real

MODULE = "inphase.recording.recorder"
WHOLE = 0
IN_PART = 12


@pytest.fixture
def robot() -> Iterator[Robot]:
    """The emulated arm, with a gateway."""
    with Robot() as robot:
        gateway = (
            f'[gateway]\nendpoint = "ipc://{robot.folder}/frames"\n'
            f'control = "ipc://{robot.folder}/control"\n'
        )
        robot.write(("[sensor.joints]", f"{gateway}[sensor.joints]"))
        yield robot


def frames_of(path: Path) -> dict[int, Frame]:
    """By cycle; what is read of them stays."""
    with Recording(path) as recording:
        return {frame.cycle: frame.copy() for frame in recording}


def assert_the_same(one: Frame, other: Frame) -> None:
    """To the bit, samples too."""
    assert one.record == other.record
    for name, sample in one.samples.items():
        if sample.sequence >= 0:
            assert sample.value.tobytes() == other[name].value.tobytes()


def test_a_run_is_recorded_from_its_first_frame_to_its_last(robot: Robot) -> None:
    path = robot.folder / "run.mcap"
    with robot.run("--cycles", "400", "--record", str(path)) as run:
        code, summary = run.end()
        assert code == WHOLE, run.stderr
    assert summary["recording"]["state"] == facts.COMPLETE
    foreign = Foreign(path)
    numbers = [one.number for one in foreign.of["/frame"]]
    assert numbers == [*range(len(numbers))]
    assert len(numbers) == summary["recording"]["frames"] >= 400
    found = foreign.metadata[facts.MACHINE]
    bad = {name: text.removeprefix("bad: ") for name, text in found.items() if "bad: " in text}
    assert "SCHED_FIFO" in found and bad.keys() == summary["machine"].keys()
    with Recording(path) as recording:
        assert recording[0].cycle == 0
        assert "STOPPED" in recording[-1].flags
        assert recording.end is not None
        assert '"granted": ' in recording.end["realtime"]


def attach(robot: Robot, endpoint: str, path: Path, *options: str) -> subprocess.Popen[str]:
    """A recorder that a person starts."""
    return subprocess.Popen(
        [sys.executable, "-m", "inphase", "record", endpoint, str(path), *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_robot_that_runs_is_recorded_by_its_name_and_over_zeromq(robot: Robot) -> None:
    path, by_name, by_wire = (robot.folder / f"{name}.mcap" for name in ("run", "name", "wire"))
    with robot.run("--record", str(path)) as run:
        run.frame(lambda frame: frame.cycle > 50)
        recorders = [
            attach(robot, robot.name, by_name),
            attach(robot, f"ipc://{robot.folder}/frames", by_wire),
        ]
        until(lambda: by_name.exists() and by_wire.exists())
        begun = run.frame(lambda _: True).cycle
        run.frame(lambda frame: frame.cycle > begun + 400)
        recorders[0].send_signal(signal.SIGINT)  # one is stopped, the other sees the robot's end
        errors = [recorders[0].communicate(timeout=BOUND_S)[1]]
        run.signal(signal.SIGINT)
        run.end()
        errors.append(recorders[1].communicate(timeout=BOUND_S)[1])
    for recorder, error in zip(recorders, errors, strict=True):
        assert recorder.returncode in (WHOLE, IN_PART), error
    whole = frames_of(path)
    for attached, error in zip((by_name, by_wire), errors, strict=True):
        with Recording(attached) as recording:
            cycles = []
            for frame in recording:
                assert_the_same(frame, whole[frame.cycle])
                cycles.append(frame.cycle)
            missed = sum(frame.lost for frame in recording)
            assert recording.end is not None
            assert missed == int(recording.end["missed_frames"])
            assert (facts.INCOMPLETE in error) == (recording.state == facts.INCOMPLETE)
        assert len(cycles) > 300
        Foreign(attached)
    with Recording(by_wire) as recording:
        assert "STOPPED" in recording[-1].flags


def test_a_recorder_that_is_killed_loses_a_second_at_most_and_the_run_goes_on(
    robot: Robot,
) -> None:
    path, made = robot.folder / "run.mcap", robot.folder / "run.recovered.mcap"
    with robot.run("--record", str(path)) as run:
        newest = run.frame(lambda frame: frame.cycle > 600)
        recorder = run.child(MODULE)
        recorder.kill()
        run.frame(lambda frame: frame.cycle > newest.cycle + 200)
        run.signal(signal.SIGINT)
        _, summary = run.end()
        assert "recorder ended: signal 9" in run.stderr
    assert summary["recording"]["state"] == "CUT"
    assert summary["stopped"]["reason"] == "signal"
    with Recording(path) as recording:
        last = recording[-1]
        assert last.latched_ns > newest.latched_ns - 1_000_000_000
        before = [frame.record for frame in recording]
    done = recover(path)
    assert done.returncode == 0, done.stderr
    with Recording(made) as recording:
        assert [frame.record for frame in recording] == before
        assert recording.state == facts.INCOMPLETE
    assert len(Foreign(made).of["/frame"]) == len(before)


def recover(path: Path) -> subprocess.CompletedProcess[str]:
    """As a person does."""
    return subprocess.run(
        [sys.executable, "-m", "inphase", "recover", str(path)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


@pytest.mark.long
def test_a_run_whose_recorder_has_no_room_ends_as_it_would_and_says_so(robot: Robot) -> None:
    path = robot.folder / "run.mcap"
    with robot.run("--record", str(path)) as run:
        run.frame(lambda frame: frame.cycle > 100)
        recorder = run.child(MODULE)
        set_room(recorder, path.stat().st_size)
        until(lambda: "no room for" in run.stderr)
        full = run.frame(lambda _: True)
        run.frame(lambda frame: frame.cycle > full.cycle + 100)
        set_room(recorder, None)
        until(lambda: "there is room for" in run.stderr)
        back = run.frame(lambda _: True)
        run.frame(lambda frame: frame.cycle > back.cycle + 300)
        run.signal(signal.SIGTERM)
        code, summary = run.end()
    assert code == 128 + signal.SIGTERM
    assert summary["recording"]["state"] == facts.INCOMPLETE
    foreign = Foreign(path)
    numbers = [one.number for one in foreign.of["/frame"]]
    with Recording(path) as recording:
        assert recording.end is not None
        lost = sum(int(gap["/frame"]) for gap in recording.gaps)
        assert lost > 100
        assert len(numbers) + lost == numbers[-1] + 1
        assert recording[-1].state == "stopped"


def set_room(process: psutil.Process, size: int | None) -> None:
    """Let no file of a process grow beyond that."""
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.mark.long
def test_an_incomplete_recording_has_an_exit_code_of_its_own(robot: Robot) -> None:
    path = robot.folder / "run.mcap"
    with robot.run("--cycles", "1500", "--record", str(path)) as run:
        run.frame(lambda frame: frame.cycle > 100)
        recorder = run.child(MODULE)
        recorder.kill()
        code, summary = run.end()
    assert (code, summary["recording"]["state"]) == (IN_PART, "CUT")


def test_a_file_that_is_there_stops_a_run_before_anything_moves(robot: Robot) -> None:
    path = robot.folder / "run.mcap"
    path.write_text("mine")
    with robot.run("--cycles", "10", "--record", str(path)) as run:
        code, _ = run.end()
        assert code == IN_PART
        assert "is there already; give another name" in run.stderr
    assert path.read_text() == "mine"


def test_nobody_is_there_to_be_recorded(tmp_path: Path) -> None:
    done: dict[str, Any] = {}
    for name, endpoint in (("store", "nobody-is-there"), ("wire", f"ipc://{tmp_path}/none")):
        done[name] = subprocess.run(
            [sys.executable, "-m", "inphase", "record", endpoint, str(tmp_path / "x.mcap")],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert done[name].returncode == 5
    assert "no robot 'nobody-is-there' runs on this host" in done["store"].stderr
    assert "does the robot run" in done["wire"].stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.long
def test_a_mark_by_a_signal_saves_what_was_before_it_in_files_of_a_bounded_length(
    robot: Robot,
) -> None:
    path = robot.folder / "run.mcap"
    with robot.run() as run:
        run.frame(lambda frame: frame.cycle > 50)
        recorder = attach(robot, robot.name, path, "--around", "1", "--split-seconds", "0.6")
        until(lambda: catches(recorder.pid, signal.SIGUSR1))
        begun = run.frame(lambda _: True).cycle
        run.frame(lambda frame: frame.cycle > begun + 300)
        assert not path.exists()
        marked = run.frame(lambda _: True)
        recorder.send_signal(signal.SIGUSR1)
        until(path.exists)
        until(lambda: len([*robot.folder.glob("run*.mcap")]) > 2)
        run.signal(signal.SIGINT)
        run.end()
        error = recorder.communicate(timeout=BOUND_S)[1]
    assert recorder.returncode in (WHOLE, IN_PART), error
    frames = [frame for part in parts(robot.folder) for frame in frames_of(part).values()]
    stamps = [frame.latched_ns for frame in frames]
    assert stamps == sorted(stamps)
    assert stamps[0] < marked.latched_ns < stamps[-1]
    if recorder.returncode == WHOLE:
        numbers = [n for part in parts(robot.folder) for n in numbers_of(part)]
        assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    line = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(line, 16) >> (number - 1) & 1)


def parts(folder: Path) -> list[Path]:
    """In the order in which they were written."""
    return sorted(folder.glob("run*.mcap"), key=lambda path: (len(path.name), path.name))


def numbers_of(path: Path) -> list[int]:
    """Of the frames in a file."""
    with Recording(path) as recording:
        return [int(number) for number in recording.frames()["number"]]


def mark(robot: Robot, word: str) -> tuple[int, str]:
    """The exit code of the command, and what it says."""
    line = [sys.executable, "-m", "inphase", "episode", robot.name, word]
    found = subprocess.run(line, capture_output=True, text=True, timeout=BOUND_S, check=False)
    return found.returncode, found.stdout + found.stderr


def test_episodes_are_marked_while_it_runs_and_are_stretches_of_the_recording(
    robot: Robot,
) -> None:
    whole, apart = robot.folder / "run.mcap", robot.folder / "episode.mcap"
    with robot.run("--record", str(whole)) as run:
        run.frame(lambda frame: frame.cycle > 20)
        recorder = attach(robot, robot.name, apart, "--by-episode")
        assert recorder.stderr is not None
        assert "until it ends" in recorder.stderr.readline()
        code, text = mark(robot, "success")
        assert (code, "no episode was begun; start one" in text) == (5, True)
        told = [mark(robot, word)[1] for word in ("start", "success", "start", "failure")]
        assert "one runs already" not in (told[0] + told[2])
        assert mark(robot, "discard")[1].startswith("episode 2 discarded at cycle ")
        assert inphase.mark_episode(robot.name, "running")[0] == 3
        with pytest.raises(ValueError, match="an episode is running already; end it first"):
            inphase.mark_episode(robot.name, "running")
        run.frame(lambda frame: frame.episode == 3)
        run.signal(signal.SIGINT)
        run.end()
        said = recorder.communicate(timeout=BOUND_S)[1]
    first, begins, ends, stops = told
    assert (first.split()[1], ends.split()[1]) == ("1", "2"), told
    edges = [int(text.split()[-1]) for text in (first, begins, ends, stops)]
    with Recording(whole) as recording:
        found = recording.episodes
        outcomes = [(one.number, one.outcome) for one in found]
        assert outcomes == [(1, "success"), (2, "discarded"), (3, "running")]
        cycles = [frame.cycle for frame in recording]
        assert [cycles[one.first] for one in found[:2]] == edges[::2]
        assert [cycles[one.stop] for one in found[:2]] == edges[1::2]
        assert found[2].stop == len(recording)
        wanted = [cycles[one.first : one.stop] for one in found]
    for number, cycles in enumerate(wanted, 1):
        path = apart if number == 1 else apart.with_suffix(f".{number}.mcap")
        with Recording(path) as recording:
            (one,) = recording.episodes
            assert [frame.cycle for frame in recording][: len(one)] == cycles, said
            assert recording.state == facts.COMPLETE, said


@pytest.mark.long
def test_a_recorder_of_a_robot_that_fell_silent_says_so_and_waits_until_it_is_stopped(
    robot: Robot,
) -> None:
    path, said = robot.folder / "wire.mcap", []
    with robot.run() as run:
        run.frame(lambda frame: frame.cycle > 20)
        (sender,) = [c for c in run.children() if "inphase.runtime.frame_sender" in c.cmdline()]
        with inphase.subscribe(f"ipc://{robot.folder}/frames", transport="zmq") as source:
            recorder = Recorder(source, path, None, said.append)
            source.next()
            sender.suspend()
            recorder.run(
                lambda: any("no frame came for 5 s" in text for text in said), lambda: None
            )
            recorder.close({})
            sender.resume()
    assert said[-1] == "no frame came for 5 s: it waits on; ^C ends it"
    with Recording(path) as recording:
        assert recording.end is not None
