"""Properties of the C core's pure functions, against plain references in Python."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inphase._core import ffi, lib

any_double = st.floats(allow_nan=True, allow_infinity=True)
PERIOD_S = 0.002

# name, width in bytes, smallest, largest
INTEGERS = (
    ("INPHASE_U8", 1, 0, 2**8 - 1),
    ("INPHASE_I8", 1, -(2**7), 2**7 - 1),
    ("INPHASE_U16", 2, 0, 2**16 - 1),
    ("INPHASE_I16", 2, -(2**15), 2**15 - 1),
    ("INPHASE_U32", 4, 0, 2**32 - 1),
    ("INPHASE_I32", 4, -(2**31), 2**31 - 1),
)


def crc_bit_by_bit(data: bytes) -> int:
    """CRC-16 with polynomial 0x8005, initial 0, not reflected."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def escaping(pattern: bytes, insert: int, start: int, tail: int) -> Any:
    """A framing with nothing but an escape rule."""
    return ffi.new(
        "struct inphase_framing *",
        {
            "escape_size": len(pattern),
            "escape": list(pattern.ljust(4, b"\0")),
            "escape_insert": insert,
            "escape_from": start,
            "escape_tail": tail,
        },
    )


def escape_by_hand(data: bytes, start: int, tail: int) -> bytes:
    """Protocol 2.0: after each FF FF FD from `start` to `tail` bytes before the end, an FD."""
    made = bytearray()
    for at, byte in enumerate(data):
        made.append(byte)
        inside = at >= start + 2 and at < len(data) - tail
        if inside and data[at - 2 : at + 1] == b"\xff\xff\xfd":
            made.append(0xFD)
    return bytes(made)


@given(
    st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x55]), max_size=60).map(bytes),
    st.integers(0, 10),
    st.integers(0, 4),
)
@example(bytes.fromhex("ff ff fd 00 01 00 00 55 00 ff ff fd 00 00 00 12 34"), 7, 2)
def test_escaping_is_the_rule_and_comes_back(data: bytes, start: int, tail: int) -> None:
    framing = escaping(b"\xff\xff\xfd", 0xFD, start, tail)
    stuffed, back = ffi.new("uint8_t[200]"), ffi.new("uint8_t[200]")
    size = lib.inphase_escape(framing, data, len(data), stuffed, 200)
    assert bytes(stuffed[0:size]) == escape_by_hand(data, start, tail)
    assert lib.inphase_unescape(framing, stuffed, size, back, 200) == len(data)
    assert bytes(back[0 : len(data)]) == data


@given(
    st.binary(max_size=60),
    st.binary(min_size=1, max_size=4),
    st.integers(0, 255),
    st.integers(0, 9),
)
def test_any_escape_rule_comes_back(data: bytes, pattern: bytes, insert: int, start: int) -> None:
    framing = escaping(pattern, insert, start, 0)
    stuffed, back = ffi.new("uint8_t[200]"), ffi.new("uint8_t[200]")
    size = lib.inphase_escape(framing, data, len(data), stuffed, 200)
    assert lib.inphase_unescape(framing, stuffed, size, back, 200) == len(data)
    assert bytes(back[0 : len(data)]) == data


def limiter(*values: float, period_s: float = PERIOD_S) -> Any:
    """One channel's limiter, of limits in the order of struct inphase_limits."""
    made = ffi.new("struct inphase_limiter *")
    lib.inphase_limiter_make(made, ffi.new("struct inphase_limits *", values), period_s)
    return made


def joint(position: float, velocity: float = math.nan, effort: float = math.nan) -> Any:
    """What is measured of it."""
    return ffi.new("struct inphase_measured *", [position, velocity, effort])


def motion(
    position: float, velocity: float = 0, acceleration: float = 0, goal: float | None = None
) -> Any:
    """What was applied last."""
    here = position if goal is None else goal
    return ffi.new("struct inphase_motion *", [position, velocity, acceleration, here])


@given(any_double, st.floats(-2, 2), any_double, st.floats(0.01, 20), st.floats(1e-5, 0.1))
def test_the_limiter_stays_in_reach_and_range(
    requested: float, applied: float, measured: float, velocity: float, period_s: float
) -> None:
    now = motion(applied)
    channel = limiter(-2, 2, velocity, 10, 0.25, 100, period_s=period_s)
    lib.inphase_limit(channel, now, requested, joint(measured))
    assert -2 <= now.position <= 2
    assert applied - velocity * period_s <= now.position <= applied + velocity * period_s


