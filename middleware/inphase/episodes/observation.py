"""Observations: the values of chosen sensors and fields of a frame, as copies of their own.

A learned policy gets these; none of them is a view that the robot will write over. The place of
each value is computed once per episode, so that a step costs a copy per field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import ScheduleError
from inphase.frames.store_follower import SLOT_HEADER, StoreFollower
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan

Values = dict[str, dict[str, NDArray[Any]]]
"""sensor to field to value"""


@dataclass(frozen=True)
class ObservedField:
    """One field that is observed: where it is, what it looks like, and between which bounds."""

    sensor: str
    field: str
    index: int
    """number of the sensor in a frame"""
    offset: int
    """bytes from the start of the sample"""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: NDArray[Any]
    high: NDArray[Any]

    @property
    def name(self) -> str:
        """As `choose` takes it."""
        return f"{self.sensor}.{self.field}"

    @property
    def count(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape, dtype=np.int64))


def choose(plan: Plan, observe: Sequence[str] | None = None) -> list[ObservedField]:
    """The parts of a plan's frames that `observe` names, as "sensor" or "sensor.field"; None: all.

    They come in the schedule's order. Raises ScheduleError for a name that is none.
    """
    parts = [part for index, sensor in enumerate(plan.sensors) for part in _parts_of(index, sensor)]
    if observe is None:
        return parts
    for name in observe:
        if not any(name in (part.sensor, part.name) for part in parts):
            raise ScheduleError(
                f"{plan.schedule.path}: observe has {name!r}, which is no sensor and no field of "
                f"one; there are: {', '.join(part.name for part in parts)}"
            )
    return [part for part in parts if part.sensor in observe or part.name in observe]


def check_flat(parts: list[ObservedField]) -> None:
    """Refuse what does not go into one vector of float64. Raises ScheduleError."""
    others = [part.name for part in parts if part.dtype != np.dtype("<f8")]
    if others:
        raise ScheduleError(
            f"a flat observation takes float64 fields, and {', '.join(others)} has another type; "
            f"name those wanted in `observe`, or leave `flat` out"
        )


def _parts_of(index: int, sensor: SensorPlan) -> list[ObservedField]:
    places = sensor.dtype.fields
    assert places is not None
    parts = []
    for item in sensor.spec.fields:
        dtype = np.dtype(item.dtype)
        low, high = _bounds(sensor, item.name, item.shape, dtype)
        parts.append(
            ObservedField(
                sensor.name, item.name, index, places[item.name][1], item.shape, dtype, low, high
            )
        )
    return parts


def _bounds(
    sensor: SensorPlan, field: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The schedule's `range` of a float64 field, else all that the dtype holds."""
    if dtype == np.dtype("<f8"):
        first = sensor.first_channel(field)
        count = int(np.prod(shape, dtype=np.int64))
        sides = [
            np.array(given[first : first + count]).reshape(shape)
            for given in (sensor.low, sensor.high)
        ]
        low, high = sides
        return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    if dtype.kind == "f":
        return np.full(shape, -np.inf, dtype), np.full(shape, np.inf, dtype)
    if dtype.kind == "b":
        return np.zeros(shape, dtype), np.ones(shape, dtype)
    info = np.iinfo(dtype)
    return np.full(shape, info.min, dtype), np.full(shape, info.max, dtype)


class Observer:
    """Copies the parts of one store's frames. It lasts as long as the follower.

    sequences: the samples' numbers, by sensor, as `Layout.sequences` gives them. For a sensor
    without a sample yet, each value is 0, or the bound next to it.
    """

    def __init__(self, parts: list[ObservedField], follower: StoreFollower) -> None:
        sensors: dict[str, tuple[int, int, list[tuple[str, list[NDArray[Any]]]]]] = {}
        for part in parts:
            mask = follower.reader.rings[part.index][3] - 1
            entry = sensors.setdefault(part.sensor, (part.index, mask, []))
            ring = _ring(part, follower)
            slots = [ring[slot, ...] for slot in range(len(ring))]
            entry[2].append((part.field, [*slots, _nothing(part)]))
        self._sensors = [(name, *entry) for name, entry in sensors.items()]

    def values(self, sequences: Sequence[int]) -> Values:
        """An array per field."""
        made = {}
        for name, index, mask, fields in self._sensors:
            sequence = sequences[index]
            slot = sequence & mask if sequence >= 0 else -1  # the last one is for no sample
            made[name] = {field: slots[slot].copy() for field, slots in fields}
        return made


