"""When a sensor's sample is asked for, acquired and in hand, as far as its device states it.

All of it is known from the schedule and from what the driver declares, without a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inphase.driver import Acquire, ActuatorSpec, Calls, Driver, Exchange, SensorSpec
from inphase.schedule.tables import Device, Schedule

Home = Literal["cycle", "process", "thread"]


@dataclass(frozen=True)
class SampleTiming:
    """One sensor in time. Nanoseconds; offsets are from the start of the trigger's own cycle."""

    sensor: str
    device: str
    bus: str
    home: Home
    free_running: bool
    trigger_ns: int
    every_ns: int
    """from one trigger to the next; one period for a free-running sensor"""
    deadline_ns: int
    """when the sample is due; for a free-running sensor, the read deadline"""
    request_ns: int
    """the request's time on the wire; 0 where a worker asks"""
    typical_ns: int
    """from trigger to sample in hand"""
    worst_ns: int
    """the same at worst: a line is quiet for so long after a reply that was missed"""
    acquired_ns: int | None
    """the acquisition's middle, by the model that the driver states"""
    interval_ns: int = 0
    """a device that runs by itself: from one sample to the next; 0: not stated"""
    idle_ns: int = 0
    """part of `typical_ns`: the silence behind its last byte"""

    @property
    def slack_ns(self) -> int:
        """The time between the sample and its deadline; below 0 it does not fit."""
        return self.deadline_ns - self.trigger_ns - self.typical_ns


@dataclass(frozen=True)
class CommandTiming:
    """An actuator's command: its time on the wire from the act offset, in nanoseconds."""

    actuator: str
    device: str
    bus: str
    write_ns: int


def spread_ns(timings: Sequence[SampleTiming]) -> int | None:
    """How far apart the acquisitions of one cycle's triggers are; None: too few are known."""
    known = [timing.acquired_ns for timing in timings if timing.acquired_ns is not None]
    return max(known) - min(known) if len(known) > 1 else None


def home_of(device: Device, *, in_cycle: bool) -> Home:
    """Where a device's driver runs; by default in the cycle if it can (`in_cycle`), else apart."""
    return device.home or ("cycle" if in_cycle else "process")


def is_triggered(home: Home, spec: SensorSpec) -> bool:
    """True if a device samples only when it is triggered, read from a home."""
    exchange, calls = _source(home, spec)
    if exchange is not None:
        return bool(exchange.request)
    assert calls is not None
    return calls.triggered


def of_sensor(schedule: Schedule, driver: Driver, name: str, spec: SensorSpec) -> SampleTiming:
    """The timing of a sensor."""
    sensor, cycle = schedule.sensor[name], schedule.cycle
    home = home_of(schedule.device[sensor.device], in_cycle=spec.exchange is not None)
    exchange, calls = _source(home, spec)
    request_ns = exchange.request_ns if exchange else 0
    idle_ns = exchange.framing.idle_ns if exchange else 0
    if exchange is not None:
        interval_ns = exchange.interval_ns
        typical_ns, worst_ns = exchange.typical_ns, exchange.worst_ns
        acquire, acquire_ns = exchange.acquire, exchange.acquire_ns
    else:
        assert calls is not None
        interval_ns = calls.interval_ns
        typical_ns, worst_ns = calls.latency_ns, calls.latency_max_ns
        acquire, acquire_ns = calls.acquire, calls.acquire_ns
    acquired_ns = None
    if acquire is not Acquire.ABSENT and is_triggered(home, spec):
        middle_ns = (typical_ns - idle_ns) // 2 if acquire is Acquire.MIDDLE else 0
        acquired_ns = sensor.trigger_ns + middle_ns + acquire_ns
    return SampleTiming(
        sensor=name,
        device=sensor.device,
        bus=driver.bus,
        home=home,
        free_running=sensor.free_running,
        trigger_ns=sensor.trigger_ns,
        every_ns=sensor.every * cycle.period_ns,
        deadline_ns=sensor.deadline_ns(cycle),
        request_ns=request_ns,
        typical_ns=typical_ns,
        worst_ns=max(worst_ns, typical_ns),
        acquired_ns=acquired_ns,
        interval_ns=interval_ns,
        idle_ns=idle_ns,
    )


def _source(home: Home, spec: SensorSpec) -> tuple[Exchange | None, Calls | None]:
    """How a sample is had: by the exchange, or by the driver's calls."""
    if home != "cycle" and spec.calls is not None:
        return None, spec.calls  # a worker calls the driver where it can
    assert spec.exchange is not None or spec.calls is not None, "a driver declares one of them"
    return spec.exchange, spec.calls


def of_actuator(driver: Driver, name: str, device: str, spec: ActuatorSpec) -> CommandTiming:
    """The timing of an actuator's command."""
    return CommandTiming(name, device, driver.bus, spec.encoding.write_ns if spec.encoding else 0)
