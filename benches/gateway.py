"""From the latch to a Python subscriber over ZeroMQ ipc, against bare pyzmq.

The real gateway process and the product's subscriber; the yardstick is a Python process that is
woken by the same kind of futex and sends the same bytes in the same parts to a bare socket.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from benches import robot
from benches.distribution import Rounds
from benches.latch import DEPTH, IMAGE, Contents, Reader, Row, Writer, describe, take_turns
from benches.machine import Options
from inphase.frames import record_layout, store, wire
from inphase.host.process import Process

_GOAL = 1.1
_SETTLE_S = 0.5  # subscriptions travel by themselves
ROWS = (
    Row("64 B", 1, 64, 1000, 200),
    Row("4 kB", 1, 4096, 1000, 200),
    Row("64 kB", 1, 65_536, 1000, 200),
    Row("1 MB", 1, 1 << 20, 4000, 100),
    Row("6.2 MB", 1, IMAGE, 25_000, 40),
)


def schedule_file(folder: str) -> Path:
    """The demo's schedule with a gateway in `folder` and no control socket."""
    lines = (robot.SCHEDULES / "demo.toml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("control = "))
    path = Path(folder) / "demo.toml"
    path.write_text(text.replace("/tmp/inphase-demo", folder))
    return path


def _header_bytes(writer: Writer, endpoint: str) -> int:
    """How long the product's header is."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_FRAME)
    socket.connect(endpoint)
    time.sleep(_SETTLE_S)
    writer.frames_block(1000, 5)
    parts = socket.recv_multipart()
    socket.close()
    return len(parts[1])


@contextmanager
def processes(row: Row, options: Options) -> Iterator[tuple[Writer, Reader]]:
    """Writer, gateway, bare sender, and the receiver that takes turns."""
    epoch = store.new_epoch()
    record = record_layout.HEADER.size + row.sensors * record_layout.ROW.size
    contents = Contents(epoch, describe(row, epoch), [row.payload] * row.sensors, record)
    writer = Writer(options, contents)
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        page = store.Segment.client_page(epoch)
        arguments = [str(schedule_file(folder)), writer.path, str(page.fd)]
        gateway = Process("gateway", "inphase.runtime.gateway", arguments, pass_fds=[page.fd])
        gateway.wait_ready()
        endpoint, bare_endpoint = f"ipc://{folder}/frames", f"ipc://{folder}/bare"
        shape = (row.payload, DEPTH, _header_bytes(writer, endpoint))
        sender = subprocess.Popen(
            [sys.executable, "-m", "benches.sender", writer.mapping, bare_endpoint]
            + [str(number) for number in shape],
            stdout=subprocess.PIPE,
        )
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"ready\n"
        reader = Reader(endpoint, bare_endpoint, module="benches.receiver")
        try:
            yield writer, reader
        finally:
            reader.close()
            sender.kill()
            sender.wait()
            gateway.stop()
            page.close()
            writer.close()


def _measure(row: Row, options: Options) -> dict[str, Any]:
    figure = Rounds(f"latch to Python over ZeroMQ ipc, {row.name}", goal=_GOAL)
    with processes(row, options) as (writer, reader):
        time.sleep(2 * _SETTLE_S)
        return take_turns(figure, row, writer, reader, rounds=options.rounds, ours="ours")


def run(options: Options) -> list[dict[str, Any]]:
    """All rows."""
    return [_measure(row, options) for row in ROWS[:: options.many(1, 4)]]
