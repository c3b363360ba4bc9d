"""The rule of a schedule's numbers: each is finite."""

import math
from collections.abc import Iterator
from typing import Any

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import Table, known_of
from inphase.schedule.tables import Schedule

_OURS = ("guard", "cycle", "sensor", "actuator", "estop")


def check(inspection: Inspection) -> None:
    """Apply it to all tables of inphase; options and arguments belong to others."""
    inspection.apply(_check_finite)


def _check_finite(schedule: Schedule) -> Iterator[ScheduleFault]:
    known = known_of(schedule)
    stack: list[tuple[toml_position.Path, Any]] = [
        ((name,), known[name]) for name in _OURS if name in known
    ]
    while stack:
        key, value = stack.pop()
        if isinstance(value, Table):
            value = known_of(value)
        if isinstance(value, dict):
            stack.extend(((*key, step), item) for step, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend(((*key, index), item) for index, item in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield schedule.fault(
                toml_position.format_path(key), f"not finite, got {value}; give a finite number"
            )
