"""Reading an MCAP file from its start, as far as it goes: also one that was cut, or never closed.

Nothing is taken from an index at the end, which may not be there. A chunk that is not all there
gives the messages that are.
"""

import io
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from inphase.errors import RecordingError
from inphase.recording.chunk import MESSAGE_HEAD
from inphase.recording.mcap_file import MAGIC

_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQI")
_MESSAGE_FIELDS = 22
_HELD_BYTES = 32 << 20
_NEVER_CLOSED = (1 << 64) - 1
_MESSAGE, _CHUNK_CODE = int(Opcode.MESSAGE), int(Opcode.CHUNK)
_INDEX, _FOOTER = int(Opcode.MESSAGE_INDEX), int(Opcode.FOOTER)
_NAMED: dict[int, type[Any]] = {
    int(Opcode.HEADER): records.Header,
    int(Opcode.SCHEMA): records.Schema,
    int(Opcode.CHANNEL): records.Channel,
    int(Opcode.METADATA): records.Metadata,
}
_UNKNOWN_FROM, _UNKNOWN_BELOW = 1, 0x80  # what MCAP has, or may have one day, by its number


class RecordPlace(NamedTuple):
    """The content of a record, by its place in a file."""

    opcode: int
    start: int
    end: int


@dataclass
class FileScan:
    """The content of a file, in order."""

    header: records.Header | None = None
    schemas: dict[int, records.Schema] = field(default_factory=dict)
    channels: dict[int, records.Channel] = field(default_factory=dict)
    metadata: list[records.Metadata] = field(default_factory=list)
    messages: dict[int, list[NDArray[np.int64]]] = field(default_factory=dict)
    """per channel the starts of its messages' records, a chunk after the other"""
    chunks: int = 0
    has_end: bool = False
    """it ends as a whole file does"""
    good_bytes: int = 0
    """of the file up to what is not a whole record"""
    damaged: list[str] = field(default_factory=list)
    """its faults, for a person"""

    def places(self, channel: int) -> NDArray[np.int64]:
        """The places at which the messages of a channel start."""
        found = self.messages.get(channel)
        return np.concatenate(found) if found else np.zeros(0, np.int64)


