"""When a sensor's sample is asked for, acquired and in hand, as far as its device states it.

All of it is known from the schedule and from what the driver declares, without a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inphase.driver import Acquire, Driver, SensorSpec
from inphase.schedule.tables import Schedule

Home = Literal["cycle", "process", "thread"]


@dataclass(frozen=True)
class Timing:
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

    @property
    def slack_ns(self) -> int:
        """The time between the sample and its deadline; below 0 it does not fit."""
        return self.deadline_ns - self.trigger_ns - self.typical_ns


@dataclass(frozen=True)
class Command:
    """An actuator's command: its time on the wire from the act offset, in nanoseconds."""

    actuator: str
    device: str
    bus: str
    write_ns: int


def spread_ns(timings: Sequence[Timing]) -> int | None:
    """How far apart the acquisitions of one cycle's triggers are; None: too few are known."""
    known = [timing.acquired_ns for timing in timings if timing.acquired_ns is not None]
    return max(known) - min(known) if len(known) > 1 else None


def home_of(schedule: Schedule, device: str, *, in_cycle: bool) -> Home:
    """Where a device's driver runs; by default in the cycle if it can (`in_cycle`), else apart.

    Raises ScheduleError for a home that it cannot have.
    """
    table, key = schedule.device[device], f"device.{device}"
    if table.home == "cycle" and not in_cycle:
        raise schedule.error(
            f"{key}.home",
            '"cycle" is for a driver with an exchange, which the core runs, and this one has '
            'none; give "process" or "thread"',
        )
    home: Home = table.home or ("cycle" if in_cycle else "process")
    for name, given in (("priority", table.priority or None), ("cpu", table.cpu)):
        if home == "cycle" and given is not None:
            raise schedule.error(
                f"{key}.{name}",
                f"{given} is for a worker process, and this device is at home on the cycle thread; "
                f'remove it, or give home = "process"',
            )
    return home


def of_sensor(schedule: Schedule, driver: Driver, name: str, spec: SensorSpec) -> Timing:
    """The timing of a sensor. Raises ScheduleError for a trigger or a home that it cannot have."""
    sensor, cycle = schedule.sensor[name], schedule.cycle
    home = home_of(schedule, sensor.device, in_cycle=spec.exchange is not None)
    exchange, calls = spec.exchange, spec.calls
    if home != "cycle" and calls is not None:
        exchange = None  # a worker calls the driver where it can
    request_ns = exchange.request_ns if exchange else 0
    if exchange is not None:
        triggered, interval_ns = bool(exchange.request), 0
        typical_ns, worst_ns = request_ns + exchange.reply_ns, exchange.reply_max_ns
        acquire, acquire_ns = exchange.acquire, exchange.acquire_ns
    else:
        assert calls is not None, "a driver declares an exchange or calls"
        triggered, interval_ns = calls.triggered, calls.interval_ns
        typical_ns, worst_ns = calls.latency_ns, calls.latency_max_ns
        acquire, acquire_ns = calls.acquire, calls.acquire_ns
    _check_triggered(schedule, name, triggered=triggered)
    acquired_ns = None
    if acquire is not Acquire.ABSENT and triggered:
        middle_ns = typical_ns // 2 if acquire is Acquire.MIDDLE else 0
        acquired_ns = sensor.trigger_ns + middle_ns + acquire_ns
    return Timing(
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
    )


def _check_triggered(schedule: Schedule, name: str, *, triggered: bool) -> None:
    """A device that samples when it is asked has a trigger, and no other has one."""
    sensor, key = schedule.sensor[name], f"sensor.{name}.trigger_us"
    if triggered and sensor.free_running:
        raise schedule.error(
            key,
            f"the key is missing, and device {sensor.device!r} samples only when it is triggered; "
            f"add trigger_us = 0, or another offset in the cycle",
        )
    if not triggered and not sensor.free_running:
        raise schedule.error(
            key,
            f"device {sensor.device!r} is free-running and cannot be triggered, got "
            f"{sensor.trigger_us}; remove trigger_us: a frame then has its newest sample",
        )
