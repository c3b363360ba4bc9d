"""Two recordings, frame by frame: which frame and which field of it is the first that differs."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from inphase.frames.frame import Frame, Sample
from inphase.frames.layout import Layout
from inphase.frames.record_layout import ABSENT, HEADER

# of the header's fields, those that are facts of the command
_OF_COMMAND = {
    "acted_cycle": "command.cycle",
    "acted_ns": "command.acted_ns",
    "inferred_ns": "command.inferred_ns",
}
_SAMPLE = (
    *("sequence", "status", "reason", "detail", "cycle", "triggered_ns", "acquired_ns"),
    *("received_ns", "age_ns", "uncertainty_ns"),
)


def assert_same_frames(a: Iterable[Frame], b: Iterable[Frame]) -> None:
    """Compare two recordings: lists of copied frames, or two runs as they go on, such as
    `first.frames(400)` and `second.frames(400)` of two robots in lock step.

    They are the same when every field of every record and every value are, to the bit. Raises
    AssertionError that names the first frame and field that differ, with both values.
    """
    __tracebackhide__ = True
    for number, (one, other) in enumerate(zip_longest(a, b)):
        if one is None or other is None:
            which, more = ("first", other) if one is None else ("second", one)
            raise AssertionError(
                f"the {which} recording ends after {number} frames, and the other goes on with "
                f"cycle {more.cycle}"
            )
        difference = "" if _are_same(one, other) else _difference(one, other)
        if difference:
            raise AssertionError(f"frame {number} (cycle {one.cycle}) differs: {difference}")


def _are_same(a: Frame, b: Frame) -> bool:
    """The quick way."""
    return (
        a.record == b.record
        and _shape(a.layout) == _shape(b.layout)
        and all(
            one.value.tobytes() == other.value.tobytes()
            for one, other in zip(a.samples.values(), b.samples.values(), strict=True)
            if one.sequence >= 0
        )
    )


def _shape(layout: Layout) -> tuple[Any, ...]:
    return layout.sensors, layout.dtypes, layout.actuators


def _difference(a: Frame, b: Frame) -> str:
    """The first field that differs; empty: none that a person can see does."""
    if _shape(a.layout) != _shape(b.layout):
        return f"{_shape(a.layout)} and {_shape(b.layout)}"
    for (name, x), (_, y) in zip(_facts(a), _facts(b), strict=False):
        if not isinstance(x, np.ndarray):
            if x != y:
                return f"{name} is {x} and {y}"
        elif x.tobytes() != y.tobytes():
            return _first_value(name, x, y)
    return ""


def _first_value(name: str, x: Any, y: Any) -> str:
    """Where two arrays differ first; NaN of another pattern of bits is another value."""
    a, b = (np.ascontiguousarray(one).reshape(-1) for one in (x, y))
    at = next(i for i in range(a.size) if a[i].tobytes() != b[i].tobytes())
    place = f"[{', '.join(map(str, np.unravel_index(at, x.shape)))}]" if x.shape else ""
    return f"{name}{place} is {a[at].item()!r} and {b[at].item()!r}"


def _facts(frame: Frame) -> Iterator[tuple[str, Any]]:
    """Everything that a frame says, by name, in the order in which it comes about."""
    names = {"flags": frame.flags, "reason": frame.reason}
    for field, value in zip(HEADER.names, HEADER.unpack_from(frame.record), strict=True):
        name = _OF_COMMAND.get(field, field)
        yield name, names.get(name, None if value == ABSENT else value)
    for sample in frame.samples.values():
        yield from _sample_facts(sample)
    for act in frame.command:
        for name in ("flags", "reason", "requested", "applied"):
            yield f"command[{act.name}].{name}", getattr(act, name)


def _sample_facts(sample: Sample) -> Iterator[tuple[str, Any]]:
    for name in _SAMPLE:
        yield f"{sample.name}.{name}", getattr(sample, name)
    if sample.sequence >= 0:
        for field in sample.value.dtype.names or ():
            yield f"{sample.name}.value[{field}]", sample.value[field]
