"""Messages on the wire, read back into frames; `sending` makes them. WIRE.md is the page.

The header is written and read by the core in C, in one call each. Nothing here knows ZeroMQ.
"""

import errno
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.errors import WireError
from inphase.frames import wire
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.record_layout import cycle_of
from inphase.frames.sample_array import sample_array
from inphase.frames.sending import BEFORE, HERE, Outline, WireShape
from inphase.frames.wire import Place

_unpack, _from_buffer = lib.inphase_wire_unpack, ffi.from_buffer
_PAST_NS = 250_000_000  # of frames are kept for Frame.at,
_PAST_MIN = 16  # but so many at least,
_PAST_BYTES = 32 << 20  # and never more bytes than that


class Form(WireShape):
    """The facts of a message that both ends of a connection know, for the end that reads. Raises
    ValueError for impossible ones."""

    def __init__(self, layout: Layout, places: list[Place]) -> None:
        outline = Outline(
            robot=layout.robot,
            hash=layout.hash,
            epoch=layout.epoch,
            period_ns=layout.period_ns,
            sensors=layout.sensors,
            sizes=tuple(dtype.itemsize for dtype in layout.dtypes),
            actuators=layout.actuators,
        )
        super().__init__(outline, places)
        self.layout = layout
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
            if where[sensor] != HERE:
                sizes[self.places[sensor].part] = 0
        return sizes

    def _resolve(self, parts: list[Any], where: bytes) -> tuple[list[Any], bytes]:
        """The message with the large samples that earlier ones brought, where they did."""
        parts, found = [*parts], bytearray(where)
        for sensor in self.large:
            part = self.places[sensor].part
            sequence = self.sequence(self._record_bytes, sensor)
            if where[sensor] == HERE:
                self._newest[sensor] = (sequence, parts[part])
            elif where[sensor] == BEFORE:
                kept, sample = self._newest.get(sensor, (-1, None))
                if kept == sequence:
                    parts[part] = sample
                    found[sensor] = HERE
        return parts, bytes(found)


class Received:
    """A frame's payloads in the messages that brought them: `Payloads` of inphase.frame."""

    def __init__(self, form: Form, parts: list[Any], where: bytes) -> None:
        self._form = form
        self._parts = parts
        self._where = where

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A read-only view. Raises FrameLost for a sample that did not come, and says why."""
        if self._where[sensor] != HERE:
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
        if self._where[sensor] == BEFORE:
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
        return self._where[sensor] == HERE

    def whole(self, record: bytes) -> bool:
        """True if every sample has come that there is."""
        sequences = self._form.layout.record.sequences.unpack_from(record)
        return all(
            sequence < 0 or where == HERE
            for sequence, where in zip(sequences, self._where, strict=True)
        )

    def past(self, cycle: int) -> "Iterator[tuple[bytes, Received]]":
        """The frames before a cycle, newest first, as many as are kept."""
        for record, parts, where in reversed(self._form.past):
            if cycle_of(record) < cycle:
                yield record, Received(self._form, parts, where)
