"""A recording as a Parquet file: a row per frame.

A number that is not known is null. Units are in the metadata of the fields, what a run is in that
of the file. An image is in the first row that names it, and null in the rows that hold it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from inphase.export.frame_table import Column, FrameTable, ImageColumn, Values
from inphase.export.source import run_facts
from inphase.recording.recording import Recording


def write(recording: Recording, file: Path, progress: Callable[[int], None]) -> list[str]:
    """Write all frames of a recording; what is missing in them, for a person. progress: is told how
    many are done. Raises OSError, RecordingError."""
    table = FrameTable(recording)
    schema = _schema(table)
    images = _Images(table)
    with (
        file.open("wb") as sink,
        pq.ParquetWriter(sink, schema, compression="zstd", write_statistics=True) as writer,
    ):
        for stretch in table.stretches(0, len(recording), images.row_bytes):
            rows = table.rows(stretch)
            arrays = [_array(rows[column.name], column) for column in table.columns]
            arrays += images.arrays(rows)
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            progress(stretch.stop)
    return [
        f"{recording.path}: {n} rows of {name} without its sample"
        for name, n in table.lost.items()
        if n
    ]


def _schema(table: FrameTable) -> pa.Schema:
    facts = run_facts(table.recording)
    texts = {"inphase": json.dumps(facts)}
    fields = [
        pa.field(
            column.name,
            _type(column),
            nullable=column.absent is not None or bool(column.sensor),
            metadata=_described(column.unit, column.shape),
        )
        for column in table.columns
    ]
    fields += [
        pa.field(_image_name(one), pa.large_binary(), metadata=_described("", one.shape, one.dtype))
        for one in table.images
    ]
    return pa.schema(fields, metadata=texts)


def _described(unit: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> Any:
    found = {"unit": unit} if unit else {}
    if len(shape) > 1:
        found["shape"] = json.dumps(shape)
    if dtype is not None:
        found["dtype"] = dtype.str
    return found or None


def _type(column: Column) -> pa.DataType:
    one = pa.from_numpy_dtype(column.dtype)
    return pa.list_(one, int(np.prod(column.shape, dtype=int))) if column.shape else one


def _array(of: Values, column: Column) -> pa.Array:
    """Of a stretch; an array of numbers is flat, in C order."""
    values, known = of
    mask = None if known is None or known.all() else ~known
    if not column.shape:
        return pa.array(values, mask=mask)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    count = int(np.prod(column.shape, dtype=int))
    return pa.FixedSizeListArray.from_arrays(
        flat, count, mask=None if mask is None else pa.array(mask)
    )


def _image_name(column: ImageColumn) -> str:
    return f"sensors.{column.sensor}.value.{column.field}"


class _Images:
    """The images of a table, each once."""

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self._newest = dict.fromkeys((one.sensor for one in table.images), -1)
        frames = len(table.recording)
        self.row_bytes = sum(
            one.size * len(table.recording.sequences(one.sensor)) // frames for one in table.images
        )
        """on the average: each image is in one row"""

    def arrays(self, rows: dict[str, Values]) -> list[pa.Array]:
        """Of a stretch, in the order of the table's images."""
        return [
            self._of(one, rows[f"sensors.{one.sensor}.sequence"].values)
            for one in self._table.images
        ]

    def _of(self, column: ImageColumn, sequences: NDArray[np.int64]) -> pa.Array:
        _, there = self._table.places(column.sensor, sequences)
        lost = self._table.lost
        lost[column.sensor] = lost.get(column.sensor, 0) + int((~there & (sequences >= 0)).sum())
        found: list[bytes | None] = []
        for sequence, is_there in zip(sequences.tolist(), there.tolist(), strict=True):
            is_new = is_there and sequence > self._newest[column.sensor]
            found.append(self._table.image(column, sequence).tobytes() if is_new else None)
            if is_new:
                self._newest[column.sensor] = sequence
        return pa.array(found, pa.large_binary())
