"""How a device's packets look, as a driver declares them: the core and the workers run by these.

Drivers import all of it from `inphase.driver`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

_IDLE_MAX_NS = 1_000_000_000


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
    SM16 = 10
    """16 bits: a magnitude, and its sign in bit 15"""
    SM11 = 11
    """16 bits: a magnitude of 10 bits, and its sign in bit 10"""
    U12_HIGH = 12
    """the upper 12 of 16 bits; the others are another value's, and a command leaves them alone"""
    U12_LOW = 13
    """the lower 12 of 16 bits, likewise"""
    U4_HIGH = 14
    """the upper 4 of 8 bits, likewise"""
    U2_HIGH = 15
    """the upper 2 of 8 bits, likewise"""


class CheckKind(IntEnum):
    """Kinds of conditions on a reply."""

    MATCH = 1
    ZERO = 2
    CHECKSUM = 3
    CRC16_END = 4
    """DYNAMIXEL's CRC in the last two bytes, as older drivers have it: the same as a CHECKSUM"""
    AMONG = 5
    """the value is one of those whose bits are set in `mask`, such as a mode; else the device
    refuses, and the value is the sample's detail"""


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

    @classmethod
    def within(
        cls, offset: int, kind: Raw, channel: int, span: tuple[float, float], **where: bool
    ) -> "Value":
        """An unsigned raw value of 12 or 16 bits that spans a range: 0 is its low end, all ones the
        high one. where: `big_endian`. Raises KeyError for another type."""
        low, high = span
        most = {Raw.U16: 0xFFFF, Raw.U12_HIGH: 0xFFF, Raw.U12_LOW: 0xFFF}[kind]
        return cls(offset, kind, channel, (high - low) / most, low, **where)

    def turned(self, sign: int, zero: float) -> "Value":
        """The same value with a schedule's sign and zero applied: `sign * SI - zero`."""
        return replace(self, scale=sign * self.scale, zero=sign * self.zero - zero)


@dataclass(frozen=True)
class Checksum:
    """A checksum: a CRC by the parameters of the catalogue of CRCs, a sum, or exclusive or.

    Source: G. Cook, "Catalogue of parametrised CRC algorithms". `CHECKSUMS` has the common ones.
    """

    kind: Literal["crc", "sum", "xor"]
    width: int = 8
    """bits, at most 64; in a packet it has whole bytes. "xor" has 8"""
    polynomial: int = 0
    """of a CRC, without its top bit"""
    initial: int = 0
    reflected_in: bool = False
    reflected_out: bool = False
    final: int = 0
    """exclusive or with the result: all ones give the complement"""
    negated: bool = False
    """all bytes and the checksum add up to 0 (two's complement of a sum)"""


