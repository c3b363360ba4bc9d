"""The part of a recorded schedule that says when, taken from its text: nothing is opened."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from inphase.recording.recording import Recording
from inphase.schedule import Schedule, load
from inphase.schedule.document import toml_value

_US = 1000
OF_SIMULATION = ("world", "timing", "randomise", "task")
"""tables that no robot needs; they may name files that lie beside the schedule"""


def schedule_of(
    recording: Recording, folder: Path, without: Iterable[str] = OF_SIMULATION
) -> Schedule:
    """The schedule of a recording, which is written into `folder`; its text and hash are those of
    the recording. without: tables that are left out. Raises ScheduleError."""
    path, text = folder / f"{recording.layout.robot}.toml", recording.schedule_text
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # load says where
        raw = {}
    if any(name in raw for name in without):
        kept = {key: value for key, value in raw.items() if key not in without}
        path.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in kept.items()))
    else:
        path.write_text(text)
    return structs.replace(load(path), text=text, hash=recording.layout.hash)


@dataclass(frozen=True)
class SensorFacts:
    """One sensor. A number that the recording does not say is None."""

    name: str
    device: str
    """"": the schedule has no such sensor, as the draws of [randomise]"""
    trigger_ns: int | None
    latency_cycles: int
    is_free: bool = False
    """it is free-running: nobody triggers it"""
    every: int = 1
    max_age_ns: int | None = None
    is_stamped: bool = False
    """its worker or the kernel stamps the receipt; else the cycle thread does, once it has woken"""
    interval_ns: int | None = None
    """of a free-running sensor: from sample to sample, as its driver states it"""
    burst: bool = False
    """a frame has all its samples since the frame before"""


@dataclass(frozen=True)
class PolicyFacts:
    """The rhythm of the policy's answers, in cycles."""

    every: int
    latency_cycles: int


@dataclass(frozen=True)
class RecordedSchedule:
    """Offsets in a cycle, devices and the policy's rhythm."""

    period_ns: int
    read_deadline_ns: int | None
    act_ns: int | None
    sensors: tuple[SensorFacts, ...]
    policy: PolicyFacts | None

    @property
    def has_policy(self) -> bool:
        """True if the schedule names one."""
        return self.policy is not None

    @property
    def latency_cycles(self) -> int:
        """From a frame to the cycle of its command."""
        return 0 if self.policy is None else self.policy.latency_cycles

    @classmethod
    def of(cls, recording: Recording) -> "RecordedSchedule":
        """Of a recording. A text that is not readable says nothing."""
        try:
            raw = tomllib.loads(recording.schedule_text)
        except tomllib.TOMLDecodeError:
            raw = {}
        cycle = _table(raw, "cycle")
        return cls(
            recording.layout.period_ns,
            _ns(cycle.get("read_deadline_us")),
            _ns(cycle.get("act_us")),
            tuple(_sensor(one, _table(raw, "sensor")) for one in recording.description["sensors"]),
            _policy(_table(raw, "policy")),
        )


def _sensor(described: dict[str, Any], tables: dict[str, Any]) -> SensorFacts:
    name = str(described["name"])
    table = _table(tables, name)
    is_free = bool(described.get("latched", False))
    return SensorFacts(
        name,
        str(table.get("device", "")),
        described.get("trigger_ns"),
        int(described.get("latency_cycles", 0)),
        is_free,
        1 if is_free else max(1, int(described.get("every", 1))),
        described.get("max_age_ns"),
        bool(described.get("stamped", described.get("home") != "cycle")),
        described.get("interval_ns") or None,
        "burst" in table,
    )


def _policy(table: dict[str, Any]) -> PolicyFacts | None:
    if not table:
        return None
    return PolicyFacts(int(table.get("every", 1)), int(table.get("latency_cycles", 0)))


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    found = raw.get(key, {})
    return found if isinstance(found, dict) else {}


def _ns(number_us: Any) -> int | None:
    return None if number_us is None else round(float(number_us) * _US)