def mapped(path: Path) -> mmap.mmap:
    """A file to look through. Raises RecordingError."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"{path} is no recording: it is empty") from error


def scan(memory: mmap.mmap | bytes, *, checks: bool = False) -> FileScan:
    """Look through a file. checks: the checksum of each chunk too, which reads all of it.

    Raises ValueError for what is no MCAP file.
    """
    if memory[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as an MCAP file does")
    found = FileScan(good_bytes=len(MAGIC))
    view = memoryview(memory)
    try:
        _scan(view, found, _Held(memory), checks=checks)
    finally:
        view.release()
    return found


def wrong_chunks(memory: mmap.mmap | bytes) -> list[int]:
    """The places of chunks whose bytes do not have their checksum; each is read. A chunk without a
    checksum counts as right."""
    found, at = [], len(MAGIC)
    view, held = memoryview(memory), _Held(memory)
    try:
        while (place := _record(view, at)) is not None and place.end <= len(view):
            content = _content(view, place) if place.opcode == _CHUNK_CODE else None
            if content is not None and content[2] and not content[3]:
                start, _, crc, _ = content
                if crc32(view[start : place.end]) != crc:
                    found.append(at)
            at = place.end
            held.reach(at)
    finally:
        view.release()
    return found


class _Held:
    """Lets go of the part of a file that lies far behind the place that is read."""

    def __init__(self, memory: mmap.mmap | bytes) -> None:
        self._memory = memory
        self._until = _HELD_BYTES

    def reach(self, at: int) -> None:
        """So far it is read now."""
        if at >= self._until:
            self._until = at + _HELD_BYTES
            if isinstance(self._memory, mmap.mmap):
                self._memory.madvise(mmap.MADV_DONTNEED)


def _scan(view: memoryview, found: FileScan, held: _Held, *, checks: bool) -> None:
    at = len(MAGIC)
    chunk: RecordPlace | None = None
    indices: dict[int, NDArray[np.int64]] = {}
    while (place := _record(view, at)) is not None:
        if chunk is not None and place.opcode != _INDEX:
            _take_chunk(view, chunk, indices, found, checks=checks)
            chunk, indices = None, {}
        if place.end > len(view):
            break
        if place.opcode == _CHUNK_CODE:
            chunk = place
        elif place.opcode == _INDEX and chunk is not None:
            _take_index(view, place, indices)
        elif place.opcode == _MESSAGE:
            _add(found, int.from_bytes(view[place.start : place.start + 2], "little"), [at])
        elif place.opcode in _NAMED:
            _take_named(view, place, found)
        at = found.good_bytes = place.end
        held.reach(at)
        if place.opcode == _FOOTER:
            found.has_end = bytes(view[at : at + len(MAGIC)]) == MAGIC
            break
    if chunk is not None:
        _take_chunk(view, chunk, indices, found, checks=checks)
    elif place is not None and place.end > len(view) and place.opcode == _CHUNK_CODE:
        _take_cut_chunk(view, place, found)
    if not found.has_end:
        left = len(view) - found.good_bytes
        found.damaged.append(f"it ends within a record: {left} bytes are no whole one")


def _record(view: memoryview, at: int) -> RecordPlace | None:
    """The record there; None: there is none."""
    if at + _HEAD.size > len(view):
        return None
    opcode, length = _HEAD.unpack_from(view, at)
    if not _UNKNOWN_FROM <= opcode < _UNKNOWN_BELOW:
        return None
    return RecordPlace(opcode, at + _HEAD.size, at + _HEAD.size + length)


def _take_named(view: memoryview, place: RecordPlace, found: FileScan) -> None:
    content = ReadDataStream(io.BytesIO(view[place.start : place.end]))
    try:
        one = _NAMED[place.opcode].read(content)
    except Exception as error:  # a foreign decoder's errors are of many kinds
        found.damaged.append(f"a record at byte {place.start} is not readable: {error!r}")
        return
    if isinstance(one, records.Header):
        found.header = one
    elif isinstance(one, records.Schema):
        found.schemas.setdefault(one.id, one)
    elif isinstance(one, records.Channel):
        found.channels.setdefault(one.id, one)
    elif not found.chunks or one not in found.metadata:
        found.metadata.append(one)


def _take_index(
    view: memoryview, place: RecordPlace, indices: dict[int, NDArray[np.int64]]
) -> None:
    channel = int.from_bytes(view[place.start : place.start + 2], "little")
    pairs = np.frombuffer(view[place.start + 6 : place.end], "<u8")
    if len(pairs) % 2 == 0:
        indices[channel] = pairs[1::2].astype(np.int64)


def _content(view: memoryview, place: RecordPlace) -> tuple[int, int, int, str] | None:
    """Of a chunk: where its messages start, how many bytes they are, checksum, compression."""
    if place.start + _CHUNK.size + 4 > len(view):
        return None
    _, _, size, crc = _CHUNK.unpack_from(view, place.start)
    name_size = int.from_bytes(view[place.start + 28 : place.start + 32], "little")
    start = place.start + _CHUNK.size + 4 + name_size + 8
    if name_size > 64 or start > len(view):
        return None
    name = bytes(view[place.start + 32 : place.start + 32 + name_size])
    return start, size, crc, name.decode("ascii", "replace")


def _take_chunk(
    view: memoryview,
    place: RecordPlace,
    indices: dict[int, NDArray[np.int64]],
    found: FileScan,
    *,
    checks: bool,
) -> None:
    """A chunk that is all there."""
    content = _content(view, place)
    if content is None or content[3]:
        kind = "of no form" if content is None else f"compressed by {content[3]}"
        found.damaged.append(f"the chunk at byte {place.start} is {kind}; it is left out")
        return
    start, _, crc, _ = content
    if checks and crc and crc32(view[start : place.end]) != crc:
        if indices or _record(view, place.end) is not None:
            found.damaged.append(f"the chunk at byte {start} has another checksum; it is left out")
        else:
            _take_torn_chunk(view, start, place.end, found)
        return
    found.chunks += 1
    if checks or not indices:
        _take_messages(view, start, place.end, found)
        return
    last = place.end - start - MESSAGE_HEAD
    for channel, offsets in indices.items():
        if len(offsets) and 0 <= int(np.min(offsets)) <= int(np.max(offsets)) <= last:
            _add(found, channel, start + offsets)


def _take_cut_chunk(view: memoryview, place: RecordPlace, found: FileScan) -> None:
    """A chunk behind which the file ends, or whose length was never written."""
    content = _content(view, place)
    if content is None or content[3]:
        return
    _take_torn_chunk(view, content[0], min(place.end, len(view)), found)


def _take_torn_chunk(view: memoryview, start: int, end: int, found: FileScan) -> None:
    """The messages up to where its bytes were written: behind that there are zeros, or nothing, and
    no index.

    A message that ends in zeros there is left out: they may not be its own.
    """
    last = len(bytes(view[start:end]).rstrip(b"\0"))
    found.chunks += 1
    stop = _take_messages(view, start, start + last, found)
    found.damaged.append(f"the chunk at byte {start} is whole up to byte {stop}")


def _take_messages(view: memoryview, start: int, end: int, found: FileScan) -> int:
    """Those between two places; where the last whole record ends."""
    at = start
    places: dict[int, list[int]] = {}
    while (place := _record(view, at)) is not None and place.end <= end:
        if place.opcode == _MESSAGE and place.end - place.start >= _MESSAGE_FIELDS:
            channel = int.from_bytes(view[place.start : place.start + 2], "little")
            places.setdefault(channel, []).append(at)
        elif place.opcode in _NAMED:
            _take_named(view, place, found)
        at = place.end
    for channel, starts in places.items():
        _add(found, channel, starts)
    return at


def _add(found: FileScan, channel: int, places: Any) -> None:
    found.messages.setdefault(channel, []).append(np.asarray(places, np.int64))
