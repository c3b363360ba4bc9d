"""The frames and samples of two recordings side by side, cycle by cycle: in what they differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import (
    ABSENT,
    ACT_FLAGS,
    DROVE,
    FRAME_FLAGS,
    OUTCOMES,
    REASONS,
    STATES,
    STATUSES,
    name_of,
    names_of,
)
from inphase.recording.channels import image_encoding
from inphase.recording.recording import Recording

Frames = NDArray[Any]
_STRETCH = 8192
_NAMES = {
    "status": STATUSES,
    "reason": REASONS,
    "state": STATES,
    "outcome": OUTCOMES,
    "drove": DROVE,
}
_OWN = ("number", "cycle")
"""of a frame: its place in its own store, and the key by which two are compared"""


@dataclass
class FieldDifference:
    """One field of the frames, or one field of a sensor's samples."""

    field: str
    unit: str
    cycles: int = 0
    """in so many it differs"""
    first: int = 0
    """the first of them"""
    values: tuple[str, str] = ("", "")
    """what the two have there"""
    largest: float | None = None
    """difference, in its unit; None: it is no quantity"""

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


@dataclass
class Contents:
    """The outcome, in counts of cycles."""

    both: int = 0
    """cycles of which both have the frame"""
    only: list[int] = field(default_factory=lambda: [0, 0])
    """cycles of which only the first, or only the second has it"""
    first_only: list[int | None] = field(default_factory=lambda: [None, None])
    samples: int = 0
    """samples that both have"""
    lost: list[int] = field(default_factory=lambda: [0, 0])
    """samples that only the other has"""
    differ: dict[str, FieldDifference] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Bit for bit, in all that both could have."""
        return not (any(self.only) or any(self.lost) or self.differ)


class _Side:
    """One of the two recordings."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.start_ns = 0
        self.given = [-1] * len(recording.layout.sensors)
        if len(recording):
            first = recording.frames(0, 1)[0]
            period_ns = recording.layout.period_ns
            self.start_ns = int(first["due_ns"]) - int(first["cycle"]) * period_ns

    def stretches(self) -> Iterator[Frames]:
        yield from self.recording.stretches(_STRETCH)


def compare(one: Recording, other: Recording, watch: Callable[[int], None]) -> Contents:
    """Frames by their cycle, samples by the cycle of the first frame that names them. Stamps count
    from the start of the grid. watch: is told how many cycles are done."""
    found = Contents()
    sides = (_Side(one), _Side(other))
    names = _common_fields(one, other)
    for parts in _aligned(sides, found):
        found.both += len(parts[0])
        for name in names:
            _compare_column(found, name, parts, sides)
        for sensor in one.layout.sensors:
            if sensor in other.layout.indices:
                _compare_samples(found, sensor, parts, sides)
        watch(found.both)
    return found


def _common_fields(one: Recording, other: Recording) -> list[str]:
    """Those that both have, of one type."""
    kinds = [recording.frames(0, 0).dtype for recording in (one, other)]
    names = set(kinds[0].names or ()) & set(kinds[1].names or ())
    return [
        name
        for name in kinds[0].names or ()
        if name in names - set(_OWN) and kinds[0][name] == kinds[1][name]
    ]


def _aligned(sides: tuple[_Side, _Side], found: Contents) -> Iterator[tuple[Frames, Frames]]:
    """Parts of both that have the same cycles; the cycles of one alone are counted."""
    sources = [side.stretches() for side in sides]
    held = [next(source, None) for source in sources]
    while held[0] is not None and held[1] is not None:
        stop = min(int(part["cycle"][-1]) for part in held if part is not None)
        parts, cycles = [], []
        for place, part in enumerate(held):
            assert part is not None
            until = int(np.searchsorted(part["cycle"], stop, "right"))
            parts.append(part[:until])
            cycles.append(part["cycle"][:until])
            held[place] = part[until:] if until < len(part) else next(sources[place], None)
        _, *places = np.intersect1d(cycles[0], cycles[1], return_indices=True)
        for place, part in enumerate(parts):
            _count_alone(found, place, np.delete(part["cycle"], places[place]))
        yield parts[0][places[0]], parts[1][places[1]]
    for place, rest in enumerate(held):
        left = [] if rest is None else [rest]
        for part in chain(left, sources[place]):
            _count_alone(found, place, part["cycle"])


def _count_alone(found: Contents, place: int, cycles: NDArray[np.int64]) -> None:
    found.only[place] += len(cycles)
    if len(cycles) and found.first_only[place] is None:
        found.first_only[place] = int(cycles[0])


# ---- fields of frames --------------------------------------------------------------------------


def _compare_column(
    found: Contents, name: str, parts: tuple[Frames, Frames], sides: tuple[_Side, _Side]
) -> None:
    columns = [part[name] for part in parts]
    kind = name.rpartition(".")[2]
    is_stamp = kind in _STAMPS
    if is_stamp:
        columns = [
            np.where(column == ABSENT, ABSENT, column - side.start_ns)
            for column, side in zip(columns, sides, strict=True)
        ]
    _note(found, name, _unit(name, sides[0].recording), parts[0]["cycle"], (columns[0], columns[1]))


_STAMPS = (
    "due_ns", "woke_ns", "triggered_ns", "latched_ns", "acted_ns", "inferred_ns", "acquired_ns",
    "received_ns",
)  # fmt: skip


def _unit(name: str, recording: Recording) -> str:
    """Of a field of the frames."""
    group, _, rest = name.partition(".")
    if group == "actuators" and name.endswith((".requested", ".applied")):
        actuator = rest.rpartition(".")[0]
        return {one[0]: one[2] for one in recording.layout.actuators}.get(actuator, "")
    return "ns" if name.endswith("_ns") else ""


