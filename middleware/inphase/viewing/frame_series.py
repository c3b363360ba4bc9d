"""Frames as viewers want them that plot: series of numbers, images, and remarks where words change.

A path has a name per level, as `sensors/joints/position`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.frames import words
from inphase.frames.frame import Frame, Sample
from inphase.frames.layout import Layout
from inphase.frames.record_layout import STATUSES
from inphase.recording.channels import image_encoding

_VALUES_MAX = 64  # of a field that is plotted
_GOOD = {"FRESH", "HELD", "none", "opened", "armed", "running", "stopped", "done", "request"}


class Series(NamedTuple):
    """Numbers of one instant, shape (n,), float64, SI."""

    path: str
    values: NDArray[np.float64]


class SeenImage(NamedTuple):
    """An image, shape (height, width) or (height, width, colours), uint8 or uint16."""

    path: str
    values: NDArray[Any]


class Remark(NamedTuple):
    """Words that have changed."""

    path: str
    text: str
    is_bad: bool


@dataclass
class FrameSeries:
    """The series of a robot's frames. A sample is in the first frame that names it."""

    layout: Layout
    _sequences: dict[str, int] = field(default_factory=dict)
    _words: dict[str, str] = field(default_factory=dict)
    """by their subject, the last ones"""

    def names(self) -> Iterator[tuple[str, list[str]]]:
        """The names of the numbers of a series, by its path."""
        layout = self.layout
        for sensor, dtype, units in zip(layout.sensors, layout.dtypes, layout.units, strict=True):
            for name in dtype.names or ():
                count = int(np.prod(dtype[name].shape, dtype=int))
                if is_series(dtype[name]):
                    yield f"sensors/{sensor}/{name}", _numbered(name, count, units[name])
        for name, channels, unit in layout.actuators:
            for kind in ("requested", "applied"):
                yield f"actuators/{name}/{kind}", _numbered(kind, channels, unit)

    def images(self) -> Iterator[str]:
        """The paths of images."""
        for sensor, dtype in zip(self.layout.sensors, self.layout.dtypes, strict=True):
            if image_encoding(dtype) is not None:
                yield f"sensors/{sensor}"

    def of(self, frame: Frame) -> Iterator[Series | SeenImage | Remark]:
        """The content of a frame. A number that is not known has no series, nor has a sample that
        was recycled."""
        yield from self._timing(frame)
        yield from self._remark("state", _with(frame.state, frame.reason))
        yield from self._remark("flags", " ".join(frame.flags) or "none")
        for act in frame.command:
            yield Series(f"actuators/{act.name}/requested", np.array(act.requested, np.float64))
            yield Series(f"actuators/{act.name}/applied", np.array(act.applied, np.float64))
        for name, sample in frame.samples.items():
            yield from self._remark(name, _with(sample.status, sample.reason))
            yield from self._sample(name, sample)

    def _timing(self, frame: Frame) -> Iterator[Series]:
        yield _one("frame/wake_late_ns", frame.woke_ns - frame.due_ns)
        if frame.skew_ns is not None:
            yield _one("frame/skew_ns", frame.skew_ns)
        for name, sample in frame.samples.items():
            if sample.status in STATUSES:
                yield _one(f"frame/status/{name}", STATUSES.index(sample.status))
            if sample.age_ns is not None:
                yield _one(f"frame/age_ns/{name}", sample.age_ns)

    def _remark(self, subject: str, text: str) -> Iterator[Remark]:
        if self._words.get(subject) != text:
            self._words[subject] = text
            yield Remark("frame/log", f"{subject} {text}", not _GOOD.issuperset(text.split()))

    def _sample(self, name: str, sample: Sample) -> Iterator[Series | SeenImage]:
        if sample.sequence < 0 or self._sequences.get(name) == sample.sequence:
            return
        values = words.values_of(sample)
        if values is None:
            return
        self._sequences[name] = sample.sequence
        if image_encoding(self.layout.dtypes[self.layout.indices[name]]) is not None:
            yield SeenImage(f"sensors/{name}", next(iter(values.values())))
            return
        for one, value in values.items():
            if is_series(np.dtype((value.dtype, value.shape))):
                yield Series(f"sensors/{name}/{one}", value.reshape(-1).astype(np.float64))


def is_series(dtype: np.dtype[Any]) -> bool:
    """True for a field whose numbers are plotted: not for arrays of bytes or long ones."""
    count = int(np.prod(dtype.shape, dtype=int))
    is_bytes = dtype.base == np.uint8 and bool(dtype.shape)
    return dtype.base.kind in "fiub" and count <= _VALUES_MAX and not is_bytes


def _one(path: str, value: float) -> Series:
    return Series(path, np.array([value], np.float64))


def _numbered(name: str, count: int, unit: str) -> list[str]:
    return [f"{name}{f' {number}' if count > 1 else ''} [{unit}]" for number in range(count)]


def _with(word: str, reason: str) -> str:
    return word if reason == "none" else f"{word} {reason}"
