"""Recordings to convert, and their conversions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase.export.conversion import Converted, convert
from inphase.export.lerobot.options import LeRobotOptions
from inphase.frames.frame import Frame
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
