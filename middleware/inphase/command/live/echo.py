"""Printing frames as they arrive, for `inphase echo`.

With `--json` it prints one object per line. The keys are cycle, due_ns, latched_ns, skew_ns, flags,
lost, state, sensors.NAME and command. A sensor has status, reason, age_ns, acquired_ns, sequence,
and value by field. command has cycle, and by actuator requested, applied, flags, reason. An unknown
value is null.
"""

import json
import math
from pathlib import Path
from typing import Any

import click

from inphase.errors import ScheduleError, StoreError
from inphase.frames import words
from inphase.frames.frame import Frame, Sample
from inphase.frames.subscription import Transport, subscribe
from inphase.host import store_names


def echo(
    endpoint: str | None,
    json_lines: bool,
    count: int | None,
    sensor: str | None,
    transport: Transport,
    *,
    key: Path | None = None,
) -> None:
    """Print frames, of one sensor if it is named, until count or the robot's end.

    key: a client file. Raises StoreError, AccessError, and ScheduleError for a sensor that the
    robot does not have.
    """
    try:
        name = endpoint or store_names.only_robot()
        with subscribe(name, transport=transport, key=key) as frames:
            if sensor is not None and sensor not in frames.layout.sensors:
                raise ScheduleError(
                    f"no sensor {sensor!r}; {frames.layout.robot} has {list(frames.layout.sensors)}"
                )
            for number, frame in enumerate(frames, 1):
                click.echo(
                    json.dumps(as_dict(frame, sensor)) if json_lines else as_text(frame, sensor)
                )
                if number == count:
                    return
    except TimeoutError as error:
        raise StoreError(str(error) or "no frame came in time") from error


def _plain(value: Any) -> Any:
    """NumPy to JSON; NaN and infinities, which JSON lacks, to null."""
    value = value.tolist()
    if isinstance(value, list):
        return [item if math.isfinite(item) else None for item in value]
    return value if math.isfinite(value) else None


def _sample(sample: Sample) -> dict[str, Any]:
    values = words.values_of(sample)
    return {
        "status": sample.status,
        "reason": sample.reason,
        "age_ns": sample.age_ns,
        "acquired_ns": sample.acquired_ns,
        "sequence": sample.sequence,
        "value": values and {name: _plain(value) for name, value in values.items()},
    }


def as_dict(frame: Frame, sensor: str | None = None) -> dict[str, Any]:
    """A frame as plain values."""
    names = [sensor] if sensor is not None else list(frame.layout.sensors)
    return {
        "cycle": frame.cycle,
        "due_ns": frame.due_ns,
        "latched_ns": frame.latched_ns,
        "skew_ns": frame.skew_ns,
        "flags": list(frame.flags),
        "lost": frame.lost,
        "state": frame.state,
        "sensors": {name: _sample(frame[name]) for name in names},
        "command": {
            "cycle": frame.command.cycle,
            **{
                act.name: {
                    "requested": _plain(act.requested),
                    "applied": _plain(act.applied),
                    "flags": list(act.flags),
                    "reason": act.reason,
                }
                for act in frame.command
            },
        },
    }


def as_text(frame: Frame, sensor: str | None = None) -> str:
    """A frame as a block of lines for a person."""
    lines = [words.of_frame(frame)]
    for name, sample in frame.samples.items():
        if sensor not in (None, name):
            continue
        lines.append(f"  {words.of_sample(sample)}")
        units = frame.layout.units[frame.layout.sensors.index(name)]
        for field, value in (words.values_of(sample) or {}).items():
            values = " ".join(f"{v:9.4f}" for v in value.reshape(-1))
            lines.append(f"    {field:<10} {values}  {units[field]}")
    return "\n".join(lines)
