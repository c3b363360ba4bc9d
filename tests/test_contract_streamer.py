"""A device that is never asked against the contract: declared, and with a `read` of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from inphase.testing import DriverContract, Peer
from peers import BOUND_S, ROOT
from streamer import ByHand, Streamer

pytestmark = pytest.mark.real


class StreamerPeer(Peer):
    """The streaming device in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.options = {"port": str(folder / "port")}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "streamer.py"), self.options["port"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            text=True,
            bufsize=1,
        )
        self._line()  # ready

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _tell(self, line: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        return int(self._line())

    def close(self) -> None:
        self._process.communicate(timeout=BOUND_S)

    def silence(self) -> None:
        self._tell("silence")

    def spoil(self) -> None:
        self._tell("spoil")

    def disguise(self) -> None:
        self._tell("disguise")

    def stall(self) -> None:
        self._tell("stall")

    def heal(self) -> None:
        self._tell("heal")

    def unplug(self) -> None:
        self._tell("unplug")

    def replug(self) -> None:
        self._tell("replug")

    def flood(self, count: int) -> int:
        return self._tell(f"flood {count}")

    def taken_ns(self, value: NDArray[Any]) -> int:
        return round(float(value["value"]) * 1e9)


class TestStreamer(DriverContract):
    driver = Streamer
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[StreamerPeer]:
        peer = StreamerPeer(tmp_path)
        yield peer
        peer.close()


class TestStreamerByHand(TestStreamer):
    driver = ByHand
    homes = ("process",)
