"""The driver contract: what a driver declares, and what the middleware calls.

A driver is a class named in a schedule (`driver = "module:Class"`). It declares the layout of its
sample and how a sample is had:

- an *exchange*, a declared request and reply, which the C core runs by itself on the cycle thread
  (home `cycle`); then the methods here run off the cycle thread, before a device is handed to the
  core or after it is taken back;
- or its own `trigger` and `read`, which a worker calls (homes `process` and `thread`). Every method
  is then called in the worker, in one thread.

A driver imports this module and nothing else of the middleware.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.errors import DeviceError

__all__ = [
    "Acquire",
    "ActuatorSpec",
    "Calls",
    "Check",
    "CheckKind",
    "Clock",
    "DeviceError",
    "Driver",
    "Encoding",
    "Exchange",
    "Field",
    "Framing",
    "Raw",
    "Reading",
    "Reply",
    "SensorSpec",
    "Servo",
    "Stop",
    "StopKind",
    "TwinChannel",
    "TwinKind",
    "Value",
    "Watchdog",
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
    U64 = 9


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


class StopKind(IntEnum):
    """What the guard sends to stop a device. Static bytes cannot stop a position servo."""

    HOLD = 1
    """the command that was applied last, again: position mode; in the others it is ZERO"""
    ZERO = 2
    """where a ramp ends: no velocity, the safe effort, a switch's state"""
    BYTES = 3
    """the stop's own bytes: a quick stop, torque off"""


@dataclass(frozen=True)
class Field:
    """One named field of a sample: an array of that shape, () for a scalar.

    float64 fields are in SI, and a schedule may turn, shift and bound them channel by channel. A
    field of another dtype (an image) is handed on as it is.
    """

    name: str
    unit: str
    shape: tuple[int, ...] = ()
    dtype: str = "<f8"
    """as NumPy writes it, with its byte order"""

    @property
    def channels(self) -> int:
        """Numbers that the field takes in a sample."""
        return math.prod(self.shape)


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
    can: bool = False
    """packets are CAN frames, made by `inphase.packets.can_frame`: 16 bytes each, or up to 72 with
    CAN FD. Replies may come in any order; each has a MATCH of `inphase.packets.can_id` at offset 0,
    a U32, by which a frame is known to be its; data start at offset 8"""
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
    clock: "Clock | None" = None
    """the device's own time in the last reply; then `acquire` only stands in for it"""
    reply_min_ns: int | None = None
    """from trigger to last byte at the least: what comes sooner answers an earlier trigger, and is
    dropped. None: the time of request and smallest reply on a serial line, at the speed that
    `request_ns` implies, less a tenth; 0 in datagrams and frames"""

    @property
    def earliest_ns(self) -> int:
        """`reply_min_ns`, or what stands in for it."""
        if self.reply_min_ns is not None:
            return self.reply_min_ns
        if not self.request or self.framing.datagram or self.framing.can:
            return 0
        size = len(self.request) + len(self.replies) * self.framing.min_size
        return self.request_ns * size * 9 // (len(self.request) * 10)


@dataclass(frozen=True)
class Clock:
    """A device's time in a packet: an unsigned number of ticks from any origin."""

    offset: int
    type: Raw
    tick_ns: float
    bits: int = 0
    """at which it wraps; 0: never"""
    shift_ns: int = 0
    """from the stamp to the middle of the acquisition"""
    big_endian: bool = False


@dataclass(frozen=True)
class Calls:
    """A sensor that is read by its driver's own `trigger` and `read`, in a worker."""

    latency_ns: int
    """from trigger to sample in hand, as the device states it"""
    latency_max_ns: int
    """worst case: what has not come by then is lost. A device that runs by itself: how much later
    than its acquisition a sample comes at most; it bounds the uncertainty and moves no stamp"""
    triggered: bool = True
    """False: the device runs by itself and is latched; `trigger` is never called"""
    interval_ns: int = 0
    """of a device that runs by itself: from one sample to the next, as stated; 0: not known"""
    acquire: Acquire = Acquire.ABSENT
    """the model of the acquisition, for readings that say nothing of it"""
    acquire_ns: int = 0
    latency_min_ns: int = 0
    """from trigger, or acquisition, to sample in hand at the least: what comes sooner after its
    trigger answers an earlier one, and is dropped"""


