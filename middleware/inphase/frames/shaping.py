"""The additions to a frame that a policy gets: aligned samples, and the frames before it."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from inphase.frames.alignment import Alignment
from inphase.frames.frame import Frame, Payloads, with_history
from inphase.frames.record_layout import ABSENT, ROW, STATUSES, cycle_of
from inphase.schedule.tables import Policy


class NotThere(Exception):  # noqa: N818 - named for what it says
    """A policy's numbers are not there yet, or were written over."""


class Shaping:
    """Makes the frames that [policy] `align` and `history` ask for. Thread: the policy's."""

    def __init__(self, policy: Policy | None) -> None:
        self._align = policy.align if policy is not None else None
        self._count = policy.history if policy is not None else 1
        self._every = policy.every if policy is not None else 1
        self._repeats = policy is not None and policy.history_start == "repeat"
        self.is_none = self._align is None and self._count == 1
        """frames stay as they are"""

    def shape(self, frame: Frame) -> Frame | None:
        """The frame as the policy is given it; None: it cannot be made yet."""
        if self.is_none:
            return frame
        shaped = self._aligned(frame)
        if shaped is None or self._count == 1:
            return shaped
        found = [made for made in map(self._aligned, self._before(frame)) if made is not None]
        found = found[::-1]
        missing = self._count - 1 - len(found)
        if missing and not self._repeats:
            return None
        first = found[0] if found else shaped
        return with_history(shaped, (*[first] * missing, *found))

    def _before(self, frame: Frame) -> Iterator[Frame]:
        """The due frames before one, newest first, as many as are asked for and can be read."""
        due = (
            Frame(frame.layout, record, payloads)
            for record, payloads in frame.payloads.past(frame.cycle)
            if cycle_of(record) % self._every == 0
        )
        return islice(due, self._count - 1)

    def _aligned(self, frame: Frame) -> Frame | None:
        if self._align is None:
            return frame
        try:
            return aligned(frame, self._align)
        except LookupError:  # no sample of that sensor yet, or none whose acquisition is known
            return None


def aligned(frame: Frame, sensor: str) -> Frame:
    """A frame whose samples are those of the instant at which `sensor` acquired its own, with rows
    that say so. Raises LookupError when that instant is not known."""
    alignment = frame.at(sensor, "linear")
    record = bytearray(frame.record)
    for index, name in enumerate(frame.layout.sensors):
        if name == sensor:
            continue
        row = _row(frame, alignment, index, name)
        ROW.pack_into(record, frame.layout.record.row(index), *row)
    return Frame(frame.layout, bytes(record), _Aligned(frame.payloads, alignment), frame.lost)


def _row(frame: Frame, alignment: Alignment, index: int, name: str) -> tuple[int, ...]:
    """struct inphase_row of an aligned sample: what is not of one trigger has none."""
    sample = alignment[name]
    latched = ROW.unpack_from(frame.record, frame.layout.record.row(index))
    if not sample.is_known:
        return latched
    if sample.method == "nearest" and sample.sequences == (latched[ROW.index("sequence")],):
        return latched
    acquired_ns = sample.acquired_ns
    age_ns = ABSENT if acquired_ns is None else frame.latched_ns - acquired_ns
    changed = {
        "sequence": sample.sequences[-1],
        "cycle": -1,
        "triggered_ns": ABSENT,
        "acquired_ns": ABSENT if acquired_ns is None else acquired_ns,
        "received_ns": ABSENT,
        "age_ns": age_ns,
        "uncertainty_ns": sample.uncertainty_ns,
        "status": STATUSES.index(sample.status),
    }
    return tuple(changed.get(name, value) for name, value in zip(ROW.names, latched, strict=True))


class _Aligned:
    """Payloads at the instant of an alignment."""

    def __init__(self, source: Payloads, alignment: Alignment) -> None:
        self._source = source
        self._read = partial(_value, alignment)
        self._values: dict[int, NDArray[Any]] = {}

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """An owned value; raises frame.FrameLost when a sample of it was recycled."""
        if sensor not in self._values:
            self._values[sensor] = self._read(sensor)
        return self._values[sensor]

    def intact(self, sensor: int, sequence: int) -> bool:
        """Always: it was checked when it was made."""
        return True

    def whole(self, record: bytes) -> bool:
        """Always."""
        return True

    def past(self, cycle: int) -> Iterator[tuple[bytes, Payloads]]:
        """The frames before it, as they were latched."""
        return self._source.past(cycle)


def _value(alignment: Alignment, sensor: int) -> NDArray[Any]:
    value: NDArray[Any] = alignment[list(alignment.samples)[sensor]].value
    return value
