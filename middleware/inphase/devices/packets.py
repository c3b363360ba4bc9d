"""Packets through the C core: what a driver declared, turned into the core's structures."""

import errno
import struct
import sys
from typing import Any, NamedTuple

from inphase._core import ffi, lib
from inphase.devices.packet_fields import (
    checksum_fields,
    encoding_fields,
    exchange_fields,
    framing_fields,
)
from inphase.driver import Checksum, Encoding, Exchange, Framing, Reply
from inphase.frames.record_layout import REASONS


class Refusal(NamedTuple):
    """In place of a command: why there is none, one of REASONS."""

    reason: str


class RefusedReply(ValueError):  # noqa: N818 - named for what happened
    """A reply that the parser refused: `reason` is one of REASONS, `detail` its number."""

    def __init__(self, reason: str, detail: int) -> None:
        super().__init__(f"reply refused: {reason} ({detail})")
        self.reason = reason
        self.detail = detail


def checksum(kind: str | Checksum, data: bytes) -> int:
    """The checksum of some bytes: by a name of `inphase.driver.CHECKSUMS`, or by its parameters.

    Raises ValueError.
    """
    value = ffi.new("uint64_t *")
    spec = ffi.new("struct inphase_checksum *", checksum_fields(kind))
    if lib.inphase_checksum(spec, data, len(data), value) < 0:
        raise ValueError(f"no such checksum: {kind}")
    return int(value[0])


def crc16(data: bytes) -> int:
    """DYNAMIXEL's CRC, which older drivers ask for by this name: `CheckKind.CRC16_END`."""
    return checksum("CRC-16/DYNAMIXEL", data)


def escape(framing: Framing, data: bytes) -> bytes:
    """Apply an escape rule to a packet that has no checksum yet."""
    room = 2 * len(data) + 8
    to = ffi.new("uint8_t[]", room)
    size = lib.inphase_escape(
        ffi.new("struct inphase_framing *", framing_fields(framing)), data, len(data), to, room
    )
    if size < 0:
        raise ValueError(f"a packet of {len(data)} bytes is too long")
    return bytes(ffi.buffer(to, size))


_CAN_CLASSIC, _CAN_FD = 8, 64


_CAN_FRAME = 16


_CAN_FD_SIZES = (*range(9), 12, 16, 20, 24, 32, 48, 64)


_CAN_STANDARD_MAX, _CAN_EXTENDED_MAX = 0x7FF, 0x1FFFFFFF


_CAN_EFF, _CAN_RTR = 0x80000000, 0x40000000


_CAN_ERR, _CAN_ERR_BUS_OFF, _CAN_ERR_TX_TIMEOUT = 0x20000000, 0x40, 0x01


_CAN_FD_MARK, _CAN_FD_SWITCH = 0x04, 0x01


def can_id(ident: int, *, extended: bool = False, remote: bool = False) -> int:
    """A CAN id with its flags, as linux/can.h has it: what a reply's MATCH at offset 0 expects.

    An id above 0x7FF is extended, whatever is said. Raises ValueError.
    """
    if not 0 <= ident <= _CAN_EXTENDED_MAX:
        raise ValueError(f"{ident:#x} is no CAN id; ids have at most 29 bits")
    extended = extended or ident > _CAN_STANDARD_MAX
    return ident | (_CAN_EFF if extended else 0) | (_CAN_RTR if remote else 0)


def can_frame(
    ident: int,
    data: bytes = b"",
    *,
    extended: bool = False,
    remote: bool = False,
    fd: bool = False,
    bitrate_switch: bool = False,
) -> bytes:
    """A CAN frame as a raw CAN socket takes it: 16 bytes, or 72 with `fd`. Raises ValueError.

    For requests (SYNC is `can_frame(0x80)`) and, joined, for the template of a command.
    """
    sizes = _CAN_FD_SIZES if fd else tuple(range(_CAN_CLASSIC + 1))
    if len(data) not in sizes:
        raise ValueError(f"{len(data)} bytes are no CAN frame's; sizes are {sizes}")
    if remote and (fd or data):
        raise ValueError("a remote request has no data, and CAN FD has none")
    flags = (_CAN_FD_MARK if fd else 0) | (_CAN_FD_SWITCH if fd and bitrate_switch else 0)
    named = can_id(ident, extended=extended, remote=remote)
    head = struct.pack("=IBB2x", named, len(data), flags)
    return head + data.ljust(_CAN_FD if fd else _CAN_CLASSIC, b"\0")


def encode(encoding: Encoding, values: list[float]) -> bytes:
    """A command as the bytes that go to the device. Raises ValueError for values not finite."""
    keep: list[Any] = []
    to = ffi.new("uint8_t[]", lib.INPHASE_MAX_PACKET)
    size = lib.inphase_encode(
        ffi.new("struct inphase_encoding *", encoding_fields(encoding, keep)),
        ffi.new("double[]", values),
        to,
        lib.INPHASE_MAX_PACKET,
    )
    if size < 0:
        raise ValueError(f"cannot encode {values}")
    return bytes(ffi.buffer(to, size))


