"""A device that exists in a simulated world alone: what it gives and takes is said in the schedule.

For what has no driver yet, and for work that will never leave the simulator. It has a home and a
timing like any other; on hardware it cannot be opened, and says so.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Calls,
    DeviceError,
    Driver,
    Field,
    SensorSpec,
    Servo,
    TwinChannel,
    TwinKind,
)

_FOLLOWED = {
    "position": TwinKind.POSITION,
    "velocity": TwinKind.VELOCITY,
    "acceleration": TwinKind.ACCELERATION,
}

_UNITS = {"position": "rad", "velocity": "rad/s", "effort": "N m", "switch": "1"}


class SimulatedField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field of the sample; float64 unless `dtype` says otherwise ("|u1" for an image)."""

    unit: str = "1"
    """of its numbers"""
    shape: list[Annotated[int, Meta(ge=1, le=65_536)]] = []
    """of its array; left out: one number"""
    dtype: str = "<f8"
    """of its numbers, as NumPy writes it"""


class SimulatedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    fields: dict[str, SimulatedField] = {}
    """what it senses; `position`, `velocity`, `acceleration` are per joint where it has joints"""
    joints: Annotated[int, Meta(ge=0, le=64)] = 0
    """channels of its actuator; 0: it has none"""
    unit: str | None = None
    """of a command; left out: that of the mode, rad, rad/s, N m or 1"""
    safe: float | list[float] = 0.0
    """where a ramp ends in effort and switch mode"""
    start_position: float | list[float] = 0.0
    """where the joints start without a world"""
    latency_us: Annotated[int, Meta(ge=1, le=10_000_000)] = 100
    """from the trigger to the sample in hand"""
    acquire_us: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    """from the trigger to the acquisition"""
    rate_hz: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    """given: it is free-running at this rate"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        for key in ("safe", "start_position"):
            value = getattr(self, key)
            if isinstance(value, list) and len(value) != self.joints:
                raise ValueError(
                    f"{key}: one number, or one per joint ({self.joints}), expected, got {value}"
                )


class Device(Driver):
    """A device of a simulated world: fields as declared, joints in any mode."""

    Options: ClassVar[type[msgspec.Struct]] = SimulatedOptions
    modes = ("position", "velocity", "effort", "switch")

    def __init__(self, name: str, options: SimulatedOptions) -> None:
        super().__init__(name, options)
        self.options: SimulatedOptions = options

    @property
    def address(self) -> str:
        """A name of its own: no two devices share it."""
        return f"simulated:{self.name}"

    def sensor(self) -> SensorSpec | None:
        """The declared fields."""
        o = self.options
        if not o.fields:
            return None
        fields = tuple(
            Field(name, field.unit, tuple(field.shape), field.dtype)
            for name, field in o.fields.items()
        )
        free = o.rate_hz is not None
        return SensorSpec(
            fields=fields,
            twin=tuple(twin for field in fields for twin in self._twin(field)),
            twin_latency_ns=o.latency_us * 1000,
            calls=Calls(
                latency_ns=o.latency_us * 1000,
                latency_max_ns=o.latency_us * 1000,
                triggered=not free,
                interval_ns=round(1e9 / o.rate_hz) if o.rate_hz is not None else 0,
                acquire=Acquire.ABSENT if free else Acquire.AFTER_TRIGGER,
                acquire_ns=0 if free else o.acquire_us * 1000,
            ),
        )

    def _twin(self, field: Field) -> list[TwinChannel]:
        """Per joint where that can be, else still."""
        if field.dtype != "<f8":
            return []
        kind = _FOLLOWED.get(field.name)
        if kind is None or field.channels != self.options.joints:
            return [TwinChannel()] * field.channels
        return [TwinChannel(kind, joint) for joint in range(field.channels)]

    def actuator(self) -> ActuatorSpec | None:
        """Its joints, which take commands."""
        o = self.options
        if not o.joints:
            return None
        starts = (
            o.start_position
            if isinstance(o.start_position, list)
            else [o.start_position] * o.joints
        )
        return ActuatorSpec(
            channels=o.joints,
            unit=_UNITS[self.mode] if o.unit is None else o.unit,
            servos=tuple(Servo(start=position) for position in starts),
            safe=tuple(o.safe if isinstance(o.safe, list) else [o.safe] * o.joints),
        )

    def open(self) -> int:
        """There is no such device. Raises DeviceError."""
        raise DeviceError(
            f"device {self.name}: it exists in a simulated world alone; --simulate gives it "
            f"one, or give it the driver of a real device"
        )

    def close(self) -> None:
        """Nothing was opened."""
