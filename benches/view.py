"""The process of `inphase view` at 50 Hz: its CPU time, and what a viewer that stands still costs.

The robot is the demo on the wall clock with a 6.2 MB camera at 31 Hz (`recorded.py`). The viewer is
a WebSocket client in this process, whose CPU time is not counted. The yardstick is a process that
hands bytes of the same sizes to foxglove-sdk at the same rate, and follows nobody. A block gives
one number: CPU time of the process per frame, all threads, by the kernel.

    python -m benches.view SIZE ...    the yardstick: serves a channel of each size
"""

import contextlib
import json
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import foxglove
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.recorded import filmed, filming
from inphase import Runner

_RATE_HZ = 50
_BLOCK_S = 4.0
_SETTLE_S = 1.0
_STILL_S = 15
_CAMERA = "/sensors/camera"
_FRAME = "/frame"
_SMALL = {_FRAME, "/sensors/joints", "/sensors/wrench"}
_MESSAGE = 1  # binary opcode of the protocol


# ---- servers -----------------------------------------------------------------------------------


class _Server:
    """A process that prints its address, and perhaps what it holds at most."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stderr=subprocess.PIPE, text=True
        )
        self._said = ""
        self.address = self.until(r"ws://\S+\d")[0]

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until it says that."""
        assert self.process.stderr is not None
        while (found := re.search(pattern, self._said)) is None:
            line = self.process.stderr.readline()
            assert line, self._said
            self._said += line
        return found

    def cpu_ns(self) -> int:
        """Of all its threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(one.read_text().split()[0]) for one in tasks)

    def memory(self) -> int:
        """Bytes that it shares with nobody."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("RssAnon:")[2].split()[0]) * 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _view(store_path: str) -> _Server:
    return _Server("inphase", "view", store_path, "--port", "0", "--rate", str(_RATE_HZ))


def serve(sizes: list[int]) -> None:
    """The yardstick: a channel of each size, at the rate of the view, until it is killed."""
    context = foxglove.Context()
    schema = foxglove.Schema(name="x", encoding="protobuf", data=b"")
    channels = [
        foxglove.Channel(f"/{at}", message_encoding="protobuf", schema=schema, context=context)
        for at in range(len(sizes))
    ]
    server = foxglove.start_server(name="yardstick", host="127.0.0.1", port=0, context=context)
    print(f"ws://127.0.0.1:{server.port}", file=sys.stderr, flush=True)
    messages = [bytes(size) for size in sizes]
    next_s = time.monotonic()
    while True:
        for channel, message in zip(channels, messages, strict=True):
            channel.log(message, log_time=time.time_ns())
        next_s += 1 / _RATE_HZ
        time.sleep(max(0.0, next_s - time.monotonic()))


# ---- a viewer ----------------------------------------------------------------------------------


class _Client:
    """Subscribes to some topics, or all, and counts what comes, in a thread, while it reads."""

    def __init__(self, address: str, topics: set[str] | None, *, reads: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}
        self._topics: dict[int, str] = {}
        self._socket = connect(
            address,
            subprotocols=["foxglove.sdk.v1"],  # type: ignore[list-item]
            max_size=None,
            max_queue=1,
            compression=None,
            close_timeout=0.2,
        )
        while not self._subscribe(topics):
            pass
        self._thread = threading.Thread(target=self._read)
        if reads:
            self._thread.start()

    def _subscribe(self, topics: set[str] | None) -> bool:
        came = self._socket.recv()
        said = json.loads(came) if isinstance(came, str) else {}
        if said.get("op") != "advertise":
            return False
        wanted = [one for one in said["channels"] if topics is None or one["topic"] in topics]
        self._topics = {one["id"]: one["topic"] for one in wanted}
        asked = [{"id": one["id"], "channelId": one["id"]} for one in wanted]
        self._socket.send(json.dumps({"op": "subscribe", "subscriptions": asked}))
        return True

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for came in self._socket:
                if isinstance(came, bytes) and came[0] == _MESSAGE:
                    topic = self._topics[struct.unpack_from("<I", came, 1)[0]]
                    self.counts[topic] += 1
                    self.sizes[topic] = len(came) - 13

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self._thread.is_alive():
            self._thread.join()


def _block(server: _Server, topics: set[str] | None) -> tuple[NDArray[np.int64], _Client]:
    """CPU time per frame while a viewer of these topics looks; and that viewer."""
    with _Client(server.address, topics) as client:
        time.sleep(_SETTLE_S)
        first, cpu_ns = client.counts.copy(), server.cpu_ns()
        time.sleep(_BLOCK_S)
        cpu_ns = server.cpu_ns() - cpu_ns
        frames = max((client.counts - first).values())
    return np.array([cpu_ns // frames]), client


def _unseen(server: _Server) -> float:
    """Its share of a core while nobody looks."""
    cpu_ns = server.cpu_ns()
    time.sleep(_BLOCK_S)
    return (server.cpu_ns() - cpu_ns) / (_BLOCK_S * 1e9)


# ---- a viewer that stands still ----------------------------------------------------------------


def _stands_still(store_path: str, seconds: int) -> dict[str, Any]:
    """What a viewer of images that reads nothing costs, while another one reads the frames."""
    with _view(store_path) as server, _Client(server.address, {_FRAME}) as other:
        stated = server.until(r"holds (\d+) messages here, ([\d.]+) MB at most")
        time.sleep(_SETTLE_S)
        before, seen = server.memory(), other.counts[_FRAME]
        with _Client(server.address, {_CAMERA}, reads=False):
            time.sleep(seconds)
            held, frames = server.memory() - before, other.counts[_FRAME] - seen
    return {
        "name": "a viewer of 6.2 MB images that stands still",
        "stated_messages": int(stated[1]),
        "stated_mb": float(stated[2]),
        "held_mb": held / 1e6,
        "seconds": seconds,
        "frames_to_the_other": frames,
    }


def run(options: Options) -> list[dict[str, Any]]:
    """Rounds of the yardstick, the view, the yardstick; then a viewer that stands still."""
    figure = Rounds("CPU of the view per frame, a viewer of frames and both sensors")
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name:
        folder = Path(name)
        with filming(folder), Runner(filmed(folder)) as runner, _view(runner.store_path) as view:
            _, client = _block(view, _SMALL)
            sizes = [str(size) for size in client.sizes.values()]
            unseen = _unseen(view)
            with _Server("benches.view", *sizes) as yardstick:
                for _ in range(options.many(max(options.rounds // 6, 5), 1)):
                    turns = ((yardstick, None), (view, _SMALL), (yardstick, None))
                    figure.add(*(_block(server, topics)[0] for server, topics in turns))
            still = _stands_still(runner.store_path, options.many(_STILL_S, 1))
    result = figure.result()
    show(result)
    result["unseen_share"] = unseen
    result["share"] = result["ours_ns"]["p50"] * _RATE_HZ / 1e9
    print(f"  of a core: {result['share']:.2%}; while nobody looks {unseen:.2%}")
    print(
        f"\n{still['name']}: {still['held_mb']:.1f} MB after {still['seconds']} s, stated "
        f"{still['stated_mb']} MB ({still['stated_messages']} messages); another viewer had "
        f"{still['frames_to_the_other']} of {still['seconds'] * _RATE_HZ} frames"
    )
    return [result, still]


if __name__ == "__main__":
    serve([int(size) for size in sys.argv[1:]])
