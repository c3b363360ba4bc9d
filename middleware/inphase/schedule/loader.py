"""The schedule: who does what when, read from a TOML file into frozen objects.

`load` checks everything that can be known without a driver and without a device. A driver adds the
fields of its sample, the number of channels and its own keys: `inphase.plan.validation` has these.
"""

import hashlib
from pathlib import Path
from typing import Any

from inphase.schedule import document
from inphase.schedule.expected import meaning
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules import (
    actuator_rules,
    address_rules,
    call_rules,
    cycle_rules,
    device_rules,
    estop_rules,
    name_rules,
    number_rules,
    policy_rules,
    sensor_rules,
    simulation_rules,
)
from inphase.schedule.table import Table, known_of, with_known
from inphase.schedule.tables import Actuator, Device, Emulator, Schedule, Sensor, Tables

__all__ = ["Actuator", "Schedule", "Sensor", "inspect", "load"]

_CHECKS = (  # what the others build on comes first
    number_rules.check,
    name_rules.check,
    cycle_rules.check,
    call_rules.check,
    device_rules.check,
    address_rules.check,
    sensor_rules.check,
    actuator_rules.check,
    policy_rules.check,
    estop_rules.check,
    simulation_rules.check,
)


def load(path: Path | str) -> Schedule:
    """Read and check a schedule. Touches no device, and imports no driver.

    Raises ScheduleError with every fault, a line for each:
    `file:line: key: what is wrong, with the value; what to do`.
    """
    return inspect(path).finish()


def inspect(path: Path | str) -> Inspection:
    """Read a schedule, and apply every rule that needs no driver.

    Raises ScheduleError for a file that is no TOML; other faults are the inspection's.
    """
    file = document.read(Path(path))
    tables, faults = file.convert(_with_options(file.raw), Tables, meaning)
    known = {
        "path": file.path,
        "text": file.text,
        "hash": hashlib.sha256(file.text.encode()).hexdigest()[:16],
        **known_of(tables),
    }
    inspection = Inspection(with_known(Schedule, known), faults)
    for check in _CHECKS:
        check(inspection)
    return inspection


def _with_options(raw: dict[str, Any]) -> dict[str, Any]:
    """The file's values with the keys of drivers and of the emulator set apart under `options`."""

    def split(table: Any, kind: type[Table]) -> Any:
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
