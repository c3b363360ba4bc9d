"""A service as a process, on an emulated robot, and its clients."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import inphase
from inphase.access.keys import KeyFolder, May
from inphase.client.remote_robot import RemoteRobot
from peers import BOUND_S, until
from runtimes import Robot


def free_ports(count: int) -> int:
    """The first of so many ports on loopback, one after the other, that nobody uses now."""
    while True:
        with contextlib.ExitStack() as open_ones:
            first = open_ones.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                for further in range(1, count):
                    open_ones.enter_context(socket.socket()).bind(("127.0.0.1", port + further))
                return port


FEEDBACK = 'feedback = "joints.position"\n'
APPROACHES = (FEEDBACK, f'{FEEDBACK}first_command = "approach"\n')
"""a change of a robot's schedule: a first command may come late, as it does from afar"""


class Served:
    """`inphase serve` on an emulated robot; killed at the end if it still lives.

    Its sockets, history and recordings are in folders of its own.
    """

    def __init__(
        self,
        robot: Robot,
        *options: str,
        users: dict[str, May] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """users: who has a key, and may do what; it then listens on TCP of that host too."""
        self.robot = robot
        self._folder = tempfile.TemporaryDirectory(prefix="inphase-s-")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)
        self.run = self.folder / "run"
        self.run.mkdir(mode=0o700)
        self._said = self.folder / "said"
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(self.run)}
        self.remote = ""
        if users is not None:
            self.remote = f"tcp://{host}:{free_ports(4)}"
            options = (*options, "--listen", self.remote, "--keys", str(self.folder / "keys"))
            for user, may in users.items():
                self.make_key(user, may)
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

    def connect(self, key: Path | None = None) -> RemoteRobot:
        """A client of it; key: over the network, as the user whose file that is."""
        return inphase.connect(self.address if key is None else self.remote, key=key)

    def make_key(self, user: str, may: May) -> Path:
        """A key for a user; its file."""
        path = self.key_of(user)
        KeyFolder(self.folder / "keys").create(user, may, path)
        return path

    def key_of(self, user: str) -> Path:
        """The file of a user's key."""
        return self.folder / f"{user}.key"

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
