"""A recording as NumPy files: a folder of `.npy` that can be memory-mapped, or one `.npz`.

A row per frame. `NAME.npy` is the column NAME. The images of a sensor are in their own order, and
`sensors.NAME.place` has the image of each frame. `recording.json` has units and what the run was.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.export.frame_table import FrameTable, ImageColumn, Values
from inphase.export.source import run_facts
from inphase.recording.recording import Recording

FACTS = "recording.json"
_COPIED_BYTES = 1 << 20


def write_folder(recording: Recording, folder: Path, progress: Callable[[int], None]) -> list[str]:
    """Write all frames of a recording into a folder, which is made; what is missing in them, for a
    person. progress: is told how many are done. Raises OSError, RecordingError."""
    folder.mkdir()
    table = FrameTable(recording)
    count = len(recording)
    units = {column.name: column.unit for column in table.columns if column.unit}
    described = run_facts(recording) | {"units": units}
    (folder / FACTS).write_text(json.dumps(described, indent=1))
    for column in table.columns:
        _begin(folder, column.name, column.dtype, (count, *column.shape))
    for sensor in recording.layout.sensors:
        _begin(folder, f"sensors.{sensor}.known", np.dtype(bool), (count,))
    for image in table.images:
        _begin(folder, _place(image), np.dtype(np.int64), (count,))
        _write_images(table, image, folder)
    for stretch in table.stretches(0, count):
        rows = table.rows(stretch)
        for column in table.columns:
            _append(folder, column.name, rows[column.name].values)
        for sensor in recording.layout.sensors:
            _append_known(table, sensor, rows, folder)
        progress(stretch.stop)
    return [
        f"{recording.path}: {n} rows of {name} without its sample"
        for name, n in table.lost.items()
        if n
    ]


def write_file(recording: Recording, file: Path, progress: Callable[[int], None]) -> list[str]:
    """The same as one `.npz`, made of such a folder beside it; `recording` in it is the text of
    its facts."""
    folder = file.with_name("columns")
    found = write_folder(recording, folder, progress)
    text = (folder / FACTS).read_text()
    np.save(folder / "recording.npy", np.array(text))
    (folder / FACTS).unlink()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for one in sorted(folder.iterdir()):
            packed.write(one, one.name)
            one.unlink()
    return found


def _place(image: ImageColumn) -> str:
    return f"sensors.{image.sensor}.place"


def _begin(folder: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """The head of a file; its numbers follow."""
    with (folder / f"{name}.npy").open("xb") as file:
        np.lib.format.write_array_header_2_0(
            file,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
        )


def _append(folder: Path, name: str, values: NDArray[Any]) -> None:
    with (folder / f"{name}.npy").open("ab") as file:
        file.write(np.ascontiguousarray(values).data)


def _append_known(table: FrameTable, sensor: str, rows: dict[str, Values], folder: Path) -> None:
    """Of each frame of a stretch: has it a sample of the sensor, and where its image is."""
    for image in table.images:
        if image.sensor == sensor:
            wanted = rows[f"sensors.{sensor}.sequence"].values
            at, known = table.places(sensor, wanted)
            _append(folder, _place(image), np.where(known, at, -1).astype(np.int64))
            _append(folder, f"sensors.{sensor}.known", known)
            lost = int((~known & (wanted >= 0)).sum())
            table.lost[sensor] = table.lost.get(sensor, 0) + lost
            return
    column = next(one for one in table.of_samples if one.sensor == sensor)
    known_rows = rows[column.name].known
    assert known_rows is not None
    _append(folder, f"sensors.{sensor}.known", known_rows)


def _write_images(table: FrameTable, image: ImageColumn, folder: Path) -> None:
    """All images of a sensor, one at a time."""
    sequences = table.recording.sequences(image.sensor).tolist()
    name = f"sensors.{image.sensor}.value.{image.field}"
    _begin(folder, name, image.dtype, (len(sequences), *image.shape))
    with (folder / f"{name}.npy").open("ab") as file:
        for sequence in sequences:
            file.write(np.ascontiguousarray(table.image(image, sequence)).data)
            table.recording.forget()
