"""The description of a robot for the page, and what each frame says, as JSON."""

import math
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from inphase.frames import meanings, words
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.record_layout import REASONS
from inphase.schedule.simulation_tables import Page
from inphase.web.camera_images import image_field

_VALUES_MAX = 64  # of a field that is plotted
_KINDS = "fiub"
_DIGITS = 6


def page_of(tables: Mapping[str, Any]) -> Page:
    """The page's table of a schedule."""
    return msgspec.convert(tables.get("page", {}), Page)


def tables_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule in a description, as it was written."""
    return tomllib.loads(str(description["schedule"]))


class FrameWords:
    """Says the frames of one run. Thread: one at a time."""

    def __init__(self, description: dict[str, Any], layout: Layout) -> None:
        self.layout = layout
        self._description = description
        found = [image_field(dtype) for dtype in layout.dtypes]
        self.images = {index: name for index, name in enumerate(found) if name is not None}
        """by sensor, the field with its pixels"""
        self.fields = [
            [] if index in self.images else _plotted(dtype)
            for index, dtype in enumerate(layout.dtypes)
        ]
        """by sensor, those that are plotted"""

    def describe(self, model: list[int] | None) -> dict[str, Any]:
        """The facts that do not change in a run. model: the sensors that move it; None: there is
        none."""
        layout, tables = self.layout, tables_of(self._description)
        return {
            "kind": "description",
            "robot": layout.robot,
            "hash": layout.hash,
            "epoch": f"{layout.epoch:016x}",
            "period_ns": layout.period_ns,
            "model": model,
            "sensors": [self._sensor(index) for index in range(len(layout.sensors))],
            "actuators": [
                {
                    "name": name,
                    "channels": channels,
                    "unit": unit,
                    "feedback": tables.get("actuator", {}).get(name, {}).get("feedback"),
                }
                for name, channels, unit in layout.actuators
            ],
            "meanings": {
                "state": _meanings(meanings.STATES),
                "reason": _meanings(meanings.REASONS),
                "status": _meanings(meanings.STATUSES),
                "flag": _meanings(meanings.FRAME_FLAGS),
            },
        }

    def _sensor(self, index: int) -> dict[str, Any]:
        layout = self.layout
        dtype, units = layout.dtypes[index], layout.units[index]
        return {
            "name": layout.sensors[index],
            "image": index in self.images,
            "fields": [
                {"name": name, "count": _count(dtype[name]), "unit": units[name]}
                for name in self.fields[index]
            ],
        }

    def say(self, frame: Frame) -> dict[str, Any]:
        """The content of a frame. A number that is not known is null."""
        return {
            "kind": "frame",
            "cycle": frame.cycle,
            "t_s": frame.latched_ns / 1e9,
            "state": frame.state,
            "reason": frame.reason,
            "detail": frame.detail,
            "flags": frame.flags,
            "skew_us": None if frame.skew_ns is None else frame.skew_ns / 1e3,
            "episode": [frame.episode, frame.outcome],
            "lease": frame.command.lease,
            "drove": frame.command.drove,
            "sensors": [self._sample(frame, index) for index in range(len(self.fields))],
            "acts": [
                {
                    "requested": _plain(act.requested),
                    "applied": _plain(act.applied),
                    "flags": act.flags,
                    "reason": act.reason,
                }
                for act in frame.command
            ],
        }

    def _sample(self, frame: Frame, index: int) -> dict[str, Any]:
        sample = frame[self.layout.sensors[index]]
        values: list[list[float | None]] | None = None
        if self.fields[index]:
            found = words.values_of(sample)
            if found is not None:
                values = [_plain(found[name]) for name in self.fields[index]]
        return {
            "status": sample.status,
            "reason": sample.reason,
            "detail": sample.detail,
            "age_us": None if sample.age_ns is None else sample.age_ns / 1e3,
            "values": values,
        }


def counted(reader: Any) -> dict[str, Any]:
    """The counts of the core since the run's start."""
    status = reader.status()
    return {
        "kind": "counts",
        **{key: status[key] for key in ("cycles", "skipped", "overruns", "estops")},
        "latched": REASONS[status["latched"]],
        "latched_detail": status["latched_detail"],
        "refusal": REASONS[status["refusal"]],
        "granted": bool(reader.realtime()["granted"]),
        "counts": reader.counts(),
        "statuses": reader.statuses(),
    }


def _meanings(table: Mapping[str, meanings.Meaning]) -> dict[str, list[str]]:
    return {name: [one.meaning, one.remedy_of_command] for name, one in table.items()}


def _plotted(dtype: np.dtype[Any]) -> list[str]:
    return [
        name
        for name in dtype.names or ()
        if dtype[name].base.kind in _KINDS and _count(dtype[name]) <= _VALUES_MAX
    ]


def _count(dtype: np.dtype[Any]) -> int:
    return int(np.prod(dtype.shape, dtype=int))


def _plain(values: Any) -> list[float | None]:
    """Numbers for JSON, which has no NaN and no infinity."""
    return [
        round(value, _DIGITS) if math.isfinite(value) else None
        for value in np.asarray(values, np.float64).reshape(-1).tolist()
    ]