class FlatObserver:
    """The same as one vector of float64, part after part."""

    def __init__(self, parts: list[ObservedField], follower: StoreFollower) -> None:
        check_flat(parts)
        self._pieces: list[tuple[int, int, list[NDArray[np.float64]]]] = []
        for first, last in _runs(parts):
            run = parts[first:last]
            nothing = np.concatenate([_nothing(part).reshape(-1) for part in run])
            whole = _vector(run[0], len(nothing), nothing)
            slots = [*_ring(whole, follower), nothing]
            self._pieces.append((whole.index, len(slots) - 2, slots))
        self.only = self._pieces[0] if len(self._pieces) == 1 else None
        """where all lies in one sample: the sensor's number, a mask of its slots, and views of
        them, the last one for no sample"""

    def values(self, sequences: Sequence[int]) -> NDArray[np.float64]:
        """One vector."""
        if self.only is not None:
            index, mask, slots = self.only
            sequence = sequences[index]
            return slots[sequence & mask if sequence >= 0 else -1].copy()
        found = []
        for index, mask, slots in self._pieces:
            sequence = sequences[index]
            found.append(slots[sequence & mask if sequence >= 0 else -1])
        return np.concatenate(found)


@dataclass(frozen=True)
class Piece:
    """Bytes of a sample that are observed, for C to copy."""

    sensor: int
    """number of the sensor in a frame"""
    offset: int
    """bytes from the start of the sample"""
    nothing: NDArray[Any]
    """the values for a sensor without a sample yet"""
    to: NDArray[Any]
    """where the copies go: (turns, robots, *shape), each of the last part without gaps"""


def make_room(
    parts: list[ObservedField], flat: bool, shape: tuple[int, int]
) -> tuple[Any, list[Piece]]:
    """Arrays for what these parts are in so many turns of so many robots: one, or a dict of dicts
    as `Observer` gives them, each array with `shape` in front; and the pieces that fill them."""
    if not flat:
        made: Values = {}
        for part in parts:
            to = np.zeros((*shape, *part.shape), part.dtype)
            made.setdefault(part.sensor, {})[part.field] = to
        pieces = [
            Piece(part.index, part.offset, _nothing(part), made[part.sensor][part.field])
            for part in parts
        ]
        return made, pieces
    whole = np.zeros((*shape, sum(part.count for part in parts)))
    pieces, at = [], 0
    for first, last in _runs(parts):
        run = parts[first:last]
        nothing = np.concatenate([_nothing(part).reshape(-1) for part in run])
        to = whole[..., at : at + len(nothing)]
        pieces.append(Piece(run[0].index, run[0].offset, nothing, to))
        at += len(nothing)
    return whole, pieces


def _vector(first: ObservedField, count: int, nothing: NDArray[Any]) -> ObservedField:
    """Parts that lie one after the other in a sample, as one."""
    return ObservedField(
        first.sensor,
        first.field,
        first.index,
        first.offset,
        (count,),
        first.dtype,
        nothing,
        nothing,
    )


def _runs(parts: list[ObservedField]) -> list[tuple[int, int]]:
    """First and last + 1 of the parts that lie one after the other in a sample."""
    runs: list[tuple[int, int]] = []
    for i, part in enumerate(parts):
        before = parts[i - 1] if i else None
        if before is not None and (before.index, before.offset + 8 * before.count) == (
            part.index,
            part.offset,
        ):
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _ring(part: ObservedField, follower: StoreFollower) -> NDArray[Any]:
    """A field's values in all slots of its sensor's ring."""
    offset, stride, _, depth = follower.reader.rings[part.index]
    inner = np.empty(part.shape, part.dtype).strides
    return np.ndarray(
        (depth, *part.shape),
        part.dtype,
        follower.reader.memories[part.index],
        offset + SLOT_HEADER + part.offset,
        (stride, *inner),
    )


def _nothing(part: ObservedField) -> NDArray[Any]:
    zero = np.zeros(part.shape, part.dtype)
    return zero if part.dtype.kind == "b" else np.clip(zero, part.low, part.high)
