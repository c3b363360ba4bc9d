"""A LeRobot dataset has the frames of its recordings, and the act that answered each."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from conversions import CYCLES, ODD_CYCLES, demo, demo_frames, made, odd, odd_frames, write_marked
from inphase.errors import RecordingError
from inphase.export import frame_table
from inphase.export.conversion import LEROBOT
from inphase.export.lerobot import dataset
from inphase.export.lerobot.statistics import RunningStatistics
from inphase.frames.frame import Frame
from inphase.frames.record_layout import DROVE, HEADER
from recorded_runs import DEMO, ODD, record

__all__ = ["demo", "demo_frames", "odd", "odd_frames"]  # fixtures


def acted_cycle(frame: Frame) -> int:
    """The cycle of the act that a frame tells."""
    return int(HEADER.unpack_from(frame.record)[HEADER.names.index("acted_cycle")])


def halved_colours(image: Any) -> Any:
    """An image as a video can have it."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    return frame.to_ndarray(format="rgb24").astype(float)


def rows_of(folder: Path) -> Any:
    """All rows of a dataset, in order."""
    return pq.read_table(folder / "data")


def info_of(folder: Path) -> Any:
    return json.loads((folder / "meta" / "info.json").read_text())


def test_a_dataset_has_a_row_per_frame_and_the_act_that_answered_it(
    demo: Path, demo_frames: list[Frame], tmp_path: Path
) -> None:
    found = made(LEROBOT, tmp_path / "x", demo, state=("joints.position", "wrench"))
    rows, info = rows_of(tmp_path / "x"), info_of(tmp_path / "x")
    assert found.rows == rows.num_rows == info["total_frames"] == CYCLES
    assert info["fps"] == 500
    assert rows["index"].to_pylist() == rows["frame_index"].to_pylist() == [*range(CYCLES)]
    assert set(rows.column_names) == set(info["features"])
    state, action = rows["observation.state"].to_pylist(), rows["action"].to_pylist()
    assert info["features"]["action"]["names"] == [f"arm.{n}" for n in range(6)]
    known = rows["inphase.action_known"].to_pylist()
    acted = {acted_cycle(frame): frame.command["arm"].applied for frame in demo_frames}
    assert known == [frame.cycle in acted for frame in demo_frames]
    assert known.count(True) == CYCLES - 1  # the last act is in the frame after the last one
    drove = {acted_cycle(frame): DROVE.index(frame.command.drove) for frame in demo_frames}
    wanted_drove = [drove.get(frame.cycle, 0) for frame in demo_frames]
    assert rows["inphase.drove"].to_pylist() == wanted_drove and 1 in wanted_drove
    for index, frame in enumerate(demo_frames):
        wanted = np.concatenate([frame["joints"]["position"], frame["wrench"]["force"],
                                 frame["wrench"]["torque"]]).astype(np.float32)  # fmt: skip
        np.testing.assert_array_equal(state[index], wanted)
        act = acted[frame.cycle] if known[index] else demo_frames[-1].command["arm"].applied
        np.testing.assert_array_equal(action[index], act.astype(np.float32))


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_how_many_rows_are_read_at_a_time_changes_nothing(
    rows: int, odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(LEROBOT, tmp_path / "x", odd, every=7, images="png")
    monkeypatch.setattr(frame_table, "_STRETCH_ROWS", rows)
    made(LEROBOT, tmp_path / "y", odd, every=7, images="png")
    assert rows_of(tmp_path / "x").equals(rows_of(tmp_path / "y"))


def test_requested_commands_are_the_other_choice(
    demo: Path, demo_frames: list[Frame], tmp_path: Path
) -> None:
    made(LEROBOT, tmp_path / "x", demo, action="requested", every=7)
    rows = rows_of(tmp_path / "x")
    assert rows["inphase.cycle"].to_pylist() == [*range(0, CYCLES, 7)]
    assert info_of(tmp_path / "x")["fps"] == pytest.approx(500 / 7)
    asked = {acted_cycle(frame): frame.command["arm"].requested for frame in demo_frames}
    for row in rows.to_pylist():
        if row["inphase.action_known"]:
            wanted = asked[row["inphase.cycle"]].astype(np.float32)
            np.testing.assert_array_equal(row["action"], wanted)


def test_an_absent_stamp_is_null_beside_a_flag_or_the_lowest_number(
    odd: Path, odd_frames: list[Frame], tmp_path: Path
) -> None:
    noted = made(LEROBOT, tmp_path / "x", odd).notes
    made(LEROBOT, tmp_path / "filled", odd, fill_absent=True)
    rows, filled = rows_of(tmp_path / "x"), rows_of(tmp_path / "filled")
    nulls = 0
    for name in ("imu", "camera", "mute"):
        stamps = [frame[name].acquired_ns for frame in odd_frames]
        assert rows[f"inphase.{name}.acquired_ns"].to_pylist() == stamps
        flags = rows[f"inphase.{name}.acquired_ns_known"].to_pylist()
        assert flags == [stamp is not None for stamp in stamps]
        lowest = [-(1 << 63) if stamp is None else stamp for stamp in stamps]
        assert filled[f"inphase.{name}.acquired_ns"].to_pylist() == lowest
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        nulls += column.null_count
        assert column.null_count == 0 or f"{name}_known" in rows.column_names, name
    assert any(f"{nulls} absent stamps are null" in note for note in noted)
    assert any("mute gave no sample" in note for note in noted)


def test_several_recordings_are_episodes_with_a_video_each(
    odd: Path, odd_frames: list[Frame], tmp_path: Path
) -> None:
    found = made(LEROBOT, tmp_path / "x", odd, odd)
    assert (found.episodes, found.rows) == (2, 2 * ODD_CYCLES)
    episodes = pq.read_table(tmp_path / "x" / "meta" / "episodes").to_pylist()
    assert [one["length"] for one in episodes] == [ODD_CYCLES] * 2
    assert [one["dataset_from_index"] for one in episodes] == [0, ODD_CYCLES]
    rows = rows_of(tmp_path / "x")
    assert rows["episode_index"].to_pylist() == [0] * ODD_CYCLES + [1] * ODD_CYCLES
    assert rows["index"].to_pylist() == [*range(2 * ODD_CYCLES)]
    images = {
        f["camera"].sequence: halved_colours(f["camera"]["image"])
        for f in odd_frames
        if f["camera"].sequence >= 0
    }
    videos = sorted((tmp_path / "x" / "videos").rglob("*.mp4"))
    assert len(videos) == 2
    for video in videos:
        with av.open(str(video)) as file:
            pictures = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode()]
        assert len(pictures) == ODD_CYCLES
        for index, (when, picture) in enumerate(pictures):
            assert when == pytest.approx(index / 100)
            sequence = odd_frames[index]["camera"].sequence
            off = {n: np.abs(picture - one).mean() for n, one in images.items()}
            if sequence < 0:
                assert picture.max() < 20
            else:
                assert min(off, key=lambda n: off[n]) == sequence


