"""Frames: everything of one cycle, the same object from the store and from ZeroMQ.

The frame owns its header. A sample's `value` is a view into the ring in shared memory, or into the
message that brought it. In the ring it lasts as long as its slot; ask `intact` after use.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.errors import StoreError
from inphase.frames import words
from inphase.frames.alignment import Alignment, Method
from inphase.frames.layout import Layout
from inphase.frames.record_layout import (
    ABSENT,
    ACT,
    ACT_FLAGS,
    DROVE,
    FRAME_FLAGS,
    HEADER,
    OUTCOMES,
    REASONS,
    ROW,
    STATES,
    STATUSES,
    name_of,
    names_of,
)
from inphase.frames.sample_array import sample_array

# each takes one field out of a record
_HEADER_CYCLE = HEADER.word("cycle")
_HEADER_DUE_NS = HEADER.word("due_ns")
_HEADER_WOKE_NS = HEADER.word("woke_ns")
_HEADER_TRIGGERED_NS = HEADER.word("triggered_ns")
_HEADER_LATCHED_NS = HEADER.word("latched_ns")
_HEADER_SKEW_NS = HEADER.word("skew_ns")
_HEADER_ACTED_CYCLE = HEADER.word("acted_cycle")
_HEADER_ACTED_NS = HEADER.word("acted_ns")
_HEADER_INFERRED_NS = HEADER.word("inferred_ns")
_HEADER_INFERENCE_NS = HEADER.word("inference_ns")
_HEADER_ANSWERED_CYCLE = HEADER.word("answered_cycle")
_HEADER_REASON_CYCLE = HEADER.word("reason_cycle")
_HEADER_FLAGS = HEADER.word("flags")
_HEADER_SKIPPED = HEADER.word("skipped")
_HEADER_REASON = HEADER.word("reason")
_HEADER_DETAIL = HEADER.word("detail")
_HEADER_STATE = HEADER.word("state")
_HEADER_EPISODE = HEADER.word("episode")
_HEADER_OUTCOME = HEADER.word("outcome")
_HEADER_LEASE = HEADER.word("lease")
_HEADER_DROVE = HEADER.word("drove")
_ROW_CYCLE = ROW.word("cycle")
_ROW_TRIGGERED_NS = ROW.word("triggered_ns")
_ROW_ACQUIRED_NS = ROW.word("acquired_ns")
_ROW_RECEIVED_NS = ROW.word("received_ns")
_ROW_AGE_NS = ROW.word("age_ns")
_ROW_UNCERTAINTY_NS = ROW.word("uncertainty_ns")
_ROW_STATUS = ROW.word("status")
_ROW_REASON = ROW.word("reason")
_ROW_DETAIL = ROW.word("detail")
_ROWS, _ROW_BYTES = HEADER.size, ROW.size
_ACT_FLAGS = ACT.index("flags")
_ACT_REASON = ACT.index("reason")
_ACT_DETAIL = ACT.index("detail")


class FrameLost(StoreError):  # noqa: N818 - named for what happened
    """A sample is not to be had: its slot was recycled, or the message that brought it was lost."""


class NoSample(LookupError):  # noqa: N818 - named for what is not there
    """A sensor has given no sample yet."""

    def __init__(self, sensor: str, status: str) -> None:
        super().__init__(f"{sensor} has given no sample yet ({status})")
        self.sensor = sensor
        """its name"""


class Payloads(Protocol):
    """Where a frame's samples lie."""

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A read-only structured view of a sample."""

    def intact(self, sensor: int, sequence: int) -> bool:
        """True if everything that was read from the view so far was whole."""

    def whole(self, record: bytes) -> bool:
        """True if that holds for each sample that a frame's record names."""

    def past(self, cycle: int) -> "Iterator[tuple[bytes, Payloads]]":
        """Records of the frames before a cycle, newest first, as far as they can still be read."""


