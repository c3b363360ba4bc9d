"""The driver contract: what a driver declares, and what the middleware calls.

A driver is a class named in a schedule (`driver = "module:Class"`). It declares the layout of its
sample. It gives a sample in one of two ways:

- It declares an *exchange*, a request and reply, which the C core runs on the cycle thread (home
  `cycle`). The methods here then run off the cycle thread, before a device is handed to the core or
  after it is taken back.
- It has its own `trigger` and `read`, which a worker calls (homes `process` and `thread`). Every
  method is then called in the worker, in one thread.

A driver imports this module and nothing else of the middleware.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.errors import DeviceError
from inphase.exchange import (
    CHECKSUMS,
    Acquire,
    Check,
    CheckKind,
    Checksum,
    Clock,
    Encoding,
    Exchange,
    Framing,
    Raw,
    Reference,
    Reply,
    Stop,
    StopKind,
    Value,
)

__all__ = [
    "CHECKSUMS",
    "Acquire",
    "ActuatorSpec",
    "Bound",
    "Calls",
    "Check",
    "CheckKind",
    "Checksum",
    "Clock",
    "DeviceError",
    "Driver",
    "Echo",
    "Encoding",
    "Exchange",
    "Field",
    "Found",
    "Framing",
    "Raw",
    "Reading",
    "Reference",
    "Reply",
    "Scan",
    "SensorSpec",
    "Servo",
    "Stop",
    "StopKind",
    "TwinChannel",
    "TwinKind",
    "Value",
    "Watchdog",
    "WrongOption",
]

_BITS_MAX = 64
_TICK_MAX_NS = 1_000_000_000


class TwinKind(IntEnum):
    """The quantity that a channel of a simulated sensor follows."""

    CONSTANT = 0
    POSITION = 1
    VELOCITY = 2
    ACCELERATION = 3


class WrongOption(ValueError):  # noqa: N818 - named for what happened
    """An option does not fit the mode: `actuator()` raises it, and the schedule is refused.

    key: of the device's table. text: what is wrong with it, and what to give.
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text


@dataclass(frozen=True)
class Field:
    """One named field of a sample: an array of that shape, () for a scalar.

    float64 fields are in SI. A schedule may turn, shift and bound them channel by channel. A field
    of another dtype (an image) is handed on unchanged.
    """

    name: str
    unit: str
    shape: tuple[int, ...] = ()
    dtype: str = "<f8"
    """as NumPy writes it, with its byte order"""

    @property
    def channels(self) -> int:
        """How many numbers the field has in a sample."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Calls:
    """A sensor that is read by its driver's own `trigger` and `read`, in a worker."""

    latency_ns: int
    """from trigger to sample in hand, as the device states it"""
    latency_max_ns: int
    """worst case: a sample that has not come by then is lost. For a free-running device it is the
    longest time from acquisition to arrival; it bounds the uncertainty and moves no stamp"""
    triggered: bool = True
    """False: the device is free-running; `trigger` is never called"""
    interval_ns: int = 0
    """for a free-running device: from one sample to the next, as stated; 0: not known"""
    acquire: Acquire = Acquire.ABSENT
    """the model of the acquisition, for readings without an acquisition time"""
    acquire_ns: int = 0
    latency_min_ns: int = 0
    """the shortest time from trigger, or acquisition, to sample in hand. A sample that comes sooner
    after its trigger answers an earlier one, and is dropped"""
    sequence_bits: int = 0
    """at which `Reading.sequence` wraps, as the device counts; 0: it never does"""
    clock_tick_ns: float = 0.0
    """of `Reading.device_ticks`; 0: the device's time is not given in ticks"""
    clock_bits: int = 0
    """at which they wrap; 0: never"""
    clock_shift_ns: int = 0
    """from their stamp to the middle of the acquisition"""
    clock_echoed: bool = False
    """the device's clock is known by `Reading.echoes` alone, and never by arrivals"""

    @property
    def trouble(self) -> str:
        """Why its numbers cannot be followed; empty: they can."""
        for key in ("sequence_bits", "clock_bits"):
            if not 0 <= getattr(self, key) <= _BITS_MAX:
                return f"{key} is 0 to {_BITS_MAX}, got {getattr(self, key)}; give a value within"
        if not 0 <= self.clock_tick_ns <= _TICK_MAX_NS:
            return (
                f"clock_tick_ns is 0 to {_TICK_MAX_NS}, got {self.clock_tick_ns}; give one within"
            )
        if self.clock_bits and not self.clock_tick_ns:
            return "clock_bits wrap ticks of no length; give clock_tick_ns, or remove clock_bits"
        return ""


class Echo(NamedTuple):
    """One round trip: the device took this stamp between two times of CLOCK_MONOTONIC."""

    device_ns: int
    sent_ns: int
    received_ns: int