EPISODES = {
    range(10, 190): "success",
    range(200, 300): "discarded",
    range(350, 500): "failure",
    range(650, CYCLES): "running",
}


def test_marked_episodes_are_taken_and_discarded_ones_are_left_out(
    demo: Path, tmp_path: Path
) -> None:
    write_marked(demo, tmp_path / "marked.mcap", EPISODES)
    for outcomes in ((), ("success",), ("failure", "discarded")):
        folder = tmp_path / "-".join(("x", *outcomes))
        found = made(LEROBOT, folder, tmp_path / "marked.mcap", outcomes=outcomes)
        wanted = {
            frames: outcome
            for frames, outcome in EPISODES.items()
            if outcome in (outcomes or ("success", "failure", "running"))
        }
        rows = rows_of(folder)
        assert rows["inphase.cycle"].to_pylist() == [n for frames in wanted for n in frames]
        assert rows["frame_index"].to_pylist() == [n for f in wanted for n in range(len(f))]
        episodes = pq.read_table(folder / "meta" / "episodes").to_pylist()
        assert [one["inphase/outcome"] for one in episodes] == [*wanted.values()]
        assert [one["length"] for one in episodes] == [len(frames) for frames in wanted]
        # each but the very last frame of the recording has its act in the frame behind it
        assert rows["inphase.action_known"].to_pylist().count(False) == (range(650, 700) in wanted)
        assert any("220 frames outside of episodes are left out" in note for note in found.notes)
        if not outcomes:
            assert any("1 episodes with the outcome discarded" in note for note in found.notes)


