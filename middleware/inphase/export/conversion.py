"""Converting finished recordings: by the form's name, whole or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from inphase.export.lerobot.options import LeRobotOptions
from inphase.export.source import losses, opened_parts, sources
from inphase.export.whole import made_whole
from inphase.recording.packages import require
from inphase.recording.recorder_process import refuse_name
from inphase.recording.recording import Recording

LEROBOT, PARQUET, NUMPY = "lerobot", "parquet", "numpy"
ENDINGS = {".parquet": PARQUET, ".npz": NUMPY}
"""of names that say their form"""


class Converted(NamedTuple):
    """The outcome of a conversion."""

    rows: int
    episodes: int
    missing: list[str]
    """what the recordings lack, for a person"""
    notes: list[str]
    """what else a person should know of the rows"""


def convert(
    paths: Sequence[Path],
    out: Path,
    form: str,
    options: LeRobotOptions,
    progress: Callable[[int, int], None],
) -> Converted:
    """Convert finished recordings into `out`, which is made and is there only when it is whole.

    form: LEROBOT, PARQUET or NUMPY; the last two take one recording, or the files of one run in
    order. progress: is told how many frames of how many are done. Raises RecordingError: then
    nothing is left of it.
    """
    refuse_name(out)
    if form == LEROBOT:
        return _to_lerobot(paths, out, options, progress)
    require(*(["pyarrow"] if form == PARQUET else []))
    with opened_parts(paths) as recording:
        total = len(recording)
        with made_whole(out) as made:
            found = _written(recording, made, form, lambda done: progress(done, total))
        return Converted(total, 1, losses(recording) + found, [])


def _written(
    recording: Recording, made: Path, form: str, progress: Callable[[int], None]
) -> list[str]:
    if form == PARQUET:
        from inphase.export import parquet

        return parquet.write(recording, made, progress)
    from inphase.export import numpy_files

    write = numpy_files.write_file if made.suffix == ".npz" else numpy_files.write_folder
    return write(recording, made, progress)


def _to_lerobot(
    paths: Sequence[Path],
    out: Path,
    options: LeRobotOptions,
    progress: Callable[[int, int], None],
) -> Converted:
    require("pyarrow", *(["av"] if options.images != "none" else []))
    from inphase.export.lerobot import dataset

    with sources(paths, options.outcomes) as found:
        total = sum(len(source.recording) for source in found)
        with made_whole(out) as made:
            written = dataset.write(found, made, options, lambda done: progress(done, total))
        missing = [text for source in found for text in losses(source.recording)]
        notes = [note for source in found for note in source.notes]
    return Converted(
        written.rows, written.episodes, missing + written.missing, notes + written.notes
    )
