"""A LeRobot dataset, version 3.0: tables, videos, and what describes them.

data/chunk-000/file-000.parquet      rows of whole episodes
videos/KEY/chunk-000/file-000.mp4    an episode each
meta/                                info.json, stats.json, tasks and episodes as Parquet
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inphase.errors import RecordingError
from inphase.export.frame_table import FrameTable
from inphase.export.lerobot import pictures
from inphase.export.lerobot.episode_rows import EpisodeRows, RowBlock, complete
from inphase.export.lerobot.features import ACTION, OWN, STATE, Features, features_of
from inphase.export.lerobot.options import LeRobotOptions
from inphase.export.lerobot.reels import Reel
from inphase.export.lerobot.statistics import RunningStatistics
from inphase.export.source import ConvertedRecording, EpisodeSpan, run_facts

VERSION = "v3.0"
_FILES_PER_CHUNK = 1000
_DATA_MB, _VIDEO_MB = 100, 200
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_DATA = f"data/{_FILE}.parquet"
_VIDEO = f"videos/{{video_key}}/{_FILE}.mp4"
_EPISODES = f"meta/episodes/{_FILE}.parquet"
_ROWS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


_COMPLETE = "--complete begins later"


class Written(NamedTuple):
    """The outcome of recordings."""

    episodes: int
    rows: int
    missing: list[str]
    """rows whose numbers are not in the recordings, for a person"""
    notes: list[str]
    """what else differs from the recordings"""


def write(
    sources: Sequence[ConvertedRecording],
    folder: Path,
    options: LeRobotOptions,
    progress: Callable[[int], None],
) -> Written:
    """Write episodes into a folder, which is made. progress: is told how many frames are done.
    Raises OSError, RecordingError."""
    folder.mkdir()
    tables = [FrameTable(source.recording) for source in sources]
    if not options.task:
        options = replace(options, task=sources[0].recording.layout.robot)
    silent = {
        name
        for table in tables
        for name in table.recording.layout.sensors
        if not len(table.recording.sequences(name))
    }
    described = [features_of(table, options, sorted(silent)) for table in tables]
    features = described[0][0]
    for source, (other, _) in zip(sources, described, strict=True):
        _refuse_other(sources[0], features, source, other)
    dataset = _Dataset(folder, features)
    done = 0
    for source, table in zip(sources, tables, strict=True):
        for marked in source.spans:
            span = dataset.whole(table, marked)
            for part in _parts(span, features) if span.stop > span.first else ():
                for stop in dataset.add(source, table, part):
                    progress(done + stop)
        done += len(source.recording)
        progress(done)
    if not dataset.episodes:
        raise RecordingError(
            f"{sources[0].recording.path} has no frame that is complete: a sensor gave no sample, "
            f"or nothing acted; leave out --complete"
        )
    dataset.close([run_facts(source.recording) for source in sources])
    notes = sorted({note for _, left_out in described for note in left_out})
    return Written(len(dataset.episodes), dataset.rows, _missing(tables), notes + dataset.notes())


def _refuse_other(
    first: ConvertedRecording, features: Features, source: ConvertedRecording, other: Features
) -> None:
    """Raise RecordingError for a recording whose rows are of another kind."""
    if other == features:
        return
    differs = [
        f"{name} is {getattr(other, name)}, there {getattr(features, name)}"
        for name in ("fps", "state_names", "action_names", "cameras", "sensors", "state")
        if getattr(other, name) != getattr(features, name)
    ]
    raise RecordingError(
        f"{source.recording.path} does not fit {first.recording.path}: {differs[0]}; "
        f"make a dataset of each"
    )


def _parts(span: EpisodeSpan, features: Features) -> list[EpisodeSpan]:
    """An episode, or its parts where its video would be too long."""
    longest = int(pictures.LONGEST_S * features.fps) * features.options.every
    if not features.cameras or _are_in_table(features) or span.stop - span.first <= longest:
        return [span]
    starts = range(span.first, span.stop, longest)
    return [EpisodeSpan(at, min(at + longest, span.stop), span.outcome) for at in starts]


def _are_in_table(features: Features) -> bool:
    """Pictures lie in the table."""
    return features.options.images == "png"


def _missing(tables: Sequence[FrameTable]) -> list[str]:
    return [
        f"{table.recording.path}: {count} rows of {sensor} without its sample"
        for table in tables
        for sensor, count in table.lost.items()
        if count
    ]


class _Dataset:
    """A dataset that grows by episodes."""

    def __init__(self, folder: Path, features: Features) -> None:
        self._folder = folder
        self._features = features
        self._described = features.described()
        self._schema = _schema(self._described)
        self._writer: pq.ParquetWriter | None = None
        self._data_file = -1
        self._data_path = folder
        self._all = _statistics(features)
        self.episodes: list[dict[str, Any]] = []
        self.rows = 0
        self._without_action = self._without_state = self._left_out = 0
        self._blank = self._absent = self._incomplete = 0

    def whole(self, table: FrameTable, span: EpisodeSpan) -> EpisodeSpan:
        """The part of an episode that is taken."""
        if not self._features.options.complete:
            return span
        found = complete(table, self._features, span)
        self._incomplete += span.stop - span.first - (found.stop - found.first)
        return found

    def add(
        self, source: ConvertedRecording, table: FrameTable, span: EpisodeSpan
    ) -> Iterator[int]:
        """Write an episode; the places of the frames up to which it is done."""
        rows = EpisodeRows(table, self._features, span)
        number = len(self.episodes)
        writer = self._data_writer()
        reels = [
            Reel(self._folder / self._video_path(camera.key, number), camera, table, self._features)
            for camera in self._features.cameras
        ]
        own = _statistics(self._features)
        done = 0
        try:
            for block in rows:
                count = len(block.columns[f"{OWN}.cycle"].values)
                counted = self._counted(number, done, count)
                pngs = {reel.key: reel.take(block.images[reel.key]) for reel in reels}
                writer.write_table(_table(self._schema, block, counted, pngs))
                for statistics in (own, self._all):
                    for key, one in statistics.items():
                        if key in block.columns:
                            one.add(block.columns[key].values)
                        elif key in counted:
                            one.add(counted[key][:, None])
                done += count
                yield block.stop
        finally:
            for reel in reels:
                reel.close()
        for reel in reels:
            self._blank += reel.blank
            own[reel.key] = reel.statistics
            self._all[reel.key].add_all(reel.statistics)
        self._without_action += rows.without_action
        self._without_state += rows.without_state
        self._left_out += rows.left_out
        self._absent += rows.absent
        self._note(source, span, done, own)

    def _counted(self, episode: int, done: int, count: int) -> dict[str, Any]:
        """The columns that LeRobot counts itself; time is the row's number by the rate."""
        at = np.arange(done, done + count)
        return {
            "timestamp": (at / float(self._features.fps)).astype(np.float32),
            "frame_index": at,
            "episode_index": np.full(count, episode),
            "index": at + self.rows,
            "task_index": np.zeros(count, np.int64),
        }

    def _note(
        self,
        source: ConvertedRecording,
        span: EpisodeSpan,
        length: int,
        own: dict[str, RunningStatistics],
    ) -> None:
        number = len(self.episodes)
        found: dict[str, Any] = {
            "episode_index": number,
            "tasks": [self._features.options.task],
            "length": length,
            "data/chunk_index": self._data_file // _FILES_PER_CHUNK,
            "data/file_index": self._data_file % _FILES_PER_CHUNK,
            "dataset_from_index": self.rows,
            "dataset_to_index": self.rows + length,
        }
        if not _are_in_table(self._features):
            for camera in self._features.cameras:
                found |= {
                    f"videos/{camera.key}/chunk_index": number // _FILES_PER_CHUNK,
                    f"videos/{camera.key}/file_index": number % _FILES_PER_CHUNK,
                    f"videos/{camera.key}/from_timestamp": 0.0,
                    f"videos/{camera.key}/to_timestamp": length / float(self._features.fps),
                }
        for key, statistics in own.items():
            shape = (3, 1, 1) if key.startswith("observation.images.") else (-1,)
            found |= {
                f"stats/{key}/{name}": value for name, value in statistics.found(shape).items()
            }
        found |= {
            "inphase/recording": source.recording.path.name,
            "inphase/first_frame": span.first,
            "inphase/outcome": span.outcome or None,
        }
        found |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self.episodes.append(found)
        self.rows += length

    def _video_path(self, key: str, episode: int) -> str:
        return _VIDEO.format(video_key=key, **_place(episode))

    def _data_writer(self) -> pq.ParquetWriter:
        """Of the file for the next episode: another one once a file is large."""
        if self._writer is not None and self._data_path.stat().st_size > _DATA_MB << 20:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._data_file += 1
            self._data_path = self._folder / _DATA.format(**_place(self._data_file))
            self._data_path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._data_path, self._schema, compression="snappy")
        return self._writer

    def notes(self) -> list[str]:
        """All that a person should know of the rows."""
        found = []
        if self._incomplete:
            found.append(
                f"{self._incomplete} frames are left out, before the first sample of every sensor "
                f"and after the last act"
            )
        if self._left_out:
            found.append(
                f"{self._left_out} cycles within episodes have no frame: rows lay further apart "
                f"than `timestamp` says, {OWN}.cycle and {OWN}.latched_ns are right"
            )
        if self._without_action:
            found.append(
                f"{self._without_action} rows have no action of their own: the last one before "
                f"stays, {OWN}.{ACTION}_known is false"
            )
        if self._without_state:
            found.append(
                f"{self._without_state} rows have NaN in {STATE}, no sample yet: {_COMPLETE}"
            )
        if self._absent and not self._features.options.fill_absent:
            found.append(
                f"{self._absent} absent stamps are null: LeRobot's own training takes none, give "
                f"--fill-absent for it"
            )
        if self._blank:
            found.append(f"{self._blank} rows have no picture yet, and are black: {_COMPLETE}")
        return found

    def close(self, recordings: list[dict[str, Any]]) -> None:
        """Write what describes the dataset."""
        if self._writer is not None:
            self._writer.close()
        meta = self._folder / "meta"
        episodes = self._folder / _EPISODES.format(**_place(0))
        episodes.parent.mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist(self.episodes, _episode_schema(self.episodes)), episodes
        )
        _write_tasks(meta / "tasks.parquet", [self._features.options.task])
        (meta / "stats.json").write_text(json.dumps(self._stats(), indent=1))
        (meta / f"{OWN}.json").write_text(json.dumps({"recordings": recordings}, indent=1))
        (meta / "info.json").write_text(json.dumps(self._info(recordings), indent=1))

    def _stats(self) -> dict[str, Any]:
        found = {}
        for key, one in self._all.items():
            shape = (3, 1, 1) if key.startswith("observation.images.") else (-1,)
            if numbers := one.found(shape):
                found[key] = numbers
        return found

    def _info(self, recordings: list[dict[str, Any]]) -> dict[str, Any]:
        fps = self._features.fps
        rate = int(fps) if fps.denominator == 1 else float(fps)
        has_videos = bool(self._features.cameras) and not _are_in_table(self._features)
        for camera in self._features.cameras if has_videos else ():
            self._described[camera.key]["info"] = {
                "video.height": camera.height,
                "video.width": camera.width,
                "video.codec": pictures.CODEC,
                "video.pix_fmt": pictures.pixel_format(camera.width, camera.height),
                "video.is_depth_map": False,
                "video.fps": rate,
                "video.channels": 3,
                "has_audio": False,
            }
        return {
            "codebase_version": VERSION,
            "robot_type": recordings[0]["run"].get("robot"),
            "total_episodes": len(self.episodes),
            "total_frames": self.rows,
            "total_tasks": 1,
            "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": _DATA_MB,
            "video_files_size_in_mb": _VIDEO_MB,
            "fps": rate,
            "splits": {"train": f"0:{len(self.episodes)}"},
            "data_path": _DATA,
            "video_path": _VIDEO if has_videos else None,
            "features": self._described,
        }


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // _FILES_PER_CHUNK, "file_index": number % _FILES_PER_CHUNK}


