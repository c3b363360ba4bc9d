"""Messages on the wire: made from a store's frame, and read back into one. WIRE.md is the page.

The header is written and read by the core in C, in one call each.
Nothing here knows ZeroMQ.
"""

import errno
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.errors import StoreError, WireError
from inphase.frames import wire
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.record_layout import cycle_of
from inphase.frames.sample_array import sample_array
from inphase.frames.store import Reader
from inphase.frames.wire import Place

_unpack, _write, _from_buffer = lib.inphase_wire_unpack, lib.inphase_wire_frame, ffi.from_buffer
_OFFSET_MAX = 1 << 20  # in the packed part
_HERE, _BEFORE = int(lib.INPHASE_WIRE_HERE), int(lib.INPHASE_WIRE_BEFORE)
_PAST_NS = 250_000_000  # of frames are kept for Frame.at,
_PAST_MIN = 16  # but so many at least,
_PAST_BYTES = 32 << 20  # and never more bytes than that


def describe(reader: Reader, packed_max: int = wire.PACKED_MAX) -> dict[str, Any]:
    """The store's description, with where the store is and where a message has its samples."""
    try:
        description = wire.unpack_description(reader.description)
    except ValueError as error:
        raise StoreError(f"{reader.path}: {error}") from error
    description["host"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    description["store"] = reader.path
    places = wire.places([payload for _, _, payload, _ in reader.rings], packed_max)
    for sensor, place in zip(description["sensors"], places, strict=True):
        sensor.update(place._asdict())
    return description


class Form:
    """The facts of a message that both ends of a connection know. Raises ValueError for impossible
    ones."""

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
        self.large = [i for i, place in enumerate(places) if place.part != wire.PART_PACKED]
        """the sensors whose samples have parts of their own, each sent once"""
        self.c = ffi.new(
            "struct inphase_wire *",
            {
                "epoch": layout.epoch,
                "hash": hash_,
                "sensors": len(layout.sensors),
                "actuators": len(channels),
                "channels": channels,
                "large": [i in self.large for i in range(len(places))],
            },
        )
        self.header_size = int(lib.inphase_wire_size(self.c))
        if self.header_size < 0:
            raise ValueError(f"{channels} channels are too many")
        size = int(lib.inphase_wire_record_size(self.c))
        self._record = ffi.new("uint8_t[]", size)
        self._record_bytes = ffi.buffer(self._record, size)
        self._where = ffi.new("uint8_t[]", max(1, len(layout.sensors)))
        self._where_bytes = ffi.buffer(self._where, len(layout.sensors))
        self._number = ffi.new("int64_t *")
        self._newest: dict[int, tuple[int, Any]] = {}
        self.past: deque[tuple[bytes, list[Any], bytes]] = deque(maxlen=self._past_length(size))
        """what was read last, for `Frame.at`: record, parts without large samples, `where`"""

    def _past_length(self, record_size: int) -> int:
        """Messages that cover _PAST_NS, within _PAST_BYTES."""
        wanted = max(_PAST_MIN, _PAST_NS // max(1, self.layout.period_ns) + 1)
        return int(min(wanted, _PAST_BYTES // (record_size + self.sizes[wire.PART_PACKED] + 1)))

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Form":
        """From what a gateway gives first. Raises ValueError if it is not."""
        layout = Layout.from_description(description)
        try:
            places = [Place(s["part"], s["offset"], s["size"]) for s in description["sensors"]]
            return cls(layout, places)
        except Exception as error:  # as for the layout
            raise ValueError(f"no description of messages: {error!r}") from error

    def write_header(self, record: bytes, number: int, sent_ns: int, where: bytes) -> bytes:
        """The header of a frame record; `where` has an INPHASE_WIRE_* per sensor."""
        header = ffi.new("uint8_t[]", self.header_size)
        assert len(record) == len(self._record_bytes) and len(where) == len(self._where_bytes)
        size = lib.inphase_wire_pack(
            self.c, record, number, sent_ns, where, header, self.header_size
        )
        assert size == self.header_size
        return bytes(ffi.buffer(header, size))

    def sequence(self, record: Any, sensor: int) -> int:
        """Number of a sensor's sample in a frame record."""
        return int(self.layout.record.sequences.unpack_from(record)[sensor])

    def read(self, parts: list[Any]) -> tuple[Frame, int]:
        """The frame in a message's parts (buffers), and its number. Raises WireError.

        The newest sample of each large sensor is kept, for the messages that only name it: give
        every message that comes, in order. Thread: one at a time.
        """
        header = parts[1] if len(parts) > 1 else b""
        rc = _unpack(
            self.c, _from_buffer(header), len(header), self._record, self._number, self._where
        )
        if rc == -errno.ESTALE:
            raise WireError("a frame of another run than the description's; subscribe again")
        if rc < 0 or len(parts) != len(self.sizes):
            raise WireError(f"not a frame of {self.layout.robot}: see WIRE.md for the format")
        where = self._where_bytes[:]
        sizes = self._sizes_of(where) if self.large else self.sizes
        if [len(part) for part in parts[2:]] != sizes[2:]:
            raise WireError(f"parts of other sizes than {sizes[2:]}")
        if self.large:
            parts, where = self._resolve(parts, where)
        record = self._record_bytes[:]
        self.past.append((record, parts[: wire.PART_PACKED + 1], where))
        return Frame(self.layout, record, Received(self, parts, where)), int(self._number[0])

    def _sizes_of(self, where: bytes) -> list[int]:
        """Bytes of each part of a message: a large sample that it does not bring has none."""
        sizes = self.sizes.copy()
        for sensor in self.large:
            if where[sensor] != _HERE:
                sizes[self.places[sensor].part] = 0
        return sizes

    def _resolve(self, parts: list[Any], where: bytes) -> tuple[list[Any], bytes]:
        """The message with the large samples that earlier ones brought, where they did."""
        parts, found = [*parts], bytearray(where)
        for sensor in self.large:
            part = self.places[sensor].part
            sequence = self.sequence(self._record_bytes, sensor)
            if where[sensor] == _HERE:
                self._newest[sensor] = (sequence, parts[part])
            elif where[sensor] == _BEFORE:
                kept, sample = self._newest.get(sensor, (-1, None))
                if kept == sequence:
                    parts[part] = sample
                    found[sensor] = _HERE
        return parts, bytes(found)


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
    """A frame's payloads in the messages that brought them: `Payloads` of inphase.frame."""

    def __init__(self, form: Form, parts: list[Any], where: bytes) -> None:
        self._form = form
        self._parts = parts
        self._where = where

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A read-only view. Raises FrameLost for a sample that did not come, and says why."""
        if self._where[sensor] != _HERE:
            raise FrameLost(self._why(sensor, sequence))
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
        return sample_array(view)

    def _why(self, sensor: int, sequence: int) -> str:
        name = self._form.layout.sensors[sensor]
        if self._where[sensor] == _BEFORE:
            return (
                f"sample {sequence} of {name} came in an earlier message only, which was lost or "
                f"sent before this subscription; the next sample will be there"
            )
        if sensor in self._form.large:
            return (
                f"{name} was recycled before it could be copied, or large samples were not asked "
                f"for; raise [store] depth, or ask for them"
            )
        return f"{name} was recycled before the gateway had copied it; raise [store] depth"

    def intact(self, sensor: int, sequence: int) -> bool:
        """True if the sample has come: then it stays whole."""
        return self._where[sensor] == _HERE

    def past(self, cycle: int) -> "Iterator[tuple[bytes, Received]]":
        """The frames before a cycle, newest first, as many as are kept."""
        for record, parts, where in reversed(self._form.past):
            if cycle_of(record) < cycle:
                yield record, Received(self._form, parts, where)


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


class LargeSample:
    """The large sample of one sensor in the message that a Writer makes."""

    def __init__(self, sensor: int, size: int) -> None:
        self.sensor = sensor
        self.size = size
        self.is_due = True
        """the next message is to bring it, if it has not come before"""
        self.here = False
        """whether it is in this message; if not, its part is empty"""
        self.tracker: Tracker | None = None
        """set by who sends without a copy"""
        self._buffers = Buffers(size)
        self.renew()

    def renew(self) -> None:
        """Have a buffer that nobody uses."""
        self.buffer = self._buffers.take()
        # keeps the buffer where it is
        self.pointer = ffi.from_buffer("uint8_t[]", self.buffer)

    def sent(self) -> None:
        """The buffer was sent: have another."""
        self._buffers.sent(self.buffer, self.tracker)
        self.tracker = None
        self.renew()


class Writer:
    """Makes the message of a reader's present frame. Thread: the reader's.

    `header` and `packed` are written anew by each `write`: send copies of them. A large sample is
    in the first message that names it; that it was sent is noted by `sent`. large: the sensors
    whose large samples are sent; None: all that have such.
    """

    def __init__(self, reader: Reader, form: Form, large: Collection[int] | None = None) -> None:
        self._reader = reader  # its handle is used
        self._form = form
        self._header = ffi.new("uint8_t[]", form.header_size)
        self.header = memoryview(ffi.buffer(self._header, form.header_size))
        size = form.sizes[wire.PART_PACKED]
        self._packed = ffi.new("uint8_t[]", max(1, size))
        self.packed = memoryview(ffi.buffer(self._packed, max(1, size)))[:size]
        sensors = max(1, len(form.places))
        self._samples = ffi.new("uint8_t *[]", sensors)
        self._sent = ffi.new("int64_t[]", [-1] * sensors)
        self._where = ffi.new("uint8_t[]", sensors)
        sent = [sensor for sensor in form.large if large is None or sensor in large]
        self.large = [LargeSample(sensor, form.places[sensor].size) for sensor in sent]
        for sensor, place in enumerate(form.places):
            is_large = sensor in form.large  # one that is not sent stays NULL
            self._samples[sensor] = ffi.NULL if is_large else self._packed + place.offset
        self._c, self._handle, self._size = form.c, reader.handle, form.header_size

    def write(self, number: int) -> None:
        """Copy the frame's samples, and write its header; which large ones are in `large`."""
        for sample in self.large:
            self._samples[sample.sensor] = sample.pointer if sample.is_due else ffi.NULL
        rc = _write(
            self._c,
            self._handle,
            number,
            self._samples,
            self._sent,
            self._where,
            self._header,
            self._size,
        )
        assert rc == self._size
        for sample in self.large:
            sample.here = self._where[sample.sensor] == _HERE

    def name_earlier(self, number: int, rows: Mapping[int, bytes]) -> None:
        """Write the header anew: these large sensors have rows of samples that were sent before."""
        record = bytearray(self._reader.record)
        for sensor, row in rows.items():
            at = self._form.layout.record.row(sensor)
            record[at : at + len(row)] = row
            self._where[sensor] = _BEFORE
        rc = lib.inphase_wire_pack(
            self._c,
            bytes(record),
            number,
            time.monotonic_ns(),
            self._where,
            self._header,
            self._size,
        )
        assert rc == self._size

    def sent(self) -> None:
        """The whole message was sent: its large samples are not sent again."""
        for sample in self.large:
            if sample.here:
                self._sent[sample.sensor] = self._form.sequence(self._reader.record, sample.sensor)
                sample.sent()
