"""A simulated robot's timing model: distributions by path, such as `sensors.camera.latency_ms`.

It is read from a schedule's [timing] table, or from a file of its own. It is checked against
possible times: no duration is below zero or unbounded. Knobs replace its entries.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from inphase.errors import ScheduleError
from inphase.schedule import distribution, document, toml_position
from inphase.schedule.distribution import Distribution, Spec
from inphase.schedule.simulation_tables import (
    ActuatorTiming,
    HostTiming,
    PolicyTiming,
    SensorTiming,
    TimingTables,
)
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
            _check(path, entry, self.error)
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
    tables: TimingTables = schedule.timing
    error: Callable[[str, str], ScheduleError] = lambda path, text: schedule.error(  # noqa: E731
        f"timing.{path}", text
    )
    if schedule.timing.file is not None:
        tables, error = _read_file(schedule)
    entries: dict[str, Distribution] = {}
    for group, known, given in (
        ("sensors", schedule.sensor, tables.sensors),
        ("actuators", schedule.actuator, tables.actuators),
    ):
        for name, table in given.items():
            if name not in known:
                raise error(
                    f"{group}.{name}",
                    f"no such part, got {name!r}; the schedule has: {', '.join(known) or 'none'}",
                )
            entries |= _entries(f"{group}.{name}", table, error)
    entries |= _entries("policy", tables.policy, error)
    entries |= _entries("host", tables.host, error)
    for path, entry in entries.items():
        _check(path, entry, error)
    _check_delays(schedule, entries, error)
    return TimingModel(entries, error)


def _read_file(
    schedule: Schedule,
) -> tuple[TimingTables, Callable[[str, str], ScheduleError]]:
    """The tables of a file of its own."""
    assert schedule.timing.file is not None
    others = [
        key
        for key in TimingTables.__struct_fields__
        if getattr(schedule.timing, key) != getattr(TimingTables(), key)
    ]
    if others:
        raise schedule.error(
            f"timing.{others[0]}",
            "given here and in a file; keep one of the two",
        )
    file = document.read(schedule.path.parent / schedule.timing.file)
    tables = file.convert(file.raw, TimingTables, lambda _: "a value of a timing model")
    return tables, lambda path, text: file.error(toml_position.parse_path(path), text)


def _entries(
    prefix: str, table: msgspec.Struct, error: Callable[[str, str], ScheduleError]
) -> dict[str, Distribution]:
    """The entries of a table that differ from their defaults."""
    found: dict[str, Distribution] = {}
    for item in msgspec.structs.fields(table):
        value: Spec | None = getattr(table, item.name)
        if value is None or value == item.default:
            continue
        path = f"{prefix}.{item.name}"
        try:
            found[path] = distribution.make(value)
        except ValueError as trouble:
            raise error(path, str(trouble)) from trouble
    return found


def _check(path: str, entry: Distribution, error: Callable[[str, str], ScheduleError]) -> None:
    kind = path.rpartition(".")[2]
    low, high = _BOUNDS[kind]
    if entry.low < low or entry.high > high:
        wrong = entry.low if entry.low < low else entry.high
        raise error(path, f"can be {wrong:g}; give {low:g} to {high:g} (`low` and `high` bound it)")
    if kind in CONSTANT and not entry.is_constant:
        raise error(
            path,
            "does not change within an episode; give a number, and draw it per episode under "
            "[randomise]",
        )


def _check_delays(
    schedule: Schedule,
    entries: dict[str, Distribution],
    error: Callable[[str, str], ScheduleError],
) -> None:
    longest_ms = _EFFECTS_MAX * schedule.cycle.period_ns / _NS
    for name in schedule.actuator:
        path = f"actuators.{name}.delay_ms"
        if path in entries and entries[path].high > longest_ms:
            raise error(
                path,
                f"can be {entries[path].high:g} ms, more than {_EFFECTS_MAX} cycles; give at most "
                f"{longest_ms:g}",
            )
