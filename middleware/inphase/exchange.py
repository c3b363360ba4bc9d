"""How a device's packets look, as a driver declares them: the core and the workers run by these.

Drivers import all of it from `inphase.driver`.
"""

from dataclasses import dataclass, replace
from enum import IntEnum


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
    """Kinds of conditions on a reply."""

    MATCH = 1
    ZERO = 2
    CRC16 = 3
    CRC16_END = 4


class Acquire(IntEnum):
    """How a sample's acquisition time follows from its exchange."""

    ABSENT = 0
    AFTER_TRIGGER = 1
    MIDDLE = 2


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
    """A condition on a reply: see `CheckKind` and inphase.h, struct inphase_check."""

    kind: CheckKind
    offset: int = 0
    type: Raw = Raw.U8
    expect: int = 0
    mask: int = 0xFFFFFFFF
    big_endian: bool = False


@dataclass(frozen=True)
class Framing:
    """How packets are separated; sizes in bytes. See inphase.h, struct inphase_framing."""

    min_size: int
    max_size: int
    datagram: bool = False
    can: bool = False
    """packets are CAN frames, made by `inphase.packets.can_frame`: 16 bytes each, or up to 72 with
    CAN FD. Replies may come in any order. Each has a MATCH of `inphase.packets.can_id` at offset 0,
    a U32, which recognises its frame. Data start at offset 8"""
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
    """One reply: its unstuffed size (0: any), its conditions, and its values."""

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
    """the device's own time in the last reply; `acquire` is then only the substitute for it"""
    reply_min_ns: int | None = None
    """the shortest time from trigger to last byte. A sooner reply answers an earlier trigger, and
    is dropped. None: on a serial line the time of request and smallest reply at the speed that
    `request_ns` implies, less a tenth. In datagrams and frames it is 0"""

    @property
    def earliest_ns(self) -> int:
        """`reply_min_ns`, or its substitute."""
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
    """the number of bits at which it wraps; 0: never"""
    shift_ns: int = 0
    """from the stamp to the middle of the acquisition"""
    big_endian: bool = False


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
    """bytes of one datagram, if a command is several: 16 for CAN frames; 0: it is one write"""
