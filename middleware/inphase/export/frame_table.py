"""A recording as a table: a row per frame, with the sample of each sensor that the frame names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.recording.channels import frame_shape, image_encoding
from inphase.recording.message_shape import leaves
from inphase.recording.recording import Recording

_STRETCH_BYTES = 32 << 20
_STRETCH_ROWS = 8192


@dataclass(frozen=True)
class Column:
    """A column of numbers. shape: of one row's numbers."""

    name: str
    """as in `Recording.frames`; of a sample `sensors.NAME.value.FIELD`"""
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    unit: str = ""
    """empty: none is stated"""
    absent: int | None = None
    """of a number that a frame may not have: what stands for none"""
    sensor: str = ""
    """of a sample's values: the sensor"""
    field: str = ""
    """likewise, the field"""

    @property
    def size(self) -> int:
        """Of one row, in bytes."""
        return int(np.prod(self.shape, dtype=int)) * self.dtype.itemsize


class Values(NamedTuple):
    """A stretch of a column. known: shape (rows,), False where there is no number; None: all are
    there. Numbers that are not there are NaN, or what stands for none, or 0."""

    values: NDArray[Any]
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ImageColumn:
    """The images of a sensor: dtype uint8 or uint16, shape (height, width) or (height, width,
    colours)."""

    sensor: str
    field: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Of one image, in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class FrameTable:
    """The frames of a recording in stretches that fit into memory. Thread: one at a time."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        layout = recording.layout
        self.of_frames = tuple(_frame_columns(recording))
        """all that a frame says itself"""
        self.of_samples: tuple[Column, ...] = ()
        """the values of samples"""
        self.images: tuple[ImageColumn, ...] = ()
        for name, dtype, units in zip(layout.sensors, layout.dtypes, layout.units, strict=True):
            assert dtype.fields is not None
            parts = {field: _split(place[0]) for field, place in dtype.fields.items()}
            if image_encoding(dtype):
                ((field, (kind, shape)),) = parts.items()
                self.images += (ImageColumn(name, field, kind, shape),)
                continue
            self.of_samples += tuple(
                Column(
                    f"sensors.{name}.value.{field}",
                    kind,
                    shape,
                    units.get(field, ""),
                    sensor=name,
                    field=field,
                )
                for field, (kind, shape) in parts.items()
            )
        self._read_bytes = 0
        """of images, since the file was let go of"""
        self.lost: dict[str, int] = {}
        """rows whose sample is not in the file, by sensor, of all that was read so far"""

    @property
    def columns(self) -> tuple[Column, ...]:
        """All but the images."""
        return self.of_frames + self.of_samples

    def stretches(self, first: int, stop: int, more_bytes: int = 0) -> Iterator[range]:
        """The places of frames in the file, some at a time: what one stretch holds fits into
        memory. more_bytes: that a row costs besides."""
        row = sum(column.size for column in self.columns) + more_bytes
        rows = max(1, min(_STRETCH_ROWS, _STRETCH_BYTES // max(row, 1)))
        for start in range(first, stop, rows):
            yield range(start, min(start + rows, stop))
            self.recording.forget()

    def rows(self, stretch: range) -> dict[str, Values]:
        """All columns of a stretch, by name. Raises RecordingError for a damaged file."""
        frames = self.recording.frames(stretch.start, stretch.stop)
        found = {column.name: _own(column, frames) for column in self.of_frames}
        for sensor in dict.fromkeys(column.sensor for column in self.of_samples):
            samples, known = self._samples(sensor, frames[f"sensors.{sensor}.sequence"])
            for column in self.of_samples:
                if column.sensor == sensor:
                    found[column.name] = _joined(column, samples, known)
        return found

    def _samples(
        self, sensor: str, wanted: NDArray[np.int64]
    ) -> tuple[NDArray[Any] | None, NDArray[np.bool_]]:
        """The sample of each row, and whether it is there; None where none is."""
        at, known = self.places(sensor, wanted)
        self.lost[sensor] = self.lost.get(sensor, 0) + int((~known & (wanted >= 0)).sum())
        if not known.any():
            return None, known
        low, high = int(np.min(at[known])), int(np.max(at[known])) + 1
        samples = self.recording.samples(sensor, low, high)
        return samples[np.where(known, at - low, 0)], known

    def image(self, column: ImageColumn, sequence: int) -> NDArray[Any]:
        """An image by its sequence number. Raises FrameLost when it is not in the file."""
        index = self.recording.layout.indices[column.sensor]
        self._read_bytes += column.size
        if self._read_bytes >= _STRETCH_BYTES:
            self._read_bytes = 0
            self.recording.forget()
        found: NDArray[Any] = self.recording.sample(index, sequence)[column.field]
        return found

    def places(
        self, sensor: str, wanted: NDArray[np.int64]
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Of each sequence number its place among the sensor's samples, and whether it is there."""
        sequences = self.recording.sequences(sensor)
        at = np.searchsorted(sequences, wanted)
        known = at < len(sequences)
        known[known] = sequences[at[known]] == wanted[known]
        return at, known


def _frame_columns(recording: Recording) -> Iterator[Column]:
    """The numbers of a frame, with their units."""
    units = {name: unit for name, _, unit in recording.layout.actuators}
    for path, number in leaves(frame_shape(recording.layout).group):
        unit = ""
        if path[-1].endswith("_ns"):
            unit = "ns"
        elif path[-1] in ("requested", "applied"):
            unit = units[path[1]]
        yield Column(".".join(path), number.dtype, number.shape, unit, number.absent)


def _split(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return (dtype.subdtype[0], dtype.shape) if dtype.subdtype is not None else (dtype, ())


def _own(column: Column, frames: NDArray[Any]) -> Values:
    values = np.ascontiguousarray(frames[column.name])
    return Values(values, None if column.absent is None else values != column.absent)


def _joined(column: Column, samples: NDArray[Any] | None, known: NDArray[np.bool_]) -> Values:
    """The values of a sample's field; NaN or 0 where there is no sample."""
    nothing = np.nan if column.dtype.kind == "f" else 0
    values = np.full((len(known), *column.shape), nothing, column.dtype)
    if samples is not None:
        values[known] = samples[f"value.{column.field}"][known]
    return Values(values, known)
