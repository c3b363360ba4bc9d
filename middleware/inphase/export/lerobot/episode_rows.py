"""The rows of an episode: what a policy saw in a frame, and the act that answered that frame."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.export.frame_table import FrameTable, Values
from inphase.export.lerobot.features import ACT_STAMPS, ACTION, DROVE, OWN, STATE, Features
from inphase.export.source import EpisodeSpan

_AHEAD = 4
"""frames after the last one of a stretch in which the act of its cycle is looked for"""

_LOOKED_BACK = 1024
"""frames at a time, for the last one that was acted on"""


class RowBlock(NamedTuple):
    """Rows of an episode: the numbers of each column, and the sequence of each camera's image."""

    columns: dict[str, Values]
    images: dict[str, NDArray[np.int64]]
    """by camera's key, -1 where there is none"""
    stop: int
    """place of the frame after the last one that was read"""


def complete(table: FrameTable, features: Features, span: EpisodeSpan) -> EpisodeSpan:
    """The part of an episode from the first frame on in which each column has a number, up to the
    last frame that was acted on; empty where there is none."""
    wanted = {column.sensor for column in features.state}
    wanted |= {camera.image.sensor for camera in features.cameras}
    first = span.stop
    for stretch in table.stretches(span.first, span.stop):
        frames = table.recording.frames(stretch.start, stretch.stop)
        known = np.ones(len(frames), bool)
        for sensor in wanted:
            known &= table.places(sensor, frames[f"sensors.{sensor}.sequence"])[1]
        if known.any():
            first = stretch.start + int(np.argmax(known))
            break
    stop = _last_acted(table, first, span.stop) if features.action else span.stop
    return EpisodeSpan(first, stop, span.outcome)


def _last_acted(table: FrameTable, first: int, stop: int) -> int:
    """The place behind the last of these frames that was acted on; `first` where none was."""
    while stop > first:
        start = max(first, stop - _LOOKED_BACK)
        ahead = table.recording.frames(start, stop + _AHEAD)
        own = ahead["cycle"][: stop - start]
        acted = np.flatnonzero(np.isin(own, ahead["acted_cycle"]))
        if len(acted):
            return start + int(acted[-1]) + 1
        stop = start
    return first


class EpisodeRows:
    """Reads the rows of an episode, some at a time. Thread: one at a time."""

    def __init__(self, table: FrameTable, features: Features, span: EpisodeSpan) -> None:
        self._table = table
        self._features = features
        self._span = span
        self._held: dict[str, NDArray[np.float32]] = {}
        """the last known numbers"""
        self.without_action = 0
        """rows whose frame nothing answered"""
        self.without_state = 0
        """rows in which a sensor has not given a sample yet: NaN"""
        self.absent = 0
        """stamps"""
        self.left_out = 0
        """cycles between the frames, of which there is no frame"""
        self._newest: int | None = None

    def __len__(self) -> int:
        first, stop, _ = self._span
        return len(range(first, stop, self._features.options.every))

    def __iter__(self) -> Iterator[RowBlock]:
        first, stop, _ = self._span
        every = self._features.options.every
        for stretch in self._table.stretches(first, stop, self._picture_bytes // every):
            rows = self._table.rows(stretch)
            cycles = rows["cycle"].values
            before = cycles[:1] - 1 if self._newest is None else [self._newest]
            self.left_out += int((np.diff(cycles, prepend=before) - 1).sum())
            self._newest = int(cycles[-1])
            rows |= self._acts(stretch, cycles)
            taken = np.arange((first - stretch.start) % every, len(stretch), every)
            if not len(taken):
                continue
            picked = {
                name: Values(one.values[taken], None if one.known is None else one.known[taken])
                for name, one in rows.items()
            }
            yield RowBlock(self._columns(picked), self._images(picked), stretch.stop)

    @property
    def _picture_bytes(self) -> int:
        """Of a row's pictures, where they are in the table."""
        if self._features.options.images != "png":
            return 0
        return sum(camera.image.size for camera in self._features.cameras)

    def _acts(self, stretch: range, cycles: NDArray[np.int64]) -> dict[str, Values]:
        """Of each frame's own cycle: a frame has the act before it, so it is in the next one."""
        ahead = self._table.recording.frames(stretch.start, stretch.stop + _AHEAD)
        acted = ahead["acted_cycle"]
        at = np.searchsorted(acted, cycles)
        known = at < len(acted)
        known[known] = acted[at[known]] == cycles[known]
        at[~known] = 0
        found = {}
        for name in self._features.action:
            values = ahead[name][at].astype(np.float64)
            values[~known] = np.nan
            found[name] = Values(values, known & np.isfinite(values).all(axis=1))
        found[DROVE] = Values(np.where(known, ahead[DROVE][at], 0).astype(np.int64))
        for column in self._table.of_frames:
            if column.name in ACT_STAMPS:
                there = known & (ahead[column.name][at] != column.absent)
                found[column.name] = Values(ahead[column.name][at], there)
        return found

    def _columns(self, rows: dict[str, Values]) -> dict[str, Values]:
        features = self._features
        found: dict[str, Values] = {}
        count = len(rows["cycle"].values)
        if features.state:
            found[STATE] = self._joined(STATE, [rows[c.name] for c in features.state])
            self.without_state += int(np.isnan(found[STATE].values).any(axis=1).sum())
        if features.action:
            found[ACTION] = self._joined(ACTION, [rows[name] for name in features.action])
            known: Any = np.ones(count, bool)
            for name in features.action:
                known = known & rows[name].known
            found[f"{OWN}.{ACTION}_known"] = Values(known)
            found[f"{OWN}.{DROVE}"] = rows[DROVE]
            self.without_action += count - int(known.sum())
        for name, source in features.frame_stamps:
            found[name] = Values(rows[source].values)
        for name, source in features.stamps:
            values, known = rows[source]
            assert known is not None
            self.absent += count - int(known.sum())
            if features.options.fill_absent:
                found[name] = Values(np.where(known, values, np.iinfo(np.int64).min))
            else:
                found[name] = Values(values, known)
            found[f"{name}_known"] = Values(known)
        for sensor in features.sensors:
            status = rows[f"sensors.{sensor}.status"].values
            found[f"{OWN}.{sensor}.status"] = Values(status.astype(np.int64))
            _, there = self._table.places(sensor, rows[f"sensors.{sensor}.sequence"].values)
            found[f"{OWN}.{sensor}.known"] = Values(there)
        return found

    def _joined(self, key: str, parts: list[Values]) -> Values:
        """The numbers of several columns side by side, float32. Where one is not known the last
        known ones stay: they are still what the policy has, or what the robot does."""
        done = []
        for index, (values, known) in enumerate(parts):
            flat = values.reshape(len(values), -1).astype(np.float32)
            assert known is not None
            last = self._held.get(f"{key}.{index}", np.full(flat.shape[1], np.nan, np.float32))
            at = np.maximum.accumulate(np.where(known, np.arange(len(flat)), -1))
            flat = np.where(at[:, None] < 0, last, flat[at])
            self._held[f"{key}.{index}"] = flat[-1]
            done.append(flat)
        return Values(np.hstack(done))

    def _images(self, rows: dict[str, Values]) -> dict[str, NDArray[np.int64]]:
        found = {}
        for camera in self._features.cameras:
            wanted = rows[f"sensors.{camera.image.sensor}.sequence"].values
            _, known = self._table.places(camera.image.sensor, wanted)
            found[camera.key] = np.where(known, wanted, -1)
        return found
