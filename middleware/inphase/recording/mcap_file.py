"""Writing an MCAP file that is whole at every end: killed, or on a full disk.

Messages gather in memory into a chunk, which is written at once. Before that, room for the chunk
and for the end of the file is allocated. Where there is none, the chunk is dropped and counted, the
file stays as it was, and the next chunk says what is missing before it. Nothing is compressed.
"""

import array
import os
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode

from inphase.errors import RecordingError

Octets = bytes | memoryview
MAGIC = b"\x89MCAP0\r\n"
PROFILE = "inphase"
GAP = f"{PROFILE}.gap"
"""the metadata that stands where chunks are missing"""
MESSAGE_HEAD = 31
"""bytes of a message's record before its data"""
_GATHERED_BYTES = 2 << 20  # at first
_MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK = struct.Struct("<BQQQQIIQ")
_MESSAGE_INDEX = struct.Struct("<BQHI")
_MESSAGE_OPCODE, _CHUNK_OPCODE, _INDEX_OPCODE = (
    int(Opcode.MESSAGE),
    int(Opcode.CHUNK),
    int(Opcode.MESSAGE_INDEX),
)
_PARTS = 512  # in one call of the kernel
_END_BYTES = 16384  # of metadata that are written at the end
_INDEX_BYTES = 128  # of a chunk or a piece of metadata in the index, at most; and per channel:
_INDEX_BYTES_CHANNEL = 10


def packed(*written: records.McapRecord) -> bytes:
    """Records as they are in a file."""
    builder = RecordBuilder()
    for one in written:
        one.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]


