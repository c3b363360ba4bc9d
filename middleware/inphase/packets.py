"""Packets through the C core: what a driver declared, turned into the core's structures."""

from typing import Any

from inphase._core import ffi, lib
from inphase.driver import Check, Encoding, Exchange, Framing, Reply, Value

REASONS = (
    "none",
    "checksum",
    "size",
    "mismatch",
    "device",
    "nan",
    "range",
    "rate",
    "shape",
    "raised",
    "died",
    "silent",
    "start",
    "feedback",
    "offline",
    "resumed",
    "overrun",
    "signal",
    "done",
    "request",
    "busy",
    "expired",
    "parent",
    "gateway",
    "input",
    "slip",
    "watchdog",
)
"""Names of INPHASE_REASON_*, by number."""


class RefusedReply(ValueError):  # noqa: N818 - named for what happened
    """A reply that the parser refused: `reason` is one of REASONS, `detail` its number."""

    def __init__(self, reason: str, detail: int) -> None:
        super().__init__(f"reply refused: {reason} ({detail})")
        self.reason = reason
        self.detail = detail


def crc16(data: bytes) -> int:
    """CRC-16 with polynomial 0x8005, initial 0, not reflected (DYNAMIXEL Protocol 2.0)."""
    return int(lib.inphase_crc16(0, data, len(data)))


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


def framing_fields(framing: Framing) -> dict[str, Any]:
    """The fields of struct inphase_framing."""
    return {
        "datagram": framing.datagram,
        "start_size": len(framing.start),
        "start": list(framing.start),
        "length_offset": framing.length_offset,
        "length_size": framing.length_size,
        "big_endian": framing.big_endian,
        "length_add": framing.length_add,
        "min_size": framing.min_size,
        "max_size": framing.max_size,
        "escape_size": len(framing.escape),
        "escape": list(framing.escape),
        "escape_insert": framing.escape_insert,
        "escape_from": framing.escape_from,
        "escape_tail": framing.escape_tail,
    }


def _value_fields(value: Value) -> dict[str, Any]:
    return {
        "offset": value.offset,
        "type": int(value.type),
        "big_endian": value.big_endian,
        "channel": value.channel,
        "scale": value.scale,
        "zero": value.zero,
    }


def _check_fields(check: Check) -> dict[str, Any]:
    return {
        "kind": int(check.kind),
        "type": int(check.type),
        "big_endian": check.big_endian,
        "offset": check.offset,
        "mask": check.mask,
        "expect": check.expect,
    }


def exchange_fields(exchange: Exchange, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_exchange; what they point at is appended to `keep`."""
    checks: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    replies = [_reply_fields(reply, checks, values) for reply in exchange.replies]
    arrays = {
        "request": ffi.new("uint8_t[]", exchange.request),
        "reply": ffi.new("struct inphase_reply[]", replies),
        "check": ffi.new("struct inphase_check[]", checks or 1),
        "field": ffi.new("struct inphase_field[]", values or 1),
    }
    keep.append(arrays)
    sequence = exchange.sequence
    return {
        **arrays,
        "request_size": len(exchange.request),
        "replies": len(replies),
        "framing": framing_fields(exchange.framing),
        "checks": len(checks),
        "fields": len(values),
        "sequence_offset": sequence.offset if sequence else 0,
        "sequence_type": int(sequence.type) if sequence else 0,
        "sequence_big_endian": sequence.big_endian if sequence else 0,
        "acquire": int(exchange.acquire),
        "acquire_ns": exchange.acquire_ns,
        "reply_max_ns": exchange.reply_max_ns,
    }


def _reply_fields(
    reply: Reply, checks: list[dict[str, Any]], values: list[dict[str, Any]]
) -> dict[str, Any]:
    fields = {
        "size": reply.size,
        "first_check": len(checks),
        "checks": len(reply.checks),
        "first_field": len(values),
        "fields": len(reply.values),
    }
    checks.extend(_check_fields(check) for check in reply.checks)
    values.extend(_value_fields(value) for value in reply.values)
    return fields


def encoding_fields(encoding: Encoding, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_encoding; what they point at is appended to `keep`."""
    arrays = {
        "packet": ffi.new("uint8_t[]", encoding.packet),
        "field": ffi.new(
            "struct inphase_field[]", [_value_fields(value) for value in encoding.values]
        ),
    }
    keep.append(arrays)
    return {
        **arrays,
        "packet_size": len(encoding.packet),
        "fields": len(encoding.values),
        "framing": framing_fields(encoding.framing),
        "crc16": encoding.crc16,
    }


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


class Parser:
    """The core's incremental parser, for a driver's own transactions and for tests.

    It holds C memory that goes with the object.
    """

    def __init__(self, exchange: Exchange, channels: int) -> None:
        keep: list[Any] = []
        parser = ffi.new("inphase_parser **")
        fields = exchange_fields(exchange, keep)
        if lib.inphase_parser_open(parser, ffi.new("struct inphase_exchange *", fields)) < 0:
            raise ValueError("the exchange breaks a bound of the core")
        self._parser = ffi.gc(parser[0], lib.inphase_parser_close)
        self._values = ffi.new("double[]", lib.INPHASE_MAX_CHANNELS)
        self._reason = ffi.new("uint32_t[2]")
        self._channels = channels

    def reset(self) -> None:
        """Forget what has come in so far."""
        lib.inphase_parser_reset(self._parser)

    def feed(self, data: bytes) -> list[float] | None:
        """Take bytes in; the values in SI when the last reply is complete, else None.

        Raises RefusedReply.
        """
        rc = lib.inphase_parser_feed(
            self._parser, data, len(data), self._values, self._reason, self._reason + 1
        )
        if rc < 0:
            raise RefusedReply(REASONS[self._reason[0]], int(self._reason[1]))
        return list(self._values[0 : self._channels]) if rc == 1 else None
