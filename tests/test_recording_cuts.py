"""A recording that was cut at any byte opens or says why not, and is made whole."""

import contextlib
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcap import records
from mcap.writer import CompressionType, Writer

import inphase
from inphase.errors import RecordingError
from inphase.frames.frame import FrameLost, NoSample
from inphase.recording import facts, mcap_scan
from inphase.recording.chunk import ChunkBuilder
from inphase.recording.mcap_file import McapFile
from inphase.recording.recording import Recording
from inphase.recording.recovery import recover
from peers import BOUND_S
from recorded_runs import DEMO, Foreign, record

TOPICS = ("/numbers", "/texts")


def small(path: Path, chunks: int = 3, messages: int = 4) -> list[bytes]:
    """A file with two channels in a few chunks; its messages."""
    schemas = [records.Schema(id=1, name="none", encoding="", data=b"")]
    channels = [
        records.Channel(id=i, topic=topic, message_encoding="x", metadata={}, schema_id=1)
        for i, topic in enumerate(TOPICS)
    ]
    start = [records.Metadata(facts.RUN, {"format": "1"})]
    file = McapFile(path, "test", schemas, channels, start)
    written, gathered = [], ChunkBuilder()
    for chunk in range(chunks):
        for i in range(messages):
            number = chunk * messages + i
            data = bytes([number + 1]) * (5 + number) + b"\0" * (number % 3)
            written.append(data)
            gathered.add(number % 2, number, 1000 + number, data)
        assert file.write(gathered.take())
    file.close(records.Metadata(facts.END, {"state": facts.COMPLETE}))
    return written


def datas(path: Path) -> list[bytes]:
    """The messages of a file in order, as a foreign reader gives them, both ways, and checked."""
    from mcap.reader import make_reader

    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        forwards = [one.data for _, _, one in reader.iter_messages()]
        backwards = [one.data for _, _, one in reader.iter_messages(reverse=True)]
        summary = reader.get_summary()
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == len(forwards) == len(backwards)
    assert forwards == backwards[::-1]
    return forwards


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[bytes]]:
    """A small file, and its messages."""
    path = tmp_path_factory.mktemp("small") / "small.mcap"
    written = small(path)
    assert datas(path) == written
    return path.read_bytes(), written


def ends(content: bytes) -> list[int]:
    """Where each message of a file ends."""
    found = mcap_scan.scan(content)
    places = sorted(int(at) for channel in found.messages for at in found.places(channel))
    return [at + 9 + struct.unpack_from("<Q", content, at + 1)[0] for at in places]


@pytest.mark.long
def test_a_file_cut_at_any_byte_gives_every_message_before_the_cut(
    whole: tuple[bytes, list[bytes]], tmp_path: Path
) -> None:
    content, written = whole
    message_ends = ends(content)
    first = content.index(b"\x06", content.index(b"/texts"))  # the first chunk
    path, made = tmp_path / "cut.mcap", tmp_path / "made.mcap"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        made.unlink(missing_ok=True)
        try:
            result = recover(path, made)
        except RecordingError:
            assert size < first
            assert not made.exists()
            continue
        assert result is not None, size
        found = datas(made)
        wanted = written[: sum(end <= size for end in message_ends)]
        # the last one may end in zeros of its own, which could be zeros of the disk
        if found != wanted:
            assert found == wanted[:-1] and wanted[-1].endswith(b"\0"), size
        assert path.read_bytes() == content[:size]
        assert result.lost


def test_a_chunk_that_was_not_written_to_its_end_gives_what_is_there(
    whole: tuple[bytes, list[bytes]], tmp_path: Path
) -> None:
    """As a kill leaves it: room was allocated, and the rest is zeros."""
    content, written = whole
    message_ends = ends(content)
    path, made = tmp_path / "cut.mcap", tmp_path / "made.mcap"
    for size in range(message_ends[3], message_ends[8]):
        path.write_bytes(content[:size] + bytes(4096))
        made.unlink(missing_ok=True)
        recover(path, made)
        found = datas(made)
        assert found == written[: len(found)], size  # never a message with zeros for bytes
        assert len(found) >= sum(end <= size for end in message_ends) - 1


def test_a_chunk_whose_length_was_never_written_is_read(
    whole: tuple[bytes, list[bytes]], tmp_path: Path
) -> None:
    """As other recorders leave it when they are killed."""
    content, written = whole
    found = mcap_scan.scan(content)
    first = int(found.places(0)[2]) - 49  # the second chunk's record
    (length,) = struct.unpack_from("<Q", content, first + 1)
    path, made = tmp_path / "open.mcap", tmp_path / "made.mcap"
    open_chunk = struct.pack("<BQ", 6, (1 << 64) - 1) + content[first + 9 : first + 9 + length]
    path.write_bytes(content[:first] + open_chunk)
    recover(path, made)
    assert written[7].endswith(b"\0")  # which could be the disk's
    assert datas(made) == written[:7]


