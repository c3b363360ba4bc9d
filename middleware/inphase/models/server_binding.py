"""How a policy server is bound to a schedule: which fields go out, which columns come back.

`make` checks the schedule's table against the drivers' fields and channels. Touches no network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.schedule import Schedule, channels, toml_position
from inphase.schedule.network_tables import ObservationEntry, PolicyServer
from inphase.schedule.tables import Status

_ACCEPTS: tuple[Status, ...] = ("FRESH", "HELD")
Place = tuple[str, str]
"""A sensor, and one of its fields."""


@dataclass(frozen=True)
class SentNumbers:
    """Fields that go out as one array of shape (n,): value * scale + offset."""

    places: tuple[Place, ...]
    dtype: np.dtype[Any]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True)
class SentImage:
    """An image that goes out as uint8, cropped, then resized."""

    place: Place
    crop: tuple[int, int, int, int]
    """top, left, height, width"""
    size: tuple[int, int]
    """height, width"""
    is_planar: bool
    """channels first"""


@dataclass(frozen=True)
class ServerBinding:
    """A checked observation, and the way from an answer's array to a command."""

    entries: tuple[tuple[tuple[str, ...], "SentNumbers | SentImage | str"], ...]
    """the keys that lead to each, and what is there"""
    accepts: dict[str, tuple[Status, ...]]
    """per sensor that is looked at, the statuses on which the server is asked"""
    key: str
    first: int
    rows: int
    columns: tuple[int, ...]
    """of each channel, in the order of the actuators"""
    width: int | None
    """columns that an answer has; None: at least the largest of `columns`"""
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def make(
    schedule: Schedule, dtypes: Mapping[str, np.dtype[Any]], counts: Mapping[str, int]
) -> ServerBinding:
    """Bind the schedule's policy server. dtypes: of each sensor's sample; counts: channels of each
    actuator; both in the schedule's order. Raises ScheduleError."""
    policy = schedule.policy
    assert policy is not None and policy.server is not None
    server = policy.server
    entries = tuple(
        (tuple(name.split(".")), _entry(schedule, name, entry, dtypes))
        for name, entry in server.observation.items()
    )
    read = {name for entry in server.observation.values() for name in _sensors(entry)}
    accepts = {
        name: policy.accepts.get(name, _ACCEPTS)
        for name in dtypes
        if name in read or name in policy.accepts
    }
    columns = _columns(schedule, server, sum(counts.values()))
    scale, offset = (
        np.array(_numbers(schedule, f"policy.server.actions.{key}", value, len(columns)))
        for key, value in (("scale", server.actions.scale), ("offset", server.actions.offset))
    )
    return ServerBinding(
        entries,
        accepts,
        server.actions.key,
        server.actions.first,
        policy.chunk,
        columns,
        len(columns) if server.actions.order is None else None,
        scale,
        offset,
    )


def _columns(schedule: Schedule, server: PolicyServer, channels_: int) -> tuple[int, ...]:
    order = server.actions.order
    if order is None:
        return tuple(range(channels_))
    if len(order) != channels_:
        raise schedule.error(
            "policy.server.actions.order",
            f"{len(order)} columns for {channels_} channels: {order}; give a column for each "
            f"channel, in the order of the actuators",
        )
    return tuple(order)


def _numbers(schedule: Schedule, key: str, value: float | list[float], count: int) -> list[float]:
    if trouble := channels.numbers_trouble(value, count):
        raise schedule.error(key, trouble)
    return channels.numbers(value, count)


def _sensors(entry: ObservationEntry) -> set[str]:
    places = [*(entry.fields or []), *([entry.image] if entry.image else [])]
    return {place.partition(".")[0] for place in places}


def _entry(
    schedule: Schedule,
    name: str,
    entry: ObservationEntry,
    dtypes: Mapping[str, np.dtype[Any]],
) -> SentNumbers | SentImage | str:
    path = ("policy", "server", "observation", name)
    if entry.text is not None:
        return entry.text
    if entry.image is not None:
        return _image(schedule, (*path, "image"), entry, dtypes)
    places, count = [], 0
    for index, text in enumerate(entry.fields or []):
        key = toml_position.format_path((*path, "fields", index))
        place, field = _field(schedule, key, text, dtypes)
        if field.base.kind not in "fiu":
            raise schedule.error(key, f"{text!r} is of {field.base}; give a field of numbers")
        places.append(place)
        count += int(np.prod(field.shape, dtype=np.int64))
    scale, offset = (
        np.array(_numbers(schedule, toml_position.format_path((*path, key)), value, count))
        for key, value in (("scale", entry.scale), ("offset", entry.offset))
    )
    return SentNumbers(tuple(places), np.dtype(entry.dtype), scale, offset)


def _field(
    schedule: Schedule, key: str, text: str, dtypes: Mapping[str, np.dtype[Any]]
) -> tuple[Place, np.dtype[Any]]:
    """The place of a field, and its type with its shape."""
    sensor, _, name = text.partition(".")
    fields = dtypes[sensor].fields
    if fields is None or name not in fields:
        raise schedule.error(
            key, f"no such field, got {text!r}; the sensor {sensor} has: {', '.join(fields or ())}"
        )
    return (sensor, name), fields[name][0]


def _image(
    schedule: Schedule,
    path: tuple[str, ...],
    entry: ObservationEntry,
    dtypes: Mapping[str, np.dtype[Any]],
) -> SentImage:
    assert entry.image is not None
    key = toml_position.format_path(path)
    place, field = _field(schedule, key, entry.image, dtypes)
    if field.base != np.uint8 or len(field.shape) not in (2, 3):
        raise schedule.error(
            key,
            f"{entry.image!r} is {field.base} of {list(field.shape)}, which is no image; give a "
            f"field of uint8 of (height, width) or (height, width, channels)",
        )
    height, width, *rest = field.shape
    if entry.size is not None and rest not in ([], [1], [3], [4]):
        raise schedule.error(
            key, f"{entry.image!r} has {rest[0]} channels, and 1, 3 or 4 can be resized; crop it"
        )
    crop = entry.crop or (0, 0, height, width)
    if crop[0] + crop[2] > height or crop[1] + crop[3] > width:
        raise schedule.error(
            toml_position.format_path((*path[:-1], "crop")),
            f"{list(crop)} reaches beyond the image of {height} x {width}; give a part of it",
        )
    size = entry.size or (crop[2], crop[3])
    return SentImage(place, crop, size, entry.layout == "CHW")