def _known(stamp: int) -> int | None:
    return None if stamp == ABSENT else stamp


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One sensor in one frame. Stamps are nanoseconds of the robot's monotonic clock, or None."""

    _frame: "Frame"  # which keeps no samples: a circle would wait for the garbage collector
    _index: int
    sequence: int
    """Number of the sample in its ring, -1 before the first."""

    @property
    def value(self) -> NDArray[Any]:
        """Read-only structured array, shape (), fields in SI as the description says.

        An unknown field is a KeyError. Raises NoSample, a LookupError, when the sensor has given
        none yet.
        """
        if self.sequence < 0:
            raise NoSample(self.name, self.status)
        return self._frame.payloads.view(self._index, self.sequence)

    @property
    def name(self) -> str:
        """The sensor's name."""
        return self._frame.layout.sensors[self._index]

    @property
    def status(self) -> str:
        """One of STATUSES; only FRESH is fresh."""
        return name_of(
            _ROW_STATUS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0], STATUSES
        )

    @property
    def reason(self) -> str:
        """Why the status is not FRESH, one of REASONS."""
        return name_of(
            _ROW_REASON(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0], REASONS
        )

    @property
    def detail(self) -> int:
        """Number that belongs to the reason: a device's error word, a channel, a size."""
        return _ROW_DETAIL(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0]

    @property
    def cycle(self) -> int | None:
        """The cycle whose trigger gave this sample; None: no trigger did, or there is none yet."""
        cycle = _ROW_CYCLE(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0]
        return None if cycle < 0 else cycle

    @property
    def triggered_ns(self) -> int | None:
        """When this sample's trigger was handed to the kernel."""
        return _known(_ROW_TRIGGERED_NS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0])

    @property
    def acquired_ns(self) -> int | None:
        """Middle of the device's acquisition by its clock or its driver's model."""
        return _known(_ROW_ACQUIRED_NS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0])

    @property
    def uncertainty_ns(self) -> int:
        """Bound on the error of `acquired_ns` by a device's clock; 0 for a stated model."""
        return _ROW_UNCERTAINTY_NS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0]

    @property
    def received_ns(self) -> int | None:
        """When the last byte was in, as far as is known."""
        return _known(_ROW_RECEIVED_NS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0])

    @property
    def age_ns(self) -> int | None:
        """Latch time minus acquisition time."""
        return _known(_ROW_AGE_NS(self._frame.record, _ROWS + _ROW_BYTES * self._index)[0])

    @property
    def intact(self) -> bool:
        """True if everything that was read of `value` so far was whole."""
        return self.sequence < 0 or self._frame.payloads.intact(self._index, self.sequence)

    def __getitem__(self, field: str) -> NDArray[Any]:
        """A field of `value`. Raises KeyError for an unknown one, else as `value` does."""
        found: NDArray[Any] = self.value[field]
        return found

    def __repr__(self) -> str:
        return f"<Sample {words.of_sample(self)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in ("name", "status", "age_ns")]


class Act:
    """One actuator's requested and applied values: arrays of float64 in SI, one per channel."""

    __slots__ = ("_head", "applied", "name", "requested")

    def __init__(
        self,
        name: str,
        head: tuple[int, ...],
        requested: NDArray[np.float64],
        applied: NDArray[np.float64],
    ) -> None:
        self.name = name
        self._head = head
        self.requested = requested
        """NaN where no command came"""
        self.applied = applied
        """NaN where nothing was applied"""

    @property
    def flags(self) -> tuple[str, ...]:
        """Names from ACT_FLAGS."""
        return names_of(self._head[_ACT_FLAGS], ACT_FLAGS)

    @property
    def reason(self) -> str:
        """Why the command was not taken as it came."""
        return name_of(self._head[_ACT_REASON], REASONS)

    @property
    def detail(self) -> int:
        """Of the reasons `start` the channel, `workspace` the axis; else 0."""
        return int(self._head[_ACT_DETAIL])

    def __repr__(self) -> str:
        return f"<Act {words.of_act(self)}>"


