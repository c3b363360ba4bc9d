"""Recordings in several files: split without a gap, or only around what was wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from mcap import records
from mcap.reader import make_reader

from inphase import load
from inphase.command.cli import cli
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.recording import facts
from inphase.recording.chunk import Chunk, ChunkBuilder, HeldMessage
from inphase.recording.mcap_scan import scan
from inphase.recording.recorder import Recorder
from inphase.recording.recorder_process import RecorderOptions
from inphase.recording.recording import Recording
from inphase.recording.recording_files import Head, RecordingFiles, Shortfall
from recorded_runs import DEMO, ODD, Foreign, keep

STEP = 16


def record(
    schedule: Path,
    cycles: int,
    path: Path,
    options: RecorderOptions,
    at: Callable[[int, LockStep, Recorder], None] = lambda *_: None,
) -> tuple[str, list[str]]:
    """Record a run in lock step, in small chunks; what the recorder said. at: is called before each
    step, with the cycle."""
    said: list[str] = []
    with LockStep(load(schedule), seed=1) as robot:
        follower = StoreFollower(robot.core.segment.path)
        recorder = Recorder(follower, path, None, said.append, first=0, options=options)
        for cycle in range(0, cycles, STEP):
            at(cycle, robot, recorder)
            robot.run(STEP)
            recorder.run(lambda: True, lambda: None)
            recorder.flush()
        outcome = recorder.close({})
        follower.close()
        return outcome, said


def parts(folder: Path) -> list[Path]:
    """In the order in which they were written."""
    return sorted(folder.glob("run*.mcap"), key=lambda path: (len(path.name), path.name))


def numbers_of(path: Path) -> list[int]:
    """Of the frames in a file, by a foreign reader."""
    return [one.number for one in Foreign(path).of["/frame"]]


def test_files_that_are_split_have_every_frame_once(tmp_path: Path) -> None:
    for name, options in (
        ("size", RecorderOptions(split_bytes=60_000)),
        ("time", RecorderOptions(split_ns=100_000_000)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        outcome, said = record(DEMO, 640, folder / "run.mcap", options)
        found = parts(folder)
        assert len(found) > 4
        assert outcome == f"{folder / 'run.mcap'}: 640 frames in {len(found)} files"
        assert said == []
        numbers = [number for path in found for number in numbers_of(path)]
        assert numbers == [*range(640)]
        for path, following in zip(found, [*found[1:], None], strict=True):
            with Recording(path) as recording:
                assert recording.end is not None
                assert recording.state == facts.COMPLETE
                assert recording.end.get("next") == (following and following.name)


def test_each_file_has_the_samples_that_its_frames_name(tmp_path: Path) -> None:
    schedule = tmp_path / "odd.toml"
    schedule.write_text(ODD)
    record(schedule, 320, tmp_path / "run.mcap", RecorderOptions(split_ns=200_000_000))
    frames, _ = keep(schedule, 320)
    found = parts(tmp_path)
    assert len(found) > 4
    cameras = 0
    for path in found:
        with Recording(path) as recording:
            for frame in recording:
                cameras += assert_samples(frame, frames[frame.cycle])
    assert cameras > 300  # most of them HELD, and some from the file before


def assert_samples(frame: Frame, kept: Frame) -> int:
    """All of them; 1 if the camera's is there."""
    for name, sample in kept.samples.items():
        if sample.sequence >= 0:
            for field in sample.value.dtype.names or ():
                np.testing.assert_array_equal(frame[name][field], sample[field])
    return int(kept["camera"].sequence >= 0)


def test_only_what_lies_around_a_mark_is_written(tmp_path: Path) -> None:
    def mark(cycle: int, _: LockStep, recorder: Recorder) -> None:
        if cycle in (320, 960):
            recorder.mark()

    options = RecorderOptions(around_ns=100_000_000)  # 50 cycles
    outcome, _ = record(DEMO, 1280, tmp_path / "run.mcap", options, mark)
    found = parts(tmp_path)
    assert [path.name for path in found] == ["run.mcap", "run.2.mcap"]
    assert "in 2 files" in outcome
    for path, marked in zip(found, (320, 960), strict=True):
        numbers = numbers_of(path)
        assert numbers == [*range(numbers[0], numbers[-1] + 1)]
        # whole chunks: what is wanted, and at most a chunk more on either side
        assert marked - 50 - 2 * STEP < numbers[0] <= marked - 50 + STEP
        assert marked + 50 <= numbers[-1] <= marked + 50 + 3 * STEP


def test_an_emergency_stop_saves_what_lies_around_it(tmp_path: Path) -> None:
    def stop(cycle: int, robot: LockStep, _: Recorder) -> None:
        if cycle == 640:
            robot.core.estop()

    options = RecorderOptions(around_ns=100_000_000)
    record(DEMO, 960, tmp_path / "run.mcap", options, stop)
    (path,) = parts(tmp_path)
    with Recording(path) as recording:
        flags = {frame.cycle: frame.flags for frame in recording}
    first = min(cycle for cycle, names in flags.items() if "ESTOP" in names)
    assert min(flags) <= first - 50
    assert max(flags) == 959  # it holds to the end


def test_a_run_in_which_nothing_was_wanted_leaves_no_file(tmp_path: Path) -> None:
    options = RecorderOptions(around_ns=100_000_000)
    outcome, _ = record(DEMO, 320, tmp_path / "run.mcap", options)
    assert outcome.endswith("nothing was wanted, and nothing is written")
    assert parts(tmp_path) == []


