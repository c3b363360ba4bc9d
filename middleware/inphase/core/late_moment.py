"""A late moment of a cycle and whose fault it was: struct inphase_late of inphase.h.

LATENESS.md explains the causes.
"""

from typing import NamedTuple

import numpy as np

from inphase.frames.record_layout import CAUSES, LATE_PHASES, WHYS, name_of

_I8 = "<i8"
NUMBERS = (
    "cycle",
    "due_ns",
    "until_ns",
    "phase",
    "sensor",
    "cause",
    "why",
    "process",
    "missing_bytes",
    "held_ns",
    "stolen_ns",
    "interrupt_ns",
    "ran_ns",
    "waited_ns",
    "page_faults",
)
THIEF_BYTES = 16
LATE = np.dtype(
    [
        *((name, _I8) for name in NUMBERS),
        ("causes", _I8, len(CAUSES)),
        ("thief", np.uint8, THIEF_BYTES),
    ]
)


class LateMoment(NamedTuple):
    """One of them, in words."""

    cycle: int
    phase: str
    """one of LATE_PHASES"""
    sensor: int
    """that was waited for; -1: none"""
    late_ns: int
    cause: str
    """one of CAUSES"""
    why: str
    """one of WHYS"""
    thief: str
    """name of the program that had the core; "": none is known"""
    process: int
    missing_bytes: int
    """of a reply; -1: not known"""
    causes: dict[str, int]
    """late moments so far, by cause"""

    @classmethod
    def of(cls, row: np.void) -> "LateMoment":
        """Of a row of LATE."""
        counts = row["causes"].tolist()
        return cls(
            int(row["cycle"]),
            name_of(int(row["phase"]), LATE_PHASES),
            int(row["sensor"]),
            int(row["until_ns"] - row["due_ns"]),
            name_of(int(row["cause"]), CAUSES),
            name_of(int(row["why"]), WHYS),
            row["thief"].tobytes().partition(b"\0")[0].decode(errors="replace"),
            int(row["process"]),
            int(row["missing_bytes"]),
            dict(zip(CAUSES, counts, strict=True)),
        )
