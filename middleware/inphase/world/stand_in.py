"""A stand-in for a driver, where a simulated world answers in real time and no emulator does.

It has the driver's own sample, timing and commands, and lives in a worker like any driver. The
device behind it is the world. At a trigger it asks the world's process for the state at the instant
of the acquisition. It computes or renders its sample by itself, in a copy of the world of its own,
so that an image holds nobody else up. It waits for the time that a real device takes until the
sample is in hand.
"""

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.driver import Acquire, ActuatorSpec, Calls, Driver, Exchange, Reading, SensorSpec
from inphase.errors import DeviceError
from inphase.plan import declarations
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.schedule import Schedule, timing_model
from inphase.world.simulated_device import SimulatedDevice
from inphase.world.stand_in_channel import WorldLine

_ANSWER_NS = 5_000_000_000
_AHEAD = 2  # samples of a device that runs by itself that are asked for before their time
_AHEAD_MAX = 64


@dataclass
class _Exposure:
    """One sample on its way."""

    at_ns: int
    ready_ns: int
    """when it is in hand"""
    is_lost: bool
    stands: bool


class StandIn(Driver):
    """The driver that answers for a device in a simulated world. Thread: one.

    Without `join` it has the driver's declarations, and cannot be opened.
    """

    Options: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, driver: Driver, schedule: Schedule) -> None:
        super().__init__(driver.name, driver.options)
        self._driver = driver
        self._schedule = schedule
        self._line: WorldLine | None = None
        self._device: SimulatedDevice | None = None

    @property
    def address(self) -> str:
        """A name of its own: the device itself is free for others."""
        return f"world:{self._schedule.name}:{self.name}"

    def sensor(self) -> SensorSpec | None:
        """The driver's, with calls in place of an exchange."""
        spec = self._driver.sensor()
        if spec is None:
            return None
        calls = spec.calls if spec.calls is not None else _calls(spec.exchange)
        latency_max_ns = max(calls.latency_ns, self._latency_max_ns(spec))
        return replace(spec, exchange=None, calls=replace(calls, latency_max_ns=latency_max_ns))

    def _latency_max_ns(self, spec: SensorSpec) -> int:
        """The longest that can be drawn; what comes after the next trigger is lost anyway."""
        timing, period_ns = timing_model.of_schedule(self._schedule), self._schedule.cycle.period_ns
        longest_ns = spec.twin_latency_ns + spec.twin_jitter_ns
        for name, sensor in self._schedule.sensor.items():
            if sensor.device != self.name:
                continue
            latency, jitter = (
                timing.ns(f"sensors.{name}.{key}") for key in ("latency_ms", "jitter_ms")
            )
            drawn = (latency.high if latency else longest_ns) + (jitter.high if jitter else 0.0)
            longest_ns = round(drawn)
            if not sensor.free_running:
                longest_ns = min(longest_ns, sensor.every * period_ns)
        return longest_ns

    def actuator(self) -> ActuatorSpec | None:
        """The driver's, without an encoding; the world's process ends with the runtime, and no
        watchdog is needed."""
        spec = self._driver.actuator()
        return None if spec is None else replace(spec, encoding=None, watchdog=None)

    def join(self, plan: Plan, fd: int) -> None:
        """The plan, and the device's end of a channel to the world. Before `open`."""
        self._plan = plan
        self._line = WorldLine(fd, self.name)

    def open(self) -> int:
        """Load the world, once, and see that its process answers. Raises DeviceError."""
        if self._line is None:
            raise DeviceError(f"device {self.name}: its stand-in has no world to ask")
        if self._device is None:
            self._device = SimulatedDevice(self._plan, self.name)
        now_ns = time.monotonic_ns()
        self._line.ask(now_ns)
        while (state := self._line.receive(now_ns + _ANSWER_NS)) is not None:
            if state.asked_ns == now_ns:  # else it answers what was asked before
                break
        if state is None:
            raise DeviceError(f"device {self.name}: the simulated world's process is silent")
        self._device.try_out(state)
        self._asked: deque[_Exposure] = deque()
        self._has_state = False
        self._draws = self._device.draws
        self._number = 0
        self._is_known = False
        self._free = 0
        self._start_ns = now_ns + self._draws.phase_ns
        return -1

    def enable(self) -> None:
        """The joints follow commands from where they are."""
        assert self._line is not None
        self._line.switch(True)

    def disable(self) -> None:
        """Nothing is exerted on the joints."""
        assert self._line is not None
        self._line.switch(False)

    def close(self) -> None:
        """Nothing to do: the channel lasts as long as the worker."""

    # ---- samples -----------------------------------------------------------------------------

    def trigger(self) -> None:
        """The device samples now."""
        assert self._device is not None
        now_ns = time.monotonic_ns()
        latency_ns = self._draws.latency_ns()
        calls = self._device.calls
        at_ns = calls.acquire_ns
        if calls.acquire is not Acquire.AFTER_TRIGGER:
            at_ns += latency_ns // 2
        self._expose(now_ns + min(max(at_ns, 0), latency_ns), now_ns + latency_ns)

    def _expose(self, at_ns: int, ready_ns: int) -> None:
        assert self._line is not None
        self._asked.append(_Exposure(at_ns, ready_ns, self._draws.is_lost(), self._draws.stands()))
        self._line.ask(at_ns)

    def _run_free(self) -> None:
        """A device that runs by itself: ask for what it will take next, by its own clock."""
        assert self._device is not None
        interval_ns = self._device.interval_ns
        horizon_ns = time.monotonic_ns() + self._draws.latency_max_ns + _AHEAD * interval_ns
        while len(self._asked) < _AHEAD_MAX:
            at_ns = self._start_ns + round(self._free * interval_ns)
            if at_ns > horizon_ns:
                return
            self._free += 1
            self._expose(at_ns, at_ns + self._draws.latency_ns())

    def flush(self) -> int:
        """Throw away what is in hand and was not read."""
        thrown = 0
        while self._asked and self._asked[0].ready_ns <= time.monotonic_ns():
            if not self._has_state and not self._take_state(time.monotonic_ns()):
                break
            thrown += not self._pop().is_lost
        return thrown

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the world to come to the next sample's instant, then until it is in hand.

        The first sample after `open`, by which the worker knows that the device answers, is waited
        for: however slow this machine is, it says nothing of the device.
        """
        assert self._device is not None
        until_ns = time.monotonic_ns() + (timeout_ns if self._is_known else _ANSWER_NS)
        while True:
            if self._device.runs_free:
                self._run_free()
            if not self._asked:
                _sleep_until(until_ns)
                raise TimeoutError
            if not self._has_state and not self._take_state(until_ns):
                raise TimeoutError
            ready_ns = self._asked[0].ready_ns
            if ready_ns > until_ns:
                _sleep_until(until_ns)
                raise TimeoutError
            _sleep_until(ready_ns)
            if not self._pop().is_lost:
                self._is_known = True
                sample[...] = self._device.sample
                return self._reading()

    def _take_state(self, until_ns: int) -> bool:
        """Wait for the state that the oldest sample is of, and compute that sample."""
        assert self._line is not None and self._device is not None
        while True:
            state = self._line.receive(until_ns)
            if state is None:
                return False
            while self._asked and self._asked[0].at_ns < state.asked_ns:
                self._pop()  # its answer was lost
            if self._asked and self._asked[0].at_ns == state.asked_ns:
                break
        exposure = self._asked[0]
        if not (exposure.is_lost or (exposure.stands and self._device.has_sample)):
            self._device.take(state, exposure.at_ns)
        self._has_state = True
        return True

    def _pop(self) -> _Exposure:
        self._has_state = False
        self._number += 1
        return self._asked.popleft()

    def _reading(self) -> Reading:
        """It counts its samples, also those that are lost; one that stands has an old stamp."""
        assert self._device is not None
        at_ns = self._device.acquired_ns
        return Reading(sequence=self._number, device_ns=at_ns, acquired_ns=at_ns)

    def write(self, command: NDArray[np.float64]) -> None:
        """Hand a command to the world."""
        assert self._line is not None and self._device is not None
        self._line.command(self._device.command(command))


def _calls(exchange: Exchange | None) -> Calls:
    """A declared exchange, as calls."""
    assert exchange is not None, "a driver declares an exchange or calls"
    return Calls(
        latency_ns=exchange.typical_ns,
        latency_max_ns=exchange.worst_ns,
        triggered=bool(exchange.request),
        interval_ns=exchange.interval_ns,
        acquire=exchange.acquire,
        acquire_ns=exchange.acquire_ns,
    )


def _sleep_until(time_ns: int) -> None:
    left_ns = time_ns - time.monotonic_ns()
    if left_ns > 0:
        time.sleep(left_ns * 1e-9)


def replaced(schedule: Schedule, names: Collection[str]) -> Schedule:
    """The schedule as it is simulated: the devices of these names are at home in a process, and no
    GPIO line is raised."""
    devices = {
        name: msgspec.structs.replace(table, home="process") if name in names else table
        for name, table in schedule.device.items()
    }
    sensors = {
        name: msgspec.structs.replace(table, trigger_line=None)
        for name, table in schedule.sensor.items()
    }
    return msgspec.structs.replace(schedule, device=devices, sensor=sensors)


def make_plan(schedule: Schedule, names: Collection[str]) -> Plan:
    """The plan of a simulated run, in which the devices of these names have stand-ins.

    Raises ScheduleError.
    """
    schedule = replaced(schedule, names)
    drivers: dict[str, Driver] = {}
    for name in schedule.device:
        driver = declarations.make_driver(schedule, name)
        drivers[name] = StandIn(driver, schedule) if name in names else driver
    return planning.make(schedule, drivers)
