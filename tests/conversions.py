"""Recordings to convert, and their conversions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader

from inphase.export.conversion import Converted, convert
from inphase.export.lerobot.options import LeRobotOptions
from inphase.frames.frame import Frame
from inphase.frames.record_layout import OUTCOMES
from inphase.recording import facts
from inphase.recording.channels import FRAME_TOPIC, frame_shape
from inphase.recording.chunk import ChunkBuilder
from inphase.recording.mcap_file import McapFile
from inphase.recording.recording import Recording
from recorded_runs import DEMO, ODD, record

CYCLES, ODD_CYCLES = 700, 150


def names(folder: Path) -> list[str]:
    """Of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the demo robot."""
    path = tmp_path_factory.mktemp("demo") / "demo.mcap"
    record(DEMO, CYCLES, path)
    return path


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a robot with a camera and a sensor that never speaks, and no actuator."""
    folder = tmp_path_factory.mktemp("odd")
    folder.joinpath("odd.toml").write_text(ODD)
    record(folder / "odd.toml", ODD_CYCLES, folder / "odd.mcap")
    return folder / "odd.mcap"


def made(form: str, out: Path, *paths: Path, **options: Any) -> Converted:
    """A conversion, and how far it said to be."""
    told: list[tuple[int, int]] = []
    choices = LeRobotOptions(**{"task": "wave", **options})
    found = convert(paths, out, form, choices, lambda *at: told.append(at))
    assert told[-1][0] == told[-1][1]
    assert sorted(told) == told
    return found


def frames_of(path: Path) -> Iterator[list[Frame]]:
    """All of a recording, which stays open."""
    with Recording(path) as recording:
        yield [*recording]


@pytest.fixture
def demo_frames(demo: Path) -> Iterator[list[Frame]]:
    yield from frames_of(demo)


@pytest.fixture
def odd_frames(odd: Path) -> Iterator[list[Frame]]:
    yield from frames_of(odd)


def write_marked(path: Path, out: Path, outcomes: dict[range, str]) -> None:
    """A recording once more, in which these frames are episodes that had these outcomes."""
    with Recording(path) as recording:
        shape = frame_shape(recording.layout)
    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        noted = [*reader.iter_metadata()]
        end = next(one for one in noted if one.name == facts.END)
        before = [one for one in noted if one is not end]
        channels, schemas = summary.channels, summary.schemas
        made = McapFile(out, "test", [*schemas.values()], [*channels.values()], before)
        gathered, place = ChunkBuilder(), 0
        for _, channel, one in reader.iter_messages():
            data = one.data
            if channel.topic == FRAME_TOPIC:
                plain = np.frombuffer(shape.decode(data), shape.plain).copy()
                for number, (frames, outcome) in enumerate(outcomes.items(), 1):
                    if place >= frames.start:
                        told = "running" if place in frames else outcome
                        plain["episode"], plain["outcome"] = number, OUTCOMES.index(told)
                data, place = shape.encode(plain.tobytes()), place + 1
            gathered.add(channel.id, one.sequence, one.log_time, data)
        chunk = gathered.take()
        assert chunk is not None
        assert made.write(chunk)
        made.close(end)