def _statistics(features: Features) -> dict[str, RunningStatistics]:
    keys = [key for key, names in ((STATE, features.state), (ACTION, features.action)) if names]
    keys += [camera.key for camera in features.cameras]
    return {key: RunningStatistics() for key in [*keys, *_ROWS]}


# ---- tables ------------------------------------------------------------------------------------

_PNG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _schema(described: dict[str, dict[str, Any]]) -> pa.Schema:
    fields = []
    for name, feature in described.items():
        kind, (count, *more) = feature["dtype"], feature["shape"]
        if kind == "video":
            continue
        if kind == "image":
            fields.append(pa.field(name, _PNG))
            continue
        one = pa.bool_() if kind == "bool" else pa.type_for_alias(kind)
        fields.append(pa.field(name, one if count == 1 and not more else pa.list_(one, count)))
    return pa.schema(fields)


def _table(
    schema: pa.Schema, block: RowBlock, counted: dict[str, Any], pngs: dict[str, list[bytes]]
) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name in pngs:
            files = [{"bytes": one, "path": None} for one in pngs[field.name]]
            arrays.append(pa.array(files, _PNG))
            continue
        if field.name in counted:
            arrays.append(pa.array(counted[field.name], field.type))
            continue
        values, known = block.columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size))
        else:
            mask = None if known is None or known.all() else ~known
            arrays.append(pa.array(values.reshape(-1), field.type, mask=mask))
    return pa.Table.from_arrays(arrays, schema=schema)


def _episode_schema(episodes: list[dict[str, Any]]) -> pa.Schema:
    """Of all their keys: an episode without a picture has no statistics of one."""
    names = {name: value for one in episodes for name, value in one.items() if value is not None}
    names.setdefault("inphase/outcome", "")
    return pa.schema([(name, pa.infer_type([value])) for name, value in names.items()])


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """A table whose index is the text, as pandas writes one."""
    index = "__index_level_0__"
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
             "numpy_type": "int64", "metadata": None},
            {"name": None, "field_name": index, "pandas_type": "unicode",
             "numpy_type": "object", "metadata": None},
        ],
        "pandas_version": "2.0.0",
    }  # fmt: skip
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: tasks})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path)
