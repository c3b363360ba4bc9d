"""The rules of a schedule's devices: where their drivers run, and how urgently."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.each("device", _check_home)
    for name in inspection.names("device"):
        inspection.apply(check_priority, "device", name)


def _check_home(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    device = schedule.device[name]
    if device.home not in ("cycle", "thread"):
        return
    own = "the cycle thread"
    if device.home == "thread":
        own = "the user's own process, which gets nothing real-time"
    for key, given in (("priority", device.priority or None), ("cpu", device.cpu)):
        if given is not None:
            yield schedule.fault(
                f"device.{name}.{key}",
                f"{given} is for a worker process, and home = {device.home!r} is {own}; "
                f'remove it, or give home = "process"',
            )
            return  # the remedy is one for both


def check_priority(schedule: Schedule, *where: str) -> Iterator[ScheduleFault]:
    """A process is less urgent than the cycle."""
    table = schedule.policy if where == ("policy",) else schedule.device[where[-1]]
    if table is not None and table.priority >= schedule.cycle.priority:
        yield schedule.fault(
            f"{'.'.join(where)}.priority",
            f"{table.priority} is not below the cycle's {schedule.cycle.priority}: it could hold "
            f"up the cycle; give a lower one",
        )
