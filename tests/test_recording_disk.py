"""A disk without room, at every byte: the file is valid, and says what is not in it.

The limit is RLIMIT_FSIZE, of a process of its own: a write beyond it fails as on a full disk.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcap import records
from mcap.reader import make_reader

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.frames.store_follower import StoreFollower
from inphase.recording import facts
from inphase.recording.chunk import ChunkBuilder
from inphase.recording.mcap_file import GAP, McapFile
from inphase.recording.recorder import Recorder, end_of_store
from inphase.recording.recording import Recording
from peers import BOUND_S
from recorded_runs import DEMO, Foreign

LONG_S = 4 * BOUND_S
CHUNKS, MESSAGES = 4, 3
COMES_BACK = 3
"""the chunk before which there is room again"""
HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
SHM = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: thousands of files are made in it."""
    with tempfile.TemporaryDirectory(prefix="inphase-test-", dir=SHM) as name:
        yield Path(name)


def limit(size: int | None) -> None:
    """Let no file of this process be longer; None: as long as it likes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (HARD if size is None else size, HARD))


def data_of(number: int) -> bytes:
    """A message that no other one is."""
    return number.to_bytes(4, "little") * (8 + number)


def write(path: Path, size: int, comes_back: bool) -> McapFile:
    """Chunks into a file that may grow to that size, or to any from a chunk on."""
    channels = [
        records.Channel(id=0, topic="/numbers", message_encoding="x", metadata={}, schema_id=0)
    ]
    gathered = ChunkBuilder()
    limit(size)
    try:
        file = McapFile(path, "test", [], channels, [records.Metadata("start", {"a": "b"})])
        for number in range(CHUNKS * MESSAGES):
            gathered.add(0, number, number, data_of(number))
            if number % MESSAGES == MESSAGES - 1:
                file.write(gathered.take())
            if comes_back and number == COMES_BACK * MESSAGES - 1:
                limit(None)
        file.close(records.Metadata("end", {"lost": str(file.lost[0])}))
        return file
    finally:
        limit(None)


def check(path: Path, file: McapFile) -> int:
    """Every message that a foreign reader finds is one that was written, and the others are
    counted; how many are missing."""
    with path.open("rb") as opened:
        reader = make_reader(opened, validate_crcs=True)
        found = [(one.sequence, one.data) for _, _, one in reader.iter_messages()]
        gaps = [one.metadata for one in reader.iter_metadata() if one.name == GAP]
        end = [one.metadata for one in reader.iter_metadata() if one.name == "end"]
        summary = reader.get_summary()
    assert summary is not None and summary.statistics is not None
    assert all(data == data_of(number) for number, data in found)
    assert len({number for number, _ in found}) == len(found) == file.counts[0]
    assert len(found) + file.lost[0] == CHUNKS * MESSAGES
    assert sum(int(gap["/numbers"]) for gap in gaps) == file.lost[0]
    assert end == [{"lost": str(file.lost[0])}]
    assert summary.statistics.message_count == len(found)
    assert summary.statistics.chunk_count == len(found) // MESSAGES
    return file.lost[0]


def fill_at_every_byte(folder: Path) -> dict[str, list[int]]:
    """How many messages were missing, by limit, without and with room that comes back; -1: the
    file was refused at its start."""
    path = folder / "run.mcap"
    whole = write(path, 1 << 20, comes_back=False)
    needed = whole._allocated
    path.unlink()
    missing: dict[str, list[int]] = {"stays": [], "back": []}
    for size in range(needed + 2):
        for key, comes_back in (("stays", False), ("back", True)):
            try:
                file = write(path, size, comes_back)
            except RecordingError as error:
                assert "no room for its start" in str(error), error
                assert not path.exists()
                missing[key].append(-1)
                continue
            missing[key].append(check(path, file))
            path.unlink()
    return missing


def in_child(call: str, folder: Path) -> str:
    """The output of a function of this module, called in a process of its own."""
    code = f"import sys; from test_recording_disk import *; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_a_disk_that_is_full_from_any_byte_on_loses_whole_chunks_that_are_counted(
    folder: Path,
) -> None:
    call = "print(json.dumps(fill_at_every_byte(Path(sys.argv[1]))))"
    missing = json.loads(in_child(call, folder))
    stays, back = missing["stays"], missing["back"]
    assert [*dict.fromkeys(stays)] == [-1, 12, 9, 6, 3, 0]  # the more room, the less is missing
    assert [*dict.fromkeys(back)] == [-1, 9, 6, 3, 0]  # the last chunk is there in any case
    assert stays[-1] == back[-1] == 0


def record_in_little_room(folder: Path) -> None:
    """A run in lock step, recorded while its file may not grow for a part of it."""
    sizes = [*range(40_000, 160_000, 9_973)]
    for size in sizes:
        path = folder / f"{size}.mcap"
        said: list[str] = []
        with LockStep(load(DEMO), seed=1) as robot:
            follower = StoreFollower(robot.core.segment.path)
            recorder = Recorder(follower, path, None, said.append, first=0)
            for part in range(20):
                robot.run(16)
                limit(None if part >= 15 else size)
                try:
                    recorder.run(lambda: True, lambda: None)
                    recorder.flush()
                finally:
                    limit(None)
            outcome = recorder.close(end_of_store(follower.reader, follower.layout.sensors))
            follower.close()
            print(json.dumps([str(path), said, outcome, robot.digest()]))


def test_a_recording_without_room_goes_on_when_there_is_some_and_says_incomplete(
    folder: Path,
) -> None:
    with LockStep(load(DEMO), seed=1) as robot:
        robot.run(320)
        digest = robot.digest()
    lines = in_child("record_in_little_room(Path(sys.argv[1]))", folder).splitlines()
    assert len(lines) > 10
    incomplete = 0
    for line in lines:
        path, said, outcome, its_digest = json.loads(line)
        assert its_digest == digest  # the run does not know of it
        with Recording(path) as recording:
            assert recording.end is not None
            lost = json.loads(recording.end["lost_messages"])
            frames = [*recording]
            assert len(frames) + lost.get("/frame", 0) == 320
            before = int(recording.frames()["number"][0])  # of the first frame that is there
            assert before + sum(frame.lost for frame in frames) == lost.get("/frame", 0)
            assert frames[-1].cycle == 319
            assert recording.state == (facts.INCOMPLETE if lost else facts.COMPLETE)
            assert bool(recording.gaps) == bool(lost)
        assert len(Foreign(Path(path)).of["/frame"]) == len(frames)
        if lost:
            incomplete += 1
            assert [text.partition(" for ")[0] for text in said] == ["no room", "there is room"]
            assert facts.INCOMPLETE in outcome and "no room" in outcome
    assert incomplete > 8
