"""The schedule: who does what when, read from a TOML file into frozen objects.

`load` checks everything that can be known without a driver and without a device. A driver adds the
fields of its sample, the number of channels and its own keys. These are checked later, with
`Schedule.error` for errors that point at the same file and line.
"""

import hashlib
from pathlib import Path
from typing import Any

from msgspec import Struct

from inphase.schedule import document
from inphase.schedule.expected import meaning
from inphase.schedule.rules import cycle_rules
from inphase.schedule.tables import Actuator, Device, Emulator, Schedule, Sensor, Tables

__all__ = ["Actuator", "Schedule", "Sensor", "load"]


def load(path: Path | str) -> Schedule:
    """Read and check a schedule. Touches no device.

    Raises ScheduleError with `file:line: key: what is wrong, with the value; what to do`.
    """
    file = document.read(Path(path))
    regrouped = _with_options(file.raw)
    tables = file.convert(regrouped, Tables, meaning)
    schedule = Schedule(
        path=file.path,
        text=file.text,
        hash=hashlib.sha256(file.text.encode()).hexdigest()[:16],
        **{field: getattr(tables, field) for field in Tables.__struct_fields__},
    )
    cycle_rules.check(schedule)
    return schedule


def _with_options(raw: dict[str, Any]) -> dict[str, Any]:
    """The file's values with the keys of drivers and of the emulator set apart under `options`."""

    def split(table: Any, kind: type[Struct]) -> Any:
        if not isinstance(table, dict):
            return table
        own = set(kind.__struct_fields__) - {"options"}
        options = {key: value for key, value in table.items() if key not in own}
        kept = {key: value for key, value in table.items() if key in own}
        return {**kept, "options": options}

    regrouped = dict(raw)
    if "emulator" in raw:
        regrouped["emulator"] = split(raw["emulator"], Emulator)
    if isinstance(raw.get("device"), dict):
        regrouped["device"] = {name: split(it, Device) for name, it in raw["device"].items()}
    return regrouped
