"""The driver contract: what a driver declares, and what the middleware calls.

A driver is a class named in a schedule (`driver = "module:Class"`). It declares the layout of its
sample and an *exchange*, which the C core runs by itself on the cycle thread; the methods here run
off the cycle thread, before a device is handed to the core or after it is taken back.

A driver imports this module and nothing else of the middleware.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar

import msgspec

from inphase.errors import DeviceError

__all__ = [
    "Acquire",
    "ActuatorSpec",
    "Check",
    "CheckKind",
    "DeviceError",
    "Driver",
    "Encoding",
    "Exchange",
    "Field",
    "Framing",
    "Raw",
    "Reply",
    "SensorSpec",
    "Servo",
    "TwinChannel",
    "TwinKind",
    "Value",
]


class Raw(IntEnum):
    """Types of raw values in packets."""

    U8 = 1
    I8 = 2
    U16 = 3
    I16 = 4
    U32 = 5
    I32 = 6
    F32 = 7
    F64 = 8


class CheckKind(IntEnum):
    """What must hold of a reply."""

    MATCH = 1
    ZERO = 2
    CRC16 = 3
    CRC16_END = 4


class Acquire(IntEnum):
    """How a sample's acquisition time follows from its exchange."""

    ABSENT = 0
    AFTER_TRIGGER = 1
    MIDDLE = 2


class TwinKind(IntEnum):
    """What a channel of a simulated sensor follows."""

    CONSTANT = 0
    POSITION = 1
    VELOCITY = 2
    ACCELERATION = 3


@dataclass(frozen=True)
class Field:
    """One named field of a sample: `count` doubles in SI (0: a scalar)."""

    name: str
    unit: str
    count: int = 0

    @property
    def channels(self) -> int:
        """Doubles that the field takes in a sample."""
        return max(self.count, 1)


@dataclass(frozen=True)
class Value:
    """A raw value at a byte offset, and the channel it becomes: `raw * scale + zero`, in SI."""

    offset: int
    type: Raw
    channel: int
    scale: float = 1.0
    zero: float = 0.0
    big_endian: bool = False

    def turned(self, sign: int, zero: float) -> "Value":
        """The same value with a schedule's sign and zero applied: `sign * SI - zero`."""
        return replace(self, scale=sign * self.scale, zero=sign * self.zero - zero)


@dataclass(frozen=True)
class Check:
    """What must hold of a reply: see `CheckKind` and inphase.h, struct inphase_check."""

    kind: CheckKind
    offset: int = 0
    type: Raw = Raw.U8
    expect: int = 0
    mask: int = 0xFFFFFFFF
    big_endian: bool = False


@dataclass(frozen=True)
class Framing:
    """How packets are told apart; sizes in bytes. See inphase.h, struct inphase_framing."""

    min_size: int
    max_size: int
    datagram: bool = False
    start: bytes = b""
    length_offset: int = 0
    length_size: int = 0
    length_add: int = 0
    escape: bytes = b""
    escape_insert: int = 0
    escape_from: int = 0
    escape_tail: int = 0
    big_endian: bool = False


@dataclass(frozen=True)
class Reply:
    """One reply: its unstuffed size (0: any), what must hold, and what it carries."""

    values: tuple[Value, ...]
    checks: tuple[Check, ...] = ()
    size: int = 0


@dataclass(frozen=True)
class Exchange:
    """A request and its replies, run by the core. Durations are nanoseconds of wire and device."""

    request: bytes
    framing: Framing
    replies: tuple[Reply, ...]
    request_ns: int
    """the request's time on the wire"""
    reply_ns: int
    """from the end of the request to the last byte of the last reply, as stated by the device"""
    reply_max_ns: int
    """worst case from trigger to last byte: how long a line stays quiet after a missed reply"""
    sequence: Value | None = None
    """the device's own sample counter, in the last reply"""
    acquire: Acquire = Acquire.ABSENT
    acquire_ns: int = 0


@dataclass(frozen=True)
class TwinChannel:
    """A channel of a simulated sensor: `base + gain * quantity + noise * draw` (draw in -1..1)."""

    kind: TwinKind = TwinKind.CONSTANT
    joint: int = 0
    base: float = 0.0
    gain: float = 1.0
    noise: float = 0.0


@dataclass(frozen=True)
class Servo:
    """A simulated joint: start in rad, natural frequency in rad/s, caps in rad/s and rad/s^2."""

    start: float = 0.0
    natural_rad_s: float = 60.0
    velocity_max: float = 6.0
    acceleration_max: float = 60.0


@dataclass(frozen=True)
class SensorSpec:
    """What a driver's sensor gives: fields, exchange, and what its simulated twin answers."""

    fields: tuple[Field, ...]
    exchange: Exchange
    twin: tuple[TwinChannel, ...]
    twin_latency_ns: int
    twin_jitter_ns: int = 0
    per_joint: tuple[str, ...] = ()
    """fields that a schedule's per-channel `sign` applies to"""


@dataclass(frozen=True)
class Encoding:
    """How a command becomes bytes: template, its values, escape rule and length, checksum."""

    packet: bytes
    values: tuple[Value, ...]
    framing: Framing
    crc16: bool
    write_ns: int
    """the command's time on the wire"""


@dataclass(frozen=True)
class ActuatorSpec:
    """What a driver's actuator takes: channels of one unit, and how they are written."""

    channels: int
    unit: str
    encoding: Encoding
    servos: tuple[Servo, ...]


class Driver(ABC):
    """One device. Methods run off the cycle thread; `name` is the schedule's.

    Life: `open` -> (handed to the core) -> `close`; `enable` and `disable` run while the core does
    not use the device. Every method raises DeviceError, which names device, port and what to do.
    """

    Options: ClassVar[type[msgspec.Struct]]
    """The device table's own keys: a frozen msgspec Struct that forbids unknown fields."""

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options

    @property
    @abstractmethod
    def address(self) -> str:
        """What no two runtimes may use at once: a device path or `udp:host:port`."""

    @abstractmethod
    def sensor(self) -> SensorSpec | None:
        """The sensor; after `open` with what the device itself said (scales)."""

    def actuator(self) -> ActuatorSpec | None:
        """The actuator; None for a device that only senses."""
        return None

    @abstractmethod
    def open(self) -> int:
        """Open the port, check the device, and return a non-blocking descriptor for the core."""

    def enable(self) -> None:
        """Make the actuator follow commands, starting from where it is; verified by reading."""
        return

    def disable(self) -> None:
        """Make the actuator stop following commands; verified by reading."""
        return

    @abstractmethod
    def close(self) -> None:
        """Close the port; always callable."""
