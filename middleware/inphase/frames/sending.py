"""The sending side of messages on the wire: made from a store's frame. WIRE.md is the page.

The header is written by the core in C, in one call. Nothing here knows ZeroMQ, or NumPy: the
processes that send frames look into no sample.
"""

import time
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from inphase._core import ffi, lib
from inphase.errors import StoreError
from inphase.frames import wire
from inphase.frames.record_layout import RecordLayout
from inphase.frames.store import Reader
from inphase.frames.wire import Place

_write = lib.inphase_wire_frame
_OFFSET_MAX = 1 << 20  # in the packed part
HERE, BEFORE = int(lib.INPHASE_WIRE_HERE), int(lib.INPHASE_WIRE_BEFORE)


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


class Outline(NamedTuple):
    """The facts of a robot that a message's header depends on."""

    robot: str
    hash: str
    epoch: int
    period_ns: int
    sensors: tuple[str, ...]
    sizes: tuple[int, ...]
    """of a sample of each sensor, in bytes"""
    actuators: tuple[tuple[str, int, str], ...]
    """(name, channels, unit)"""

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Outline":
        """Of a store of this host. Raises ValueError for what describes none."""
        if description.get("wire") != wire.VERSION:
            raise ValueError(f"wire version {description.get('wire')} is not {wire.VERSION}")
        sensors, actuators = description["sensors"], description["actuators"]
        return cls(
            robot=description["robot"],
            hash=description["hash"],
            epoch=description["epoch"],
            period_ns=description["period_ns"],
            sensors=tuple(sensor["name"] for sensor in sensors),
            sizes=tuple(sensor["size"] for sensor in sensors),
            actuators=tuple((a["name"], a["channels"], a["unit"]) for a in actuators),
        )


class WireShape:
    """The shape of a robot's messages: sizes, and what C is told of them. Raises ValueError for
    impossible ones."""

    def __init__(self, outline: Outline, places: list[Place]) -> None:
        channels = [count for _, count, _ in outline.actuators]
        if len(places) > lib.INPHASE_MAX_SENSORS or len(channels) > lib.INPHASE_MAX_ACTUATORS:
            raise ValueError(f"{len(places)} sensors, {len(channels)} actuators are too many")
        for place, size in zip(places, outline.sizes, strict=True):
            _check_place(place, size)
        hash_ = outline.hash.encode()
        if len(hash_) != 16:
            raise ValueError(f"a hash has 16 digits, got {outline.hash!r}")
        self.outline = outline
        self.places = places
        self.sizes = _part_sizes(places)
        self.large = [i for i, place in enumerate(places) if place.part != wire.PART_PACKED]
        """the sensors whose samples have parts of their own, each sent once"""
        self.c = ffi.new(
            "struct inphase_wire *",
            {
                "epoch": outline.epoch,
                "hash": hash_,
                "sensors": len(outline.sensors),
                "actuators": len(channels),
                "channels": channels,
                "large": [i in self.large for i in range(len(places))],
            },
        )
        self.header_size = int(lib.inphase_wire_size(self.c))
        if self.header_size < 0:
            raise ValueError(f"{channels} channels are too many")
        self.record = RecordLayout(len(outline.sensors), channels)

    @classmethod
    def of_store(cls, description: dict[str, Any]) -> "WireShape":
        """From what `describe` gives. Raises ValueError if it is not."""
        places = [Place(s["part"], s["offset"], s["size"]) for s in description["sensors"]]
        return WireShape(Outline.from_description(description), places)

    def sequence(self, record: Any, sensor: int) -> int:
        """Number of a sensor's sample in a frame record."""
        return int(self.record.sequences.unpack_from(record)[sensor])


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

    def __init__(
        self, reader: Reader, form: WireShape, large: Collection[int] | None = None
    ) -> None:
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
            sample.here = self._where[sample.sensor] == HERE

    def name_earlier(self, number: int, rows: Mapping[int, bytes]) -> None:
        """Write the header anew: these large sensors have rows of samples that were sent before."""
        record = bytearray(self._reader.record)
        for sensor, row in rows.items():
            at = self._form.record.row(sensor)
            record[at : at + len(row)] = row
            self._where[sensor] = BEFORE
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
