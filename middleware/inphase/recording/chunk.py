"""A chunk of an MCAP file: messages in the order in which they came, with an index by channel."""

import array
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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


class Recycled(Exception):  # noqa: N818 - the end of a sample's time, not an error
    """Held bytes were overwritten before they were all written or copied."""


class HeldMessage(NamedTuple):
    """A message whose bytes are not copied: they lie where somebody may overwrite them one day."""

    name: str
    """of whose it is, for a person"""
    channel: int
    sequence: int
    log_time: int
    data: Sequence[Octets]
    is_intact: Callable[[], bool]
    """asked after its bytes were written or copied"""

    @property
    def size(self) -> int:
        """Of its record in a chunk, in bytes."""
        return MESSAGE_HEAD + sum(map(len, self.data))


@dataclass(frozen=True)
class Chunk:
    """A chunk's record and the message indices behind it, as they will be in a file."""

    messages: tuple[Octets, ...]
    crc: int
    indices: dict[int, bytes]
    """by channel, the pairs of log time and place"""
    start_ns: int
    last_ns: int
    """the first and the last log time"""
    held: tuple[HeldMessage, ...] = ()
    """the last messages, if they are not copied"""

    @property
    def size(self) -> int:
        """Of its messages, in bytes."""
        return sum(map(len, self.messages))

    @property
    def head(self) -> bytes:
        """The record up to its messages."""
        size = self.size
        return _CHUNK.pack(
            _CHUNK_OPCODE,
            _CHUNK.size - 9 + size,
            self.start_ns,
            self.last_ns,
            size,
            self.crc,
            0,
            size,
        )

    @property
    def index_records(self) -> dict[int, bytes]:
        """By channel."""
        return {
            channel: _MESSAGE_INDEX.pack(_INDEX_OPCODE, 6 + len(pairs), channel, len(pairs)) + pairs
            for channel, pairs in self.indices.items()
        }

    @property
    def body(self) -> list[Octets]:
        """All of it behind its head."""
        return [*self.messages, *self.index_records.values()]

    @property
    def length(self) -> int:
        """Of the chunk's record alone, in bytes."""
        return _CHUNK.size + self.size

    @property
    def counts(self) -> Counter[int]:
        """Messages, by channel."""
        return Counter({one: len(pairs) // 16 for one, pairs in self.indices.items()})

    def followed_by(self, message: HeldMessage) -> "Chunk":
        """With one message more at its end, whose bytes are read for the checksum alone."""
        size = message.size - MESSAGE_HEAD
        low, time = message.sequence & 0xFFFFFFFF, message.log_time
        head = _MESSAGE.pack(_MESSAGE_OPCODE, 22 + size, message.channel, low, time, time)
        crc = self.crc
        for part in (head, *message.data):
            crc = crc32(part, crc)
        pairs = self.indices.get(message.channel, b"") + struct.pack("<QQ", time, self.size)
        return replace(
            self,
            messages=(*self.messages, head, *message.data),
            crc=crc,
            indices={**self.indices, message.channel: pairs},
            start_ns=min(self.start_ns, time),
            last_ns=max(self.last_ns, time),
            held=(*self.held, message),
        )

    @property
    def is_intact(self) -> bool:
        """True if its held messages are whole; asked after they were written or copied."""
        return all(message.is_intact() for message in self.held)

    def kept(self) -> "Chunk":
        """A copy that lasts. Raises Recycled."""
        copied = replace(self, messages=(b"".join(self.messages),), held=())
        if not self.is_intact:
            raise Recycled
        return copied


class ChunkBuilder:
    """Gathers messages in memory that is used again. Thread: one at a time."""

    def __init__(self) -> None:
        self._gathered = memoryview(bytearray(_GATHERED_BYTES))
        self.held: list[HeldMessage] = []
        """messages that come behind those that have gathered"""
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
        """The chunk of what has gathered, which is good until the next `add`; None: nothing has."""
        if not self.size:
            return None
        messages = self._gathered[: self.size]
        indices = {channel: index.tobytes() for channel, index in self._indices.items()}
        chunk = Chunk((messages,), crc32(messages), indices, self._start_ns, self._last_ns)
        self._clear()
        return chunk

    def take_held(self) -> list[HeldMessage]:
        """The messages that are to follow in the chunk that was taken last."""
        held, self.held = self.held, []
        return held
