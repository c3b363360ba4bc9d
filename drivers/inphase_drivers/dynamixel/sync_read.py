"""The exchange that reads all servos: fast sync read or sync read (e-manual, Protocol 2.0)."""

from collections.abc import Sequence
from dataclasses import replace

from inphase.driver import Acquire, Check, CheckKind, Exchange, Framing, Raw, Reply, Value

from .control_table import CENTRE, PRESENT_CURRENT, RAD_PER_COUNT, RAD_S_PER_COUNT
from .models import LOAD_PER_COUNT, Model
from .options import ServoOptions
from .packets import (
    BROADCAST,
    CRC,
    FAST_SYNC_READ,
    START,
    STATUS,
    STATUS_PACKET,
    SYNC_READ,
    packet,
    word,
)

_BLOCK = 10  # current (2), velocity (4), position (4), in this order from address 126
_SYNC_FRAMING = replace(STATUS_PACKET, min_size=11, max_size=_BLOCK + 11 + _BLOCK // 3)


def exchange_of(options: ServoOptions, models: Sequence[Model]) -> Exchange:
    """The request for all servos' values, its replies, and how long they take."""
    ids = options.ids
    fast = options.read == "fast"
    instruction = FAST_SYNC_READ if fast else SYNC_READ
    request = packet(BROADCAST, instruction, word(PRESENT_CURRENT) + word(_BLOCK) + bytes(ids))
    reply_bytes = 8 + len(ids) * (_BLOCK + 4) if fast else len(ids) * (_BLOCK + 11)
    request_ns = options.wire_ns(len(request))
    worst_bytes = reply_bytes if fast else len(ids) * (_BLOCK + 11 + _BLOCK // 3)
    reply_ns = options.wire_ns(reply_bytes)
    return Exchange(
        request=request,
        framing=_fast_framing(options) if fast else _SYNC_FRAMING,
        replies=(_fast_reply(options, models),) if fast else _sync_replies(options, models),
        request_ns=request_ns,
        reply_ns=reply_ns,
        reply_max_ns=request_ns + options.wire_ns(worst_bytes) + options.adapter_latency_us * 1000,
        # all bytes pass the one pair of wires; an adapter's clock is right to a few percent
        reply_min_ns=(request_ns + reply_ns) * 9 // 10,
        # return delay is 0: the servos take their values when the request has arrived
        acquire=Acquire.AFTER_TRIGGER,
        acquire_ns=request_ns,
    )


def _values(models: Sequence[Model], servo: int, at: int) -> tuple[Value, ...]:
    """One servo's; the channels of currents come before those of loads."""
    n = len(models)
    centre = -CENTRE * RAD_PER_COUNT
    order = sorted(range(n), key=lambda one: models[one].a_per_count is None)
    return (
        Value(at + 6, Raw.I32, servo, RAD_PER_COUNT, centre),
        Value(at + 2, Raw.I32, n + servo, RAD_S_PER_COUNT),
        Value(
            at,
            Raw.I16,
            2 * n + order.index(servo),
            models[servo].a_per_count or LOAD_PER_COUNT,
        ),
    )


def _fast_framing(options: ServoOptions) -> Framing:
    size = 8 + len(options.ids) * (_BLOCK + 4)
    return Framing(
        min_size=size,
        max_size=size,
        start=START,
        length_offset=5,
        length_size=2,
        length_add=7,
    )


def _fast_reply(options: ServoOptions, models: Sequence[Model]) -> Reply:
    """One packet; per servo: error, id, data, CRC over everything before it."""
    checks = [
        Check(CheckKind.MATCH, 4, expect=BROADCAST),
        Check(CheckKind.MATCH, 7, expect=STATUS),
    ]
    values: list[Value] = []
    for servo, ident in enumerate(options.ids):
        at = 8 + servo * (_BLOCK + 4)
        checks += [
            Check(CheckKind.CHECKSUM, at + 2 + _BLOCK, checksum=CRC),
            Check(CheckKind.MATCH, at + 1, expect=ident),
            Check(CheckKind.ZERO, at),
        ]
        values += _values(models, servo, at + 2)
    return Reply(values=tuple(values), checks=tuple(checks))


def _sync_replies(options: ServoOptions, models: Sequence[Model]) -> tuple[Reply, ...]:
    return tuple(
        Reply(
            values=_values(models, servo, 9),
            checks=(
                Check(CheckKind.CHECKSUM, -2, checksum=CRC),
                Check(CheckKind.MATCH, 4, expect=ident),
                Check(CheckKind.MATCH, 7, expect=STATUS),
                Check(CheckKind.ZERO, 8),
            ),
            size=_BLOCK + 11,
        )
        for servo, ident in enumerate(options.ids)
    )
