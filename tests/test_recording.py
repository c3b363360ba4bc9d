"""A recording has every frame of its run: in readers that nobody here wrote, and read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inphase
from inphase.errors import RecordingError
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.record_layout import ABSENT, ACT, HEADER, ROW, STATUSES
from inphase.recording import facts
from inphase.recording.channels import ImageForm, SampleForm
from inphase.recording.recording import Recording
from inphase.recording.recovery import recover
from inphase.testing.comparison import assert_same_frames
from recorded_runs import DEMO, ODD, Foreign, keep, message_class, record

CYCLES = 700  # more than a ring holds


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recording of the demo robot, and the run's summary."""
    path = tmp_path_factory.mktemp("demo") / "run.mcap"
    return path, record(DEMO, CYCLES, path)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording of a robot with a camera and a sensor that never speaks, and its schedule."""
    folder = tmp_path_factory.mktemp("odd")
    schedule = folder / "odd.toml"
    schedule.write_text(ODD)
    record(schedule, 60, folder / "run.mcap")
    return folder / "run.mcap", schedule


# ---- readers that nobody here wrote ------------------------------------------------------------


def test_a_foreign_reader_finds_every_number_of_every_frame(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    path, summary = demo
    frames, digest = keep(DEMO, CYCLES)
    assert summary["digest"] == digest  # the recorder changed nothing
    foreign = Foreign(path)
    assert len(foreign.of["/frame"]) == CYCLES
    for number, (message, frame) in enumerate(zip(foreign.of["/frame"], frames, strict=True)):
        assert message.number == number
        assert_fields(message, HEADER.names, HEADER.unpack_from(frame.record))
        for index, name in enumerate(frame.sensors):
            row = ROW.unpack_from(frame.record, frame.layout.record.row(index))
            assert_fields(getattr(message.sensors, name), ROW.names, row)
        for index, (name, _, _) in enumerate(frame.layout.actuators):
            head = ACT.unpack_from(frame.record, frame.layout.record.act(index))
            act = getattr(message.actuators, name)
            assert_fields(act, ACT.names, head)
            np.testing.assert_array_equal(act.requested, frame.command[name].requested)
            np.testing.assert_array_equal(act.applied, frame.command[name].applied)


def assert_fields(message: Any, names: tuple[str, ...], values: tuple[int, ...]) -> None:
    """Each as the record has it; absent where the record says so, and never 0 in its place."""
    for name, value in zip(names, values, strict=True):
        if value in (ABSENT, -1) and name != "uncertainty_ns":
            assert not message.HasField(name), name
        else:
            assert getattr(message, name) == value, name


def test_each_sample_is_there_once_with_its_values(demo: tuple[Path, dict[str, Any]]) -> None:
    path, _ = demo
    frames, _ = keep(DEMO, CYCLES)
    foreign = Foreign(path)
    for name in frames[0].sensors:
        kept = {f[name].sequence: f[name] for f in frames if f[name].sequence >= 0}
        assert len(foreign.of[f"/sensors/{name}"]) == len(kept)
        for message, sample in zip(foreign.of[f"/sensors/{name}"], kept.values(), strict=True):
            assert (message.sequence, message.acquired_ns) == (sample.sequence, sample.acquired_ns)
            for field in sample.value.dtype.names or ():
                np.testing.assert_array_equal(getattr(message.value, field), sample[field])


def test_the_log_time_of_each_message_is_its_frames_latch_on_the_wall_clock(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    foreign = Foreign(demo[0])
    offset_ns = int(foreign.metadata[facts.RUN]["wall_offset_ns"])
    latches = {one.cycle: one.latched_ns + offset_ns for one in foreign.of["/frame"]}
    for topic in foreign.topics:
        messages = zip(foreign.of[topic], foreign.times[topic], strict=True)
        assert all(latches[one.cycle] == time for one, time in messages)
    assert foreign.log_times == sorted(foreign.log_times)


def test_the_metadata_say_all_that_a_message_does_not(demo: tuple[Path, dict[str, Any]]) -> None:
    path, summary = demo
    found = Foreign(path).metadata
    assert found[facts.SCHEDULE]["toml"] == DEMO.read_text()
    assert found[facts.RUN]["schedule_hash"] == summary["schedule_hash"]
    assert found[facts.RUN]["policy"] == "demo_policy.py:Wave"
    assert len(found[facts.RUN]["policy_call_sha256"]) == 64
    assert found[facts.RECORDER]["version_inphase"]
    assert found[facts.LEGEND]["status"].split()[STATUSES.index("HELD")] == "1=HELD"
    assert found[facts.END]["state"] == facts.COMPLETE
    assert found[facts.END]["frames"] == str(CYCLES)


def test_a_sensor_that_never_speaks_has_a_channel_and_a_name(odd: tuple[Path, Path]) -> None:
    foreign = Foreign(odd[0])
    assert foreign.of["/sensors/mute"] == []
    assert "/sensors/mute" in foreign.metadata[facts.CHANNELS]
    statuses = {one.sensors.mute.status for one in foreign.of["/frame"]}
    assert {STATUSES[number] for number in statuses} <= {"LATE", "MISSING"}
    assert not any(one.sensors.mute.HasField("acquired_ns") for one in foreign.of["/frame"])


def test_an_image_is_foxgloves_raw_image(odd: tuple[Path, Path]) -> None:
    path, schedule = odd
    frames, _ = keep(schedule, 60)
    kept = {f["camera"].sequence: f["camera"] for f in frames if f["camera"].sequence >= 0}
    foreign = Foreign(path)
    assert len(foreign.of["/sensors/camera"]) == len(kept) > 10
    offset_ns = int(foreign.metadata[facts.RUN]["wall_offset_ns"])
    for image, sample in zip(foreign.of["/sensors/camera"], kept.values(), strict=True):
        assert (image.width, image.height, image.step) == (16, 12, 48)
        assert (image.encoding, image.frame_id) == ("rgb8", "camera")
        assert image.data == sample["image"].tobytes()
        assert image.HasField("timestamp") == (sample.acquired_ns is not None)
        if sample.acquired_ns is not None:
            assert image.timestamp.ToNanoseconds() == sample.acquired_ns + offset_ns


# ---- the messages ------------------------------------------------------------------------------

KINDS = ("<f8", "<f4", "<i8", "<u8", "<i4", "<u4", "<i2", "<u2", "|i1", "|u1", "|b1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)], ids=str)
def test_protobuf_reads_numbers_of_every_kind(kind: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype([("first", "<f8"), ("x", kind, shape), ("last", "<i4")])
    form = SampleForm("one", dtype)
    reader = message_class(form.descriptor, form.type_name)
    draw = np.random.default_rng(7)
    for acquired_ns in (ABSENT, 0, 12):
        raw = draw.integers(0, 256, dtype.itemsize, np.uint8).tobytes()
        value = np.frombuffer(raw, dtype)[0].copy()
        if kind == "|b1":
            value["x"] = draw.integers(0, 2, shape)
        (data,) = form.encode(3, 4, acquired_ns, value)
        message = reader.FromString(bytes(data))
        assert (message.cycle, message.sequence) == (3, 4)
        assert message.HasField("acquired_ns") == (acquired_ns != ABSENT)
        read = message.value.x
        if isinstance(read, bytes):
            read = list(read)
        np.testing.assert_array_equal(np.reshape(read, shape), value["x"])
        back = form.decode(bytes(data))
        assert back.dtype == dtype
        for field in dtype.names or ():
            np.testing.assert_array_equal(back[field], value[field])


@pytest.mark.parametrize(
    ("kind", "shape", "encoding"),
    [
        ("|u1", (4, 6), "mono8"),
        ("|u1", (4, 6, 3), "rgb8"),
        ("|u1", (4, 6, 4), "rgba8"),
        ("<u2", (4, 6), "mono16"),
    ],
)
def test_each_kind_of_image_has_the_name_that_viewers_know(
    kind: str, shape: tuple[int, ...], encoding: str
) -> None:
    dtype = np.dtype([("image", kind, shape)])
    form = ImageForm("eye", dtype, wall_offset_ns=5)
    value = np.zeros((), dtype)
    value["image"] = np.random.default_rng(3).integers(0, 255, shape)
    reader = message_class(form.descriptor, form.type_name)
    data = b"".join(bytes(part) for part in form.encode(0, 0, ABSENT, value))
    image = reader.FromString(data)
    assert (image.encoding, image.width, image.height) == (encoding, 6, 4)
    assert not image.HasField("timestamp")
    assert image.data == value["image"].tobytes()
    np.testing.assert_array_equal(form.decode(data)["image"], value["image"])


# ---- read back ---------------------------------------------------------------------------------


def test_the_frames_that_are_read_back_are_those_of_the_run(
    demo: tuple[Path, dict[str, Any]], odd: tuple[Path, Path]
) -> None:
    for path, schedule in ((demo[0], DEMO), odd):
        with Recording(path) as recording:
            frames, _ = keep(schedule, len(recording))
            assert recording.state == facts.COMPLETE
            assert_same_frames(recording, frames)
            assert not any(frame.lost for frame in recording)
            assert recording[-1].record == frames[-1].record


def test_columns_have_the_values_of_the_frames(demo: tuple[Path, dict[str, Any]]) -> None:
    with Recording(demo[0]) as recording:
        columns, joints = recording.frames(), recording.samples("joints")
        frames = [*recording]
        assert columns["cycle"].tolist() == [frame.cycle for frame in frames]
        ages = [ABSENT if f["wrench"].age_ns is None else f["wrench"].age_ns for f in frames]
        assert columns["sensors.wrench.age_ns"].tolist() == ages
        np.testing.assert_array_equal(
            columns["actuators.arm.applied"], [frame.command["arm"].applied for frame in frames]
        )
        by_sequence = {f["joints"].sequence: f["joints"] for f in frames}
        for row in joints:
            np.testing.assert_array_equal(
                row["value.position"], by_sequence[int(row["sequence"])]["position"]
            )


def test_a_recorded_frame_looks_back_as_a_live_one_does(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    with Recording(demo[0]) as recording:
        aligned = recording[CYCLES // 2].at("wrench")["joints"]
        assert aligned.is_known
        assert aligned.distance_ns is not None


def test_a_sample_that_is_not_in_the_file_is_said_to_be_lost(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    with Recording(demo[0]) as recording, pytest.raises(FrameLost, match="of joints is not in"):
        recording.sample(0, 100_000)


def test_a_recording_shows_what_it_is_and_names_its_sensors(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    with Recording(demo[0]) as recording:
        shown = f"<Recording {demo[0]} of demo: {CYCLES} frames, COMPLETE>"
        assert repr(recording) == shown
        with pytest.raises(KeyError, match=r"did you mean 'joints'\?\); there are: joints, wrench"):
            recording.samples("joint")


# ---- what is none ------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_text("mine")
    with pytest.raises(RecordingError, match="is there already; give another name"):
        record(DEMO, 10, path)
    assert path.read_text() == "mine"


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    from mcap.writer import Writer

    path = tmp_path / "x.mcap"
    path.touch()
    for read in (Recording, lambda path: recover(path, tmp_path / "new.mcap")):
        with pytest.raises(RecordingError, match="is empty"):
            read(path)
        with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
            read(tmp_path)
    for content in (b"short", b"\x89MCAP0\r\n", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=r"x\.mcap is "):
            Recording(path)
    writer = Writer(str(path))
    writer.start("ros2", "somebody")
    writer.finish()
    with pytest.raises(RecordingError, match="profile 'ros2', and no recording of inphase"):
        Recording(path)
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        Recording(tmp_path / "none")


def test_another_format_is_refused_with_the_version_that_reads_it(
    demo: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "newer.mcap"
    key = b"format" + (1).to_bytes(4, "little")
    whole = demo[0].read_bytes()
    assert whole.count(key + b"3") == 1
    path.write_bytes(whole.replace(key + b"3", key + b"4"))
    with pytest.raises(RecordingError, match=r"has format 4, this version reads 3.*recorded it: "):
        Recording(path)


def test_the_recorded_frames_are_frames(demo: tuple[Path, dict[str, Any]]) -> None:
    with inphase.Recording(demo[0]) as recording:
        assert all(isinstance(frame, Frame) for frame in recording)
        assert len(recording) == CYCLES