class McapFile:
    """A file to be written; `close` ends it. Thread: one at a time.

    path: is made, and refused where something is there. Raises RecordingError.
    """

    def __init__(
        self,
        path: Path,
        library: str,
        schemas: Sequence[records.Schema],
        channels: Sequence[records.Channel],
        metadata: Sequence[records.Metadata],
        *,
        profile: str = PROFILE,
    ) -> None:
        self.path = path
        self._schemas, self._channels = list(schemas), list(channels)
        self._definitions = packed(*schemas, *channels)
        self.counts: Counter[int] = Counter()
        """messages in the file, by channel"""
        self.lost: Counter[int] = Counter()
        """messages that there was no room for, by channel"""
        self._chunks: list[records.ChunkIndex] = []
        self._notes: list[records.MetadataIndex] = []
        self._end = self._allocated = 0
        self._gap: dict[str, str] = {}
        self._gap_counts: Counter[int] = Counter()
        self._gathered = memoryview(bytearray(_GATHERED_BYTES))
        """the chunk that is made; its memory is used again"""
        self._clear()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise RecordingError(f"{path} is there already; give another name") from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be made: {error.strerror}") from error
        self._sync = _Sync(self._fd)
        head = MAGIC + packed(records.Header(profile, library))
        try:
            self._write([head], metadata, then=[self._definitions])
        except OSError as error:
            self._sync.end()
            os.close(self._fd)
            path.unlink()
            raise RecordingError(f"{path}: no room for its start: {error.strerror}") from error

    # ---- messages ------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._size = 0
        self._indices: dict[int, array.array[int]] = {}
        self._start_ns, self._last_ns = 1 << 64, 0

    def add(self, channel: int, sequence: int, log_time: int, *data: Octets) -> None:
        """A message, in parts, which are copied."""
        size = sum(map(len, data))
        at, end = self._size, self._size + MESSAGE_HEAD + size
        if end > len(self._gathered):
            self._gathered = memoryview(bytearray(self._gathered) + bytearray(end))
        index = self._indices.get(channel)
        if index is None:
            index = self._indices[channel] = array.array("Q")
        index.extend((log_time, at))
        _MESSAGE.pack_into(
            self._gathered,
            at,
            _MESSAGE_OPCODE,
            22 + size,
            channel,
            sequence & 0xFFFFFFFF,
            log_time,
            log_time,
        )
        at += MESSAGE_HEAD
        for part in data:
            self._gathered[at : at + len(part)] = part
            at += len(part)
        self._size = end
        self._start_ns = min(self._start_ns, log_time)
        self._last_ns = max(self._last_ns, log_time)

    def undo(self, channel: int) -> None:
        """Take back the message that was added last, which is of that channel."""
        index = self._indices[channel]
        self._size = index.pop()
        index.pop()
        if not index:
            del self._indices[channel]

    @property
    def waiting_bytes(self) -> int:
        """Of the messages that gather for the next chunk."""
        return self._size

    def flush(self) -> bool:
        """Write what has gathered, and have it on the disk soon. False: there was no room for it,
        and it is lost."""
        if not self._size:
            return True
        counts = Counter({one: len(index) // 2 for one, index in self._indices.items()})
        gap = [records.Metadata(GAP, self._gap)] if self._gap else []
        try:
            self._write([], gap, then=self._chunk(), counts=counts)
        except OSError as error:
            self._lose(counts, error)
        else:
            self._gap.clear()
            self._gap_counts.clear()
        is_written = not self._gap
        self._clear()
        self._sync.ask()
        return is_written

    def _chunk(self) -> list[Octets]:
        gathered = self._gathered[: self._size]
        head = _CHUNK.pack(
            _CHUNK_OPCODE,
            _CHUNK.size - 9 + self._size,
            self._start_ns,
            self._last_ns,
            self._size,
            zlib.crc32(gathered),
            0,
            self._size,
        )
        indices = [
            _MESSAGE_INDEX.pack(_INDEX_OPCODE, 6 + 8 * len(index), channel, 8 * len(index))
            + index.tobytes()
            for channel, index in self._indices.items()
        ]
        return [head, gathered, *indices]

    def _lose(self, counts: Counter[int], error: OSError) -> None:
        """Count a chunk that was not written, and note what the next one is to say."""
        self.lost += counts
        self._gap_counts += counts
        topics = {one.id: one.topic for one in self._channels}
        self._gap |= {topics[one]: str(n) for one, n in sorted(self._gap_counts.items())}
        self._gap.setdefault("first_log_time", str(self._start_ns))
        self._gap |= {"last_log_time": str(self._last_ns), "why": error.strerror or str(error)}

    # ---- the disk ------------------------------------------------------------------------------

    def _write(
        self,
        before: Sequence[Octets],
        metadata: Sequence[records.Metadata],
        *,
        then: Sequence[Octets],
        counts: Mapping[int, int] | None = None,
        is_last: bool = False,
    ) -> None:
        """Append, all of it or nothing, where there is room for the end too. Raises OSError."""
        notes = [packed(one) for one in metadata]
        parts = [memoryview(one) for one in (*before, *notes, *then) if len(one)]
        size = sum(part.nbytes for part in parts)
        self._allocate(self._end + size + (0 if is_last else self._end_bytes(len(notes))))
        _write_all(self._fd, parts, self._end)

        at = self._end + sum(map(len, before))
        for one, note in zip(metadata, notes, strict=True):
            self._notes.append(records.MetadataIndex(at, len(note), one.name))
            at += len(note)
        if counts is not None:
            self._index_chunk(at)
            self.counts += Counter(counts)
        self._end += size

    def _allocate(self, end: int) -> None:
        """Have room up to there, or change nothing. Raises OSError."""
        if end > self._allocated:
            os.posix_fallocate(self._fd, self._allocated, end - self._allocated)
            self._allocated = end

    def _end_bytes(self, notes: int) -> int:
        """At most of what `close` writes, after one more chunk and so many notes."""
        entries = len(self._chunks) + 1 + len(self._notes) + notes + 2
        return (
            len(self._definitions)
            + _END_BYTES
            + entries * (_INDEX_BYTES + _INDEX_BYTES_CHANNEL * len(self._channels))
        )

    def _index_chunk(self, at: int) -> None:
        length = _CHUNK.size + self._size
        offsets, next_index = {}, at + length
        for channel, index in self._indices.items():
            offsets[channel] = next_index
            next_index += _MESSAGE_INDEX.size + 8 * len(index)
        self._chunks.append(
            records.ChunkIndex(
                chunk_length=length,
                chunk_start_offset=at,
                compression="",
                compressed_size=self._size,
                message_end_time=self._last_ns,
                message_index_length=next_index - at - length,
                message_index_offsets=offsets,
                message_start_time=self._start_ns,
                uncompressed_size=self._size,
            )
        )

    # ---- the end -------------------------------------------------------------------------------

    def close(self, end: records.Metadata) -> None:
        """After a last `flush`: write `end` and the index. Raises RecordingError where the disk
        refuses: what was written before is there, without an index."""
        assert not self._size
        notes = [records.Metadata(GAP, self._gap)] if self._gap else []
        try:
            self._write([], [*notes, end], then=[], is_last=True)
            tail = self._summary()
            _write_all(self._fd, [memoryview(tail)], self._end)
            os.ftruncate(self._fd, self._end + len(tail))
            os.fdatasync(self._fd)
            self._sync.close()
        except OSError as error:
            raise RecordingError(
                f"{self.path} has no end: {error.strerror}; make it whole: inphase recover "
                f"{self.path}"
            ) from error
        finally:
            self._sync.end()
            os.close(self._fd)

    def _summary(self) -> bytes:
        """All that follows the data: the index of the file."""
        start = self._end + len(data_end := packed(records.DataEnd(0)))
        groups = {
            Opcode.SCHEMA: packed(*self._schemas),
            Opcode.CHANNEL: packed(*self._channels),
            Opcode.STATISTICS: packed(self._statistics()),
            Opcode.CHUNK_INDEX: packed(*self._chunks),
            Opcode.METADATA_INDEX: packed(*self._notes),
        }
        offsets, at = [], start
        for opcode, group in groups.items():
            if group:
                offsets.append(records.SummaryOffset(opcode, at, len(group)))
            at += len(group)
        summary = b"".join(groups.values()) + packed(*offsets)
        footer = struct.pack("<BQQQ", int(Opcode.FOOTER), 20, start, at)
        crc = zlib.crc32(footer, zlib.crc32(summary))
        return data_end + summary + footer + struct.pack("<I", crc) + MAGIC

    def _statistics(self) -> records.Statistics:
        starts = [chunk.message_start_time for chunk in self._chunks]
        ends = [chunk.message_end_time for chunk in self._chunks]
        return records.Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=dict(self.counts),
            chunk_count=len(self._chunks),
            message_count=sum(self.counts.values()),
            message_end_time=max(ends, default=0),
            message_start_time=min(starts, default=0),
            metadata_count=len(self._notes),
            schema_count=len(self._schemas),
        )


def _write_all(fd: int, parts: list[memoryview], at: int) -> None:
    """Raises OSError."""
    while parts:
        some = parts[:_PARTS]
        written = os.pwritev(fd, some, at)
        at += written
        done = 0
        while done < len(some) and written >= some[done].nbytes:
            written -= some[done].nbytes
            done += 1
        parts = parts[done:]
        if written:
            parts[0] = parts[0][written:]


class _Sync:
    """Has a file's data brought to the disk, in a thread of its own: whoever asks does not wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._asked = threading.Event()
        self._is_over = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="inphase sync", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Soon."""
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._is_over:
                return
            try:
                os.fdatasync(self._fd)
            except OSError as error:  # the kernel says it once
                self._error = error

    def end(self) -> None:
        """End the thread, after what it is at; more than once."""
        self._is_over = True
        self._asked.set()
        self._thread.join()

    def close(self) -> None:
        """Likewise. Raises OSError if the disk ever refused."""
        self.end()
        if self._error is not None:
            raise self._error
