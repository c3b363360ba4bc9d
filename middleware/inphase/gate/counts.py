"""The cost of a schedule's cycle, by counts that no load of the machine changes.

The core, the policy, a subscriber and the gateway run in lock step in a process of their own, with
fixed addresses and hashes, and are counted instruction by instruction.
"""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import msgspec

from inphase.gate import counted_cycles
from inphase.host.machine import processor
from inphase.schedule import Schedule

_LIMIT_S = 300.0
FIXED = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""the environment of who counts"""


class PartCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one part, per cycle."""

    instructions: float
    """in user space"""
    own: float
    """of them, those of the C core"""
    calls: float
    """system calls"""
    allocations: float
    """calls of malloc and its kin, free among them"""
    copied: float
    """bytes, by memcpy and memmove"""


class CycleCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a schedule on one machine."""

    made_by: dict[str, str]
    """facts that instructions depend on"""
    cycles: int
    """that were counted"""
    parts: dict[str, PartCounts]
    faults: float
    """page faults of the core in a cycle"""


def made_by() -> dict[str, str]:
    """Processor, C library, Python and inphase of this process."""
    return {
        "processor": processor(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "inphase": metadata.version("inphase"),
    }


def count(schedule: Schedule) -> tuple[CycleCounts | None, str]:
    """Count; or why nothing can be counted here, as a sentence."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", counted_cycles.__name__, str(schedule.path.resolve())],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **FIXED},
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return None, (
            f"no instructions are counted: it takes over {_LIMIT_S:.0f} s; count a copy of the "
            f"schedule with a smaller policy"
        )
    found = parse(done.stdout)
    if found is None:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        why = words[-1].strip() if words else f"its process ended with {done.returncode}"
        return None, f"no instructions are counted: {why}"
    return found, ""


def parse(output: str) -> CycleCounts | None:
    """The counts in what `inphase.gate.counted_cycles` has printed; None: there are none."""
    said = [line for line in output.splitlines() if line.startswith('{"counted"')]
    if not said:
        return None
    found: dict[str, Any] = json.loads(said[-1])
    return CycleCounts(
        made_by=made_by(),
        cycles=found["counted"],
        parts={name: PartCounts(*numbers) for name, numbers in found["parts"].items()},
        faults=found["faults"],
    )
