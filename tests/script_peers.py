"""What answers for devices in tests of their drivers: a program that is told what to do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from inphase.testing import Peer
from peers import BOUND_S, ROOT


class ScriptPeer(Peer):
    """A program in a process of its own, told what to do on its stdin."""

    script: ClassVar[str]
    """a file of this folder, whose argument is the port"""

    def __init__(self, folder: Path) -> None:
        self.options = {"port": str(folder / "port")}
        self._process = subprocess.Popen(
            [sys.executable, *self.program(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'drivers'}"},
            text=True,
            bufsize=1,
        )
        self._line()  # ready

    def program(self, folder: Path) -> list[str]:
        """The arguments of Python."""
        return [str(ROOT / "tests" / self.script), str(folder / "port")]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def tell(self, line: str) -> str:
        """Have it do what a line says; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        return self._line()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=BOUND_S)

    def unplug(self) -> None:
        self.tell("unplug")

    def replug(self) -> None:
        self.tell("replug")


class MoverPeer(ScriptPeer):
    """A joint that keeps its velocity."""

    script = "mover.py"

    def speed(self) -> float:
        return float(self.tell("speed"))


class ModedPeer(ScriptPeer):
    """A sensor whose program knows the contract's faults by the words of their names."""

    def silence(self) -> None:
        self.tell("silence")

    def spoil(self) -> None:
        self.tell("spoil")

    def disguise(self) -> None:
        self.tell("disguise")

    def stall(self) -> None:
        self.tell("stall")

    def heal(self) -> None:
        self.tell("heal")

    def flood(self, count: int) -> int:
        return int(self.tell(f"flood {count}"))


class StreamerPeer(ModedPeer):
    """A sensor that is never asked."""

    script = "streamer.py"

    def taken_ns(self, value: NDArray[Any]) -> int:
        return round(float(value["value"]) * 1e9)