CHECKSUMS: dict[str, Checksum] = {
    name: Checksum("crc", width, polynomial, initial, bool(reflected), bool(reflected), final)
    for name, width, polynomial, initial, reflected, final in (
        ("CRC-8/SMBUS", 8, 0x07, 0x00, 0, 0x00),
        ("CRC-8/I-432-1", 8, 0x07, 0x00, 0, 0x55),
        ("CRC-8/MAXIM-DOW", 8, 0x31, 0x00, 1, 0x00),
        ("CRC-8/NRSC-5", 8, 0x31, 0xFF, 0, 0x00),
        ("CRC-8/SAE-J1850", 8, 0x1D, 0xFF, 0, 0xFF),
        ("CRC-8/AUTOSAR", 8, 0x2F, 0xFF, 0, 0xFF),
        ("CRC-8/DVB-S2", 8, 0xD5, 0x00, 0, 0x00),
        ("CRC-16/ARC", 16, 0x8005, 0x0000, 1, 0x0000),
        ("CRC-16/MODBUS", 16, 0x8005, 0xFFFF, 1, 0x0000),
        ("CRC-16/USB", 16, 0x8005, 0xFFFF, 1, 0xFFFF),
        ("CRC-16/UMTS", 16, 0x8005, 0x0000, 0, 0x0000),
        ("CRC-16/IBM-3740", 16, 0x1021, 0xFFFF, 0, 0x0000),
        ("CRC-16/XMODEM", 16, 0x1021, 0x0000, 0, 0x0000),
        ("CRC-16/KERMIT", 16, 0x1021, 0x0000, 1, 0x0000),
        ("CRC-16/MCRF4XX", 16, 0x1021, 0xFFFF, 1, 0x0000),
        ("CRC-16/IBM-SDLC", 16, 0x1021, 0xFFFF, 1, 0xFFFF),
        ("CRC-16/GENIBUS", 16, 0x1021, 0xFFFF, 0, 0xFFFF),
        ("CRC-16/DNP", 16, 0x3D65, 0x0000, 1, 0xFFFF),
        ("CRC-24/OPENPGP", 24, 0x864CFB, 0xB704CE, 0, 0x000000),
        ("CRC-32/ISO-HDLC", 32, 0x04C11DB7, 0xFFFFFFFF, 1, 0xFFFFFFFF),
        ("CRC-32/BZIP2", 32, 0x04C11DB7, 0xFFFFFFFF, 0, 0xFFFFFFFF),
        ("CRC-32/MPEG-2", 32, 0x04C11DB7, 0xFFFFFFFF, 0, 0x00000000),
        ("CRC-32/ISCSI", 32, 0x1EDC6F41, 0xFFFFFFFF, 1, 0xFFFFFFFF),
        ("CRC-64/XZ", 64, 0x42F0E1EBA9EA3693, 2**64 - 1, 1, 2**64 - 1),
    )
}
"""Checksums by their names: those of the catalogue, its common other names, and plain ones."""
CHECKSUMS |= {
    "CRC-16/CCITT-FALSE": CHECKSUMS["CRC-16/IBM-3740"],
    "CRC-16/CCITT": CHECKSUMS["CRC-16/KERMIT"],
    "CRC-16/X-25": CHECKSUMS["CRC-16/IBM-SDLC"],
    "CRC-16/DYNAMIXEL": CHECKSUMS["CRC-16/UMTS"],
    "CRC-32": CHECKSUMS["CRC-32/ISO-HDLC"],
    "CRC-32C": CHECKSUMS["CRC-32/ISCSI"],
    "SUM-8": Checksum("sum"),
    "SUM-8/COMPLEMENT": Checksum("sum", final=0xFF),
    "SUM-8/NEGATED": Checksum("sum", negated=True),
    "SUM-16": Checksum("sum", 16),
    "XOR-8": Checksum("xor"),
}


def checksum_of(given: str | Checksum) -> Checksum:
    """A checksum by its name. Raises ValueError with the names that there are."""
    if isinstance(given, Checksum):
        return given
    if given in CHECKSUMS:
        return CHECKSUMS[given]
    raise ValueError(
        f"no checksum {given!r}; give inphase.driver.Checksum(...) with its parameters, or one of "
        f"{', '.join(CHECKSUMS)}"
    )


_CRC16_END = {"kind": CheckKind.CHECKSUM, "offset": -2, "checksum": "CRC-16/DYNAMIXEL"}