class Reading(NamedTuple):
    """What one `read` knows of the sample that it has filled in. Nanoseconds; None: not known."""

    sequence: int | None = None
    """the device's own count of samples, one more for each that it takes. It pairs pulses with
    samples: without it pairing is by silence"""
    device_ns: int | None = None
    """middle of the acquisition by the device's clock, in its own nanoseconds from any origin; the
    worker maps it to the host's clock"""
    acquired_ns: int | None = None
    """middle of the acquisition by the host's CLOCK_MONOTONIC, where the driver knows it itself"""
    uncertainty_ns: int | None = None
    """of `acquired_ns`"""
    received_ns: int | None = None
    """when the last byte was in, where that is known better than by the return of `read`"""
    reason: str = ""
    """why the sample is invalid: one of `inphase.packets.REASONS`, such as checksum or device"""
    detail: int = 0
    """number that belongs to the reason"""


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
    """A simulated joint: start in rad, natural frequency in rad/s, caps in rad/s and rad/s^2; of
    one that takes efforts what it resists with, in its unit of effort per rad/s^2 and rad/s."""

    start: float = 0.0
    natural_rad_s: float = 60.0
    velocity_max: float = 6.0
    acceleration_max: float = 60.0
    inertia: float = 0.05
    damping: float = 0.05


@dataclass(frozen=True)
class SensorSpec:
    """What a driver's sensor gives: fields, how a sample is had, what its simulated twin answers.

    At least one of `exchange` and `calls` is given. A sensor with an exchange runs in every home;
    one with calls alone never runs on the cycle thread.
    """

    fields: tuple[Field, ...]
    twin: tuple[TwinChannel, ...]
    """one per float64 channel; an image's twin is a test pattern that moves with each sample"""
    twin_latency_ns: int
    twin_jitter_ns: int = 0
    exchange: Exchange | None = None
    calls: Calls | None = None
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
    chunk: int = 0
    """bytes of one datagram, where a command is several: 16 for CAN frames; 0: it is one write"""


@dataclass(frozen=True)
class Watchdog:
    """What the device itself does when its host is gone: it stops the motion, and refuses commands
    until `enable`."""

    timeout_ns: int
    """how long it may not be fed; the motion has not ended then, it begins to end"""
    fed_by_reads: bool = False
    """whatever the device is asked feeds it, not commands alone"""
    verified: bool = False
    """`enable` sets it and reads it back, and raises where it is not as stated here. Motion needs
    that, or the guard"""


@dataclass(frozen=True)
class Stop:
    """What the guard sends, three times, when the runtime is dead or frozen in motion."""

    kind: StopKind = StopKind.HOLD
    packet: bytes = b""
    """of BYTES: as it goes on the wire"""
    chunk: int = 0
    """of BYTES: of one datagram, where they are several; 0: they are one write"""
    gap_ns: int = 0
    """how long the line has to be idle before each time: what a reply may still take on a bus with
    one pair of wires, and what ends a packet that was cut short"""


@dataclass(frozen=True)
class ActuatorSpec:
    """What a driver's actuator takes: channels of one unit, and how they are written."""

    channels: int
    unit: str
    """of the driver's mode: "rad", "rad/s", "N m" or what its effort is counted in, "1" """
    servos: tuple[Servo, ...]
    """its simulated joints"""
    encoding: Encoding | None = None
    """None: the driver's own `write`, in a worker"""
    watchdog: Watchdog | None = None
    """None: the device has none that the driver uses; only the guard stops it"""
    stop: Stop = Stop()
    """what the guard sends, to the descriptor that `open` gives (homes `cycle` and `process`).
    HOLD and ZERO need an encoding"""
    safe: tuple[float, ...] = ()
    """per channel, where a ramp ends in effort and switch mode, and what `enable` sets; empty: 0"""
    largest: tuple[float, ...] = ()
    """per channel, the largest |velocity| or |effort| that the device takes, in those modes; limits
    beyond it are refused. Empty: not stated"""


