"""A sensor as it will run: its channels resolved, its ring measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from inphase.driver import Acquire, Calls, Exchange, SensorSpec
from inphase.plan import channel_signs
from inphase.plan.channel_places import channel_offsets, dtype_of, first_channel, value_fields
from inphase.plan.channel_signs import Turn
from inphase.plan.timing import Home, home_of
from inphase.schedule import Schedule, Sensor, channels

T = TypeVar("T")
V = TypeVar("V")

_RING_S = 0.25  # a view into the store lasts at least this long, and
_RING_MIN = 16  # at least this many samples, or
_RING_MIN_LARGE = 8  # this many
_LARGE_BYTES = 65_536


@dataclass(frozen=True)
class SensorPlan:
    """One sensor, channels resolved; limits are NaN where there is none."""

    name: str
    schedule: Sensor
    device: int
    home: Home
    spec: SensorSpec
    exchange: Exchange | None
    """with the schedule's signs and zeros in its values"""
    turns: list[Turn]
    """sign and zero per channel, for a driver that reads by itself"""
    depth: int
    between: int
    """cycles from one new sample to the next, at least"""
    low: list[float]
    high: list[float]
    rate: list[float]

    @property
    def interval_ns(self) -> int:
        """Of a free-running one: from sample to sample, as its driver states it; 0: not stated."""
        return self.spec.interval_ns if self.schedule.free_running else 0

    @property
    def is_stamped(self) -> bool:
        """True if its worker or the kernel stamps the receipt; else the cycle thread does, once it
        has woken."""
        return self.exchange is None or self.exchange.framing.datagram

    @property
    def dtype(self) -> np.dtype[Any]:
        """Layout of a sample: its fields one after the other, padded to 8 bytes."""
        return dtype_of(self.spec)

    @property
    def offsets(self) -> list[int]:
        """Where the float64 values of a sample lie, in bytes: its channels."""
        return channel_offsets(self.spec)

    @property
    def _calls(self) -> Calls | None:
        """The driver's own calls, where it is read by them."""
        is_by_calls = self.exchange is None or self.home != "cycle"
        return self.spec.calls if is_by_calls else None

    @property
    def typical_ns(self) -> int:
        """From trigger to the sample's last byte, as stated."""
        if self._calls is not None:
            return self._calls.latency_ns
        assert self.exchange is not None
        return self.exchange.request_ns + self.exchange.reply_ns

    @property
    def earliest_ns(self) -> int:
        """No sample comes sooner after its trigger."""
        acquire, acquire_ns = self.acquire
        if self._calls is not None:
            least_ns = self._calls.latency_min_ns
        else:
            assert self.exchange is not None
            least_ns = self.exchange.earliest_ns
        return max(least_ns, acquire_ns) if acquire is Acquire.AFTER_TRIGGER else least_ns

    @property
    def earliest_key(self) -> str:
        """How its driver states `earliest_ns`."""
        return "reply_min_ns" if self._calls is None else "latency_min_ns"

    @property
    def acquire(self) -> tuple[Acquire, int]:
        """The stated model of the acquisition."""
        if self._calls is not None:
            return self._calls.acquire, self._calls.acquire_ns
        assert self.exchange is not None
        return self.exchange.acquire, self.exchange.acquire_ns

    def first_channel(self, name: str) -> int:
        """Channel at which a float64 field starts. Raises KeyError."""
        return first_channel(self.spec, name)


def make(schedule: Schedule, name: str, spec: SensorSpec) -> SensorPlan:
    """The plan of a sensor, of a schedule without a fault."""
    sensor = schedule.sensor[name]
    turned, exchange = channel_signs.of_sensor(sensor, spec), spec.exchange
    if exchange is not None:
        replies = tuple(
            replace(r, values=tuple(v.turned(*turned[v.channel]) for v in r.values))
            for r in exchange.replies
        )
        exchange = replace(exchange, replies=replies)
    between = _cycles_between(schedule, sensor, spec)
    ranges = _per_channel(spec, sensor.range, channels.pairs, (math.nan, math.nan))
    return SensorPlan(
        name=name,
        schedule=sensor,
        device=list(schedule.device).index(sensor.device),
        home=home_of(schedule.device[sensor.device], in_cycle=exchange is not None),
        spec=spec,
        exchange=exchange,
        turns=turned,
        depth=ring_depth(schedule, between, dtype_of(spec).itemsize),
        between=between,
        low=[low for low, _ in ranges],
        high=[high for _, high in ranges],
        rate=_per_channel(spec, sensor.rate, channels.numbers, math.nan),
    )


def ring_depth(schedule: Schedule, every: int = 1, size: int = 0) -> int:
    """Slots of a ring whose samples come every so many cycles."""
    least = _RING_MIN if size < _LARGE_BYTES else _RING_MIN_LARGE
    wanted = max(least, int(_RING_S * 1e9 / (every * schedule.cycle.period_ns)))
    if schedule.policy is not None and schedule.policy.history > 1:
        wanted = max(wanted, schedule.policy.history_cycles // every + least)
    depth = 1 << (wanted - 1).bit_length()
    return max(depth, (schedule.store.depth or 0) if size < _LARGE_BYTES else 0)


def _cycles_between(schedule: Schedule, sensor: Sensor, spec: SensorSpec) -> int:
    """Cycles from one new sample to the next, at least: of a device that runs by itself, as far as
    it states its rate."""
    if not sensor.free_running:
        return sensor.every
    return max(1, spec.interval_ns // schedule.cycle.period_ns)


def _per_channel(
    spec: SensorSpec, table: Mapping[str, V], spread: Callable[[V, int], list[T]], nothing: T
) -> list[T]:
    """A schedule's table of fields as one entry per channel; `nothing` where it says nothing."""
    found: list[T] = []
    for item in value_fields(spec):
        value = table.get(item.name)
        found += [nothing] * item.channels if value is None else spread(value, item.channels)
    return found
