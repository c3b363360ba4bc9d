"""The schedule: who does what when, read from a TOML file into frozen objects."""

from inphase.schedule.loader import (
    load,
)
from inphase.schedule.tables import (
    Actuator,
    Schedule,
    Sensor,
)

__all__ = [
    "Actuator",
    "Schedule",
    "Sensor",
    "load",
]