class Driver(ABC):
    """One device; `name` is the schedule's.

    Life: `open` -> `start` -> (handed to the core, or `trigger` and `read` in turn) -> `close`;
    `enable` and `disable` run while nobody else uses the device. Methods raise DeviceError when the
    device is gone or refuses; it names device, port and what to do. After `close`, `open` may be
    called again: that is how a device which was unplugged comes back. Whatever else a method raises
    costs the device too, and nothing but the device.
    """

    Options: ClassVar[type[msgspec.Struct]]
    """The device table's own keys: a frozen msgspec Struct that forbids unknown fields."""
    modes: tuple[str, ...] = ("position",)
    """Command modes that the device can: position, velocity, effort, switch."""
    mode: str = "position"
    """That of them in which it is used; set by the middleware before anything is called."""

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options

    @property
    @abstractmethod
    def address(self) -> str:
        """What no two runtimes may use at once: a device's path as the schedule has it, whose links
        the lock follows, or `udp:host:port`."""

    @property
    def bus(self) -> str:
        """The wire it is on, as `can0`. Devices of one bus take turns; by default it is alone."""
        return self.address

    @property
    def switching_max_ns(self) -> int:
        """What `enable` may take at most, and `disable`; a worker is waited for so long."""
        return 5_000_000_000

    @abstractmethod
    def sensor(self) -> SensorSpec | None:
        """The sensor; after `open` with what the device itself said (scales)."""

    def actuator(self) -> ActuatorSpec | None:
        """The actuator; None for a device that only senses."""
        return None

    @abstractmethod
    def open(self) -> int:
        """Open the port and check the device.

        Returns the non-blocking descriptor on which an exchange is run, and to which the guard
        writes the stop; -1 from a driver that has neither exchange nor stop. A socket of a driver
        that has its own `read` may block.
        """

    def enable(self) -> None:
        """Make the actuator follow commands in its mode, from where it is, at no velocity, or at
        its safe value; verified by reading.

        It never takes power from what holds: where the device would have to let go to be set up, it
        refuses, and says what to do. What holds in the right mode keeps its goal. Where it fails,
        it switches off what it switched on.
        """
        return

    def goals(self) -> tuple[float, ...]:
        """After `enable`, in position mode: the goals at which the device holds, one per channel;
        empty: they are the measured positions. An actuator without `feedback` starts there, and is
        refused where they are not said."""
        return ()

    def disable(self) -> None:
        """Make the actuator stop following commands; verified by reading.

        A member that does not answer keeps no other on: all are tried, then all troubles raised.
        After an `enable` that failed, what held before it is left alone.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Close the port; always callable."""

    # ---- home process and thread -----------------------------------------------------------

    def start(self) -> None:
        """Make the device ready: from now on a trigger gives a sample."""
        return

    def flush(self) -> int:
        """Throw away what the device or its library has buffered; how many samples that was."""
        return 0

    def trigger(self) -> None:
        """Make the device sample now; returns at once."""
        raise DeviceError(f"device {self.name}: this driver has no trigger of its own")

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the next sample and fill it in.

        sample: structured array, shape (), of the declared fields, in shared memory: write into it
        in place, it goes to subscribers without a further copy. timeout_ns: how long to wait at
        most. Raises TimeoutError when nothing came.
        """
        raise DeviceError(f"device {self.name}: this driver has no read of its own")

    def write(self, command: NDArray[np.float64]) -> None:
        """Send a command, as it came from the limiter: one value per channel, in SI."""
        raise DeviceError(f"device {self.name}: this driver has no write of its own")

    def halt(self, command: NDArray[np.float64]) -> None:
        """Bring to rest what was moving when the device went away: called before anything else is
        commanded, whether or not it is enabled. `command` is no velocity, the safe effort or state;
        in position mode what was commanded last. A driver whose `open` stops what moves has
        nothing left to do."""
        self.write(command)
