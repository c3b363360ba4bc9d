"""The columns of a LeRobot dataset: which numbers of a recording, in what order, by what name."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from inphase.errors import RecordingError
from inphase.export.frame_table import Column, FrameTable, ImageColumn
from inphase.export.lerobot.options import LeRobotOptions

STATE, ACTION = "observation.state", "action"
OWN = "inphase"
"""the first name of the columns that LeRobot's policies do not look at"""
_FRAME_STAMPS = ("due_ns", "woke_ns", "latched_ns")
ACT_STAMPS = ("acted_ns", "inferred_ns", "inference_ns", "answered_cycle")
"""of a frame, about the act before it"""
DROVE = "drove"
"""likewise, who gave its command"""
_ROW_STAMPS = ("triggered_ns", "acquired_ns", "received_ns", "age_ns")
_COLOURS = 3
_LONGEST_DENOMINATOR = 1001
"""of a rate as a fraction: 30000/1001 is one of the standard ones"""


@dataclass(frozen=True)
class Camera:
    """An image sensor as a column."""

    key: str
    image: ImageColumn

    @property
    def height(self) -> int:
        """In pixels."""
        return self.image.shape[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.image.shape[1]


@dataclass(frozen=True)
class Features:
    """All columns of a dataset; those of two recordings that are equal go into one."""

    fps: Fraction
    state: tuple[Column, ...]
    action: tuple[str, ...]
    """the columns of the acts, one per actuator"""
    action_names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    sensors: tuple[str, ...]
    options: LeRobotOptions

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of each number."""
        return tuple(
            name
            for column in self.state
            for name in _numbered(f"{column.sensor}.{column.field}", column.shape)
        )

    @property
    def stamps(self) -> Iterator[tuple[str, str]]:
        """Columns of stamps that may be absent, and what they are called in a recording; of an act
        it is that which answers the row's frame."""
        for stamp in ACT_STAMPS:
            yield f"{OWN}.{stamp}", stamp
        for sensor in self.sensors:
            for stamp in _ROW_STAMPS:
                yield f"{OWN}.{sensor}.{stamp}", f"sensors.{sensor}.{stamp}"

    @property
    def frame_stamps(self) -> Iterator[tuple[str, str]]:
        """Likewise, columns of stamps that are always there."""
        for stamp in ("cycle", *_FRAME_STAMPS):
            yield f"{OWN}.{stamp}", stamp

    def described(self) -> dict[str, dict[str, Any]]:
        """As `info.json` has them, in the order of the table's columns."""
        found: dict[str, dict[str, Any]] = {}
        if self.state_names:
            found[STATE] = _feature("float32", self.state_names)
        if self.action_names:
            found[ACTION] = _feature("float32", self.action_names)
        for camera in self.cameras:
            found[camera.key] = {
                "dtype": "image" if self.options.images == "png" else "video",
                "shape": [camera.height, camera.width, _COLOURS],
                "names": ["height", "width", "channels"],
            }
        found["timestamp"] = _feature("float32")
        for name in ("frame_index", "episode_index", "index", "task_index"):
            found[name] = _feature("int64")
        for name, _ in self.frame_stamps:
            found[name] = _feature("int64")
        for name, _ in self.stamps:
            found[name] = _feature("int64")
            found[f"{name}_known"] = _feature("bool")
        for sensor in self.sensors:
            found[f"{OWN}.{sensor}.status"] = _feature("int64")
            found[f"{OWN}.{sensor}.known"] = _feature("bool")
        if self.action_names:
            found[f"{OWN}.{ACTION}_known"] = _feature("bool")
            found[f"{OWN}.{DROVE}"] = _feature("int64")
        return found


def features_of(
    table: FrameTable, options: LeRobotOptions, silent: Collection[str]
) -> tuple[Features, list[str]]:
    """Of a recording, and what is left out, for a person. silent: sensors that are no part of a
    state, since a recording has no sample of them. Raises RecordingError for fields that the
    recordings do not have."""
    layout = table.recording.layout
    rate = Fraction(10**9, layout.period_ns * options.every)
    cameras = []
    left_out = (
        [] if options.state else [f"{name} gave no sample: not in {STATE}" for name in silent]
    )
    if not layout.actuators:
        left_out.append(f"the robot has no actuator: there is no {ACTION}")
    for image in table.images if options.images != "none" else ():
        if image.dtype != np.uint8:
            left_out.append(f"{image.sensor}: a picture has 8 bits per colour, this one has 16")
            continue
        if image.shape[2:] == (4,):
            left_out.append(f"{image.sensor}: the fourth colour is left out")
        cameras.append(Camera(f"observation.images.{image.sensor}", image))
    made = Features(
        fps=rate.limit_denominator(_LONGEST_DENOMINATOR),
        state=tuple(_chosen(table, options.state, silent)),
        action=tuple(f"actuators.{name}.{options.action}" for name, _, _ in layout.actuators),
        action_names=tuple(
            name for act, count, _ in layout.actuators for name in _numbered(act, (count,))
        ),
        cameras=tuple(cameras),
        sensors=layout.sensors,
        options=options,
    )
    return made, left_out


def _chosen(
    table: FrameTable, wanted: Collection[str], silent: Collection[str]
) -> Iterator[Column]:
    """The fields of the state, in the order asked for. Raises RecordingError."""
    if not wanted:
        yield from (c for c in table.of_samples if c.sensor not in silent)
        return
    for name in wanted:
        sensor, _, field = name.partition(".")
        found = [c for c in table.of_samples if c.sensor == sensor and field in ("", c.field)]
        if not found:
            there = ", ".join(f"{c.sensor}.{c.field}" for c in table.of_samples) or "none"
            raise RecordingError(
                f"{table.recording.path} has no numbers {name}; there are: {there}"
            )
        if sensor in silent:
            raise RecordingError(f"{sensor} gave no sample in one of the recordings; leave it out")
        yield from found


def _numbered(name: str, shape: tuple[int, ...]) -> list[str]:
    count = int(np.prod(shape, dtype=int))
    return [f"{name}.{index}" for index in range(count)] if shape else [name]


def _feature(dtype: str, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    shape = [1] if names is None else [len(names)]
    return {"dtype": dtype, "shape": shape, "names": None if names is None else list(names)}