class Command:
    """The act before a frame's latch: `cycle` says which cycle it belongs to."""

    __slots__ = (
        "_acts",
        "acted_ns",
        "answered_cycle",
        "cycle",
        "drove",
        "inference_ns",
        "inferred_ns",
        "lease",
    )

    def __init__(self, frame: "Frame") -> None:
        self.cycle = _HEADER_ACTED_CYCLE(frame.record)[0]
        self.acted_ns = _known(_HEADER_ACTED_NS(frame.record)[0])
        self.inferred_ns = _known(_HEADER_INFERRED_NS(frame.record)[0])
        """when the policy posted it; without a command, the answer that came too late, if any"""
        self.inference_ns = _known(_HEADER_INFERENCE_NS(frame.record)[0])
        """from the frame that the policy took to that post"""
        answered = _HEADER_ANSWERED_CYCLE(frame.record)[0]
        self.answered_cycle = answered if answered >= 0 else None
        """of that frame; None: no policy answered"""
        self.lease = _HEADER_LEASE(frame.record)[0]
        """the number of the lease under which the robot could be driven; 0: none"""
        self.drove = name_of(_HEADER_DROVE(frame.record)[0], DROVE)
        """one of DROVE: who gave the command that an actuator followed"""
        self._acts: dict[str, Act] = {}
        layout = frame.layout.record
        for index, (name, channels, _) in enumerate(frame.layout.actuators):
            head = ACT.unpack_from(frame.record, layout.act(index))
            values = np.frombuffer(frame.record, "<f8", 2 * channels, layout.requested(index))
            self._acts[name] = Act(name, head, values[:channels], values[channels:])

    def __getitem__(self, name: str) -> Act:
        """The act of an actuator. Raises KeyError for an unknown one."""
        try:
            return self._acts[name]
        except KeyError:
            raise words.unknown("actuator", name, self._acts) from None

    def __iter__(self) -> Iterator[Act]:
        return iter(self._acts.values())

    def __repr__(self) -> str:
        return f"<Command of cycle {self.cycle}: {', '.join(self._acts) or 'no actuators'}>"


