"""A schedule's options of DYNAMIXEL servos on one bus."""

from typing import Annotated, Literal

from msgspec import Meta

from ..servo_driver import ServoBusOptions
from .models import ModelName


class ServoOptions(ServoBusOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    baud: Literal[57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000] = (
        4_000_000
    )
    """bits per second, as set in the servos"""
    read: Literal["fast", "sync"] = "fast"
    """fast sync read, or sync read for servos that lack it"""
    models: list[ModelName] | None = None
    """of the servos, in the order of `ids`; needed where one measures load instead of current. Left
    out: the servos are asked, and all have to measure current"""
    watchdog_ms: Annotated[int, Meta(ge=0, le=2_540, multiple_of=20)] = 200
    """how long the bus may be silent before the servos stop by themselves; 0: they never do.
    Longer than two cycles, and than `resumed_after_ms` of the cycle"""
    torque_n_m_per_a: Annotated[float, Meta(gt=0)] | None = None
    """of the servos, for commands of effort in N m; left out: they are currents, in A"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        super().__post_init__()
        if self.models is not None and len(self.models) != len(self.ids):
            raise ValueError(
                f"models: one per servo ({len(self.ids)}) expected, got {len(self.models)}"
            )