class Reading(NamedTuple):
    """The facts that one `read` knows of its sample. Nanoseconds; None: not known."""

    sequence: int | None = None
    """the device's own count of samples, one more for each sample. It pairs pulses with samples;
    without it pairing is by silence. As it came, where `Calls.sequence_bits` say how it wraps"""
    device_ns: int | None = None
    """middle of the acquisition by the device's clock, in its own nanoseconds from any origin; the
    worker maps it to the host's clock"""
    acquired_ns: int | None = None
    """middle of the acquisition by the host's CLOCK_MONOTONIC, if the driver itself knows it"""
    uncertainty_ns: int | None = None
    """of `acquired_ns`"""
    received_ns: int | None = None
    """arrival of the last byte, if it is known better than by the return of `read`"""
    reason: str = ""
    """why the sample is invalid: one of `inphase.packets.REASONS`, such as checksum or device"""
    detail: int = 0
    """number that belongs to the reason"""
    device_ticks: int | None = None
    """in place of `device_ns`: the device's time as it came, in ticks of `Calls.clock_tick_ns` that
    wrap at `Calls.clock_bits`"""
    echoes: tuple[Echo, ...] = ()
    """the round trips since the reading before; the worker maps `device_ns` by them"""
    notice: str = ""
    """words on what was refused since then, with a remedy; the worker says each once"""


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
    """A simulated joint: start in rad, natural frequency in rad/s, caps in rad/s and rad/s^2.
    `inertia` and `damping`: for efforts, in the unit of effort per rad/s^2 and rad/s."""

    start: float = 0.0
    natural_rad_s: float = 60.0
    velocity_max: float = 6.0
    acceleration_max: float = 60.0
    inertia: float = 0.05
    damping: float = 0.05


@dataclass(frozen=True)
class SensorSpec:
    """A driver's sensor: its fields, its way to a sample, and the answers of its simulated twin.

    Give at least one of `exchange` and `calls`. A sensor with an exchange runs in every home. A
    sensor with only calls never runs on the cycle thread.
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
    joints: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """of a field in `per_joint` that not every joint has: the joint of each of its channels"""
    burst: int = 0
    """the schedule's key of this name: all samples of a stream since the last frame, so many at
    most. The middleware sets it"""

    @property
    def interval_ns(self) -> int:
        """Of a free-running device: from one sample to the next, as stated; 0: not known."""
        stated = self.calls.interval_ns if self.calls is not None else 0
        return stated or (self.exchange.interval_ns if self.exchange is not None else 0)


@dataclass(frozen=True)
class Watchdog:
    """The device's own stop when its host is gone: it ends the motion, and refuses commands until
    `enable`."""

    timeout_ns: int
    """the time without feeding after which the motion begins to end"""
    fed_by_reads: bool = False
    """every request to the device feeds it, not only commands"""
    verified: bool = False
    """`enable` sets it, reads it back, and raises if it differs from this. Motion needs that, or
    the guard"""


@dataclass(frozen=True)
class Bound:
    """The commands that a device is set to take on one channel, in the actuator's unit."""

    low: float
    high: float
    where: str
    """for a person: the member and its settings, as `servo 2: registers 52 and 48 are 0 and 2700`
    """
    velocity: float = math.inf
    """of positions: a faster, quicker or rougher command ends the motion"""
    acceleration: float = math.inf
    jerk: float = math.inf


@dataclass(frozen=True)
class ActuatorSpec:
    """A driver's actuator: channels of one unit, and how they are written."""

    channels: int
    unit: str
    """of the driver's mode: "rad", "rad/s", "N m" or its own unit of effort, "1" """
    servos: tuple[Servo, ...]
    """its simulated joints"""
    encoding: Encoding | None = None
    """None: the driver's own `write`, in a worker"""
    watchdog: Watchdog | None = None
    """None: the driver uses no watchdog of the device; only the guard stops it"""
    stop: Stop = field(default_factory=Stop)
    """the guard sends it to the descriptor that `open` gives (homes `cycle` and `process`). HOLD
    and ZERO need an encoding"""
    safe: tuple[float, ...] = ()
    """per channel, the end of a ramp in effort and switch mode, which `enable` sets; empty: 0"""
    bounds: tuple[Bound, ...] = ()
    """per channel, the commands that the open device takes. Limits that reach beyond are refused
    before anything is enabled. Empty: not stated"""


class Found(NamedTuple):
    """One device that answered on a serial port."""

    ident: int
    """the number by which it is asked"""
    baud: int
    """bits per second at which it answered"""
    model: str
    firmware: str


class Scan(NamedTuple):
    """The answers on a serial port to one kind of question."""

    question: str
    """the question, and the rates at which it was asked"""
    found: tuple[Found, ...]
    remarks: tuple[str, ...]
    """what else came back or could not be asked, each with its remedy"""