class Frame(msgspec.Struct, eq=False, gc=False):
    """One cycle's frame. Stamps are nanoseconds of the robot's monotonic clock.

    `command` is the act *before* this frame's latch, with its own cycle: what this cycle commands
    is known only after it.
    """

    layout: Layout
    record: bytes
    payloads: Payloads
    lost: int = 0
    """frames between the one before and this one that the reader was too slow for"""
    _sequences: tuple[int, ...] = ()
    _command: Command | None = None
    _before: tuple["Frame", ...] = ()

    @property
    def history(self) -> tuple["Frame", ...]:
        """The frames that [policy] `history` asks for, oldest first; this one is the last.

        Each has the command that was applied before its latch. Without `history`: this one alone.
        """
        return (*self._before, self)  # made anew: a frame that held itself would never be freed

    @property
    def cycle(self) -> int:
        """Number of the cycle on the grid."""
        return _HEADER_CYCLE(self.record)[0]

    @property
    def due_ns(self) -> int:
        """When the grid says that the cycle starts."""
        return _HEADER_DUE_NS(self.record)[0]

    @property
    def woke_ns(self) -> int:
        """When the cycle thread ran."""
        return _HEADER_WOKE_NS(self.record)[0]

    @property
    def triggered_ns(self) -> int | None:
        """When the first trigger was fired."""
        return _known(_HEADER_TRIGGERED_NS(self.record)[0])

    @property
    def latched_ns(self) -> int:
        """When the frame was closed."""
        return _HEADER_LATCHED_NS(self.record)[0]

    @property
    def skew_ns(self) -> int | None:
        """Largest difference of acquisition times between the frame's fresh samples."""
        return _known(_HEADER_SKEW_NS(self.record)[0])

    @property
    def flags(self) -> tuple[str, ...]:
        """Names from FRAME_FLAGS."""
        return names_of(_HEADER_FLAGS(self.record)[0], FRAME_FLAGS)

    @property
    def skipped(self) -> int:
        """Grid points skipped just before this cycle."""
        return _HEADER_SKIPPED(self.record)[0]

    @property
    def episode(self) -> int:
        """The number of the newest episode, from 1 on; 0: none was begun."""
        return _HEADER_EPISODE(self.record)[0]

    @property
    def outcome(self) -> str:
        """Of that episode, one of OUTCOMES: `running` while the frame belongs to it."""
        return name_of(_HEADER_OUTCOME(self.record)[0], OUTCOMES)

    @property
    def reason(self) -> str:
        """Why motion is latched or the core is stopping."""
        return name_of(_HEADER_REASON(self.record)[0], REASONS)

    @property
    def detail(self) -> int:
        """Number that belongs to the reason."""
        return _HEADER_DETAIL(self.record)[0]

    @property
    def reason_cycle(self) -> int | None:
        """The cycle in which the reason came; None: there is none."""
        cycle = _HEADER_REASON_CYCLE(self.record)[0]
        return None if cycle < 0 else cycle

    @property
    def state(self) -> str:
        """The robot's state, one of STATES."""
        return name_of(_HEADER_STATE(self.record)[0], STATES)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Their names."""
        return self.layout.sensors

    @property
    def samples(self) -> dict[str, Sample]:
        """Sensor name to sample."""
        indices = self.layout.indices
        sequences = self._sequences or self._read_sequences()
        return dict(
            zip(indices, map(Sample, repeat(self), indices.values(), sequences), strict=True)
        )

    def _read_sequences(self) -> tuple[int, ...]:
        """The rest of a row is looked at when it is asked for."""
        self._sequences = self.layout.record.sequences.unpack_from(self.record)
        return self._sequences

    def __getitem__(self, sensor: str) -> Sample:
        """The sample of a sensor. Raises KeyError for an unknown one."""
        try:
            index = self.layout.indices[sensor]
        except KeyError:
            raise words.unknown("sensor", sensor, self.layout.sensors) from None
        return Sample(self, index, (self._sequences or self._read_sequences())[index])

    @property
    def command(self) -> Command:
        """The act before this latch."""
        if self._command is None:
            self._command = Command(self)
        return self._command

    @property
    def intact(self) -> bool:
        """True if all samples are still whole: ask after use, not before."""
        return self.payloads.whole(self.record)

    def copy(self) -> "Frame":
        """An owned copy, checked after the copy. Raises FrameLost when a slot was recycled."""
        values = {
            index: _copy(self.layout, self.payloads, index, sample.sequence)
            for index, sample in enumerate(self.samples.values())
            if sample.sequence >= 0
        }
        return Frame(self.layout, self.record, Copies(values, self.payloads), self.lost)

    def at(self, sensor: str, method: Method = "nearest") -> Alignment:
        """All sensors as they were when `sensor` acquired its sample of this frame.

        Looks back through the frames up to this one, as far as they can still be read. "nearest"
        gives the sample acquired nearest to that time, "linear" what lies between the two around
        it: see `Aligned`. Raises KeyError for an unknown sensor, and LookupError when its
        acquisition time is not known.
        """
        past = chain([(self.record, self.payloads)], self.payloads.past(self.cycle))
        return Alignment(self.layout, past, partial(_copy, self.layout), sensor, method)

    def __repr__(self) -> str:
        return f"<Frame {words.of_frame(self)}  of {', '.join(self.layout.sensors)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in ("cycle", "skew_ns", "sensors")]


def _copy(layout: Layout, payloads: Payloads, sensor: int, sequence: int) -> NDArray[Any]:
    """An owned copy of a sample, checked after the copy. Raises FrameLost."""
    value = np.array(payloads.view(sensor, sequence))
    if not payloads.intact(sensor, sequence):
        raise FrameLost(
            f"sample {sequence} of {layout.sensors[sensor]} was recycled; raise [store] depth"
        )
    value.flags.writeable = False
    return sample_array(value)


def with_history(frame: Frame, before: tuple[Frame, ...]) -> Frame:
    """The same frame, with those before it."""
    frame._before = before
    return frame


class Copies:
    """Payloads that a frame owns; what was before it is where it came from."""

    def __init__(self, values: dict[int, NDArray[Any]], source: Payloads) -> None:
        self._values = values
        self._source = source

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """The copy."""
        return self._values[sensor]

    def intact(self, sensor: int, sequence: int) -> bool:
        """Always: nobody else writes it."""
        return True

    def whole(self, record: bytes) -> bool:
        """Always."""
        return True

    def past(self, cycle: int) -> Iterator[tuple[bytes, Payloads]]:
        """The frames before it, as far as they can still be read."""
        return self._source.past(cycle)
