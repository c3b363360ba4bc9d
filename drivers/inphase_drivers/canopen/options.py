"""A schedule's options of CiA 402 drives on one bus."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class DriveOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    interface: str
    """python-can's name: socketcan, slcan, udp_multicast, pcan, ..."""
    channel: str
    """what that interface calls a bus: can0, /dev/ttyACM0, 239.74.163.2, ..."""
    nodes: Annotated[list[Annotated[int, Meta(ge=1, le=126)]], Meta(min_length=1, max_length=32)]
    """node ids of the drives, in the order of the channels"""
    counts_per_rad: float | list[float]
    """position counts per radian of the joint; negative where the joint turns the other way"""
    bitrate: Annotated[int, Meta(ge=10_000, le=1_000_000)] = 1_000_000
    """bits per second of the bus"""
    bus: dict[str, str | int | float | bool] = {}
    """further arguments of python-can's interface, such as `port` or `tty_baudrate`"""
    velocity_counts_per_rad_s: float | list[float] | None = None
    """velocity units per rad/s; left out: counts per second"""
    effort: Literal["torque", "current"] = "torque"
    """object 6077h in thousandths of rated torque (6076h), or 6078h of rated current (6075h)"""
    own_id: Annotated[int, Meta(ge=1, le=127)] = 127
    """node id under which our heartbeat goes out"""
    heartbeat_ms: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """from one heartbeat to the next, ours and the drives'"""
    watchdog_ms: Annotated[int, Meta(ge=2, le=60_000)] = 100
    """without a heartbeat for so long a drive stops (ours) or counts as gone (the drive's)"""
    interpolation_us: Annotated[int, Meta(ge=100, le=255_000)] | None = None
    """time between commands, written to object 60C2h where it is given"""
    reply_max_us: Annotated[int, Meta(ge=100, le=1_000_000)] = 5_000
    """how long after a SYNC the last TPDO may come, adapter included"""
    hand_over_ms: Annotated[int, Meta(ge=0, le=60_000)] = 10_000
    """how long after `enable` the first cycle may take to come, before the drives stop again"""
    stop_ms: Annotated[int, Meta(ge=1, le=60_000)] = 2_000
    """how long a quick stop may take"""
    brakes: bool = False
    """the drives close brakes that hold every joint, when they take the motor's power away"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        if len(set(self.nodes)) != len(self.nodes) or self.own_id in self.nodes:
            raise ValueError(
                f"nodes must be different from each other and from own_id {self.own_id}, got "
                f"{self.nodes}"
            )
        if self.watchdog_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"watchdog_ms must be at least twice heartbeat_ms ({self.heartbeat_ms}), got "
                f"{self.watchdog_ms}"
            )
        for key in ("counts_per_rad", "velocity_counts_per_rad_s", "start_position"):
            value = getattr(self, key)
            if isinstance(value, list) and len(value) != len(self.nodes):
                raise ValueError(
                    f"{key}: one number, or one per node ({len(self.nodes)}), expected, got {value}"
                )
        for scale in (self.counts_per_rad, self.velocity_counts_per_rad_s):
            for one in self.per_node(1.0 if scale is None else scale):
                if not math.isfinite(one) or one == 0:
                    raise ValueError(f"counts per radian must be finite and not 0, got {one}")
        if self.interpolation_us is not None:
            self.interpolation()

    def per_node(self, value: float | list[float]) -> list[float]:
        """A value for each node."""
        return value if isinstance(value, list) else [value] * len(self.nodes)

    def interpolation(self) -> tuple[int, int]:
        """`interpolation_us` as object 60C2h has it: value and power of ten. ValueError."""
        value, index = self.interpolation_us or 0, -6
        while value > 255 and value % 10 == 0:
            value, index = value // 10, index + 1
        if value > 255:
            raise ValueError(
                f"interpolation_us must be up to 255 times a power of ten, got "
                f"{self.interpolation_us}"
            )
        return value, index