class Driver(ABC):
    """One device; `name` is the schedule's.

    Life: `open` -> `start` -> (handed to the core, or `trigger` and `read` in turn) -> `close`.
    `enable` and `disable` run while nobody else uses the device.

    Methods raise DeviceError when the device is gone or refuses. The error names device, port and
    remedy. Any other exception loses the device too, and nothing else. After `close`, `open` may be
    called again: so a device that was unplugged comes back.
    """

    Options: ClassVar[type[msgspec.Struct]]
    """The device table's own keys: a frozen msgspec Struct that forbids unknown fields."""
    modes: tuple[str, ...] = ("position",)
    """Command modes that the device has: position, velocity, effort, switch."""
    mode: str = "position"
    """The mode in which it is used; the middleware sets it before any call."""
    passed: int = 0
    """Samples that `read` did not hand on: they came twice, or late."""

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options

    @property
    @abstractmethod
    def address(self) -> str:
        """The address that two runtimes may not use at once: `udp:host:port`, or a device's path.
        The path is the schedule's, and the lock follows its links."""

    @property
    def bus(self) -> str:
        """Its wire, such as `can0`. Devices of one bus take turns; by default it is alone."""
        return self.address

    @property
    def switching_max_ns(self) -> int:
        """The longest time of `enable` or `disable`; calls off the cycle are waited for so long."""
        return 5_000_000_000

    @abstractmethod
    def sensor(self) -> SensorSpec | None:
        """The sensor; after `open` it has the device's own values (scales)."""

    def actuator(self) -> ActuatorSpec | None:
        """The actuator; None for a device that only senses. Raises WrongOption."""
        return None

    @abstractmethod
    def open(self) -> int:
        """Open the port and check the device.

        Returns the non-blocking descriptor on which an exchange runs, and to which the guard writes
        the stop. A driver with neither exchange nor stop returns -1. The socket of a driver with
        its own `read` may block.
        """

    def enable(self) -> None:
        """Make the actuator follow commands in its mode; verified by reading.

        It starts where it is, at no velocity, or at its safe value. It never takes power from a
        device that holds. If the set-up would need that, it refuses, and says what to do. A device
        that holds in the right mode keeps its goal. If it fails, it switches off what it switched
        on.
        """
        return

    def engage(self) -> None:
        """Begin to follow commands, where `enable` leaves that out: of a device that stops if it is
        not answered in time. The core writes its place meanwhile; policies count after it."""
        return

    def disengage(self) -> None:
        """End that while the core still writes, before it hands the device over."""
        return

    def goals(self) -> tuple[float, ...]:
        """After `enable`, in position mode: the goals at which the device holds, one per channel.
        Empty: the measured positions. An actuator without `feedback` needs them, and starts there.
        """
        return ()

    def disable(self) -> None:
        """Make the actuator stop following commands; verified by reading.

        All members are tried, even if one does not answer; then all errors are raised. After a
        failed `enable`, a member that held before it is left alone.
        """
        return

    @property
    def has_brakes(self) -> bool:
        """True if brakes hold every joint once `disable` has taken the power away."""
        return False

    def torque(self) -> tuple[bool | None, ...]:
        """Per channel: the motor has power, as the open device says now, and will have it after
        `close`. None: the device does not say it. Empty: it never does. It changes nothing."""
        return ()

    def meaning(self, detail: int) -> str:
        """The words for a number that the device gave instead of a value: the detail of the reason
        `device`. Empty: not known. It asks nobody."""
        return ""

    def faults(self) -> list[str]:
        """The faults that the device has by itself, each with its remedy.

        It asks the open device, which nobody else uses: after a run that such a number ended.
        """
        return []

    @abstractmethod
    def close(self) -> None:
        """Close the port; it may always be called."""

    @classmethod
    def scan(cls, port: str) -> Scan | None:
        """Ask who is on a serial port that no runtime holds; `inphase ports --scan` does.

        port: the device's path. It writes questions only, and changes nothing in a device. None: a
        driver of this class has no such question. Raises DeviceError.
        """
        return None

    # ---- home process and thread -----------------------------------------------------------

    def start(self) -> None:
        """Make the device ready: from now on a trigger gives a sample."""
        return

    def flush(self) -> int:
        """Throw away the buffered samples of the device or its library; returns how many."""
        return 0

    def trigger(self) -> None:
        """Make the device sample now; returns at once."""
        raise DeviceError(f"device {self.name}: this driver has no trigger of its own")

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the next sample and fill it in.

        sample: structured array, shape (), of the declared fields, in shared memory. Write into it
        in place: it goes to subscribers without a further copy. timeout_ns: the longest wait.
        Raises TimeoutError when nothing came.
        """
        raise DeviceError(f"device {self.name}: this driver has no read of its own")

    def write(self, command: NDArray[np.float64]) -> None:
        """Send a command, as it came from the limiter: one value per channel, in SI."""
        raise DeviceError(f"device {self.name}: this driver has no write of its own")

    def halt(self, command: NDArray[np.float64]) -> None:
        """Bring an actuator to rest that was moving when its device went away.

        It is called before any other command, enabled or not. `command` is no velocity, the safe
        effort or state, or in position mode the last command. A driver whose `open` stops the
        motion has nothing left to do.
        """
        self.write(command)
