"""The rules of a schedule's simulation: the world's parts, and the timing model.

The content of a world's model is checked where the model is loaded.
"""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule import timing_model, toml_position
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    for kind in ("sensor", "actuator"):
        inspection.apply(_check_parts, kind)
    inspection.apply(timing_model.check)


def _check_parts(schedule: Schedule, kind: str) -> Iterator[ScheduleFault]:
    known = getattr(schedule, kind)
    for name in getattr(schedule.world, kind, {}):
        if name not in known:
            yield schedule.fault(
                toml_position.format_path(("world", kind, name)),
                f"no such {kind}, got {name!r}; the schedule has: {', '.join(known) or 'none'}",
            )
