"""Drivers of packets that nothing but silence ends: the stream of `streamer.py`, read so."""

from dataclasses import replace

from inphase import driver
from streamer import Streamer

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