@given(
    st.builds(limiter, *[any_double] * 6, period_s=any_double),
    st.tuples(*[any_double] * 4),
    any_double,
    any_double,
)
def test_the_limiter_and_the_ramp_are_total(
    channel: Any,
    before: tuple[float, float, float, float],
    requested: float,
    measured: float,
) -> None:
    limited, ramped = motion(*before), motion(*before)
    lib.inphase_limit(channel, limited, requested, joint(measured))
    lib.inphase_ramp(channel, ramped, joint(measured))
    if math.isfinite(before[0]):
        for after in (limited, ramped):
            assert math.isfinite(after.position) and math.isfinite(after.velocity)
            assert math.isfinite(after.acceleration) and math.isfinite(after.goal)


@given(
    st.lists(st.one_of(any_double, st.floats(-2.5, 2.5)), min_size=1, max_size=60),
    st.floats(0.1, 10),
    st.floats(1, 100),
    st.one_of(st.just(0.0), st.floats(100, 1e5)),
)
def test_differences_of_what_is_applied_are_within_all_bounds(
    requests: list[float], velocity: float, acceleration: float, jerk: float
) -> None:
    channel, now = limiter(-2, 2, velocity, acceleration, 1, jerk), motion(0.0)
    applied = [0.0] * 4
    for requested in requests:
        for _ in range(5):
            lib.inphase_limit(channel, now, requested, joint(math.nan))
            applied.append(now.position)
    bounds = [velocity * PERIOD_S, acceleration * PERIOD_S**2, jerk * PERIOD_S**3 or math.inf]
    differences = applied
    for order, bound in enumerate(bounds):
        differences = [b - a for a, b in itertools.pairwise(differences)]
        assert max(map(abs, differences)) <= bound * (1 + 1e-7) + 2**order * 1e-15, ("v", "a", "j")[
            order
        ]
    for _ in range(10_000):
        if now.velocity == 0:
            break
        lib.inphase_ramp(channel, now, joint(math.nan))
        assert -2 <= now.position <= 2
    assert now.velocity == 0


@given(st.floats(-2, 2), st.floats(-30, 30), st.floats(0.1, 10), st.floats(1, 100))
def test_a_ramp_ends_at_rest_in_range(
    position: float, velocity: float, most: float, acceleration: float
) -> None:
    channel, now = limiter(-2, 2, most, acceleration, 1), motion(position, velocity)
    for _ in range(math.ceil(most / (acceleration * PERIOD_S)) + 2):
        before = now.position
        lib.inphase_ramp(channel, now, joint(math.nan))
        assert -2 <= now.position <= 2
        assert abs(now.position - before) <= most * PERIOD_S + 1e-12
    assert now.velocity == 0


@given(st.one_of(any_double, st.floats(-1e6, 1e6)))
def test_sine_and_cosine_are_those_of_the_angle(angle: float) -> None:
    sine, cosine = ffi.new("double *"), ffi.new("double *")
    lib.inphase_sine_cosine(angle, sine, cosine)
    if abs(angle) <= 2**20:
        assert abs(sine[0] - math.sin(angle)) <= 4e-16
        assert abs(cosine[0] - math.cos(angle)) <= 4e-16
    else:
        assert math.isnan(sine[0]) and math.isnan(cosine[0])


def turned(axis: list[float], angle: float, vector: list[float]) -> list[float]:
    """A vector turned about an axis, by its parts along, across and around it."""
    along = sum(a * v for a, v in zip(axis, vector, strict=True))
    around = [axis[i - 2] * vector[i - 1] - axis[i - 1] * vector[i - 2] for i in range(3)]
    return [
        v * math.cos(angle) + w * math.sin(angle) + a * along * (1 - math.cos(angle))
        for a, v, w in zip(axis, vector, around, strict=True)
    ]


small = st.floats(-2, 2)
joints = st.lists(st.tuples(small, small, small, small, small, small, st.booleans(), small))


