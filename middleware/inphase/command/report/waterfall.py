"""The moments of single cycles, for the page's picture that steps from one to the next."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.command.report.numbers import difference
from inphase.frames.record_layout import ABSENT
from inphase.recording.recording import Recording
from inphase.timing.recorded_schedule import RecordedSchedule

_BYTES_MAX = 4_000_000
"""of a page's moments; a longer run has those around its worst cycles, and at its ends"""
_AROUND = 5
_HEAD = ("cycle", "woke", "latched", "posted", "acted", "flags", "state", "reason", "skipped")
_OF_SENSOR = ("triggered", "acquired", "received", "status")


class Waterfall:
    """Columns of float64, one row per cycle: times in ns after the cycle's due time, NaN where one
    is not known."""

    def __init__(self, schedule: RecordedSchedule, frames: int) -> None:
        self._schedule = schedule
        sensors = [sensor.name for sensor in schedule.sensors]
        self.columns = [*_HEAD, *(f"{name}.{one}" for name in sensors for one in _OF_SENSOR)]
        self.has_all = frames * len(self.columns) * 8 <= _BYTES_MAX
        self._kept: list[NDArray[Any]] = []
        self.rows = np.zeros((0, len(self.columns)))
        """what the page has, in the order of cycles"""

    def take(self, frames: NDArray[Any]) -> None:
        """A stretch of frames; they are kept as long as the page has room for all."""
        if self.has_all:
            self._kept.append(frames)

    def finish(self, recording: Recording, worst: list[int]) -> None:
        """All frames are taken. worst: the cycles that are wanted if not all fit."""
        if self.has_all:
            self.rows = self._moments(np.concatenate(self._kept))
            self._kept = []
            return
        parts = [self._moments(recording.frames(first, stop)) for first, stop in _spans(
            [0, len(recording) - 1, *_places(recording, worst)], len(recording)
        )]  # fmt: skip
        self.rows = np.concatenate(parts)

    def _moments(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        due, cycles = frames["due_ns"], frames["cycle"]
        found: dict[str, Any] = {
            "cycle": cycles,
            "woke": difference(frames["woke_ns"], due),
            "latched": difference(frames["latched_ns"], due),
            "posted": _told_later(frames, "inferred_ns"),
            "acted": _told_later(frames, "acted_ns"),
            **{name: frames[name] for name in ("flags", "state", "reason", "skipped")},
        }
        for sensor in self._schedule.sensors:
            at = f"sensors.{sensor.name}."
            for one in _OF_SENSOR[:-1]:
                found[f"{sensor.name}.{one}"] = difference(frames[f"{at}{one}_ns"], due)
            found[f"{sensor.name}.status"] = frames[f"{at}status"]
        return np.column_stack([np.asarray(found[name], np.float64) for name in self.columns])

    def encoded(self) -> str:
        """The rows as base64, little-endian."""
        return base64.b64encode(self.rows.astype("<f8").tobytes()).decode()


def _told_later(frames: NDArray[Any], name: str) -> NDArray[np.float64]:
    """A stamp of the act, after the due time of its own cycle: the next frame tells it."""
    found = np.full(len(frames), np.nan)
    stamps, acted = frames[name][1:], frames["acted_cycle"][1:]
    is_own = (acted == frames["cycle"][:-1]) & (stamps != ABSENT)
    found[:-1][is_own] = (stamps - frames["due_ns"][:-1])[is_own]
    return found


def _places(recording: Recording, cycles: list[int]) -> list[int]:
    """Of the frames of cycles, found by halves: frames are in the order of their cycles."""
    found = []
    for cycle in cycles:
        low, high = 0, len(recording)
        while low < high:
            middle = (low + high) // 2
            if recording[middle].cycle < cycle:
                low = middle + 1
            else:
                high = middle
        if low < len(recording) and recording[low].cycle == cycle:
            found.append(low)
    return found


def _spans(places: list[int], count: int) -> list[tuple[int, int]]:
    """The frames around places, each once."""
    found: list[tuple[int, int]] = []
    for place in sorted(places):
        first, stop = max(0, place - _AROUND), min(count, place + _AROUND + 2)
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((first, stop))
    return found