def test_a_complete_episode_has_a_number_everywhere(
    odd: Path, odd_frames: list[Frame], demo: Path, tmp_path: Path
) -> None:
    found = made(LEROBOT, tmp_path / "x", odd, complete=True)
    first = next(n for n, frame in enumerate(odd_frames) if frame["camera"].sequence >= 0)
    assert found.rows == ODD_CYCLES - first < ODD_CYCLES
    rows = rows_of(tmp_path / "x")
    assert rows["inphase.cycle"].to_pylist() == [*range(first, ODD_CYCLES)]
    assert np.isfinite(rows["observation.state"].to_pylist()).all()
    assert any(f"{first} frames are left out" in note for note in found.notes)
    made(LEROBOT, tmp_path / "y", demo, complete=True)
    rows = rows_of(tmp_path / "y")
    assert all(rows["inphase.action_known"].to_pylist())
    assert rows["inphase.cycle"].to_pylist() == [*range(CYCLES - 1)]


def test_cycles_without_a_frame_are_said(tmp_path: Path) -> None:
    late = "[timing]\nhost.wake_late_ms = { lognormal = [0.02, 1.4], high = 5.0 }\n"
    shutil.copy(DEMO.with_name("demo_policy.py"), tmp_path)
    (tmp_path / "late.toml").write_text(DEMO.read_text() + late)
    record(tmp_path / "late.toml", 400, tmp_path / "late.mcap")
    found = made(LEROBOT, tmp_path / "x", tmp_path / "late.mcap")
    cycles = rows_of(tmp_path / "x")["inphase.cycle"].to_pylist()
    gaps = cycles[-1] - cycles[0] + 1 - len(cycles)
    assert gaps > 0
    assert any(note.startswith(f"{gaps} cycles within episodes have no") for note in found.notes)
    write_marked(tmp_path / "late.mcap", tmp_path / "marked.mcap", {range(100, 300): "success"})
    found = made(LEROBOT, tmp_path / "y", tmp_path / "marked.mcap", every=3)
    gaps = cycles[299] - cycles[100] + 1 - 200
    assert any(note.startswith(f"{gaps} cycles within episodes have no") for note in found.notes)


