"""A schedule's options of Feetech servos on one bus."""

from typing import Annotated, Literal

from msgspec import Meta

from ..servo_driver import ServoBusOptions


class FeetechOptions(ServoBusOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    baud: Literal[38_400, 57_600, 76_800, 115_200, 128_000, 250_000, 500_000, 1_000_000] = 1_000_000
    """bits per second, as set in the servos"""
    other_models: tuple[int, ...] = ()
    """model numbers (register 3) that the driver does not know, and whose manuals say 4096 counts
    per turn and the registers of the STS series"""
    turn_us: Annotated[int, Meta(ge=0, le=5_000)] = 50
    """what a servo may take to begin its reply, beside its return delay of 0. No manual says it:
    `inphase probe` measures the whole"""