@given(joints.filter(lambda chain: 0 < len(chain) <= 8), st.tuples(small, small, small))
def test_the_tool_is_where_the_joints_bring_it(
    chain: list[tuple[float, float, float, float, float, float, bool, float]],
    tool: tuple[float, float, float],
) -> None:
    table = []
    for x, y, z, *given_axis, prismatic, _ in chain:
        length = math.hypot(*given_axis)
        axis = [a / length for a in given_axis] if length > 1e-3 else [0.0, 0.0, 1.0]
        table.append({"translation": [x, y, z], "axis": axis, "prismatic": prismatic})
    rows = ffi.new("struct inphase_joint[]", table)
    workspace = ffi.new(
        "struct inphase_workspace *", {"joint": rows, "joints": len(chain), "tool": list(tool)}
    )
    point = ffi.new("double[3]")
    lib.inphase_tool_point(workspace, [joint[-1] for joint in chain], point)

    # from the tool back to the base
    expected = list(tool)
    for row, joint in zip(reversed(table), reversed(chain), strict=True):
        if row["prismatic"]:
            expected = [e + a * joint[-1] for e, a in zip(expected, row["axis"], strict=True)]
        else:
            expected = turned(row["axis"], joint[-1], expected)
        expected = [e + t for e, t in zip(expected, row["translation"], strict=True)]
    assert list(point) == pytest.approx(expected, abs=1e-12)


class Wire:
    """One field on the wire in both directions: a command encoded, then parsed as a reply."""

    def __init__(self, kind: str, width: int, big_endian: bool, scale: float, zero: float) -> None:
        field = {
            "offset": 1,
            "type": getattr(lib, kind),
            "big_endian": big_endian,
            "channel": 0,
            "scale": scale,
            "zero": zero,
        }
        self.size = width + 1
        self._template = ffi.new("uint8_t[]", self.size)
        self._field = ffi.new("struct inphase_field[1]", [field])
        self._reply = ffi.new("struct inphase_reply[1]", [{"size": self.size, "fields": 1}])
        self._encoding = ffi.new(
            "struct inphase_encoding *",
            {
                "packet": self._template,
                "packet_size": self.size,
                "fields": 1,
                "field": self._field,
            },
        )
        self._exchange = ffi.new(
            "struct inphase_exchange *",
            {
                "replies": 1,
                "framing": {"datagram": 1, "min_size": self.size, "max_size": self.size},
                "reply": self._reply,
                "field": self._field,
                "fields": 1,
            },
        )

    def encode(self, value: float) -> bytes:
        """The packet for a value."""
        to = ffi.new("uint8_t[16]")
        assert lib.inphase_encode(self._encoding, [value], to, 16) == self.size
        return bytes(to[0 : self.size])

    def parse(self, packet: bytes) -> float:
        """The value in a packet."""
        parser = ffi.new("inphase_parser **")
        assert lib.inphase_parser_open(parser, self._exchange) == 0
        try:
            values = ffi.new("double[]", lib.INPHASE_MAX_VALUES)
            reason, detail = ffi.new("uint32_t *"), ffi.new("uint32_t *")
            size = len(packet)
            assert lib.inphase_parser_feed(parser[0], packet, size, values, reason, detail) == 1
            return float(values[0])
        finally:
            lib.inphase_parser_close(parser[0])


@pytest.mark.parametrize(("kind", "width", "low", "high"), INTEGERS)
@given(
    share=st.floats(0, 1),
    big_endian=st.booleans(),
    scale=st.floats(1e-6, 1e3),
    sign=st.sampled_from([-1, 1]),
    zero=st.floats(-1000, 1000),
)
def test_a_value_comes_back_within_half_a_count(
    *,
    kind: str,
    width: int,
    low: int,
    high: int,
    share: float,
    big_endian: bool,
    scale: float,
    sign: int,
    zero: float,
) -> None:
    wire = Wire(kind, width, big_endian, sign * scale, zero)
    value = (low + share * (high - low)) * sign * scale + zero
    packet = wire.encode(value)
    rounding = 1e-12 * (abs(value) + abs(zero))
    assert abs(wire.parse(packet) - value) <= scale / 2 + rounding
    raw = int.from_bytes(packet[1:], "big" if big_endian else "little", signed=low < 0)
    assert low <= raw <= high


@pytest.mark.parametrize(("kind", "width", "low", "high"), INTEGERS)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_beyond_the_raw_type_saturates(
    kind: str, width: int, low: int, high: int, value: float
) -> None:
    wire = Wire(kind, width, False, 1, 0)
    raw = int.from_bytes(wire.encode(value)[1:], "little", signed=low < 0)
    if value >= high:
        assert raw == high
    elif value <= low:
        assert raw == low
    else:
        assert abs(raw - value) <= 0.5