def test_a_chunk_with_another_checksum_is_left_out(
    whole: tuple[bytes, list[bytes]], tmp_path: Path
) -> None:
    content, written = whole
    at = int(mcap_scan.scan(content).places(0)[2]) + mcap_scan.MESSAGE_HEAD
    damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path, made = tmp_path / "damaged.mcap", tmp_path / "made.mcap"
    path.write_bytes(damaged)
    result = recover(path, made)
    assert result is not None
    assert datas(made) == written[:4] + written[8:]
    assert any("another checksum" in text for text in result.lost)


def test_a_file_of_another_recorder_is_made_whole(tmp_path: Path) -> None:
    path, made = tmp_path / "other.mcap", tmp_path / "made.mcap"
    writer = Writer(str(path), compression=CompressionType.NONE, chunk_size=400)
    writer.start("", "test")
    schema = writer.register_schema("s", "jsonschema", b"{}")
    channel = writer.register_channel("/other", "json", schema)
    for number in range(50):
        writer.add_message(channel, number, b"%d" % number * 9, number)
    writer.finish()
    content = path.read_bytes()
    for size in range(len(content) // 2, len(content), 7):
        path.write_bytes(content[:size])
        made.unlink(missing_ok=True)
        recover(path, made)
        found = datas(made)
        assert len(found) > 5
        assert found == [b"%d" % number * 9 for number in range(len(found))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recording of the demo robot."""
    path = tmp_path_factory.mktemp("run") / "run.mcap"
    record(DEMO, 60, path)
    yield path


def test_a_recording_cut_anywhere_opens_or_says_why_not(run: Path, tmp_path: Path) -> None:
    content = run.read_bytes()
    path = tmp_path / "cut.mcap"
    frames = 0
    for size in range(0, len(content), 61):
        path.write_bytes(content[:size])
        try:
            with Recording(path) as recording:
                assert recording.state == "CUT"
                assert len(recording) >= frames  # a longer file has no fewer
                frames = len(recording)
                assert [frame.cycle for frame in recording] == [*range(frames)]
        except RecordingError as error:
            assert frames == 0
            assert str(path) in str(error)
    assert frames == 60


def test_a_recording_is_the_same_after_a_recovery(run: Path, tmp_path: Path) -> None:
    content = run.read_bytes()
    path, made = tmp_path / "cut.mcap", tmp_path / "made.mcap"
    path.write_bytes(content[: len(content) // 2])
    recover(path, made)
    with Recording(run) as before, inphase.Recording(made) as after:
        assert after.state == facts.INCOMPLETE
        assert 10 < len(after) < 60
        for one, other in zip(after, before, strict=False):
            assert one.record == other.record
    assert len(Foreign(made).of["/frame"]) == len(after)


# ---- the command -------------------------------------------------------------------------------


def inphase_command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [sys.executable, "-m", "inphase", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def test_the_command_says_what_it_did_and_overwrites_nothing(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "run.mcap"
    content = run.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    done = inphase_command("recover", cut)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        str(tmp_path / "run.recovered.mcap"),
    )
    assert "/frame: " in done.stdout
    assert "lost: " in done.stderr
    assert cut.read_bytes() == content[: len(content) // 2]
    again = inphase_command("recover", cut)
    assert again.returncode == 12
    assert "run.recovered.mcap is there already; give another name" in again.stderr


def test_the_command_leaves_a_whole_file_alone(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.mcap"
    shutil.copy(run, copy)
    done = inphase_command("recover", copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is whole" in done.stdout
    assert [*tmp_path.iterdir()] == [copy]


def test_the_command_refuses_what_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    done = inphase_command("recover", path)
    assert done.returncode == 12
    assert "notes.txt is no recording" in done.stderr
    assert [*tmp_path.iterdir()] == [path]


# ---- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_recording_is_read_or_refused_in_words(
    run: Path, tmp_path: Path, seed: int
) -> None:
    """Nothing but our own errors comes out of a file in which bytes were changed at random."""
    content = run.read_bytes()
    draw = random.Random(seed)
    path, made = tmp_path / "damaged.mcap", tmp_path / "made.mcap"
    readable = 0
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 1, 10])):
            damaged[draw.randrange(len(damaged))] = draw.choice([0, 1, 0x7F, 0xFF])
        path.write_bytes(damaged)
        made.unlink(missing_ok=True)
        with contextlib.suppress(RecordingError):
            recover(path, made)
        with contextlib.suppress(RecordingError), Recording(path) as recording:
            read_all(recording)
            readable += 1
    assert readable > 20


def read_all(recording: Recording) -> None:
    """Whatever a file has. Raises RecordingError."""
    for frame in recording:
        for sample in frame.samples.values():
            with contextlib.suppress(FrameLost, NoSample):
                _ = sample.value
    recording.frames()
    for name in recording.layout.sensors:
        recording.samples(name)