def test_a_large_table_goes_on_in_another_file(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(LEROBOT, tmp_path / "x", odd, odd, odd, images="none")
    monkeypatch.setattr(dataset, "_DATA_MB", 0)
    made(LEROBOT, tmp_path / "y", odd, odd, odd, images="none")
    files = sorted((tmp_path / "y" / "data").rglob("*.parquet"))
    assert [file.name for file in files] == [f"file-00{n}.parquet" for n in range(3)]
    episodes = pq.read_table(tmp_path / "y" / "meta" / "episodes").to_pylist()
    assert [one["data/file_index"] for one in episodes] == [0, 1, 2]
    for one, file in zip(episodes, files, strict=True):
        rows = pq.read_table(file)["index"].to_pylist()
        assert rows == [*range(one["dataset_from_index"], one["dataset_to_index"])]
    assert rows_of(tmp_path / "x").equals(rows_of(tmp_path / "y"))


def test_tasks_are_a_table_that_pandas_indexes_by_the_text(demo: Path, tmp_path: Path) -> None:
    made(LEROBOT, tmp_path / "x", demo, task="fold a towel")
    table = pq.read_table(tmp_path / "x" / "meta" / "tasks.parquet")
    (index,) = json.loads(table.schema.metadata[b"pandas"])["index_columns"]
    assert table.to_pylist() == [{"task_index": 0, index: "fold a towel"}]
    (episode,) = pq.read_table(tmp_path / "x" / "meta" / "episodes").to_pylist()
    assert episode["tasks"] == ["fold a towel"]


def test_episodes_without_a_complete_frame_are_refused(demo: Path, tmp_path: Path) -> None:
    write_marked(demo, tmp_path / "end.mcap", {range(CYCLES - 1, CYCLES): "running"})
    with pytest.raises(RecordingError, match=r"no frame that is complete.*leave out --complete"):
        made(LEROBOT, tmp_path / "x", tmp_path / "end.mcap", complete=True)
    assert made(LEROBOT, tmp_path / "x", tmp_path / "end.mcap").rows == 1


def test_a_recording_without_a_wanted_episode_is_refused(demo: Path, tmp_path: Path) -> None:
    write_marked(demo, tmp_path / "marked.mcap", {range(690): "discarded"})
    with pytest.raises(RecordingError, match=r"no episode to convert: .*outcome discarded"):
        made(LEROBOT, tmp_path / "x", tmp_path / "marked.mcap")
    with pytest.raises(RecordingError, match=r"no episode to convert: .*no marked episode"):
        made(LEROBOT, tmp_path / "x", demo, outcomes=("success",))


def test_a_picture_in_the_table_is_the_cameras_own(
    odd: Path, odd_frames: list[Frame], tmp_path: Path
) -> None:
    made(LEROBOT, tmp_path / "x", odd, images="png")
    files = rows_of(tmp_path / "x")["observation.images.camera"].to_pylist()
    assert not (tmp_path / "x" / "videos").exists()
    for file, frame in zip(files, odd_frames, strict=True):
        codec: Any = av.CodecContext.create("png", "r")
        (picture,) = codec.decode(av.Packet(file["bytes"]))
        there = frame["camera"].sequence >= 0
        wanted = frame["camera"]["image"] if there else np.zeros((12, 16, 3), np.uint8)
        np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), wanted)


def test_no_video_is_longer_than_a_thousand_seconds(tmp_path: Path) -> None:
    schedule = ODD.replace("rate_hz = 100", "rate_hz = 1")
    (tmp_path / "slow.toml").write_text(schedule.replace("_age_ms = ", "_age_ms = 20000 #"))
    record(tmp_path / "slow.toml", 1050, tmp_path / "slow.mcap")
    found = made(LEROBOT, tmp_path / "x", tmp_path / "slow.mcap")
    assert (found.episodes, found.rows) == (2, 1050)
    lengths = []
    for video in sorted((tmp_path / "x" / "videos").rglob("*.mp4")):
        with av.open(str(video)) as file:
            lengths.append(sum(packet.size > 0 for packet in file.demux()))
    assert lengths == [1000, 50]


def test_statistics_are_those_of_all_rows(demo: Path, tmp_path: Path) -> None:
    made(LEROBOT, tmp_path / "x", demo)
    stats = json.loads((tmp_path / "x" / "meta" / "stats.json").read_text())
    rows = rows_of(tmp_path / "x")
    for key in ("observation.state", "action"):
        numbers = np.array(rows[key].to_pylist(), np.float64)
        assert stats[key]["count"] == [CYCLES]
        for name, wanted in (
            ("min", numbers.min(axis=0)),
            ("max", numbers.max(axis=0)),
            ("mean", numbers.mean(axis=0)),
            ("std", numbers.std(axis=0)),
            ("q10", np.quantile(numbers, 0.1, axis=0)),
        ):
            np.testing.assert_allclose(stats[key][name], wanted, rtol=1e-6, atol=1e-9)


def test_statistics_of_many_rows_do_not_depend_on_how_they_come() -> None:
    numbers = np.random.default_rng(5).normal(3, 2, (200_000, 2))
    whole, parts, sums = RunningStatistics(), RunningStatistics(), RunningStatistics()
    whole.add(numbers)
    for part in np.array_split(numbers, 37):
        parts.add(part)
        one = RunningStatistics()
        one.add(part)
        sums.add_all(one)
    for name, wanted in whole.found().items():
        np.testing.assert_allclose(parts.found()[name], wanted, atol=0.1)
        np.testing.assert_allclose(sums.found()[name], wanted, atol=0.1)
    np.testing.assert_allclose(parts.found()["std"], numbers.std(axis=0))
    np.testing.assert_allclose(sums.found()["mean"], numbers.mean(axis=0))