class BusOff(OSError):  # noqa: N818 - named for what happened
    """The CAN controller is off; `transmit_errors` as it reports them."""

    def __init__(self, transmit_errors: int) -> None:
        super().__init__(errno.ECOMM, f"bus-off, {transmit_errors} transmit errors")
        self.transmit_errors = transmit_errors


class Parser:
    """The core's incremental parser, for a driver's own transactions and for tests.

    It holds C memory that goes with the object.
    """

    def __init__(self, exchange: Exchange, channels: int) -> None:
        keep: list[Any] = []
        parser = ffi.new("inphase_parser **")
        fields = exchange_fields(exchange, keep)
        if trouble := exchange.framing.trouble(exchange.replies):
            raise ValueError(trouble)
        if lib.inphase_parser_open(parser, ffi.new("struct inphase_exchange *", fields)) < 0:
            raise ValueError("the exchange breaks a bound of the core")
        self._idle_ns = exchange.framing.idle_ns or None
        self._rest = b""
        self._parser = ffi.gc(parser[0], lib.inphase_parser_close)
        self._values = ffi.new("double[]", lib.INPHASE_MAX_VALUES)
        self._reason = ffi.new("uint32_t[2]")
        self._channels = channels

    @classmethod
    def of_packets(cls, framing: Framing, *replies: Reply, **where: Any) -> "Parser":
        """A parser for a driver's own `read`: framing, and the replies that make a sample.

        where: `sequence` and `clock` of `Exchange`, for the properties of that name. Raises
        ValueError.
        """
        exchange = Exchange(b"", framing, replies, 0, 0, 0, **where)
        return cls(exchange, sum(len(reply.values) for reply in replies))

    def reset(self) -> None:
        """Forget what has come in so far."""
        self._rest = b""
        lib.inphase_parser_reset(self._parser)

    def feed(self, data: bytes) -> list[float] | None:
        """Take bytes in; the values in SI when the last reply is complete, else None.

        It stops at the first reply that is complete or refused: `feed(b"")` goes on with the rest.
        Where silence ends packets it only takes them in: see `idle_ns`. Raises RefusedReply.
        """
        data = self._rest + data
        rc = lib.inphase_parser_feed(
            self._parser, data, len(data), self._values, self._reason, self._reason + 1
        )
        self._rest = data[lib.inphase_parser_taken(self._parser) :]
        return self._given(rc)

    @property
    def idle_ns(self) -> int | None:
        """A packet has begun that this silence will end: wait for more bytes so long at most, then
        call `end`. None: no packet has begun, or its bytes say where it ends."""
        return self._idle_ns if lib.inphase_parser_held(self._parser) else None

    def owe(self) -> None:
        """A command was written: the exchange's answers are owed for it."""
        lib.inphase_parser_owe(self._parser)

    def forgive(self, most: int = 0) -> None:
        """No answer is owed beyond those of the last `most` commands: the line was read empty."""
        lib.inphase_parser_forgive(self._parser, most)

    @property
    def answered(self) -> int:
        """Answers to commands that came and were dropped, so far."""
        return int(lib.inphase_parser_answered(self._parser))

    @property
    def held(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return int(lib.inphase_parser_held(self._parser))

    def end(self) -> list[float] | None:
        """The line was silent for `idle_ns`: as `feed`, for the packet that ended so.

        Raises RefusedReply: nothing of that packet is kept.
        """
        return self._given(
            lib.inphase_parser_end(self._parser, self._values, self._reason, self._reason + 1)
        )

    def _given(self, rc: int) -> list[float] | None:
        if rc < 0:
            raise RefusedReply(REASONS[self._reason[0]], int(self._reason[1]))
        return list(self._values[0 : self._channels]) if rc == 1 else None

    @property
    def sequence(self) -> int:
        """The device's number in the last complete reply, as it came; it wraps at its width."""
        return int(lib.inphase_parser_sequence(self._parser))

    @property
    def clock(self) -> int:
        """The device's time in the last complete reply, in ticks as they came; they wrap."""
        return int(lib.inphase_parser_clock(self._parser))

    def wants(self, frame: bytes) -> bool:
        """True if a CAN frame, as a raw CAN socket gives it, belongs to this exchange.

        Raises BusOff, or OSError for a transmit timeout: error frames that mean the end.
        """
        if len(frame) < _CAN_FRAME:
            return True  # none at all: `feed` says so
        named = int.from_bytes(frame[:4], sys.byteorder)
        if named & _CAN_ERR and named & _CAN_ERR_BUS_OFF:
            raise BusOff(frame[14])
        if named & _CAN_ERR and named & _CAN_ERR_TX_TIMEOUT:
            raise OSError(errno.ETIMEDOUT, "the CAN controller cannot send")
        return bool(lib.inphase_parser_wants(self._parser, named))
