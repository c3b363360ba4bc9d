"""From the latch of a frame to the command of a client afar: TCP on loopback, encrypted.

The robot is the demo under `inphase serve`; the client is `inphase.connect` in this process. A time
is that from a frame's latch to the post of the command that answers it, both by the robot's clock:
frame out, command in, all checks. The yardstick is a process with a bare ROUTER that sends the same
bytes to a bare DEALER here, under CURVE, and takes the time until the same bytes come back.

    python -m benches.remote SENT BACK    the yardstick's process
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.robot import SCHEDULES
from inphase import connect
from inphase.access.keys import KeyFolder
from inphase.client.remote_drive import RemoteDrive

_GOAL = 1.3
_BLOCK = 400  # frames
_PERIOD_S = 0.002
_NS = 1_000_000_000


# ---- the yardstick -----------------------------------------------------------------------------


def ping(sent: int, back: int) -> None:
    """The yardstick's process: its times, in ns, one block per line that it is asked."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    public, secret = zmq.curve_keypair()
    router.setsockopt(zmq.CURVE_SERVER, 1)
    router.setsockopt(zmq.CURVE_SECRETKEY, secret)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    print(port, public.decode(), flush=True)
    peer = router.recv_multipart()[0]
    message = os.urandom(sent)
    for _ in sys.stdin:
        times = np.empty(_BLOCK, np.int64)
        next_s = time.monotonic()
        for n in range(_BLOCK):
            next_s += _PERIOD_S
            time.sleep(max(0.0, next_s - time.monotonic()))
            begun_ns = time.monotonic_ns()
            router.send_multipart([peer, message])
            assert len(router.recv_multipart()[1]) == back
            times[n] = time.monotonic_ns() - begun_ns
        print(times.tobytes().hex(), flush=True)


class _Ping:
    """The bare pair: a process that asks, and this one, which answers."""

    def __init__(self, sent: int, back: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benches.remote", str(sent), str(back)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdout is not None
        port, public = self._child.stdout.readline().split()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        ours, secret = zmq.curve_keypair()
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, public.encode())
        self._socket.setsockopt(zmq.CURVE_PUBLICKEY, ours)
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._answer = os.urandom(back)
        self._socket.send(b"here")

    def block(self) -> NDArray[np.int64]:
        """One block of its times, ns."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        for _ in range(_BLOCK):
            self._socket.recv()
            self._socket.send(self._answer)
        return np.frombuffer(bytes.fromhex(self._child.stdout.readline()), np.int64)

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        self._socket.close(0)
        self._context.term()


# ---- ours --------------------------------------------------------------------------------------


class ServedDemo(NamedTuple):
    """A drive, the service's process, and its first port; its key is `ann.key` of the folder."""

    drive: RemoteDrive
    service: "subprocess.Popen[str]"
    port: int


@contextmanager
def served(folder: Path) -> Iterator[ServedDemo]:
    """The demo under a service of its own, driven from here."""
    for source in SCHEDULES.glob("demo*"):
        text = source.read_text().replace("/tmp/inphase-demo", str(folder / "demo"))
        (folder / source.name).write_text(text.replace('name = "demo"', 'name = "bench"'))
    KeyFolder(folder / "keys").create("ann", "drive", folder / "ann.key")
    (folder / "run").mkdir(mode=0o700)
    port = 20_000 + os.getpid() % 20_000
    command = ["serve", str(folder / "demo.toml"), "--listen", f"tcp://127.0.0.1:{port}"]
    command += ["--keys", str(folder / "keys"), "--folder", str(folder / "state"), "--no-record"]
    service = subprocess.Popen(
        [sys.executable, "-m", "inphase", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder / "run")},
    )
    assert service.stderr is not None
    while "serving at" not in (line := service.stderr.readline()):
        assert line, "the service ended"
    try:
        address = f"tcp://127.0.0.1:{port}"
        with (
            connect(address, key=folder / "ann.key") as robot,
            robot.request(600).wait(20).drive() as drive,
        ):
            yield ServedDemo(drive, service, port)
    finally:
        service.terminate()
        service.wait()


def sizes(drive: RemoteDrive) -> tuple[int, int]:
    """Bytes of a frame's message, and of a command's."""
    frame = drive.next()
    samples = sum(dtype.itemsize for dtype in drive.layout.dtypes)
    channels = sum(count for _, count, _ in drive.layout.actuators)
    command = {"lease": 1, "cycle": frame.cycle, "image_cycle": -1, "shape": [channels]}
    back = len(msgpack.packb({**command, "values": bytes(8 * channels)}))
    return 2 * len(frame.record) + samples, back


def drive_block(drive: RemoteDrive) -> NDArray[np.int64]:
    """One block: from latch to post of each command that was taken, ns."""
    times: list[int] = []
    latched: dict[int, int] = {}
    while len(times) < _BLOCK:
        frame = drive.next()
        latched[frame.cycle] = frame.latched_ns
        begun_ns = latched.pop(frame.command.answered_cycle or -1, None)
        if begun_ns is not None and frame.command.inferred_ns is not None:
            times.append(frame.command.inferred_ns - begun_ns)
        drive.act(frame["joints"].value["position"])
    return np.array(times, np.int64)


def run(options: Options) -> list[dict[str, Any]]:
    """One figure."""
    figure = Rounds("latch to a command from afar, CURVE over loopback TCP", goal=_GOAL)
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name, served(Path(name)) as demo:
        bare = _Ping(*sizes(demo.drive))
        try:
            drive_block(demo.drive), bare.block()
            for _ in range(options.rounds):
                figure.add(bare.block(), drive_block(demo.drive), bare.block())
        finally:
            bare.close()
    result = figure.result()
    show(result)
    return [result]


if __name__ == "__main__":
    ping(int(sys.argv[1]), int(sys.argv[2]))
