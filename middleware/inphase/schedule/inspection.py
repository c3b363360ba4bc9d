"""One pass over a schedule: rules are applied one after the other, and every fault is kept."""

from collections.abc import Callable, Iterable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from inphase.errors import ScheduleError, ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.table import Unknown, without
from inphase.schedule.tables import Schedule

P = ParamSpec("P")
T = TypeVar("T")
Rule = Callable[Concatenate[Schedule, P], Iterable[ScheduleFault]]
"""It gives the faults that it finds, and ends where it reads a key that is not known."""

Make = Callable[Concatenate[Schedule, P], T]


class Inspection:
    """A schedule and its faults. `schedule` has only good keys: a key with a fault is not known to
    later rules."""

    def __init__(self, schedule: Schedule, faults: Sequence[ScheduleFault] = ()) -> None:
        self.schedule = schedule
        self.faults = list(faults)

    def apply(self, rule: Rule[P], *given: P.args, **options: P.kwargs) -> None:
        """Apply one rule to the schedule, and to the rule's further arguments."""
        found: list[ScheduleFault] = []
        try:
            for fault in rule(self.schedule, *given, **options):
                found.append(fault)
        except Unknown:
            pass
        except ScheduleError as error:
            found += error.faults
        if found:
            self._add(found)

    def attempt(self, make: Make[P, T], *given: P.args, **options: P.kwargs) -> T | None:
        """The result of `make` on the schedule. None: it found a fault, or read an unknown key."""
        try:
            return make(self.schedule, *given, **options)
        except Unknown:
            return None
        except ScheduleError as error:
            self._add(error.faults)
            return None

    def _add(self, found: list[ScheduleFault]) -> None:
        self.faults += found
        for fault in found:
            own = (fault.key,) if fault.file == str(self.schedule.path) else ()
            for key in own if fault.doubts is None else fault.doubts:
                self.schedule = without(self.schedule, toml_position.parse_path(key))

    def names(self, kind: str) -> list[str]:
        """The names of `[kind.NAME]`; none where they are not known."""
        try:
            return list(getattr(self.schedule, kind))
        except Unknown:
            return []

    def each(self, kind: str, rule: Rule[[str]]) -> None:
        """Apply a rule to each `[kind.NAME]`."""
        for name in self.names(kind):
            self.apply(rule, name)

    def finish(self) -> Schedule:
        """The schedule. Raises ScheduleError with every fault, where there is one."""
        if self.faults:
            raise ScheduleError.of(self.faults)
        return self.schedule
