"""The part of a recorded schedule that a report wants, taken from its text: nothing is opened."""

import tomllib
from dataclasses import dataclass
from typing import Any

from inphase.recording.recording import Recording

_US = 1000


@dataclass(frozen=True)
class SensorFacts:
    """One sensor. A number that the schedule leaves out is None."""

    name: str
    device: str
    trigger_ns: int | None
    latency_cycles: int


@dataclass(frozen=True)
class RecordedSchedule:
    """Offsets in a cycle, devices and the policy's rhythm."""

    period_ns: int
    read_deadline_ns: int | None
    act_ns: int | None
    sensors: tuple[SensorFacts, ...]
    has_policy: bool
    answers_every: int | None
    """an answer is for one frame in so many; None: one answer has many commands, and a frame does
    not say which answer its command is of"""
    latency_cycles: int
    """from the frame to the cycle of its command"""

    @classmethod
    def of(cls, recording: Recording) -> "RecordedSchedule":
        """Of a recording. A text that is not readable says nothing."""
        try:
            raw = tomllib.loads(recording.schedule_text)
        except tomllib.TOMLDecodeError:
            raw = {}
        cycle, policy = _table(raw, "cycle"), _table(raw, "policy")
        whole = policy.get("chunk", 1) == 1 and policy.get("interpolate", "hold") == "hold"
        return cls(
            recording.layout.period_ns,
            _ns(cycle.get("read_deadline_us")),
            _ns(cycle.get("act_us")),
            tuple(_sensor(one, _table(raw, "sensor")) for one in recording.description["sensors"]),
            bool(policy),
            int(policy.get("every", 1)) if whole else None,
            int(policy.get("latency_cycles", 0)),
        )


def _sensor(described: dict[str, Any], tables: dict[str, Any]) -> SensorFacts:
    name = str(described["name"])
    device = str(_table(tables, name).get("device", ""))
    return SensorFacts(
        name, device, described.get("trigger_ns"), int(described.get("latency_cycles", 0))
    )


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    found = raw.get(key, {})
    return found if isinstance(found, dict) else {}


def _ns(number_us: Any) -> int | None:
    return None if number_us is None else round(float(number_us) * _US)
