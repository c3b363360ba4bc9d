"""A service as a process, on an emulated robot, and its clients."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import inphase
from inphase.service.client.remote_robot import RemoteRobot
from peers import BOUND_S, until
from runtimes import Robot


class Served:
    """`inphase serve` on an emulated robot; killed at the end if it still lives.

    Its sockets, history and recordings are in folders of its own.
    """

    def __init__(self, robot: Robot, *options: str) -> None:
        self.robot = robot
        self._folder = tempfile.TemporaryDirectory(prefix="inphase-s-")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)
        self.run = self.folder / "run"
        self.run.mkdir(mode=0o700)
        self._said = self.folder / "said"
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(self.run)}
        command = ["serve", str(robot.schedule), "--folder", str(self.folder / "state"), *options]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inphase", *command],
                stdin=subprocess.DEVNULL,
                stderr=said,
                env=self.environment,
            )
        until(lambda: "serving at" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        """What it said so far."""
        return self._said.read_text()

    @property
    def address(self) -> str:
        """Of its control socket."""
        return f"ipc://{self.run}/inphase/control"

    def connect(self) -> RemoteRobot:
        """A client of it."""
        return inphase.connect(self.address)

    def recording(self, lease: int) -> Path:
        """Of that lease."""
        return self.folder / "state" / "recordings" / f"{self.robot.name}-{lease}.mcap"

    def client(self, script: str) -> "subprocess.Popen[str]":
        """A client in a process of its own; its stdout is a pipe."""
        head = f"import inphase\naddress = {self.address!r}\n"
        return subprocess.Popen(
            [sys.executable, "-c", head + script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> int:
        """End it as systemd does; its exit code."""
        self.process.terminate()
        return self.process.wait(2 * BOUND_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.end()
        self._folder.cleanup()
