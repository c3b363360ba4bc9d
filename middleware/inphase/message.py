"""Messages on the wire: made from a store's frame, and read back into one. WIRE.md is the page.

The header is written and read by the core in C, in one call each.
Nothing here knows ZeroMQ.
"""

import errno
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase import wire
from inphase._core import ffi, lib
from inphase.errors import WireError
from inphase.frame import Frame, FrameLost, Layout
from inphase.store import Reader
from inphase.wire import Place

_unpack, _write, _from_buffer = lib.inphase_wire_unpack, lib.inphase_wire_frame, ffi.from_buffer
_OFFSET_MAX = 1 << 20  # in the packed part
_PAST_NS = 250_000_000  # of frames are kept for Frame.at,
_PAST_MIN = 16  # but so many at least,
_PAST_BYTES = 32 << 20  # and never more bytes than that


class Form:
    """What both ends of a connection know of a message. Raises ValueError for what cannot be."""

    def __init__(self, layout: Layout, places: list[Place]) -> None:
        channels = [count for _, count, _ in layout.actuators]
        if len(places) > lib.INPHASE_MAX_SENSORS or len(channels) > lib.INPHASE_MAX_ACTUATORS:
            raise ValueError(f"{len(places)} sensors, {len(channels)} actuators are too many")
        for place, dtype in zip(places, layout.dtypes, strict=True):
            _check_place(place, dtype.itemsize)
        hash_ = layout.hash.encode()
        if len(hash_) != 16:
            raise ValueError(f"a hash has 16 digits, got {layout.hash!r}")
        self.layout = layout
        self.places = places
        self.sizes = _part_sizes(places)
        self._payload_sizes = self.sizes[wire.PART_PACKED :]
        self.c = ffi.new(
            "struct inphase_wire *",
            {
                "epoch": layout.epoch,
                "hash": hash_,
                "sensors": len(layout.sensors),
                "actuators": len(channels),
                "channels": channels,
            },
        )
        self.header_size = int(lib.inphase_wire_size(self.c))
        if self.header_size < 0:
            raise ValueError(f"{channels} channels are too many")
        size = int(lib.inphase_wire_record_size(self.c))
        self._record = ffi.new("uint8_t[]", size)
        self._record_bytes = ffi.buffer(self._record, size)
        self._whole = ffi.new("uint8_t[]", max(1, len(layout.sensors)))
        self._whole_bytes = ffi.buffer(self._whole, len(layout.sensors))
        self._number = ffi.new("int64_t *")
        self.past: deque[tuple[bytes, list[Any], bytes]] = deque(maxlen=self._past_length(size))
        """what was read last, for `Frame.at`: record, parts without large samples, `whole`"""

    def _past_length(self, record_size: int) -> int:
        """Messages that cover _PAST_NS, within _PAST_BYTES."""
        wanted = max(_PAST_MIN, _PAST_NS // max(1, self.layout.period_ns) + 1)
        return int(min(wanted, _PAST_BYTES // (record_size + self.sizes[wire.PART_PACKED] + 1)))

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Form":
        """From what a gateway gives first. Raises ValueError, KeyError, TypeError if it is not."""
        places = [Place(s["part"], s["offset"], s["size"]) for s in description["sensors"]]
        return cls(Layout.from_description(description), places)

    def write_header(self, record: bytes, number: int, sent_ns: int, whole: bytes) -> bytes:
        """The header of a frame record; `whole` has a 1 per sensor whose sample is there."""
        header = ffi.new("uint8_t[]", self.header_size)
        assert len(record) == len(self._record_bytes) and len(whole) == len(self._whole_bytes)
        size = lib.inphase_wire_pack(
            self.c, record, number, sent_ns, whole, header, self.header_size
        )
        assert size == self.header_size
        return bytes(ffi.buffer(header, size))

    def read(self, parts: list[Any]) -> tuple[Frame, int]:
        """The frame in a message's parts (buffers), and its number. Raises WireError.

        Thread: one at a time.
        """
        header = parts[1] if len(parts) > 1 else b""
        rc = _unpack(
            self.c, _from_buffer(header), len(header), self._record, self._number, self._whole
        )
        if rc == -errno.ESTALE:
            raise WireError("a frame of another run than the description's; subscribe again")
        if rc < 0 or len(parts) != len(self.sizes):
            raise WireError(f"not a frame of {self.layout.robot}: see WIRE.md for the format")
        if [len(part) for part in parts[2:]] != self._payload_sizes:
            raise WireError(f"parts of other sizes than {self._payload_sizes}")
        record, whole = self._record_bytes[:], self._whole_bytes[:]
        self.past.append((record, parts[: wire.PART_PACKED + 1], whole))
        return Frame(self.layout, record, Received(self, parts, whole)), int(self._number[0])


def _check_place(place: Place, size: int) -> None:
    """Raises ValueError for a place that no message has."""
    last = wire.PART_PACKED + int(lib.INPHASE_MAX_SENSORS)
    if not wire.PART_PACKED <= place.part <= last or not 0 <= place.offset <= _OFFSET_MAX:
        raise ValueError(f"{place} is no place in a message")
    if place.size != size:
        raise ValueError(f"a sample of {size} bytes does not fit {place}")


def _part_sizes(places: list[Place]) -> list[int]:
    """Bytes of each part; 0 for topic and header, which places say nothing of."""
    sizes = [0] * (max([wire.PART_PACKED, *(place.part for place in places)]) + 1)
    for place in places:
        sizes[place.part] = max(sizes[place.part], place.offset + place.size)
    return sizes


class Received:
    """A frame's payloads in the message that brought them: `Payloads` of inphase.frame."""

    def __init__(self, form: Form, parts: list[Any], whole: bytes) -> None:
        self._form = form
        self._parts = parts
        self._whole = whole

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A read-only view. Raises FrameLost for a sample that the gateway could not copy."""
        if not self._whole[sensor]:
            raise FrameLost(
                f"{self._form.layout.sensors[sensor]} was recycled before the gateway had copied "
                f"it; raise [store] depth"
            )
        place = self._form.places[sensor]
        if place.part >= len(self._parts):
            raise FrameLost(
                f"{self._form.layout.sensors[sensor]} of an earlier message is too large to be "
                f"kept; follow the store, on the robot's host"
            )
        view: NDArray[Any] = np.ndarray(
            (), self._form.layout.dtypes[sensor], self._parts[place.part], place.offset
        )
        view.flags.writeable = False
        return view

    def intact(self, sensor: int, sequence: int) -> bool:
        """Whether the sample is in the message: then it stays whole."""
        return self._whole[sensor] == 1

    def past(self, cycle: int) -> "Iterator[tuple[bytes, Received]]":
        """The frames before a cycle, newest first, as many as are kept."""
        for record, parts, whole in reversed(self._form.past):
            if wire.HEADER.unpack_from(record)[0] < cycle:
                yield record, Received(self._form, parts, whole)


class Tracker(Protocol):
    """zmq.MessageTracker: whether ZeroMQ still needs a buffer."""

    @property
    def done(self) -> bool:
        """It does not."""


class Buffers:
    """Memory for one large sample after the other, used again when ZeroMQ is done with it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._busy: deque[tuple[Tracker | None, bytearray]] = deque()

    def take(self) -> bytearray:
        """One that nobody uses. As many as ZeroMQ's queue holds exist at most."""
        if self._busy:
            tracker, buffer = self._busy[0]
            if tracker is None or tracker.done:
                self._busy.popleft()
                return buffer
        return bytearray(self._size)

    def sent(self, buffer: bytearray, tracker: Tracker | None) -> None:
        """Take back what was sent; tracker: None when a copy of it was sent."""
        self._busy.append((tracker, buffer))


_NOTHING: list[bytearray] = []


class Writer:
    """Makes the message of a reader's present frame. Thread: the reader's.

    `header` and `packed` are written anew by each `write`: send copies of them.
    """

    def __init__(self, reader: Reader, form: Form) -> None:
        self._reader = reader  # its handle is used
        self._header = ffi.new("uint8_t[]", form.header_size)
        self.header = memoryview(ffi.buffer(self._header, form.header_size))
        size = form.sizes[wire.PART_PACKED]
        self._packed = ffi.new("uint8_t[]", max(1, size))
        self.packed = memoryview(ffi.buffer(self._packed, max(1, size)))[:size]
        self._samples = ffi.new("uint8_t *[]", max(1, len(form.places)))
        self._large = [i for i, p in enumerate(form.places) if p.part != wire.PART_PACKED]
        for sensor, place in enumerate(form.places):
            if sensor not in self._large:
                self._samples[sensor] = self._packed + place.offset
        self._c, self._handle, self._size = form.c, reader.handle, form.header_size
        self._held: list[Any] = []
        self.pools = [Buffers(form.places[sensor].size) for sensor in self._large]

    def write(self, number: int) -> list[bytearray]:
        """Copy the frame's samples and write its header; the large samples, one per pool."""
        large = [pool.take() for pool in self.pools] if self.pools else _NOTHING
        if large:
            self._point_to(large)
        rc = _write(self._c, self._handle, number, self._samples, self._header, self._size)
        assert rc == self._size
        return large

    def _point_to(self, large: list[bytearray]) -> None:
        """Let C write the large samples there; `_held` keeps the buffers where they are."""
        self._held = [ffi.from_buffer("uint8_t[]", buffer) for buffer in large]
        for sensor, pointer in zip(self._large, self._held, strict=True):
            self._samples[sensor] = pointer
