"""A converted recording has the recording's numbers, a row per frame, and is whole or not there."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mcap.writer import Writer

from conversions import CYCLES, ODD_CYCLES, demo, demo_frames, made, names, odd, odd_frames
from inphase.errors import RecordingError
from inphase.export.conversion import LEROBOT, NUMPY, PARQUET
from inphase.frames.frame import Frame
from inphase.frames.record_layout import ABSENT, STATUSES
from inphase.recording.recorder_process import RecorderOptions
from inphase.recording.recording import Recording
from peers import BOUND_S
from recorded_runs import DEMO, ODD, Foreign
from test_recording_files import parts
from test_recording_files import record as record_by_steps

__all__ = ["demo", "demo_frames", "odd", "odd_frames"]  # fixtures
HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]


# ---- Parquet -----------------------------------------------------------------------------------


def test_a_parquet_file_has_a_row_per_frame_with_its_numbers(
    demo: Path, demo_frames: list[Frame], tmp_path: Path
) -> None:
    made(PARQUET, tmp_path / "x.parquet", demo)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.num_rows == len(demo_frames) == CYCLES
    assert table["cycle"].to_pylist() == [frame.cycle for frame in demo_frames]
    for name in ("joints", "wrench"):
        rows = table[f"sensors.{name}.acquired_ns"].to_pylist()
        assert rows == [frame[name].acquired_ns for frame in demo_frames]
        statuses = [STATUSES[n] for n in table[f"sensors.{name}.status"].to_pylist()]
        assert statuses == [frame[name].status for frame in demo_frames]
        for field in demo_frames[-1][name].value.dtype.names or ():
            column = table[f"sensors.{name}.value.{field}"].to_pylist()
            for row, frame in zip(column, demo_frames, strict=True):
                np.testing.assert_array_equal(row, frame[name][field])
    applied = table["actuators.arm.applied"].to_pylist()
    np.testing.assert_array_equal(applied, [f.command["arm"].applied for f in demo_frames])


def test_a_stamp_that_is_absent_is_null_and_one_that_is_there_is_not(
    odd: Path, tmp_path: Path
) -> None:
    made(PARQUET, tmp_path / "x.parquet", odd)
    table = pq.read_table(tmp_path / "x.parquet")
    messages = Foreign(odd).of["/frame"]
    for name in ("imu", "camera", "mute"):
        for stamp in ("triggered_ns", "acquired_ns", "received_ns", "age_ns", "sequence"):
            rows = [getattr(one.sensors, name) for one in messages]
            wanted = [getattr(r, stamp) if r.HasField(stamp) else None for r in rows]
            assert table[f"sensors.{name}.{stamp}"].to_pylist() == wanted
    assert table["sensors.mute.value.x"].null_count == ODD_CYCLES


def test_an_image_is_in_the_first_row_that_names_it(
    odd: Path, odd_frames: list[Frame], tmp_path: Path
) -> None:
    made(PARQUET, tmp_path / "x.parquet", odd)
    found = pq.read_table(tmp_path / "x.parquet")["sensors.camera.value.image"]
    newest, images = -1, 0
    for row, frame in zip(found.to_pylist(), odd_frames, strict=True):
        sample = frame["camera"]
        is_new = sample.sequence is not None and sample.sequence > newest
        assert row == (sample["image"].tobytes() if is_new else None)
        newest, images = max(newest, sample.sequence), images + is_new
    assert images == len(Foreign(odd).of["/sensors/camera"]) > 20


def test_units_and_the_run_are_in_a_parquet_files_metadata(demo: Path, tmp_path: Path) -> None:
    made(PARQUET, tmp_path / "x.parquet", demo)
    schema = pq.read_schema(tmp_path / "x.parquet")
    units = {field.name: (field.metadata or {}).get(b"unit") for field in schema}
    assert units["latched_ns"] == b"ns"
    assert units["sensors.joints.value.position"] == units["actuators.arm.applied"] == b"rad"
    assert units["cycle"] is None
    facts = json.loads(schema.metadata[b"inphase"])
    assert (facts["state"], facts["run"]["robot"]) == ("COMPLETE", "demo")
    assert facts["schedule"] == DEMO.read_text()


# ---- NumPy -------------------------------------------------------------------------------------


def test_a_folder_of_columns_can_be_mapped_and_has_the_frames_numbers(
    odd: Path, odd_frames: list[Frame], tmp_path: Path
) -> None:
    made(NUMPY, tmp_path / "x", odd)

    def column(name: str) -> Any:
        return np.load(tmp_path / "x" / f"{name}.npy", mmap_mode="r")

    place, images = column("sensors.camera.place"), column("sensors.camera.value.image")
    assert isinstance(images, np.memmap)
    with Recording(odd) as recording:
        np.testing.assert_array_equal(column("latched_ns"), recording.frames()["latched_ns"])
    turn, known = column("sensors.imu.value.turn"), column("sensors.imu.known")
    assert len(turn) == len(known) == ODD_CYCLES
    for index, frame in enumerate(odd_frames):
        assert known[index] == (frame["imu"].sequence >= 0)
        if known[index]:
            np.testing.assert_array_equal(turn[index], frame["imu"]["turn"])
        assert (place[index] >= 0) == (frame["camera"].sequence >= 0)
        if place[index] >= 0:
            np.testing.assert_array_equal(images[place[index]], frame["camera"]["image"])
    assert np.isnan(column("sensors.mute.value.x")).all()
    assert (column("sensors.mute.acquired_ns") == ABSENT).all()
    facts = json.loads((tmp_path / "x" / "recording.json").read_text())
    assert facts["units"]["sensors.imu.value.turn"] == "rad/s"


def test_an_npz_has_the_columns_of_the_folder(odd: Path, tmp_path: Path) -> None:
    made(NUMPY, tmp_path / "x.npz", odd)
    made(NUMPY, tmp_path / "x", odd)
    with np.load(tmp_path / "x.npz") as packed:
        names = {path.stem for path in (tmp_path / "x").glob("*.npy")}
        assert set(packed) == names | {"recording"}
        for name in names:
            np.testing.assert_array_equal(packed[name], np.load(tmp_path / "x" / f"{name}.npy"))
        facts = json.loads(str(packed["recording"]))
    assert facts == json.loads((tmp_path / "x" / "recording.json").read_text())


# ---- whole, or not there ------------------------------------------------------------------------

FORMS = [(PARQUET, "x.parquet"), (NUMPY, "x"), (NUMPY, "x.npz"), (LEROBOT, "x")]


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_what_is_there_is_not_overwritten(form: str, name: str, odd: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RecordingError, match="is there already; give another name"):
        made(form, tmp_path / name, odd)
    assert (tmp_path / name).read_text() == "mine"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_disk_without_room_has_nothing_of_it(
    form: str, name: str, odd: Path, tmp_path: Path
) -> None:
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (0, 1, 100, 1000, 5000, 20_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, HARD))
            with pytest.raises(RecordingError, match=r"is not made: .*[Ff]ile too large"):
                made(form, tmp_path / name, odd)
            assert names(tmp_path) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (HARD, HARD))
        signal.signal(signal.SIGXFSZ, kept)
    made(form, tmp_path / name, odd)
    assert names(tmp_path) == [name]


STOPS = """
import os, signal, sys
from pathlib import Path
from inphase.export.conversion import convert
from inphase.export.lerobot.options import LeRobotOptions
def progress(done, total):
    print([path.name for path in Path().iterdir()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
convert([Path(sys.argv[1])], Path(sys.argv[3]), sys.argv[2], LeRobotOptions("x"), progress)
"""


@pytest.mark.real
@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_conversion_that_is_killed_leaves_nothing_under_its_name(
    form: str, name: str, odd: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPS, str(odd), form, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == f"['.{name}.unfinished']\n"
    assert names(tmp_path) == [f".{name}.unfinished"]
    made(form, tmp_path / name, odd)
    assert names(tmp_path) == [name]


def test_two_that_make_the_same_do_not_mix(odd: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".x.unfinished"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(RecordingError, match="is being made by another process"):
            made(NUMPY, tmp_path / "x", odd)
    finally:
        os.close(held)
    made(NUMPY, tmp_path / "x", odd)
    assert names(tmp_path) == ["x"]


# ---- what cannot be converted ------------------------------------------------------------------


def test_a_recording_that_was_cut_is_refused_with_the_remedy(demo: Path, tmp_path: Path) -> None:
    content = demo.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"was cut.*: inphase recover .*cut\.mcap"):
        made(PARQUET, tmp_path / "x.parquet", cut)
    assert names(tmp_path) == ["cut.mcap"]


def test_a_recording_with_wrong_bytes_is_refused(demo: Path, tmp_path: Path) -> None:
    content = bytearray(demo.read_bytes())
    with Recording(demo) as recording:
        assert recording.damage() == []
        wanted = recording.frames()["latched_ns"][100]
    content[content.index(wanted.tobytes())] ^= 1
    (tmp_path / "wrong.mcap").write_bytes(content)
    with pytest.raises(RecordingError, match=r"chunk at byte \d+ has another.*: inphase recover "):
        made(PARQUET, tmp_path / "x.parquet", tmp_path / "wrong.mcap")
    assert names(tmp_path) == ["wrong.mcap"]


def test_what_is_missing_in_a_recording_is_said(demo: Path, tmp_path: Path) -> None:
    from inphase.recording.recovery import recover

    content = demo.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(content[: len(content) // 2])
    recover(tmp_path / "cut.mcap", tmp_path / "whole.mcap")
    found = made(PARQUET, tmp_path / "x.parquet", tmp_path / "whole.mcap")
    with Recording(tmp_path / "whole.mcap") as recording:
        assert found.rows == len(recording) == pq.read_table(tmp_path / "x.parquet").num_rows
    assert found.missing


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"state": ("joint",)}, r"no numbers joint; there are: joints\.position, "),
        ({"state": ("joints.x",)}, r"no numbers joints\.x; there are: "),
    ],
)
def test_a_state_that_is_not_there_is_refused(
    options: dict[str, Any], text: str, demo: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordingError, match=text):
        made(LEROBOT, tmp_path / "x", demo, **options)
    assert names(tmp_path) == []


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A run recorded into one file, and into several."""
    folder = tmp_path_factory.mktemp("split")
    schedule = folder / "odd.toml"
    schedule.write_text(ODD)
    record_by_steps(schedule, 320, folder / "whole.mcap", RecorderOptions())
    record_by_steps(schedule, 320, folder / "run.mcap", RecorderOptions(split_ns=800_000_000))
    found = parts(folder)
    assert len(found) >= 3
    return folder / "whole.mcap", found


def test_the_files_of_one_run_are_one_table(split: tuple[Path, list[Path]], tmp_path: Path) -> None:
    whole, files = split
    one = made(PARQUET, tmp_path / "one.parquet", whole)
    several = made(PARQUET, tmp_path / "several.parquet", *files)
    assert (several.rows, several.missing) == (one.rows, one.missing) == (320, [])
    tables = [pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "several")]
    assert repr(tables[0].to_pydict()) == repr(tables[1].to_pydict())
    known = json.loads(tables[1].schema.metadata[b"inphase"])
    assert known["parts"] == [path.name for path in files]
    made(NUMPY, tmp_path / "one.npz", whole)
    made(NUMPY, tmp_path / "several.npz", *files)
    with np.load(tmp_path / "one.npz") as first, np.load(tmp_path / "several.npz") as second:
        assert first.files == second.files
        for name in set(first.files) - {"recording"}:
            np.testing.assert_array_equal(first[name], second[name])


def test_a_file_that_is_left_out_between_two_is_said(
    split: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    files = split[1]
    with Recording(files[0]) as before, Recording(files[2]) as after:
        last, first = before[-1].cycle, after[0].cycle
    found = made(PARQUET, tmp_path / "x.parquet", files[0], files[2])
    assert found.missing[-1] == (
        f"{first - last - 1} frames between {files[0]}, which ends with cycle {last}, and "
        f"{files[2]}, which begins with cycle {first}"
    )


def test_files_in_another_order_or_of_another_run_are_refused(
    split: tuple[Path, list[Path]], demo: Path, tmp_path: Path
) -> None:
    whole, files = split
    for some, words in (
        ([files[1], files[0]], "give the files in their order, each once"),
        ([files[0], files[0]], "give the files in their order, each once"),
        ([files[0], whole], "is of another run"),
        ([files[0], demo], "is of another run"),
    ):
        with pytest.raises(RecordingError, match=words):
            made(NUMPY, tmp_path / "x.npz", *some)
    assert names(tmp_path) == []


def test_an_episode_in_two_files_is_one(split: tuple[Path, list[Path]], tmp_path: Path) -> None:
    whole, files = split
    one = made(LEROBOT, tmp_path / "one", whole, images="none")
    several = made(LEROBOT, tmp_path / "several", *files, images="none")
    assert (several.rows, several.episodes) == (one.rows, one.episodes) == (320, 1)
    both = made(LEROBOT, tmp_path / "both", *files, whole, images="none")
    assert (both.rows, both.episodes) == (640, 2)
    tables = [
        pq.read_table(tmp_path / name / "data" / "chunk-000" / "file-000.parquet")
        for name in ("one", "several")
    ]
    assert repr(tables[0].to_pydict()) == repr(tables[1].to_pydict())


def test_robots_that_differ_are_no_one_dataset(demo: Path, odd: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"odd\.mcap does not fit .*: fps is 100, there 500"):
        made(LEROBOT, tmp_path / "x", demo, odd)
    with pytest.raises(RecordingError, match="is of another run"):
        made(PARQUET, tmp_path / "x", demo, odd)
    with pytest.raises(RecordingError, match="there is no folder"):
        made(PARQUET, tmp_path / "none" / "x", demo)
    assert names(tmp_path) == []


def test_a_missing_package_is_named_with_its_extra(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "av" else find(name))
    with pytest.raises(RecordingError, match=r"pip install 'inphase\[export\]'"):
        made(LEROBOT, tmp_path / "x", demo)


def test_the_command_says_rows_and_what_is_missing(demo: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "inphase", "export", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=BOUND_S, check=False
        )

    done = run(str(demo), "x.parquet")
    assert (done.returncode, done.stdout) == (0, f"x.parquet: {CYCLES} rows\n")
    done = run(str(demo), "x.parquet")
    assert done.returncode == RecordingError.exit_code
    assert done.stderr == "inphase: x.parquet is there already; give another name\n"
    assert run(str(demo), "y").returncode == 2
    assert run(str(demo), "y.npz", "--every", "2").returncode == 2
    (tmp_path / "note.txt").write_text("no recording at all")
    done = run("note.txt", "z.npz")
    assert done.returncode == RecordingError.exit_code
    assert "note.txt is no recording" in done.stderr
    assert names(tmp_path) == ["note.txt", "x.parquet"]


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "theirs.mcap"))
    writer.start("ros2", "somebody")
    writer.finish()
    for form, name in FORMS:
        with pytest.raises(RecordingError, match="profile 'ros2', and no recording of inphase"):
            made(form, tmp_path / name, tmp_path / "theirs.mcap")
    assert names(tmp_path) == ["theirs.mcap"]


def test_a_recording_cut_anywhere_is_refused_and_nothing_is_made(
    demo: Path, tmp_path: Path
) -> None:
    content = demo.read_bytes()
    cut = tmp_path / "cut.mcap"
    for size in range(0, len(content), len(content) // 150):
        cut.write_bytes(content[:size])
        with pytest.raises(RecordingError):
            made(PARQUET, tmp_path / "x.parquet", cut)
        assert names(tmp_path) == ["cut.mcap"]
    # its last 8 bytes say that it is whole
    cut.write_bytes(content[:-1])
    with pytest.raises(RecordingError, match="was cut, so it is not finished"):
        made(PARQUET, tmp_path / "x.parquet", cut)
