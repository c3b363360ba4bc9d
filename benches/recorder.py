"""The recorder's way of writing against foxglove-sdk and against a plain buffered write.

A sample is the CPU time of one message, of all threads of the process, in a block that writes a new
file in memory (/dev/shm): messages in, file whole. All write the same bytes. Ours are taken as the
recorder takes them: encoded from a sample where it is an image, gathered, and written in chunks
with their checksums, room allocated before, and the disk asked. foxglove-sdk writes without
compression, with its checksums, as it comes. The plain write has the bytes alone.
"""

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mcap import records
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options
from inphase.recording.channels import ImageForm
from inphase.recording.chunk import ChunkBuilder, HeldMessage
from inphase.recording.mcap_file import McapFile

_SHM = Path("/dev/shm")
_CHUNK_BYTES = 1 << 20  # the recorder's
_BLOCK_BYTES = 160 << 20
_FRAME = bytes(600)  # the frame that names an image is before it
_SMALL, _HEIGHT, _WIDTH = 4096, 1080, 1920
GOALS = {("4 KiB", "foxglove-sdk"): 1.3, ("4 KiB", "a plain write"): 2.0,
         ("6.2 MB", "foxglove-sdk"): 1.3, ("6.2 MB", "a plain write"): 1.3}  # fmt: skip
Write = Callable[[Path, int], None]
"""so many messages into a file"""


class Payloads:
    """Messages of a size, and the samples that they are of: a few, in turns."""

    def __init__(self, size: str) -> None:
        draw = np.random.default_rng(5)
        self.form: ImageForm | None = None
        self.samples: list[NDArray[Any]] = []
        if size == "4 KiB":
            walk = np.cumsum(draw.normal(size=(64, _SMALL // 8)), axis=1)
            self.messages = [row.tobytes() for row in walk]
        else:
            dtype = np.dtype([("image", "|u1", (_HEIGHT, _WIDTH, 3))])
            self.form = ImageForm("camera", dtype, 0)
            for _ in range(8):
                sample = np.zeros((), dtype)
                sample["image"] = draw.integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
                self.samples.append(sample)
            self.messages = [b"".join(map(bytes, self.parts(n))) for n in range(8)]

    def parts(self, number: int) -> Any:
        """A message as the recorder has it: its head, and the sample itself."""
        if self.form is None:
            return [self.messages[number % len(self.messages)]]
        sample = self.samples[number % len(self.samples)]
        return self.form.encode(number, number, 1_000_000, sample)

    @property
    def count(self) -> int:
        """Of a block."""
        return _BLOCK_BYTES // len(self.messages[0])


def by_recorder(payloads: Payloads) -> Write:
    """Ours. Its memory lasts for a run, which has many blocks."""
    gathered = ChunkBuilder()

    def flush(file: McapFile) -> None:
        if (chunk := gathered.take()) is not None:
            for message in gathered.take_held():
                chunk = chunk.followed_by(message)
            file.write(chunk)

    def write(path: Path, count: int) -> None:
        schemas = [records.Schema(id=1, name="x", encoding="protobuf", data=b"")]
        channels = [
            records.Channel(id=0, topic="/x", message_encoding="protobuf", metadata={}, schema_id=1)
        ]
        file = McapFile(path, "bench", schemas, channels, [])
        for number in range(count):
            parts = payloads.parts(number)
            if payloads.form is None:
                gathered.add(0, number, number, *parts)
            else:
                gathered.add(0, number, number, _FRAME)
                gathered.held.append(HeldMessage("x", 0, number, number, parts, lambda: True))
            if gathered.held or gathered.size >= _CHUNK_BYTES:
                flush(file)
        flush(file)
        file.close(records.Metadata("end", {}))
        assert not file.lost

    return write


def by_foxglove(payloads: Payloads) -> Write:
    """foxglove-sdk, uncompressed."""
    import foxglove
    from foxglove.mcap import MCAPWriteOptions

    schema = foxglove.Schema(name="x", encoding="protobuf", data=b"")

    def write(path: Path, count: int) -> None:
        context = foxglove.Context()
        options = MCAPWriteOptions(compression=None)
        with foxglove.open_mcap(path, context=context, writer_options=options):
            channel = foxglove.Channel(
                "/x", message_encoding="protobuf", schema=schema, context=context
            )
            messages = payloads.messages
            for number in range(count):
                channel.log(messages[number % len(messages)], log_time=number)
            channel.close()

    return write


def by_plain_write(payloads: Payloads) -> Write:
    """A file of Python, with its own buffer."""

    def write(path: Path, count: int) -> None:
        messages = payloads.messages
        with path.open("wb") as file:
            for number in range(count):
                file.write(messages[number % len(messages)])

    return write


@contextmanager
def folder() -> Iterator[Path]:
    """In memory: what is measured is not the disk."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-", dir=_SHM) as name:
        yield Path(name)


def block(write: Write, where: Path, payloads: Payloads) -> NDArray[np.int64]:
    """CPU time per message, nanoseconds, as one number."""
    path = where / "run.mcap"
    gc.collect()
    start = time.process_time_ns()
    write(path, payloads.count)
    took = time.process_time_ns() - start
    size = path.stat().st_size
    assert size >= payloads.count * len(payloads.messages[0]), "all of it is there"
    path.unlink()
    return np.array([took // payloads.count])


def run(options: Options) -> list[dict[str, Any]]:
    """Both sizes against both yardsticks."""
    if shutil.disk_usage(_SHM).free < 2 * _BLOCK_BYTES:
        raise SystemExit(f"benches: {_SHM} wants {2 * _BLOCK_BYTES >> 20} MB")
    results = []
    with folder() as where:
        for size in ("4 KiB", "6.2 MB"):
            payloads = Payloads(size)
            ours = by_recorder(payloads)
            for name, yardstick in (
                ("foxglove-sdk", by_foxglove(payloads)),
                ("a plain write", by_plain_write(payloads)),
            ):
                figure = Rounds(f"CPU of a message of {size}, {name}", goal=GOALS[size, name])
                for write in (ours, yardstick):
                    block(write, where, payloads)  # warm
                for _ in range(options.rounds):
                    blocks = [block(w, where, payloads) for w in (yardstick, ours, yardstick)]
                    figure.add(*blocks)
                results.append(figure.result())
                show(results[-1])
    return results
