"""Packets that silence ends: their declaration, the parser of drivers, and a stream in a worker.

The cycle thread's part is in native/tests/test_silence.c; a device that answers so is the gauge of
test_contract_examples.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase.driver import Check, CheckKind, Framing, Raw, Reply, Value
from inphase.packets import Parser, RefusedReply
from inphase.testing.rig import NAME, Rig, path_for_children
from quiet import IDLE_NS, Quiet
from script_peers import StreamerPeer

REPLY = Reply((Value(0, Raw.U16, 0),), size=2)


@pytest.mark.parametrize(
    ("framing", "reply", "words"),
    [
        (Framing(2, 2, idle_ns=1000, start=b"\xaa"), REPLY, "remove start, or idle_ns"),
        (Framing(2, 2, idle_ns=1000, length_size=1), REPLY, "remove length_size, or idle_ns"),
        (Framing(2, 2, idle_ns=1000, sizes={1: 2}), REPLY, "remove sizes, or idle_ns"),
        (Framing(2, 2, idle_ns=1000, datagram=True), REPLY, "remove datagram, or idle_ns"),
        (Framing(2, 2, idle_ns=1_000_000_001), REPLY, "idle_ns is 1 to 1000000000, got 1000000001"),
        (Framing(2, 2, idle_ns=-1), REPLY, "got -1"),
        (Framing(2, 2, idle_ns=1000), Reply(REPLY.values), "give it a size, or a check of its"),
        (
            Framing(2, 2, idle_ns=1000),
            Reply(REPLY.values, (Check(CheckKind.MATCH, 0, expect=1),)),
            "a pause may cut its reply 0 in two",
        ),
    ],
)
def test_packets_that_cannot_be_told_apart_are_refused_with_the_remedy(
    framing: Framing, reply: Reply, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Parser.of_packets(framing, reply)


def test_a_drivers_own_parser_waits_for_the_silence() -> None:
    parser = Parser.of_packets(Framing(1, 4, idle_ns=IDLE_NS), REPLY)
    assert parser.idle_ns is None, "no packet has begun"
    assert parser.end() is None
    assert parser.feed(b"\x07") is None
    assert parser.idle_ns == IDLE_NS
    assert parser.feed(b"\x01") is None, "more may come"
    assert parser.end() == [0x107]
    assert parser.idle_ns is None
    for data in (b"\x07", b"\x07\x01\x07", b"\x00" * 9):
        assert parser.feed(data) is None
        with pytest.raises(RefusedReply, match=rf"size \({len(data)}\)"):
            parser.end()
    parser.feed(b"\x07\x01")
    assert parser.end() == [0x107], "nothing of a refused packet is kept"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[StreamerPeer]:
    peer = StreamerPeer(tmp_path)
    yield peer
    peer.close()


@pytest.fixture
def rig(device: StreamerPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("PYTHONPATH", path_for_children(Quiet))
    rig = Rig(tmp_path, Quiet, device.options)
    rig.home = "process"
    return rig


@pytest.mark.real
def test_a_stream_of_such_packets_is_read_by_a_worker(rig: Rig, device: StreamerPeer) -> None:
    with rig.run() as robot:
        before_ns = 0
        for _ in range(20):
            sample = robot.status("FRESH")
            taken_ns = device.taken_ns(sample.value)
            assert sample.received_ns is not None
            assert before_ns < taken_ns <= sample.received_ns
            before_ns = taken_ns


@pytest.mark.real
def test_packets_without_a_silence_between_them_are_refused_as_one(
    rig: Rig, device: StreamerPeer
) -> None:
    with rig.run() as robot:
        before = robot.status("FRESH")
        device.silence()
        last = robot.status("MISSING")
        assert last.sequence >= before.sequence
        device.flood(2)
        bad = robot.status("INVALID")
        assert (bad.reason, bad.sequence) == ("checksum", last.sequence)
        device.flood(3)
        bad = robot.frame(lambda frame: frame[NAME].reason == "size", "size")[NAME]
        assert (bad.detail, bad.sequence) == (48, last.sequence)
        taken_ns = device.flood(1)
        assert device.taken_ns(robot.status("FRESH").value) == taken_ns
