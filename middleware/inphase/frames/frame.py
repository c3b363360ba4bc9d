"""Frames: everything of one cycle, the same object from the store and from ZeroMQ.

The frame owns its header. A sample's `value` is a view into the ring in shared memory, or into the
message that brought it. In the ring it lasts as long as its slot; ask `intact` after use.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain
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

# where a field is among the unpacked ones
_HEADER_CYCLE = HEADER.index("cycle")
_HEADER_DUE_NS = HEADER.index("due_ns")
_HEADER_WOKE_NS = HEADER.index("woke_ns")
_HEADER_TRIGGERED_NS = HEADER.index("triggered_ns")
_HEADER_LATCHED_NS = HEADER.index("latched_ns")
_HEADER_SKEW_NS = HEADER.index("skew_ns")
_HEADER_ACTED_CYCLE = HEADER.index("acted_cycle")
_HEADER_ACTED_NS = HEADER.index("acted_ns")
_HEADER_INFERRED_NS = HEADER.index("inferred_ns")
_HEADER_INFERENCE_NS = HEADER.index("inference_ns")
_HEADER_ANSWERED_CYCLE = HEADER.index("answered_cycle")
_HEADER_REASON_CYCLE = HEADER.index("reason_cycle")
_HEADER_FLAGS = HEADER.index("flags")
_HEADER_SKIPPED = HEADER.index("skipped")
_HEADER_REASON = HEADER.index("reason")
_HEADER_DETAIL = HEADER.index("detail")
_HEADER_STATE = HEADER.index("state")
_HEADER_EPISODE = HEADER.index("episode")
_HEADER_OUTCOME = HEADER.index("outcome")
_HEADER_LEASE = HEADER.index("lease")
_HEADER_DROVE = HEADER.index("drove")
_ROW_CYCLE = ROW.index("cycle")
_ROW_TRIGGERED_NS = ROW.index("triggered_ns")
_ROW_ACQUIRED_NS = ROW.index("acquired_ns")
_ROW_RECEIVED_NS = ROW.index("received_ns")
_ROW_AGE_NS = ROW.index("age_ns")
_ROW_UNCERTAINTY_NS = ROW.index("uncertainty_ns")
_ROW_STATUS = ROW.index("status")
_ROW_REASON = ROW.index("reason")
_ROW_DETAIL = ROW.index("detail")
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
    def _row(self) -> tuple[int, ...]:
        return ROW.unpack_from(self._frame.record, self._frame.layout.record.row(self._index))

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
        return name_of(self._row[_ROW_STATUS], STATUSES)

    @property
    def reason(self) -> str:
        """Why the status is not FRESH, one of REASONS."""
        return name_of(self._row[_ROW_REASON], REASONS)

    @property
    def detail(self) -> int:
        """Number that belongs to the reason: a device's error word, a channel, a size."""
        return self._row[_ROW_DETAIL]

    @property
    def cycle(self) -> int | None:
        """The cycle whose trigger gave this sample; None: no trigger did, or there is none yet."""
        cycle = self._row[_ROW_CYCLE]
        return None if cycle < 0 else cycle

    @property
    def triggered_ns(self) -> int | None:
        """When this sample's trigger was handed to the kernel."""
        return _known(self._row[_ROW_TRIGGERED_NS])

    @property
    def acquired_ns(self) -> int | None:
        """Middle of the device's acquisition by its clock or its driver's model."""
        return _known(self._row[_ROW_ACQUIRED_NS])

    @property
    def uncertainty_ns(self) -> int:
        """Bound on the error of `acquired_ns` by a device's clock; 0 for a stated model."""
        return self._row[_ROW_UNCERTAINTY_NS]

    @property
    def received_ns(self) -> int | None:
        """When the last byte was in, as far as is known."""
        return _known(self._row[_ROW_RECEIVED_NS])

    @property
    def age_ns(self) -> int | None:
        """Latch time minus acquisition time."""
        return _known(self._row[_ROW_AGE_NS])

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
        self.cycle = frame.header[_HEADER_ACTED_CYCLE]
        self.acted_ns = _known(frame.header[_HEADER_ACTED_NS])
        self.inferred_ns = _known(frame.header[_HEADER_INFERRED_NS])
        """when the policy posted it; without a command, the answer that came too late, if any"""
        self.inference_ns = _known(frame.header[_HEADER_INFERENCE_NS])
        """from the frame that the policy took to that post"""
        answered = frame.header[_HEADER_ANSWERED_CYCLE]
        self.answered_cycle = answered if answered >= 0 else None
        """of that frame; None: no policy answered"""
        self.lease = frame.header[_HEADER_LEASE]
        """the number of the lease under which the robot could be driven; 0: none"""
        self.drove = name_of(frame.header[_HEADER_DROVE], DROVE)
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
    _header: tuple[int, ...] | None = None
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
    def header(self) -> tuple[int, ...]:
        """struct inphase_frame of inphase.h."""
        if self._header is None:
            self._header = HEADER.unpack_from(self.record)
        return self._header

    @property
    def cycle(self) -> int:
        """Number of the cycle on the grid."""
        return self.header[_HEADER_CYCLE]

    @property
    def due_ns(self) -> int:
        """When the grid says that the cycle starts."""
        return self.header[_HEADER_DUE_NS]

    @property
    def woke_ns(self) -> int:
        """When the cycle thread ran."""
        return self.header[_HEADER_WOKE_NS]

    @property
    def triggered_ns(self) -> int | None:
        """When the first trigger was fired."""
        return _known(self.header[_HEADER_TRIGGERED_NS])

    @property
    def latched_ns(self) -> int:
        """When the frame was closed."""
        return self.header[_HEADER_LATCHED_NS]

    @property
    def skew_ns(self) -> int | None:
        """Largest difference of acquisition times between the frame's fresh samples."""
        return _known(self.header[_HEADER_SKEW_NS])

    @property
    def flags(self) -> tuple[str, ...]:
        """Names from FRAME_FLAGS."""
        return names_of(self.header[_HEADER_FLAGS], FRAME_FLAGS)

    @property
    def skipped(self) -> int:
        """Grid points skipped just before this cycle."""
        return self.header[_HEADER_SKIPPED]

    @property
    def episode(self) -> int:
        """The number of the newest episode, from 1 on; 0: none was begun."""
        return self.header[_HEADER_EPISODE]

    @property
    def outcome(self) -> str:
        """Of that episode, one of OUTCOMES: `running` while the frame belongs to it."""
        return name_of(self.header[_HEADER_OUTCOME], OUTCOMES)

    @property
    def reason(self) -> str:
        """Why motion is latched or the core is stopping."""
        return name_of(self.header[_HEADER_REASON], REASONS)

    @property
    def detail(self) -> int:
        """Number that belongs to the reason."""
        return self.header[_HEADER_DETAIL]

    @property
    def reason_cycle(self) -> int | None:
        """The cycle in which the reason came; None: there is none."""
        cycle = self.header[_HEADER_REASON_CYCLE]
        return None if cycle < 0 else cycle

    @property
    def state(self) -> str:
        """The robot's state, one of STATES."""
        return name_of(self.header[_HEADER_STATE], STATES)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Their names."""
        return self.layout.sensors

    @property
    def samples(self) -> dict[str, Sample]:
        """Sensor name to sample."""
        sequences = self._sequences or self._read_sequences()
        samples = {}
        for name, index in self.layout.indices.items():
            samples[name] = Sample(self, index, sequences[index])
        return samples

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
        return all(sample.intact for sample in self.samples.values())

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

    def past(self, cycle: int) -> Iterator[tuple[bytes, Payloads]]:
        """The frames before it, as far as they can still be read."""
        return self._source.past(cycle)
