"""The exchange that reads all Feetech servos: one sync read, one answer of each in turn."""

from dataclasses import replace

from inphase.driver import Acquire, Check, CheckKind, Exchange, Raw, Reply, Value

from .control_table import (
    CENTRE,
    LOAD_PER_COUNT,
    PRESENT_POSITION,
    RAD_PER_COUNT,
    RAD_S_PER_COUNT,
)
from .options import FeetechOptions
from .packets import (
    ANSWER,
    ANSWER_SIZE,
    BROADCAST,
    DATA_AT,
    ERROR_AT,
    ID_AT,
    SUM,
    SYNC_READ,
    packet,
)

_BLOCK = 6  # position, velocity, load: two bytes each, in this order from address 56
_SIZE = ANSWER_SIZE + _BLOCK
# one size alone: behind a lost byte FF FF may begin a packet with any length
_FRAMING = replace(ANSWER, min_size=_SIZE, max_size=_SIZE)


def exchange_of(options: FeetechOptions) -> Exchange:
    """The request for all servos' values, its replies, and how long they take."""
    request = packet(BROADCAST, SYNC_READ, bytes([PRESENT_POSITION, _BLOCK, *options.ids]))
    count = len(options.ids)
    request_ns = options.wire_ns(len(request))
    wire_ns = options.wire_ns(count * _SIZE)
    reply_ns = wire_ns + count * options.turn_us * 1000
    return Exchange(
        request=request,
        framing=_FRAMING,
        replies=tuple(_reply(ident, servo, count) for servo, ident in enumerate(options.ids)),
        request_ns=request_ns,
        reply_ns=reply_ns,
        reply_max_ns=request_ns + reply_ns + options.adapter_latency_us * 1000,
        # all bytes pass the one wire; an adapter's clock is right to a few percent
        reply_min_ns=(request_ns + wire_ns) * 9 // 10,
        # no manual says when a servo takes its values: between the request and its own answer
        acquire=Acquire.MIDDLE,
        acquire_ns=0,
    )


def _reply(ident: int, servo: int, count: int) -> Reply:
    centre = -CENTRE * RAD_PER_COUNT
    return Reply(
        values=(
            Value(DATA_AT, Raw.SM16, servo, RAD_PER_COUNT, centre),
            Value(DATA_AT + 2, Raw.SM16, count + servo, RAD_S_PER_COUNT),
            Value(DATA_AT + 4, Raw.SM11, 2 * count + servo, LOAD_PER_COUNT),
        ),
        checks=(
            Check(CheckKind.CHECKSUM, -1, checksum=SUM),
            Check(CheckKind.MATCH, ID_AT, expect=ident),
            Check(CheckKind.ZERO, ERROR_AT),
        ),
        size=_SIZE,
    )