def _note(
    found: Contents,
    name: str,
    unit: str,
    cycles: NDArray[np.int64],
    columns: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    """Take in a column of numbers, or of arrays."""
    one, other = (np.ascontiguousarray(column) for column in columns)
    rows = len(cycles)
    differs = (one.view(np.uint8) != other.view(np.uint8)).reshape(rows, -1).any(axis=1)
    if not rows or not differs.any():
        return
    places = np.flatnonzero(differs)
    noted = found.differ.setdefault(name, FieldDifference(name, unit))
    if not noted.cycles:
        at = places[0]
        noted.first = int(cycles[at])
        noted.values = (_text(name, one[at], other[at]), _text(name, other[at], one[at]))
    noted.cycles += len(places)
    largest = _largest(name, one[places], other[places])
    if largest is not None:
        noted.largest = max(noted.largest or 0.0, largest)


def _largest(name: str, one: NDArray[Any], other: NDArray[Any]) -> float | None:
    kind = name.rpartition(".")[2]
    if one.dtype.kind == "f":
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
        return float(np.nanmax(apart)) if np.isfinite(apart).any() else None
    if not kind.endswith("_ns"):
        return None
    known = (one != ABSENT) & (other != ABSENT)
    return float(np.abs(one - other)[known].max()) if known.any() else None


def _text(name: str, value: Any, other: Any) -> str:
    """A value, for a person; of an array the first number that differs."""
    array = np.asarray(value)
    if array.ndim:
        raw = [np.ascontiguousarray(one).reshape(-1) for one in (value, other)]
        size = raw[0].itemsize
        octets = [one.view(np.uint8).reshape(-1, size) for one in raw]
        at = int((octets[0] != octets[1]).any(axis=1).argmax())
        return f"[{at}] {raw[0][at]:.7g}" if raw[0].dtype.kind == "f" else f"[{at}] {raw[0][at]}"
    kind = name.rpartition(".")[2]
    if kind in _NAMES:
        return name_of(int(array), _NAMES[kind])
    if kind == "flags":
        names = ACT_FLAGS if name.startswith("actuators.") else FRAME_FLAGS
        return " ".join(names_of(int(array), names)) or "none"
    if array.dtype.kind == "i" and int(array) == ABSENT:
        return "absent"
    return f"{array:.7g}" if array.dtype.kind == "f" else str(array)


# ---- samples -----------------------------------------------------------------------------------


def _compare_samples(
    found: Contents, sensor: str, parts: tuple[Frames, Frames], sides: tuple[_Side, _Side]
) -> None:
    """Those that a frame is the first to name, in both."""
    numbers, is_new, is_there = [], [], []
    for part, side in zip(parts, sides, strict=True):
        index = side.recording.layout.indices[sensor]
        sequences = part[f"sensors.{sensor}.sequence"]
        is_new.append(np.diff(sequences, prepend=side.given[index]) > 0)
        if len(sequences):
            side.given[index] = int(sequences[-1])
        numbers.append(sequences)
        known = side.recording.sequences(sensor)
        places = np.minimum(np.searchsorted(known, sequences), max(0, len(known) - 1))
        is_there.append(known[places] == sequences if len(known) else np.zeros(len(places), bool))
    named = is_new[0] & is_new[1]
    found.lost[0] += int(np.count_nonzero(named & ~is_there[0] & is_there[1]))
    found.lost[1] += int(np.count_nonzero(named & is_there[0] & ~is_there[1]))
    rows = np.flatnonzero(named & is_there[0] & is_there[1])
    found.samples += len(rows)
    layouts = [side.recording.layout for side in sides]
    dtypes = [layout.dtypes[layout.indices[sensor]] for layout in layouts]
    units = layouts[0].units[layouts[0].indices[sensor]]
    cycles = parts[0]["cycle"][rows]
    if dtypes[0] != dtypes[1]:
        different = (np.zeros(len(rows)), np.ones(len(rows)))
        _note(found, f"{sensor} (its layout)", "", cycles, different)
        return
    pairs = [
        _values(side.recording, sensor, sequences[rows])
        for side, sequences in zip(sides, numbers, strict=True)
    ]
    for first, second, start in zip(*pairs, _starts(len(rows), sensor, sides[0]), strict=True):
        for name in dtypes[0].names or ():
            columns = (first[name], second[name])
            part_of = cycles[start : start + len(first[name])]
            _note(found, f"{sensor}.{name}", units.get(name, ""), part_of, columns)


def _starts(rows: int, sensor: str, side: _Side) -> range:
    """Where the parts begin in which samples are taken: an image by itself, others together."""
    layout = side.recording.layout
    is_image = image_encoding(layout.dtypes[layout.indices[sensor]]) is not None
    return range(0, rows, 1 if is_image else max(1, rows))


def _values(
    recording: Recording, sensor: str, sequences: NDArray[np.int64]
) -> Iterator[dict[str, NDArray[Any]]]:
    """The fields of samples that are all in the file, in such parts."""
    index = recording.layout.indices[sensor]
    dtype = recording.layout.dtypes[index]
    if image_encoding(dtype) is not None:
        for sequence in sequences.tolist():
            value = recording.sample(index, sequence)
            yield {name: value[name][None] for name in dtype.names or ()}
    elif len(sequences):
        places = np.searchsorted(recording.sequences(sensor), sequences)
        first = int(places[0])
        samples = recording.samples(sensor, first, int(places[-1]) + 1)[places - first]
        yield {name: samples[f"value.{name}"] for name in dtype.names or ()}
