"""The sensors and actuators of a robot, as a description names them, and where a frame has them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames import wire
from inphase.frames.record_layout import RecordLayout


@dataclass(frozen=True)
class Layout:
    """The part of a description that frames need; made once per connection."""

    robot: str
    hash: str
    epoch: int
    period_ns: int
    sensors: tuple[str, ...]
    dtypes: tuple[np.dtype[Any], ...]
    units: tuple[dict[str, str], ...]
    depths: tuple[int, ...]
    actuators: tuple[tuple[str, int, str], ...]
    """(name, channels, unit)"""
    rates: tuple[dict[str, NDArray[np.float64]], ...] = field(default=(), compare=False)
    """per sensor and field the largest change per second that the schedule states; NaN: none"""
    indices: dict[str, int] = field(init=False, compare=False)
    """of the sensors, by name"""
    record: RecordLayout = field(init=False, compare=False)
    """of its frames"""

    def __post_init__(self) -> None:
        record = RecordLayout(len(self.sensors), [count for _, count, _ in self.actuators])
        indices = {name: index for index, name in enumerate(self.sensors)}
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "record", record)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Layout":
        """From a decoded description. Raises ValueError for what is none, or of another version."""
        if description.get("wire") != wire.VERSION:
            raise ValueError(
                f"wire version {description.get('wire')} is not {wire.VERSION}; "
                f"use the inphase version of the robot"
            )
        try:
            made = cls._made(description)
        except Exception as error:  # it came from another process: any part may be anything
            raise ValueError(f"no description of a robot: {error!r}") from error
        return made

    @classmethod
    def _made(cls, description: dict[str, Any]) -> "Layout":
        sensors = description["sensors"]
        texts = [description["robot"], description["hash"], *(s["name"] for s in sensors)]
        texts += [text for a in description["actuators"] for text in (a["name"], a["unit"])]
        counts = [description["epoch"], *(s["depth"] for s in sensors)]
        counts += [a["channels"] for a in description["actuators"]]
        for values, kind in ((texts, str), ([*counts, description["period_ns"]], int)):
            if wrong := [value for value in values if type(value) is not kind]:
                raise ValueError(f"{wrong[0]!r} is no {kind.__name__}")
        if description["period_ns"] <= 0 or min(counts, default=0) < 0:
            raise ValueError(f"period_ns {description['period_ns']}, counts {counts}")
        return cls(
            robot=description["robot"],
            hash=description["hash"],
            epoch=description["epoch"],
            period_ns=description["period_ns"],
            sensors=tuple(s["name"] for s in sensors),
            dtypes=tuple(
                wire.sample_dtype(
                    [(name, tuple(shape), kind) for name, shape, kind, _ in s["fields"]]
                )
                for s in sensors
            ),
            units=tuple({name: unit for name, _, _, unit in s["fields"]} for s in sensors),
            depths=tuple(s["depth"] for s in sensors),
            actuators=tuple(
                (a["name"], a["channels"], a["unit"]) for a in description["actuators"]
            ),
            rates=tuple(_rates(s) for s in sensors),
        )


def _rates(sensor: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Raises ValueError for rates that do not fit their fields."""
    shapes = {name: tuple(shape) for name, shape, _, _ in sensor["fields"]}
    return {
        name: np.array([np.nan if r is None else r for r in rates], "<f8").reshape(shapes[name])
        for name, rates in sensor.get("rate", {}).items()
    }
