"""Numbers of a device that wrap, in a driver that reads by itself: the worker goes on with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase.devices.device_clock import Wrapping
from inphase.driver import Calls
from inphase.testing.rig import Rig, path_for_children
from quiet import Wrapped
from script_peers import StreamerPeer


def test_a_time_rises_over_its_wrap_and_a_count_goes_to_the_nearest() -> None:
    ticks, count = Wrapping(8), Wrapping(8)
    assert [ticks.rise(raw) for raw in (250, 255, 3, 2)] == [250, 255, 259, 514]
    assert [count.step(raw) for raw in (250, 255, 3, 2, 2)] == [250, 255, 259, 258, 258]
    ticks.restart()
    assert (ticks.value, ticks.rise(7)) == (None, 7)
    never = Wrapping(0)
    assert [never.step(raw) for raw in (5, 3, 2**40)] == [5, 3, 2**40]
    assert [never.rise(raw) for raw in (5, 3)] == [5, 3]


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (Calls(1, 2, sequence_bits=65), "sequence_bits is 0 to 64, got 65"),
        (Calls(1, 2, clock_bits=-1), "clock_bits is 0 to 64, got -1"),
        (Calls(1, 2, clock_tick_ns=-1.0), "clock_tick_ns is 0 to 1000000000, got -1.0"),
        (Calls(1, 2, clock_bits=16), "give clock_tick_ns, or remove clock_bits"),
        (Calls(1, 2, sequence_bits=64, clock_bits=64, clock_tick_ns=0.5), ""),
    ],
)
def test_bits_and_ticks_that_cannot_be_are_told(calls: Calls, words: str) -> None:
    assert words in calls.trouble
    assert bool(words) == bool(calls.trouble)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[StreamerPeer]:
    peer = StreamerPeer(tmp_path)
    yield peer
    peer.close()


@pytest.mark.real
def test_samples_stay_fresh_and_their_stamps_true_over_many_wraps(
    device: StreamerPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_for_children(Wrapped))
    rig = Rig(tmp_path, Wrapped, device.options)
    with rig.run() as robot:
        first = device.taken_ns(robot.status("FRESH").value)
        compared = taken_ns = 0
        while taken_ns - first < 20 << 16 << 10:  # 20 wraps of the time, more of the count
            frame = robot.frame(lambda frame: frame["device"].status == "FRESH", "FRESH")
            sample = frame["device"]
            taken_ns = device.taken_ns(sample.value)
            if sample.acquired_ns is not None:
                assert abs(sample.acquired_ns - taken_ns) <= sample.uncertainty_ns
                compared += 1
        assert compared
