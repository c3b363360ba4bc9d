"""Drivers of the stream of `streamer.py`: its packets ended by silence, or its numbers wrapping."""

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from inphase import driver
from streamer import ByHand, Streamer

IDLE_NS = 1_000_000


class Quiet(Streamer):
    """`value`: when it was taken, in seconds."""

    def sensor(self) -> driver.SensorSpec:
        """The streamer's, by silence."""
        spec = super().sensor()
        assert spec.exchange is not None
        framing = driver.Framing(min_size=4, max_size=32, idle_ns=IDLE_NS)
        return replace(spec, exchange=replace(spec.exchange, framing=framing))


class Torn(Quiet):
    """A declaration in which a part of a packet looks like a whole one."""

    def sensor(self) -> driver.SensorSpec:
        """Without size and checksum."""
        spec = super().sensor()
        assert spec.exchange is not None
        replies = tuple(replace(r, checks=(), size=0) for r in spec.exchange.replies)
        return replace(spec, exchange=replace(spec.exchange, replies=replies))


class Miscounted(Quiet):
    """A clock that wraps, and whose ticks have no length."""

    def sensor(self) -> driver.SensorSpec:
        """Read by calls."""
        calls = driver.Calls(500_000, 8_000_000, triggered=False, clock_bits=16)
        return replace(super().sensor(), exchange=None, calls=calls)


class Wrapped(ByHand):
    """Its count has 6 bits, its time 16 of a microsecond: both wrap some times a second."""

    def sensor(self) -> driver.SensorSpec:
        """Read by calls."""
        spec = super().sensor()
        assert spec.calls is not None
        calls = replace(spec.calls, sequence_bits=6, clock_tick_ns=1000, clock_bits=16)
        return replace(spec, calls=calls)

    def read(self, sample: NDArray[Any], timeout_ns: int) -> driver.Reading:
        """The next one, with its numbers cut to their bits."""
        reading = super().read(sample, timeout_ns)
        if reading.reason:
            return reading
        assert reading.sequence is not None
        ticks = round(float(sample["value"]) * 1e6)
        return reading._replace(sequence=reading.sequence % 64, device_ticks=ticks % 65536)
