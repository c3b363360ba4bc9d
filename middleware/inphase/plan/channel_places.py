"""Where the channels of a sensor are in its sample: its float64 fields, one after the other."""

from typing import Any

import numpy as np

from inphase.driver import Field, SensorSpec
from inphase.frames import wire

CHECKED_MAX = 256
"""float64 values of a sample that the core looks at."""


def value_fields(spec: SensorSpec) -> list[Field]:
    """The fields whose values the core may look at: float64 of this machine's byte order."""
    return [item for item in spec.fields if item.dtype == "<f8"]


def first_channel(spec: SensorSpec, name: str) -> int:
    """Channel at which a float64 field starts. Raises KeyError."""
    at = 0
    for item in value_fields(spec):
        if item.name == name:
            return at
        at += item.channels
    raise KeyError(name)


def dtype_of(spec: SensorSpec) -> np.dtype[Any]:
    """Layout of a sample: its fields one after the other, padded to 8 bytes."""
    return wire.sample_dtype([(f.name, f.shape, f.dtype) for f in all_fields(spec)])


def all_fields(spec: SensorSpec) -> tuple[Field, ...]:
    """The fields of a sample: the driver's, and those of a burst, oldest sample first.

    `burst_count`: how many there are. `burst_lost`: how many more came and did not fit. Stamps and
    their uncertainty, of shape (burst,); an unknown one is ABSENT, as in the frame's row. Then
    `F_burst` of each field F, of shape (burst, *shape of F). The layout is that of inphase.h.
    """
    if not spec.burst:
        return spec.fields
    stamps = ("burst_acquired_ns", "burst_received_ns", "burst_uncertainty_ns")
    return (
        *spec.fields,
        Field("burst_count", "1", (), "<i8"),
        Field("burst_lost", "1", (), "<i8"),
        *(Field(name, "ns", (spec.burst,), "<i8") for name in stamps),
        *(Field(f"{f.name}_burst", f.unit, (spec.burst, *f.shape)) for f in spec.fields),
    )


def channel_offsets(spec: SensorSpec) -> list[int]:
    """Where the float64 values of a sample lie in it, in bytes; none when they are too many."""
    layout = dtype_of(spec)
    assert layout.fields is not None
    found = [
        layout.fields[item.name][1] + 8 * i
        for item in value_fields(spec)
        for i in range(item.channels)
    ]
    return found if len(found) <= CHECKED_MAX else []
