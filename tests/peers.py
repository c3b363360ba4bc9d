"""Processes that tests talk to: the emulator, started on a schedule and controlled by lines."""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
_COMMAND = (sys.executable, "-m", "inphase_drivers.emulator")
# generous: how long any event may take before a test gives up; longer in an emulated machine
BOUND_S = float(os.environ.get("INPHASE_TEST_BOUND_S", "40"))


class EmulatorProcess:
    """The emulator as a process of its own, with its control channel.

    Whoever starts it stops it, or uses it with `with`. Raises RuntimeError when the process
    ends or stays silent where it should speak.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._partial = b""

    def start(self, schedule: Path) -> Self:
        """Start on `schedule` and wait until every device is open."""
        path = os.pathsep.join((str(ROOT / "drivers"), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [*_COMMAND, str(schedule), "--control", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        line = self._line()
        if line != b"ready":
            self.stop()
            raise RuntimeError(f"the emulator said {line!r} instead of ready")
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask one thing of the control channel; returns the answer. RuntimeError on refusal."""
        stdin = self._pipe("stdin")
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        if not answer.pop("ok"):
            raise RuntimeError(f"{request}: {answer['error']}")
        return answer

    def stop(self) -> int:
        """End it by the end of its stdin; returns the exit code."""
        process = self._process
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself, or kill it; returns the exit code."""
        process = self._process
        assert process is not None
        try:
            return process.wait(BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(BOUND_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def _pipe(self, name: str) -> IO[bytes]:
        pipe: IO[bytes] | None = getattr(self._process, name)
        assert pipe is not None
        return pipe

    def _line(self) -> bytes:
        stdout = self._pipe("stdout")
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._partial:
                if not selector.select(BOUND_S):
                    raise RuntimeError(f"the emulator was silent for {BOUND_S} s")
                data = os.read(stdout.fileno(), 65_536)
                if not data:
                    raise RuntimeError("the emulator ended")
                self._partial += data
        line, _, self._partial = self._partial.partition(b"\n")
        return line


@contextlib.contextmanager
def open_folder(prefix: str = "inphase-") -> Iterator[Path]:
    """A folder in which any user may make what is not there, like /dev/shm.

    Its path is short: sockets have names in it. pytest's own folders are neither, with xdist.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def until(condition: Callable[[], bool]) -> None:
    """Ask until `condition` holds. Raises TimeoutError where it does not within BOUND_S."""
    end_s = time.monotonic() + BOUND_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"the condition did not come true in {BOUND_S} s")
        time.sleep(0.005)


def free_port(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def robot_schedule(folder: Path, emulator: str = "") -> Path:
    """Write a schedule with the demo robot's two devices; `emulator` goes into that table."""
    path = folder / "robot.toml"
    path.write_text(
        f"""
[emulator]
module = "inphase_drivers.emulator"
{emulator}
[device.arm]
driver = "inphase_drivers.dynamixel:Servos"
port = "{folder}/ports/arm"
baud = 4_000_000
watchdog_ms = 2_540
ids = [1, 2, 3, 4, 5, 6]
[device.wrist]
driver = "inphase_drivers.ati:NetFT"
host = "127.0.0.1"
port = {free_port(socket.SOCK_DGRAM)}
config_port = {free_port(socket.SOCK_STREAM)}
"""
    )
    return path


def said_by_another_user(imports: str, script: str) -> str:
    """What Python prints as a user without rights, after it has imported. Only root may ask."""
    lines = [*imports.splitlines(), "import os; os.setgroups([]); os.setgid(65534)"]
    lines += ["os.setuid(65534)", *script.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
