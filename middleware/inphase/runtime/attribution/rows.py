"""Late moments as they are published: rows of LATE."""

from collections.abc import Sequence

import numpy as np

from inphase.core.late_moment import LATE, THIEF_BYTES
from inphase.frames.record_layout import CAUSES, LATE_PHASES, WHYS
from inphase.runtime.attribution.decision import Decision
from inphase.runtime.attribution.evidence import Evidence
from inphase.runtime.attribution.moments import Moment

_UNKNOWN = -1


def late_row(
    moment: Moment, found: Decision, seen: Evidence | None, causes: Sequence[int]
) -> np.void:
    """The row of a moment. causes: late moments so far, by cause."""
    counted = seen.counted if seen is not None else None
    counts: dict[str, int | None] = {}
    if counted is not None:
        counts = {name: getattr(counted, name) for name in ("stolen_ns", "ran_ns", "waited_ns")}
        counts["page_faults"] = _sum(counted.minor, counted.major)
        counts["interrupt_ns"] = _sum(counted.interrupt_ns, counted.softirq_ns)
    counts["held_ns"] = seen.held_ns if seen is not None else None
    row: np.void = np.zeros(1, LATE)[0]
    for name in ("stolen_ns", "ran_ns", "waited_ns", "page_faults", "interrupt_ns", "held_ns"):
        value = counts.get(name)
        row[name] = _UNKNOWN if value is None else value
    row["cycle"], row["due_ns"], row["until_ns"] = moment.cycle, moment.from_ns, moment.until_ns
    row["phase"], row["sensor"] = LATE_PHASES.index(moment.phase), moment.sensor
    row["cause"], row["why"] = CAUSES.index(found.cause), WHYS.index(found.why)
    row["missing_bytes"], row["causes"] = moment.missing_bytes, causes
    if found.thief is not None:
        thief = found.thief.name.encode()[:THIEF_BYTES]
        row["process"] = found.thief.process
        row["thief"][: len(thief)] = np.frombuffer(thief, np.uint8)
    return row


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
