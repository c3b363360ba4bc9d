"""The facts that a recording has beside its messages: metadata, as texts by name.

RECORDING.md lists the keys. A fact that is not known has no key.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mcap import records

from inphase.doctor import examination
from inphase.frames.record_layout import (
    ACT_FLAGS,
    DROVE,
    FRAME_FLAGS,
    OUTCOMES,
    REASONS,
    STATES,
    STATUSES,
)
from inphase.host.machine import processor
from inphase.recording.channels import FRAME_TOPIC, Forms, sensor_topic
from inphase.recording.mcap_file import PROFILE
from inphase.schedule import Schedule

FORMAT = 3
"""of a recording; another number is another meaning of the same bytes"""
RUN, DESCRIPTION, SCHEDULE, RECORDER, MACHINE, LEGEND, CHANNELS, PART, END = (
    f"{PROFILE}.{name}"
    for name in (
        *("run", "description", "schedule", "recorder", "machine"),
        *("legend", "channels", "part", "end"),
    )
)
COMPLETE, INCOMPLETE = "COMPLETE", "INCOMPLETE"
_PACKAGES = ("inphase", "numpy", "mujoco", "rapier3d", "onnxruntime", "torch", "mcap", "protobuf")


def of_run(
    description: Mapping[str, Any],
    forms: Forms,
    wall_offset_ns: int,
    schedule: Schedule | None,
    *,
    is_here: bool = False,
    beside: Mapping[str, str] | None = None,
) -> list[records.Metadata]:
    """All that is known at the start. schedule: the file, where the recorder has it. is_here: the
    robot runs on this machine. beside: channels that are not of the robot, with their fields."""
    layout = forms.layout
    run = {
        "format": str(FORMAT),
        "robot": layout.robot,
        "schedule_hash": layout.hash,
        "epoch": str(layout.epoch),
        "period_ns": str(layout.period_ns),
        "wall_offset_ns": str(wall_offset_ns),
    }
    if schedule is not None:
        run |= _policy(schedule)
    described = {key: value for key, value in description.items() if key != "schedule"}
    found = {
        RUN: run,
        DESCRIPTION: {"json": json.dumps(described)},
        SCHEDULE: {"toml": str(description["schedule"])},
        RECORDER: _recorder(),
        MACHINE: _machine(schedule) if is_here and schedule is not None else {},
        LEGEND: _legend(),
        CHANNELS: _channels(forms) | dict(beside or {}),
    }
    return [records.Metadata(name, texts) for name, texts in found.items() if texts]


def _policy(schedule: Schedule) -> dict[str, str]:
    """The policy, and the SHA-256 of each of its files that can be read."""
    policy = schedule.policy
    if policy is None:
        return {}
    found = {"policy": policy.name}
    for key, name in (("call", policy.call), ("model", policy.model), ("weights", policy.weights)):
        if name is None or (key == "call" and not name.partition(":")[0].endswith(".py")):
            continue
        file = schedule.path.parent / (name.partition(":")[0] if key == "call" else name)
        if file.is_file():
            with file.open("rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
            found[f"policy_{key}_sha256"] = digest
    return found


def _recorder() -> dict[str, str]:
    """The machine and the packages of this process."""
    found = {
        "host": platform.node(),
        "kernel": f"{platform.system()} {platform.release()} {platform.version()}",
        "architecture": platform.machine(),
        "cores": str(os.cpu_count()),
        "processor": processor(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[f"version_{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine(schedule: Schedule) -> dict[str, str]:
    """The findings of `inphase doctor`, each as `ok: ...` or `bad: ...`."""
    findings = examination.examine(schedule)
    return {one.name: f"{'ok' if one.ok else 'bad'}: {one.found}" for one in findings}


def _legend() -> dict[str, str]:
    """The names of numbers, by the fields that have them."""
    by_number = {
        "status": STATUSES,
        "reason": REASONS,
        "state": STATES,
        "outcome": OUTCOMES,
        "drove": DROVE,
    }
    by_bit = {"flags": FRAME_FLAGS, "actuators.flags": ACT_FLAGS}
    found = {
        field: " ".join(f"{number}={name}" for number, name in enumerate(names))
        for field, names in by_number.items()
    }
    return found | {
        field: " ".join(f"{1 << bit:#x}={name}" for bit, name in enumerate(names))
        for field, names in by_bit.items()
    }


def _channels(forms: Forms) -> dict[str, str]:
    """Every channel, also of a sensor that never gave a sample, with its units."""
    layout = forms.layout
    found = {FRAME_TOPIC: "cycle, stamps, statuses, commands and states of each frame"}
    for name, dtype, units in zip(layout.sensors, layout.dtypes, layout.units, strict=True):
        fields = [f"{field} {units.get(field, '')}".strip() for field in dtype.names or ()]
        found[sensor_topic(name)] = ", ".join(fields)
    return found
