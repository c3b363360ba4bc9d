"""ZeroMQ's protocol from a server's end: whatever comes, in whatever pieces, is bounded."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.errors import WireError
from inphase.host import zmtp

KEPT, MOST = 2_000, 20_000
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def message(*parts: bytes) -> bytes:
    """As a client sends it."""
    return b"".join(zmtp.packed(parts))


def ready() -> zmtp.Connection:
    """A connection whose client has said who it is."""
    connection = zmtp.Connection(KEPT, MOST)
    assert connection.feed(GREETING + READY) == [] and connection.is_ready
    return connection


def held(connection: zmtp.Connection) -> int:
    """The bytes that it keeps."""
    return len(connection._bytes) + sum(map(len, connection._parts))


@given(st.data())
def test_messages_are_the_same_in_any_pieces(data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([0, 1, 255, 256, 700, 1_999, 2_000, 6_000]), min_size=1)
    messages = data.draw(st.lists(sizes.filter(lambda s: sum(s) + 32 * len(s) < MOST), max_size=5))
    sent = [[bytes([i % 251]) * size for i, size in enumerate(sizes_)] for sizes_ in messages]
    stream = GREETING + READY + b"".join(message(*parts) for parts in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    connection = zmtp.Connection(KEPT, MOST)
    found: list[zmtp.Message] = []
    for start, end in pairwise([0, *cuts, len(stream)]):
        found += connection.feed(stream[start:end])
        assert held(connection) <= KEPT + end - start
    kept = [parts if sum(map(len, parts)) + 32 * len(parts) <= KEPT else [] for parts in sent]
    assert [one.parts for one in found] == kept
    assert [one.size for one in found] == [sum(map(len, parts)) for parts in sent]


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_whatever_comes_is_taken_or_refused(pieces: list[bytes]) -> None:
    for connection in (zmtp.Connection(KEPT, MOST), ready()):
        try:
            for piece in pieces:
                connection.feed(piece)
        except WireError as error:
            assert str(error)
        assert held(connection) <= KEPT + 80


@pytest.mark.parametrize("size", [0, 1, 255, 1_000, 1 << 20], ids=lambda size: f"parts of {size}")
def test_a_message_that_never_ends_is_left_and_never_kept(size: int) -> None:
    part = b"\1\0" if size == 0 else message(bytes(size), b"")[:-2]
    assert part[0] & 1  # another part follows
    connection, sent, most = ready(), 0, 0
    with pytest.raises(WireError, match="more than 20000 bytes"):
        while True:
            connection.feed(part)
            sent += 1
            most = max(most, held(connection))
            assert sent <= MOST / 32 + 1
    assert most <= KEPT + len(part) and sys.getsizeof(connection._bytes) <= KEPT + 2 * len(part)


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "no ZeroMQ client"),
        (GREETING[:10] + b"\1" + GREETING[11:], "version 4"),
        (GREETING[:12] + b"CURVE".ljust(20, b"\0") + GREETING[32:], "another mechanism"),
        (GREETING + message(b"hello"), "before it said who it is"),
        (GREETING + READY + b"\x08\0", "flags 0x08"),
        (GREETING + READY + b"\x06" + b"\xff" * 8, "a command of"),
        (GREETING + READY + b"\x02" + b"\xff" * 8, "more than 20000 bytes"),
    ],
)
def test_what_is_not_the_protocol_is_refused_with_a_reason(stream: bytes, why: str) -> None:
    connection = zmtp.Connection(KEPT, MOST)
    with pytest.raises(WireError, match=why):
        connection.feed(stream)


def test_a_clients_heartbeat_is_answered_with_its_context() -> None:
    connection = ready()
    connection.answers.clear()
    assert connection.feed(b"\x04\x0a\x04PING\0\x64abc") == []
    assert connection.answers == b"\x04\x08\x04PONGabc"
    for _ in range(1_000):  # one that does not read its answers gets no more of them
        connection.feed(b"\x04\x0a\x04PING\0\x64abc")
    assert len(connection.answers) < 2_000
