"""A frame in words of one line: for a prompt, for `inphase echo`, and for a name that is wrong."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

from inphase.errors import StoreError

_VALUES = 6
"""of an actuator's channels so many are shown"""


def of_frame(frame: Any) -> str:
    """The cycle, the skew of its samples and its flags."""
    words = (f"cycle {frame.cycle}", f"skew {_span(frame.skew_ns)}", " ".join(frame.flags))
    return "  ".join(word for word in words if word)


def of_sample(sample: Any) -> str:
    """The sensor, the status with its reason, and the age."""
    reason = "" if sample.reason == "none" else f" ({sample.reason} {sample.detail})"
    return f"{sample.name}  {sample.status}{reason}  age {_span(sample.age_ns)}"


def values_of(sample: Any) -> dict[str, Any] | None:
    """Copies of a sample's fields; None when there is none, or it was recycled meanwhile."""
    if sample.sequence < 0:
        return None
    try:
        value = sample.value
    except StoreError:
        return None
    fields = {name: value[name].copy() for name in value.dtype.names or ()}
    return fields if sample.intact else None


def of_aligned(aligned: Any) -> str:
    """The sensor, the status, and how far from the instant."""
    if not aligned.is_known:
        return f"{aligned.name}  no sample"
    return f"{aligned.name}  {aligned.status}  {aligned.method}  {_span(aligned.distance_ns)} away"


def of_act(act: Any) -> str:
    """The actuator, its flags with their reason, and the first values that were applied."""
    reason = "" if act.reason == "none" else f"({act.reason} {act.detail})"
    values = ["-" if math.isnan(value) else f"{value:.4f}" for value in act.applied[:_VALUES]]
    values += ["..."] * (len(act.applied) > _VALUES)
    said = " ".join(word for word in (*act.flags, reason) if word)
    return "  ".join(word for word in (act.name, said, f"applied {' '.join(values)}") if word)


def unknown(kind: str, name: object, names: Iterable[str]) -> KeyError:
    """The error for the name of a sensor, field or actuator that is none."""
    known = list(names)
    near = difflib.get_close_matches(str(name), known, 1, 0.5)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return KeyError(f"no {kind} {name!r}{meant}; there are: {', '.join(known) or 'none'}")


def _span(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1000:.1f} us"
