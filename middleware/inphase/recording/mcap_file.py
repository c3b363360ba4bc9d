"""Writing an MCAP file that is whole at every end: killed, or on a full disk.

A chunk is written at once. Before that, room for it and for the end of the file is allocated. Where
there is none, the chunk is dropped and counted, the file stays as it was, and the next chunk says
what is missing before it. Nothing is compressed.
"""

import os
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode

from inphase.errors import RecordingError
from inphase.recording.chunk import Chunk, Octets, Recycled

MAGIC = b"\x89MCAP0\r\n"
PROFILE = "inphase"
GAP = f"{PROFILE}.gap"
"""the metadata that stands where chunks are missing"""
_PARTS = 512  # in one call of the kernel
_END_BYTES = 65536  # of metadata that are written at the end
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

    # ---- chunks --------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes so far, without the end."""
        return self._end

    def write(self, chunk: Chunk) -> bool:
        """Append it, and have it on the disk soon. False: there was no room for it, and it is
        lost. Raises Recycled, and then the file is as it was."""
        gap = [records.Metadata(GAP, self._gap)] if self._gap else []
        try:
            self._write([], gap, chunk=chunk)
        except OSError as error:
            self._lose(chunk, error)
        else:
            self._gap.clear()
            self._gap_counts.clear()
        self._sync.ask()
        return not self._gap

    def _lose(self, chunk: Chunk, error: OSError) -> None:
        """Count a chunk that was not written, and note what the next one is to say."""
        self.lost += chunk.counts
        self._gap_counts += chunk.counts
        topics = {one.id: one.topic for one in self._channels}
        self._gap |= {topics[one]: str(n) for one, n in sorted(self._gap_counts.items())}
        self._gap.setdefault("first_log_time", str(chunk.start_ns))
        self._gap |= {"last_log_time": str(chunk.last_ns), "why": error.strerror or str(error)}

    # ---- the disk ------------------------------------------------------------------------------

    def _write(
        self,
        before: Sequence[Octets],
        metadata: Sequence[records.Metadata],
        *,
        then: Sequence[Octets] = (),
        chunk: Chunk | None = None,
        is_last: bool = False,
    ) -> None:
        """Append, all of it or nothing, where there is room for the end too. Raises OSError."""
        notes = [packed(one) for one in metadata]
        lead, body = [*before, *notes, *then], []
        if chunk is not None:
            lead.append(chunk.head)
            body = chunk.body
        first, rest = ([memoryview(one) for one in some if len(one)] for some in (lead, body))
        body_at = self._end + sum(part.nbytes for part in first)
        size = body_at - self._end + sum(part.nbytes for part in rest)
        self._allocate(self._end + size + (0 if is_last else self._end_bytes(len(notes))))
        if chunk is not None and chunk.held:
            # without its head it is nothing, until its bytes are known to be whole
            _write_all(self._fd, rest, body_at)
            if not chunk.is_intact:
                zeros = memoryview(bytes(sum(part.nbytes for part in rest)))
                _write_all(self._fd, [zeros], body_at)  # nobody is to take it for a record
                raise Recycled
            rest = []
        _write_all(self._fd, [*first, *rest], self._end)

        at = self._end + sum(map(len, before))
        for one, note in zip(metadata, notes, strict=True):
            self._notes.append(records.MetadataIndex(at, len(note), one.name))
            at += len(note)
        if chunk is not None:
            self._index(chunk, at)
            self.counts += chunk.counts
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

    def _index(self, chunk: Chunk, at: int) -> None:
        offsets, next_index = {}, at + chunk.length
        for channel, index in chunk.index_records.items():
            offsets[channel] = next_index
            next_index += len(index)
        self._chunks.append(
            records.ChunkIndex(
                chunk_length=chunk.length,
                chunk_start_offset=at,
                compression="",
                compressed_size=chunk.size,
                message_end_time=chunk.last_ns,
                message_index_length=next_index - at - chunk.length,
                message_index_offsets=offsets,
                message_start_time=chunk.start_ns,
                uncompressed_size=chunk.size,
            )
        )

    # ---- the end -------------------------------------------------------------------------------

    def close(self, end: records.Metadata) -> None:
        """Write `end` and the index. Raises RecordingError where the disk
        refuses: what was written before is there, without an index."""
        notes = [records.Metadata(GAP, self._gap)] if self._gap else []
        try:
            self._write([], [*notes, end], is_last=True)
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
