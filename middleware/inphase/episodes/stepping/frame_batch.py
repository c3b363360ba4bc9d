"""The frames of many environments at one step, for a function that judges all of them in one call.

It has what a frame has, with a row per environment: a function of arrays takes either.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames import words
from inphase.frames.frame import NoSample
from inphase.frames.layout import Layout
from inphase.frames.record_layout import (
    ABSENT,
    HEADER,
    REASONS,
    ROW,
    STATES,
    STATUSES,
    VALUE_BYTES,
    name_of,
)
from inphase.frames.sample_array import SampleArray, sample_array

Samples = Callable[["SampleBatch"], NDArray[Any]]
"""(rows,) samples in an array of their own; raises NoSample"""
_HEADER = {name: (f"<{code}", HEADER.offset(name)) for name, code in HEADER.codes.items()}
_ROW = {name: (f"<{code}", ROW.offset(name)) for name, code in ROW.codes.items()}


class FrameBatch:
    """A frame of each of several environments. Its arrays are read-only and stay as they are.

    `batch[sensor]` is a SampleBatch. Of what a Frame has, `history`, `at` and `copy` are left out.
    """

    def __init__(self, layout: Layout, records: bytes, rows: int, samples: Samples) -> None:
        """records: one per environment, one after the other."""
        self.layout = layout
        self.rows = rows
        """how many environments"""
        self._records = records
        self._samples = samples

    def _words(self, code: str, at: int) -> NDArray[Any]:
        size = len(self._records) // self.rows
        return np.ndarray((self.rows,), code, self._records, at, (size,))

    def _header(self, name: str) -> NDArray[Any]:
        return self._words(*_HEADER[name])

    @property
    def cycle(self) -> NDArray[np.int64]:
        """(rows,) numbers of the cycles on the grid."""
        return self._header("cycle")

    @property
    def latched_ns(self) -> NDArray[np.int64]:
        """(rows,) when the frames were closed, on each robot's clock."""
        return self._header("latched_ns")

    @property
    def reason(self) -> NDArray[np.str_]:
        """(rows,) why motion is latched, of REASONS."""
        return _names(self._header("reason"), REASONS)

    @property
    def state(self) -> NDArray[np.str_]:
        """(rows,) of STATES."""
        return _names(self._header("state"), STATES)

    @property
    def sensors(self) -> tuple[str, ...]:
        """Their names."""
        return self.layout.sensors

    def __getitem__(self, sensor: str) -> "SampleBatch":
        """The samples of a sensor. Raises KeyError for an unknown one."""
        try:
            return SampleBatch(self, self.layout.indices[sensor])
        except KeyError:
            raise words.unknown("sensor", sensor, self.layout.sensors) from None

    @property
    def command(self) -> "CommandBatch":
        """The acts before these latches."""
        return CommandBatch(self)

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<FrameBatch of {self.rows} environments  of {', '.join(self.layout.sensors)}>"


class SampleBatch:
    """One sensor in each of these frames."""

    def __init__(self, frames: FrameBatch, index: int) -> None:
        self._frames = frames
        self.index = index
        """the sensor's number in a frame"""

    def _row(self, name: str) -> NDArray[Any]:
        code, at = _ROW[name]
        return self._frames._words(code, self._frames.layout.record.row(self.index) + at)

    @property
    def name(self) -> str:
        """The sensor's name."""
        return self._frames.layout.sensors[self.index]

    @property
    def sequence(self) -> NDArray[np.int64]:
        """(rows,) numbers of the samples in their rings, -1 before the first."""
        return self._row("sequence")

    @property
    def status(self) -> NDArray[np.str_]:
        """(rows,) of STATUSES; only FRESH is fresh."""
        return _names(self._row("status"), STATUSES)

    @property
    def reason(self) -> NDArray[np.str_]:
        """(rows,) why a status is not FRESH, of REASONS."""
        return _names(self._row("reason"), REASONS)

    @property
    def age_ns(self) -> NDArray[np.float64]:
        """(rows,) latch time minus acquisition time; NaN where it is not known."""
        found = self._row("age_ns")
        return np.where(found == ABSENT, np.nan, found)

    @property
    def value(self) -> SampleArray:
        """(rows,) structured, fields (rows, *shape) in SI. An unknown field is a KeyError. Raises
        NoSample, a LookupError, when the sensor of one of them has given none yet."""
        found = self._frames._samples(self)
        found.flags.writeable = False
        return sample_array(found)

    def check_begun(self) -> None:
        """Raise NoSample if the sensor of one of them has given none yet."""
        sequences = self.sequence.tolist()
        if min(sequences) < 0:
            raise NoSample(self.name, str(self.status[sequences.index(min(sequences))]))

    def __getitem__(self, field: str) -> NDArray[Any]:
        """A field of `value`. Raises KeyError for an unknown one, else as `value` does."""
        found: NDArray[Any] = self.value[field]
        return found

    def __repr__(self) -> str:
        return f"<SampleBatch {self.name} of {self._frames.rows} environments>"


class ActBatch:
    """One actuator in the acts before these frames: arrays of float64 in SI."""

    def __init__(self, requested: NDArray[np.float64], applied: NDArray[np.float64]) -> None:
        self.requested = requested
        """(rows, channels), NaN where no command came"""
        self.applied = applied
        """(rows, channels), NaN where nothing was applied"""


class CommandBatch:
    """The acts before these frames' latches, by actuator."""

    def __init__(self, frames: FrameBatch) -> None:
        self._frames = frames

    def __getitem__(self, name: str) -> ActBatch:
        """The acts of an actuator. Raises KeyError for an unknown one."""
        layout = self._frames.layout
        names = [actuator for actuator, _, _ in layout.actuators]
        if name not in names:
            raise words.unknown("actuator", name, names)
        index = names.index(name)
        shape = (self._frames.rows, layout.actuators[index][1])
        records = self._frames._records
        strides = (len(records) // shape[0], VALUE_BYTES)
        record = layout.record
        requested, applied = (
            np.ndarray(shape, "<f8", records, at, strides)
            for at in (record.requested(index), record.applied(index))
        )
        return ActBatch(requested, applied)


def _names(numbers: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.str_]:
    return np.array([name_of(number, names) for number in numbers.tolist()])
