"""A schedule's options of DYNAMIXEL servos on one bus."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .models import ModelName


class ServoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    port: str
    """the serial port"""
    ids: Annotated[list[Annotated[int, Meta(ge=0, le=252)]], Meta(min_length=1, max_length=20)]
    """of the servos, in the order of the channels"""
    baud: Literal[57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000] = (
        4_000_000
    )
    """bits per second, as set in the servos"""
    read: Literal["fast", "sync"] = "fast"
    """fast sync read, or sync read for servos that lack it"""
    models: list[ModelName] | None = None
    """of the servos, in the order of `ids`; needed where one measures load instead of current. Left
    out: the servos are asked, and all have to measure current"""
    adapter_latency_us: Annotated[int, Meta(ge=0, le=20_000)] = 2_000
    """what the serial adapter may add to a reply, for the worst case"""
    watchdog_ms: Annotated[int, Meta(ge=0, le=2_540, multiple_of=20)] = 200
    """how long the bus may be silent before the servos stop by themselves; 0: they never do.
    Longer than two cycles, and than `resumed_after_ms` of the cycle"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""
    torque_n_m_per_a: Annotated[float, Meta(gt=0)] | None = None
    """of the servos, for commands of effort in N m; left out: they are currents, in A"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"ids must be different from each other, got {self.ids}")
        if self.models is not None and len(self.models) != len(self.ids):
            raise ValueError(
                f"models: one per servo ({len(self.ids)}) expected, got {len(self.models)}"
            )
        start = self.start_position
        if isinstance(start, list) and len(start) != len(self.ids):
            raise ValueError(
                f"start_position: one number, or one per servo ({len(self.ids)}), expected, got "
                f"{start}"
            )

    def wire_ns(self, size: int) -> int:
        """Time of bytes on the wire: start bit, 8 data bits, stop bit."""
        return size * 10 * 1_000_000_000 // self.baud