def test_a_file_that_cannot_be_followed_goes_on(tmp_path: Path) -> None:
    tmp_path.joinpath("run.2.mcap").write_text("mine")
    options = RecorderOptions(split_ns=100_000_000)
    outcome, said = record(DEMO, 640, tmp_path / "run.mcap", options)
    assert outcome.endswith("640 frames")
    assert len(said) == 1 and "run.2.mcap is there already" in said[0]
    assert numbers_of(tmp_path / "run.mcap") == [*range(640)]
    assert tmp_path.joinpath("run.2.mcap").read_text() == "mine"


def run(path: Path, **options: Any) -> dict[str, Any]:
    """A run in lock step with its recorder, as `inphase run --record` has it; what it sums up."""
    found = lockstep.run(load(DEMO), 600, record=path, recorder=RecorderOptions(**options))
    return dict(found["recording"])


def test_a_run_sums_up_all_its_files(tmp_path: Path) -> None:
    whole = run(tmp_path / "run.mcap", split_ns=500_000_000)
    assert (whole["files"], whole["state"]) == (len(parts(tmp_path)), "COMPLETE")
    assert whole["files"] > 1
    counted = [number for path in parts(tmp_path) for number in numbers_of(path)]
    assert counted == [*range(600)] and whole["frames"] == 600
    # a recording of another run, and a file of somebody else, are none of its files
    other = tmp_path / "other.mcap"
    tmp_path.joinpath("other.2.mcap").write_bytes((tmp_path / "run.mcap").read_bytes())
    assert run(other)["files"] == 1
    for options in ({"around_ns": 1}, {"by_episode": True}):
        none = run(tmp_path / "none.mcap", **options)
        assert (none["files"], none["frames"], none["state"]) == (0, 0, "COMPLETE")


def test_files_follow_the_options_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    line = ["run", str(DEMO), "--lockstep", "--cycles", "600", "--record", str(path)]
    done = CliRunner().invoke(cli, [*line, "--split-seconds", "0.5", "--json"])
    assert json.loads(done.stdout)["recording"]["files"] == len(parts(tmp_path)) > 1
    refused = CliRunner().invoke(cli, [*line, "--around", "1", "--by-episode"])
    assert refused.exit_code == 2 and "give --by-episode or --around, not both" in refused.output


# ---- samples that are written right from their ring ----------------------------------------------


def with_large_images(folder: Path) -> Path:
    """A robot with an image of 0.9 MB in each frame."""
    text = ODD.replace("[12, 16, 3]", "[480, 640, 3]")
    text = text.replace("every = 4\nlatency_cycles = 2\n", "").replace("12000", "2000")
    path = folder / "large.toml"
    path.write_text(text)
    return path


def test_large_images_are_in_the_file_as_the_frames_have_them(tmp_path: Path) -> None:
    schedule = with_large_images(tmp_path)
    for name, options in (
        ("all", RecorderOptions()),
        ("split", RecorderOptions(split_bytes=20_000_000)),
        ("around", RecorderOptions(around_ns=100_000_000)),
    ):
        folder = tmp_path / name
        folder.mkdir()

        def want(cycle: int, _: LockStep, recorder: Recorder) -> None:
            if cycle == 48:
                recorder.mark()

        record(schedule, 96, folder / "run.mcap", options, want)
        frames, _ = keep(schedule, 96)
        images = 0
        for path in parts(folder):
            foreign = Foreign(path)  # with checksums
            with Recording(path) as recording:
                assert recording.state == facts.COMPLETE
                assert recording.damage() == []
                for frame in recording:
                    assert_samples(frame, frames[frame.cycle])
                images += len(foreign.of["/sensors/camera"])
                assert len(recording) == len(foreign.of["/frame"])
        assert images > (20 if name == "around" else 90)


def chunk_of(numbers: range) -> Chunk:
    gathered = ChunkBuilder()
    for number in numbers:
        gathered.add(0, number, number, bytes([number]) * 40)
    chunk = gathered.take()
    assert chunk is not None
    return chunk


def test_a_sample_that_is_recycled_while_it_is_written_is_left_out_and_counted(
    tmp_path: Path,
) -> None:
    channels = [
        records.Channel(id=at, topic=topic, message_encoding="x", metadata={}, schema_id=0)
        for at, topic in enumerate(("/frame", "/sensors/good", "/sensors/gone"))
    ]
    path, said = tmp_path / "run.mcap", list[str]()
    looks: list[bytes] = []

    def is_gone() -> bool:
        looks.append(path.read_bytes())
        return False

    held = [
        HeldMessage("gone", 2, 7, 3, [b"head", memoryview(b"x" * 1000)], is_gone),
        HeldMessage("good", 1, 8, 3, [b"head", memoryview(b"y" * 2000)], lambda: True),
    ]
    files = RecordingFiles(path, Head("test", [], channels, []), said.append, RecorderOptions())
    shortfall = Shortfall()
    files.take(chunk_of(range(3)), shortfall, held)
    files.take(chunk_of(range(3, 6)), Shortfall())
    assert "INCOMPLETE" in files.close({})
    assert shortfall.recycled == {"gone": 1}
    with path.open("rb") as file:
        found = [
            (c.topic, m.data) for _, c, m in make_reader(file, validate_crcs=True).iter_messages()
        ]
    assert [data for topic, data in found if topic == "/sensors/good"] == [b"head" + b"y" * 2000]
    assert not [data for topic, data in found if topic == "/sensors/gone"]
    assert [data[0] for topic, data in found if topic == "/frame"] == [*range(6)]
    # whoever was killed while it was written has a file that ends before it
    assert b"x" * 1000 in looks[0]
    cut = scan(looks[0])
    assert cut.chunks == 0 and cut.places(0).size == 0
    assert b"x" * 10 not in path.read_bytes()
