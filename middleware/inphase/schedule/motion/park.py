"""The path of an actuator at the end of a run, as a schedule's table."""

from typing import Annotated

from msgspec import Meta

from inphase.schedule.table import Table


class Park(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A path along which an actuator in position mode goes at the end of a run, after its ramp."""

    path: Annotated[
        list[Annotated[list[float], Meta(min_length=1, max_length=64)]],
        Meta(min_length=1, max_length=16),
    ]
    """Points of the path in their order, each with a position per channel, in rad or m. The joints
    go straight from one to the next, and begin and end each way together."""
    velocity: float | list[float] | None = None
    """Largest velocity on the way, in rad/s or m/s. Left out: a quarter of the limits'."""
