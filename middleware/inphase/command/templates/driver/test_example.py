"""The example driver against the contract that every driver keeps."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from example import Example
from inphase.testing import DriverContract, Peer

EMULATOR = Path(__file__).with_name("example_emulator.py")


class ExamplePeer(Peer):
    """An emulated range finder in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.options = {"port": str(folder / "port")}
        schedule = folder / "devices.toml"
        schedule.write_text(f'[device.it]\ndriver = "example"\nport = "{folder}/port"\n')
        self.process = subprocess.Popen(
            [sys.executable, str(EMULATOR), str(schedule), "--control"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.line()  # ready

    def line(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, line: str) -> int:
        """Tell it something; its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        return int(self.line())

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=20)

    def silence(self) -> None:
        self.tell("silence")

    forget = silence  # it knows one question, and no other

    def spoil(self) -> None:
        self.tell("spoil")

    def disguise(self) -> None:
        self.tell("disguise")

    def stall(self) -> None:
        self.tell("stall")

    def flood(self, count: int) -> int:
        return self.tell(f"flood {count}")

    def taken_ns(self, value: NDArray[Any]) -> int:
        return self.tell(f"taken {round(float(value['distance']) * 1000)}")

    def heal(self) -> None:
        self.tell("heal")

    def unplug(self) -> None:
        self.tell("unplug")

    def replug(self) -> None:
        self.tell("replug")

    def asked(self) -> int:
        return self.tell("asked")


class TestExample(DriverContract):
    driver = Example

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[ExamplePeer]:
        peer = ExamplePeer(tmp_path)
        yield peer
        peer.close()
