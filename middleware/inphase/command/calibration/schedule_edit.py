"""Zeros and ranges written into a schedule's file: comments and order stay, a copy is kept."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from inphase.schedule import Schedule

_DIGITS = 5


def limited_actuators(schedule: Schedule, sensor: str, field: str) -> list[str]:
    """The actuators of positions that a sensor's field shows."""
    shown = f"{sensor}.{field}"
    return [
        name
        for name, actuator in schedule.actuator.items()
        if actuator.feedback == shown and actuator.mode == "position"
    ]


def write(
    schedule: Schedule,
    sensor: str,
    field: str,
    zero: Sequence[float],
    ranges: Sequence[tuple[float, float]],
) -> Path:
    """Write zeros of a sensor, and the limits of the actuators that it shows, into the file.

    Returns the path of the copy as it was before. Raises OSError.
    """
    path = schedule.path
    before = path.read_text()
    document = tomlkit.parse(before)
    table = _table(document, "sensor", sensor)
    if not isinstance(table.get("zero"), dict):
        table["zero"] = tomlkit.inline_table()
    table["zero"][field] = _numbers(zero)
    for name in limited_actuators(schedule, sensor, field):
        actuator = _table(document, "actuator", name)
        if not isinstance(actuator.get("limits"), dict):
            actuator["limits"] = tomlkit.table()
        pairs = tomlkit.array()
        for pair in ranges:
            pairs.append(_numbers(pair))
        actuator["limits"]["position"] = pairs
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    copy = path.with_name(f"{path.name}.{stamp}")
    copy.write_text(before)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(tomlkit.dumps(document))
    fresh.replace(path)
    return copy


def _table(document: tomlkit.TOMLDocument, *names: str) -> Table:
    found: Any = document
    for name in names:
        found = found[name]
    assert isinstance(found, Table)
    return found


def _numbers(values: Sequence[float]) -> tomlkit.items.Array:
    made = tomlkit.array()
    for value in values:
        made.append(round(float(value), _DIGITS))
    return made
