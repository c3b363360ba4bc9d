"""A chunk of an MCAP file: messages in the order in which they came, with an index by channel."""

import array
import struct
from collections import Counter
from dataclasses import dataclass

from mcap.opcode import Opcode
from zlib_ng.zlib_ng import crc32

Octets = bytes | memoryview
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


@dataclass(frozen=True)
class Chunk:
    """A chunk's record and the message indices behind it, as they will be in a file."""

    head: bytes
    messages: Octets
    indices: dict[int, bytes]
    """by channel"""
    counts: Counter[int]
    """messages, by channel"""
    start_ns: int
    last_ns: int
    """the first and the last log time"""

    @property
    def parts(self) -> list[Octets]:
        """All of it."""
        return [self.head, self.messages, *self.indices.values()]

    @property
    def length(self) -> int:
        """Of the chunk's record alone, in bytes."""
        return len(self.head) + len(self.messages)


class ChunkBuilder:
    """Gathers messages in memory that is used again. Thread: one at a time."""

    def __init__(self) -> None:
        self._gathered = memoryview(bytearray(_GATHERED_BYTES))
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        """bytes that have gathered"""
        self._indices: dict[int, array.array[int]] = {}
        self._start_ns, self._last_ns = 1 << 64, 0

    def add(self, channel: int, sequence: int, log_time: int, *data: Octets) -> None:
        """A message, in parts, which are copied."""
        size = sum(map(len, data))
        at, end = self.size, self.size + MESSAGE_HEAD + size
        if end > len(self._gathered):
            self._gathered = memoryview(bytearray(self._gathered) + bytearray(end))
        index = self._indices.get(channel)
        if index is None:
            index = self._indices[channel] = array.array("Q")
        index.extend((log_time, at))
        low = sequence & 0xFFFFFFFF
        _MESSAGE.pack_into(
            self._gathered, at, _MESSAGE_OPCODE, 22 + size, channel, low, log_time, log_time
        )
        at += MESSAGE_HEAD
        for part in data:
            self._gathered[at : at + len(part)] = part
            at += len(part)
        self.size = end
        self._start_ns = min(self._start_ns, log_time)
        self._last_ns = max(self._last_ns, log_time)

    def undo(self, channel: int) -> None:
        """Take back the message that was added last, which is of that channel."""
        index = self._indices[channel]
        self.size = index.pop()
        index.pop()
        if not index:
            del self._indices[channel]

    def take(self) -> Chunk | None:
        """The chunk of the messages so far, which are good until the next `add`; None: nothing
        has."""
        if not self.size:
            return None
        messages = self._gathered[: self.size]
        head = _CHUNK.pack(
            _CHUNK_OPCODE,
            _CHUNK.size - 9 + self.size,
            self._start_ns,
            self._last_ns,
            self.size,
            crc32(messages),
            0,
            self.size,
        )
        indices = {
            channel: _MESSAGE_INDEX.pack(_INDEX_OPCODE, 6 + 8 * len(index), channel, 8 * len(index))
            + index.tobytes()
            for channel, index in self._indices.items()
        }
        counts = Counter({one: len(index) // 2 for one, index in self._indices.items()})
        chunk = Chunk(head, messages, indices, counts, self._start_ns, self._last_ns)
        self._clear()
        return chunk
