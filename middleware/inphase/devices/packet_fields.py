"""Exchanges and encodings of drivers as the structures of native/inphase.h."""

from typing import Any

from inphase._core import ffi, lib
from inphase.exchange import (
    Check,
    CheckKind,
    Checksum,
    Clock,
    Encoding,
    Exchange,
    Framing,
    Reference,
    Reply,
    Value,
    checksum_of,
)

_CHECKSUM_KINDS = {
    "crc": int(lib.INPHASE_CHECKSUM_CRC),
    "sum": int(lib.INPHASE_CHECKSUM_SUM),
    "xor": int(lib.INPHASE_CHECKSUM_XOR),
}


def framing_fields(framing: Framing) -> dict[str, Any]:
    """The fields of struct inphase_framing."""
    return {
        "datagram": framing.datagram or framing.can,
        "can": framing.can,
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
        "sizes": len(framing.sizes),
        "size_offset": framing.size_offset,
        "size_value": list(framing.sizes),
        "size_of": list(framing.sizes.values()),
        "idle_ns": framing.idle_ns,
    }


def checksum_fields(given: str | Checksum) -> dict[str, Any]:
    """The fields of struct inphase_checksum. Raises ValueError."""
    found = checksum_of(given)
    return {
        "kind": _CHECKSUM_KINDS[found.kind],
        "width": found.width,
        "polynomial": found.polynomial,
        "initial": found.initial,
        "final": found.final,
        "reflected_in": found.reflected_in,
        "reflected_out": found.reflected_out,
        "negated": found.negated,
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


def _check_fields(check: Check, checksums: list[Checksum]) -> dict[str, Any]:
    fields = {
        "kind": int(check.kind),
        "type": int(check.type),
        "big_endian": check.big_endian,
        "offset": abs(check.offset),
        "mask": check.mask,
        "expect": check.expect,
        "number": 0 if check.number is None else check.number + 1,
        "from": check.start,
    }
    if check.kind != CheckKind.CHECKSUM:
        return fields
    found = checksum_of(check.checksum)
    if found not in checksums:
        checksums.append(found)
    kind = lib.INPHASE_CHECK_SUM_END if check.offset < 0 else lib.INPHASE_CHECK_SUM
    return fields | {"kind": kind, "checksum": checksums.index(found)}


def exchange_fields(exchange: Exchange, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_exchange; what they point at is appended to `keep`."""
    checks: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    sums: list[Checksum] = []
    replies = [
        _reply_fields(reply, checks, values, sums)
        for reply in (*exchange.replies, *exchange.answers)
    ]
    arrays = {
        "request": ffi.new("uint8_t[]", exchange.request),
        "reply": ffi.new("struct inphase_reply[]", replies),
        "check": ffi.new("struct inphase_check[]", checks or 1),
        "field": ffi.new("struct inphase_field[]", values or 1),
        "checksum": ffi.new("struct inphase_checksum[]", [checksum_fields(s) for s in sums] or 1),
    }
    keep.append(arrays)
    sequence = exchange.sequence
    return {
        **arrays,
        "request_size": len(exchange.request),
        "request_chunk": exchange.request_chunk,
        "replies": len(exchange.replies),
        "answers": len(exchange.answers),
        "framing": framing_fields(exchange.framing),
        "checks": len(checks),
        "fields": len(values),
        "checksums": len(sums),
        "sequence_offset": sequence.offset if sequence else 0,
        "sequence_type": int(sequence.type) if sequence else 0,
        "sequence_big_endian": sequence.big_endian if sequence else 0,
        **_clock_fields(exchange.clock),
        "acquire": int(exchange.acquire),
        "acquire_ns": exchange.acquire_ns,
        "reply_max_ns": exchange.reply_max_ns,
        "reply_ns": exchange.request_ns + exchange.reply_ns,
        "reply_min_ns": exchange.earliest_ns,
    }


def _clock_fields(clock: Clock | None) -> dict[str, Any]:
    if clock is None:
        return {}
    return {
        "clock_offset": clock.offset,
        "clock_type": int(clock.type),
        "clock_big_endian": clock.big_endian,
        "clock_bits": clock.bits,
        "clock_tick_ns": clock.tick_ns,
        "clock_shift_ns": clock.shift_ns,
    }


def _reply_fields(
    reply: Reply,
    checks: list[dict[str, Any]],
    values: list[dict[str, Any]],
    sums: list[Checksum],
) -> dict[str, Any]:
    fields = {
        "size": reply.size,
        "first_check": len(checks),
        "checks": len(reply.checks),
        "first_field": len(values),
        "fields": len(reply.values),
    }
    checks.extend(_check_fields(check, sums) for check in reply.checks)
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
        "checksum": checksum_fields(encoding.checksum) if encoding.checksum else {},
        "checksum_big_endian": encoding.checksum_big_endian,
        "chunk": encoding.chunk,
        "reference": _reference_fields(encoding.reference),
    }


def _reference_fields(reference: Reference | None) -> dict[str, Any]:
    """The fields of struct inphase_reference."""
    if reference is None:
        return {}
    return {
        "type": int(reference.number.type),
        "offset": reference.number.offset,
        "big_endian": reference.number.big_endian,
        "position": reference.position,
        "velocity": reference.velocity,
        "acceleration": reference.acceleration,
        "finish": 0 if reference.finish is None else 1 + reference.finish,
    }
