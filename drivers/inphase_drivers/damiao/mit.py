"""The frames of MIT mode, as data: what the core runs every cycle, and what it makes of commands.

A command has position in 16 bits, then velocity, stiffness, damping and torque in 12 bits each,
high bits first. Each is an unsigned number that spans a range of the model. A reply has the motor's
state and id in a byte, position in 16 bits, velocity and torque in 12, and two temperatures.
"""

from inphase.driver import (
    Acquire,
    Check,
    CheckKind,
    Encoding,
    Exchange,
    Framing,
    Raw,
    Reply,
    Value,
)
from inphase.packets import Parser, can_frame, can_id, encode

from .models import KD_MAX, KP_MAX, Ranges
from .options import DamiaoOptions

REGISTERS = 0x7FF
"""the id under which all motors take questions; the first two bytes say which"""
ASK_STATE = 0xCC
DATA = 8
"""where a frame's data begin"""
FRAMING = Framing(16, 16, can=True)
CHANNEL = {"position": 0, "velocity": 1, "kp": 2, "kd": 3, "effort": 4}
_TURN_NS = 200_000  # what a motor may take to answer; no manual says it


def fields_of(at: int, ranges: Ranges) -> dict[str, Value]:
    """The fields of a command whose data begin there, by their names; channels as in CHANNEL."""
    p, v, t = ranges
    spans = {
        "position": (0, Raw.U16, (-p, p)),
        "velocity": (2, Raw.U12_HIGH, (-v, v)),
        "kp": (3, Raw.U12_LOW, (0.0, KP_MAX)),
        "kd": (5, Raw.U12_HIGH, (0.0, KD_MAX)),
        "effort": (6, Raw.U12_LOW, (-t, t)),
    }
    return {
        name: Value.within(at + offset, kind, CHANNEL[name], span, big_endian=True)
        for name, (offset, kind, span) in spans.items()
    }


def frame_of(ident: int, ranges: Ranges, **values: float) -> bytes:
    """A command's frame: fields that are not named are 0."""
    fields = fields_of(DATA, ranges)
    encoding = Encoding(can_frame(ident, bytes(8)), tuple(fields.values()), FRAMING, 0)
    return encode(encoding, [values.get(name, 0.0) for name in fields])


def encoding_of(options: DamiaoOptions, mode: str) -> Encoding:
    """A frame for each motor: the mode's own field is the command, gains stand in the template."""
    packet, values = b"", []
    gains = options.mode_gains(mode)
    for motor, (ident, ranges) in enumerate(zip(options.ids, options.spans, strict=True)):
        field = fields_of(len(packet) + DATA, ranges)[mode]
        values.append(Value(field.offset, field.type, motor, field.scale, field.zero, True))
        packet += frame_of(ident, ranges, **gains[motor])
    frames = 2 * len(options.ids)  # each is answered
    return Encoding(
        packet=packet,
        values=tuple(values),
        framing=FRAMING,
        write_ns=frames * options.frame_ns + _TURN_NS,
        chunk=16,
    )


def question(ident: int, *rest: int) -> bytes:
    """The frame that asks one motor something, or writes to a register of it."""
    return can_frame(REGISTERS, bytes([*ident.to_bytes(2, "little"), *rest]).ljust(8, b"\0"))


def exchange_of(options: DamiaoOptions) -> Exchange:
    """Every motor is asked for its state, which moves nothing, and answers in a frame of its own.

    A motor answers each command with the same frame: those are dropped.
    """
    replies = tuple(
        _reply(*one, motor, len(options.ids))
        for motor, one in enumerate(zip(options.ids, options.feedbacks, options.spans, strict=True))
    )
    time_ns = len(options.ids) * options.frame_ns
    return Exchange(
        request=b"".join(question(ident, ASK_STATE) for ident in options.ids),
        request_chunk=16,
        framing=FRAMING,
        replies=replies,
        answers=tuple(Reply((), reply.checks) for reply in replies),
        request_ns=time_ns,
        reply_ns=time_ns + _TURN_NS,
        reply_max_ns=options.reply_max_us * 1000,
        acquire=Acquire.MIDDLE,
    )


def decode(ident: int, ranges: Ranges, data: bytes) -> tuple[float, float, float]:
    """Position, velocity and torque of a reply, by the same data as in every cycle.

    Raises RefusedReply where the motor reports a fault.
    """
    parser = Parser.of_packets(FRAMING, _reply(ident, REGISTERS, ranges, 0, 1))
    found = parser.feed(can_frame(REGISTERS, data))
    assert found is not None
    return found[0], found[1], found[2]


def _reply(ident: int, feedback: int, ranges: Ranges, motor: int, n: int) -> Reply:
    """Of one motor of n. Its state is the upper half of the first byte: 8 and above are faults."""
    p, v, t = ranges
    within = (
        (1, Raw.U16, (-p, p)),
        (3, Raw.U12_HIGH, (-v, v)),
        (4, Raw.U12_LOW, (-t, t)),
    )
    return Reply(
        values=(
            *(
                Value.within(DATA + at, kind, n * field + motor, span, big_endian=True)
                for field, (at, kind, span) in enumerate(within)
            ),
            Value(DATA + 7, Raw.U8, 3 * n + motor),
            Value(DATA, Raw.U4_HIGH, 4 * n + motor),
        ),
        checks=(
            Check(CheckKind.MATCH, 0, Raw.U32, expect=can_id(feedback)),
            Check(CheckKind.MATCH, DATA, mask=0x0F, expect=ident & 0x0F),
            Check(CheckKind.ZERO, DATA, mask=0x80, number=DATA),
        ),
    )
