"""A simulated robot's timing model: distributions by path, such as `sensors.camera.latency_ms`.

It is read from a schedule's [timing] table, or from a file of its own. It is checked against
possible times: no duration is below zero or unbounded. Knobs replace its entries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from inphase.errors import ScheduleError, ScheduleFault
from inphase.schedule import distribution, document, toml_position
from inphase.schedule.distribution import Distribution
from inphase.schedule.duration import most_ms
from inphase.schedule.simulation_tables import (
    ActuatorTiming,
    HostTiming,
    PolicyTiming,
    SensorTiming,
    TimingTables,
)
from inphase.schedule.table import Table, known_of
from inphase.schedule.tables import Schedule

_NS = 1_000_000.0
_LONGEST_MS = 3_600_000.0
_BOUNDS = {
    "latency_ms": (0.0, _LONGEST_MS),
    "jitter_ms": (0.0, _LONGEST_MS),
    "inference_ms": (0.0, _LONGEST_MS),
    "delay_ms": (0.0, _LONGEST_MS),
    "wake_late_ms": (0.0, _LONGEST_MS),
    "phase_ms": (0.0, _LONGEST_MS),
    "dropout": (0.0, 1.0),
    "freeze": (0.0, 1.0),
    "freeze_samples": (1.0, 1e9),
    "drift_ppm": (-100_000.0, 100_000.0),
}
"""what each may be; in ms, shares, samples and parts per million"""
CONSTANT = ("phase_ms", "dropout", "freeze", "drift_ppm")
"""what does not change within an episode"""
_EFFECTS_MAX = 60  # commands of one actuator that can be under way (native/src/twin.h: EFFECTS)

_Placed = Callable[[str, str], ScheduleFault]
"""A fault, from a path of the model and a message."""


@dataclass(frozen=True)
class TimingModel:
    """The schedule's entries, by path, in the unit that the path's name ends in."""

    entries: dict[str, Distribution]
    error: Callable[[str, str], ScheduleError]
    """builds an error from a path and a message"""

    def get(self, path: str) -> Distribution | None:
        """The distribution at a path; None: the driver's own statement holds."""
        return self.entries.get(path)

    def ns(self, path: str) -> Distribution | None:
        """The same in nanoseconds, of a path in ms."""
        found = self.entries.get(path)
        return None if found is None else found.scaled(_NS)

    def number(self, path: str) -> float:
        """A number that does not change within an episode; 0 where nothing is said."""
        found = self.entries.get(path)
        return 0.0 if found is None else found.low

    def delay(self, actuator: str) -> Distribution:
        """From the act until a command takes effect, ns."""
        return self.ns(f"actuators.{actuator}.delay_ms") or distribution.constant(0.0)

    def changed(self, entries: dict[str, Distribution]) -> "TimingModel":
        """Another model with these entries in place of its own. Raises ScheduleError."""
        for path, entry in entries.items():
            if trouble := _trouble(path, entry):
                raise self.error(path, trouble)
        return replace(self, entries={**self.entries, **entries})


def paths(schedule: Schedule) -> dict[str, str]:
    """Every path that a model of this schedule may have, and the kind at its end."""
    found: dict[str, str] = {}
    for group, names, kind in (
        ("sensors", list(schedule.sensor), SensorTiming),
        ("actuators", list(schedule.actuator), ActuatorTiming),
    ):
        for name in names:
            found |= {f"{group}.{name}.{key}": key for key in kind.__struct_fields__}
    found |= {f"policy.{key}": key for key in PolicyTiming.__struct_fields__}
    return found | {f"host.{key}": key for key in HostTiming.__struct_fields__}


def of_schedule(schedule: Schedule) -> TimingModel:
    """The model that a schedule names. Raises ScheduleError with file, line and key."""
    tables, fault = _read(schedule)
    entries: dict[str, Distribution] = {}
    if found := list(_fill(entries, schedule, tables, fault)):
        raise ScheduleError.of(found)
    return TimingModel(entries, lambda path, text: ScheduleError.of([fault(path, text)]))


def check(schedule: Schedule) -> Iterator[ScheduleFault]:
    """The faults of the model that a schedule names. Raises ScheduleError for those of a file."""
    tables, fault = _read(schedule)
    yield from _fill({}, schedule, tables, fault)


def _read(schedule: Schedule) -> tuple[TimingTables, _Placed]:
    """The tables of the schedule, or of a file of its own; and what places faults in them."""
    timing = schedule.timing
    if timing.file is None:
        return timing, lambda path, text: schedule.fault(f"timing.{path}", text)
    others = [
        key
        for key in TimingTables.__struct_fields__
        if getattr(timing, key) != getattr(TimingTables(), key)
    ]
    if others:
        raise schedule.error(f"timing.{others[0]}", "given here and in a file; keep one of the two")
    file = document.read(schedule.path.parent / timing.file)
    tables, faults = file.convert(file.raw, TimingTables, lambda _: "a value of a timing model")
    if faults:
        raise ScheduleError.of(faults)
    return tables, lambda path, text: file.fault(toml_position.parse_path(path), text)


def _fill(
    entries: dict[str, Distribution], schedule: Schedule, tables: TimingTables, fault: _Placed
) -> Iterator[ScheduleFault]:
    """Add what the tables say to the entries; the faults of it."""
    for group, known, given in (
        ("sensors", schedule.sensor, tables.sensors),
        ("actuators", schedule.actuator, tables.actuators),
    ):
        for name, table in given.items():
            if name not in known:
                yield fault(
                    f"{group}.{name}",
                    f"no such part, got {name!r}; the schedule has: {', '.join(known) or 'none'}",
                )
            else:
                yield from _fill_table(entries, f"{group}.{name}", table, fault)
    yield from _fill_table(entries, "policy", tables.policy, fault)
    yield from _fill_table(entries, "host", tables.host, fault)
    for name in schedule.actuator:
        yield from _check_delay(entries, schedule, f"actuators.{name}.delay_ms", fault)


def _fill_table(
    entries: dict[str, Distribution], prefix: str, table: Table, fault: _Placed
) -> Iterator[ScheduleFault]:
    """The same for one table; a value that is the default is no entry."""
    unsaid = type(table)()
    for name, value in known_of(table).items():
        if value is None or value == getattr(unsaid, name):
            continue
        path = f"{prefix}.{name}"
        try:
            entry = distribution.make(value)
        except ValueError as error:
            yield fault(path, str(error))
            continue
        if trouble := _trouble(path, entry):
            yield fault(path, trouble)
        else:
            entries[path] = entry


def _trouble(path: str, entry: Distribution) -> str:
    """Why an entry cannot be; empty: it can."""
    kind = path.rpartition(".")[2]
    low, high = _BOUNDS[kind]
    if entry.low < low or entry.high > high:
        wrong = entry.low if entry.low < low else entry.high
        return f"can be {wrong:g}; give {low:g} to {high:g} (`low` and `high` bound it)"
    if kind in CONSTANT and not entry.is_constant:
        return (
            "does not change within an episode; give a number, and draw it per episode under "
            "[randomise]"
        )
    return ""


def _check_delay(
    entries: dict[str, Distribution], schedule: Schedule, path: str, fault: _Placed
) -> Iterator[ScheduleFault]:
    if path not in entries:
        return
    longest_ns = _EFFECTS_MAX * schedule.cycle.period_ns
    if entries[path].high * _NS > longest_ns:
        yield fault(
            path,
            f"can be {entries[path].high:g} ms, more than {_EFFECTS_MAX} cycles; give at most "
            f"{most_ms(longest_ns)}",
        )