@dataclass(frozen=True)
class Check:
    """A condition on a reply: see `CheckKind` and inphase.h, struct inphase_check."""

    kind: CheckKind
    offset: int = 0
    """below 0, of a checksum: from the packet's end, so -2 for the last two bytes"""
    type: Raw = Raw.U8
    expect: int = 0
    mask: int = 0xFFFFFFFF
    big_endian: bool = False
    checksum: str | Checksum = ""
    """for CHECKSUM: a name of `CHECKSUMS`, or its parameters; over the packet as received"""
    start: int = 0
    """for CHECKSUM: the first byte that it covers; it covers all up to itself"""
    number: int | None = None
    """for ZERO: the offset of a byte that says why the device refuses, such as an exception code;
    the sample's detail. None: the value that should be zero"""

    def __post_init__(self) -> None:
        if self.kind is CheckKind.CRC16_END:
            for name, value in _CRC16_END.items():
                object.__setattr__(self, name, value)


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
    sizes: Mapping[int, int] = field(default_factory=dict)
    """the whole packet's size by the value of the byte at `size_offset`, such as a function code.
    A packet with another value is none"""
    size_offset: int = 0
    idle_ns: int = 0
    """a silence of this length ends a packet, and nothing else does, as in Modbus RTU. Such packets
    have no `start`, length or `sizes`, and each reply a checksum or a size. Under a second. A USB
    adapter that holds bytes back makes silences of its own: it has to be longer than those"""

    def trouble(self, replies: "tuple[Reply, ...]") -> str:
        """Why packets of these replies cannot be told apart; empty: they can, as far as `idle_ns`
        matters."""
        if not self.idle_ns:
            return ""
        others = ("datagram", "can", "start", "length_size", "sizes")
        if given := [key for key in others if getattr(self, key)]:
            return f"idle_ns alone ends its packets; remove {given[0]}, or idle_ns"
        if not 0 < self.idle_ns <= _IDLE_MAX_NS:
            return f"idle_ns is 1 to {_IDLE_MAX_NS}, got {self.idle_ns}; give a value within"
        for number, reply in enumerate(replies):
            if not reply.size and not any(c.kind is CheckKind.CHECKSUM for c in reply.checks):
                return (
                    f"a pause may cut its reply {number} in two, and nothing tells a part of it "
                    f"from the whole; give it a size, or a check of its checksum"
                )
        return ""


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
    """worst case from trigger to last byte: how long a line stays quiet after a missed reply. The
    silence that ends a packet (`Framing.idle_ns`) comes on top"""
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

    interval_ns: int = 0
    """of a device that streams: from one packet to the next, as stated; 0: not known"""
    request_chunk: int = 0
    """bytes of one datagram, if a request is several: 16 for CAN frames; 0: it is one write"""
    answers: tuple[Reply, ...] = ()
    """what the device sends for each command, to confirm it: one packet that passes these checks
    for each. They are dropped, also where they look like a reply. Their values are not taken"""

    @property
    def typical_ns(self) -> int:
        """From the trigger to the sample in hand, as stated."""
        return self.request_ns + self.reply_ns + self.framing.idle_ns

    @property
    def worst_ns(self) -> int:
        """The same at worst."""
        return self.reply_max_ns + self.framing.idle_ns

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
    """A device's time in a packet, from any origin: an unsigned number of ticks. Or seconds as F64,
    which are taken as whole nanoseconds: `tick_ns` is 1."""

    offset: int
    type: Raw
    tick_ns: float
    bits: int = 0
    """the number of bits at which it wraps; 0: never"""
    shift_ns: int = 0
    """from the stamp to the middle of the acquisition"""
    big_endian: bool = False


@dataclass(frozen=True)
class Reference:
    """A device that streams, and wants a command for each of its packets.

    A command has the number of the packet that it answers, as in `Exchange.sequence`. Without a new
    packet nothing is written: the device carries its last motion on by itself. Commands go on from
    the motion that it tells of: the first channels of three fields of the device's own sensor, in
    the order of the actuator's channels.
    """

    number: Value
    """the place of that number in the command, U32 or U64"""
    position: int
    velocity: int
    acceleration: int
    finish: int | None = None
    """the offset of a byte that is 1 in the last commands of a run, once they are at rest"""


@dataclass(frozen=True)
class Encoding:
    """How a command becomes bytes: template, its values, escape rule and length, checksum."""

    packet: bytes
    values: tuple[Value, ...]
    framing: Framing
    write_ns: int
    """the command's time on the wire"""
    checksum: str | Checksum | None = None
    """it ends the command: a name of `CHECKSUMS`, or its parameters"""
    checksum_big_endian: bool = False
    chunk: int = 0
    """bytes of one datagram, if a command is several: 16 for CAN frames; 0: it is one write"""
    reference: Reference | None = None
    """of a device that wants a command for each of its packets; None: commands come by the cycle"""


class StopKind(IntEnum):
    """Kinds of stops that the guard sends. Constant bytes cannot stop a position servo."""

    HOLD = 1
    """the last applied command, again: for position mode; in the other modes it is ZERO"""
    ZERO = 2
    """the end of a ramp: no velocity, the safe effort, a switch's state"""
    BYTES = 3
    """the stop's own bytes: a quick stop, torque off"""


@dataclass(frozen=True)
class Stop:
    """The stop that the guard sends, three times, when the runtime is dead or frozen in motion."""

    kind: StopKind = StopKind.HOLD
    packet: bytes = b""
    """for BYTES: the bytes on the wire"""
    chunk: int = 0
    """for BYTES: the size of one datagram, if they are several; 0: they are one write"""
    gap_ns: int = 0
    """how long the line has to be idle before each stop. It ends a packet that was cut short. On a
    bus with one pair of wires it also covers a reply that is still under way"""
