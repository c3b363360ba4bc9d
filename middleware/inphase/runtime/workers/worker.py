"""A driver's worker: it triggers and reads one device, and posts samples into its own segment.

In home `process` it runs in a process of its own (`__main__.py`), in home `thread` in a thread of
the user's own process (`worker_thread.py`).

A worker follows the schedule's grid by itself. It sleeps to each absolute trigger time, fires and
reads. It posts its reading under the cycle of the trigger that gave it (see `pairing`).
"""

import contextlib
import errno
import os
import socket
import sys
import time
import traceback
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.devices.first_opening import FirstOpening
from inphase.devices.pairing import Pairing
from inphase.driver import Driver, Reading
from inphase.errors import DeviceError, StoreError, of_device
from inphase.frames.record_layout import ABSENT, REASONS
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan
from inphase.runtime.workers import device_handover, opened
from inphase.runtime.workers.acquisition import UNKNOWN, AcquisitionTimes, Pulse
from inphase.runtime.workers.sample_source import caller_of

_RETRY_S = 0.25  # between attempts to get a lost device back


_ORDER_NS = 500_000  # how long a command may wait for the reading of a device that runs by itself
_LOOK_NS = 50_000_000  # how long a worker sleeps before it asks whether the run is over


_CONFIRM_TRIES = 10


_TELL_TRIES = 4  # in which a device that is away refuses with the same words; then they are told


_DETAIL_MAX = 0xFFFFFFFF


class Supervised(Protocol):
    """The supervisor's line to a worker."""

    def obey(self, worker: "Worker") -> None:
        """Do what it asks for, between two turns."""


class WorkerFds(NamedTuple):
    """A worker's descriptors of the store: see struct inphase_worker_fds."""

    ring: int
    core: int
    wake: int
    bell: int


class Worker:
    """One device in a worker. Thread: one, the same for all of it, but for `stop`.

    fds: stay the caller's; once this is made, `wake` alone is still used. Raises StoreError.
    """

    def __init__(self, plan: Plan, device: str, fds: WorkerFds) -> None:
        index = list(plan.schedule.device).index(device)
        sensor = next(i for i, s in enumerate(plan.sensors) if s.device == index)
        actuator = next((a for a in plan.actuators if a.device == index), None)
        self._plan, self._index, self._first = plan, sensor, FirstOpening()
        self.sensor: SensorPlan = plan.sensors[sensor]
        self._cycle = plan.schedule.cycle
        self._period_ns = self._cycle.period_ns
        self._driver: Driver = plan.drivers[device]
        self._caller = caller_of(self._driver, self.sensor, actuator)
        self._pairing = Pairing(self._caller.latency_max_ns)
        self._sequence = ABSENT
        self._device_ns: int | None = None
        self._actuator = plan.actuators.index(actuator) if actuator is not None else -1
        self._command = np.zeros(actuator.spec.channels if actuator is not None else 1)
        self._values = ffi.cast("double *", ffi.from_buffer(self._command))
        self._order_cycle = ffi.new("int64_t *")
        self._posted = ffi.new("struct inphase_posted *")
        self._views: dict[int, NDArray[Any]] = {}
        self._stopped = False
        self._is_open = False
        self._told = ""
        self.hand: socket.socket | None = None
        """where the device's descriptor is handed on, for the guard; see `handed`"""
        self._handle = _open(fds if actuator is not None else fds._replace(bell=-1), sensor)
        self._facts = lib.inphase_worker_facts(self._handle)
        self._times = AcquisitionTimes(self._facts, self._caller.latency_max_ns)

    # ---- life ------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the device, make it ready and confirm one pulse. Raises DeviceError."""
        try:
            with self._call("open"):
                descriptor = self._driver.open()
                if self._first.check(self._driver):
                    self._learn()
                self._caller.opened(descriptor)
                self._driver.start()
                if self.sensor.schedule.free_running:
                    self._caller.flush()
                else:
                    self._confirm()
                if self.hand is not None:
                    device_handover.hand_on(self.hand, self._driver, descriptor)
        except BaseException:
            self._close_device()
            raise
        self._is_open = True
        self._times.restart()
        self._facts.opens += 1
        lib.inphase_worker_state(self._handle, lib.INPHASE_WORKER_RUNNING)

    def _learn(self) -> None:
        """Take the open device's own scales. Raises DeviceError where it takes less than the
        schedule asks of it."""
        plan = opened.of_opened(self._plan)
        self.sensor = plan.sensors[self._index]
        actuator = plan.actuators[self._actuator] if self._actuator >= 0 else None
        self._caller.learn(self.sensor, actuator)

    def _call(self, what: str) -> contextlib.AbstractContextManager[None]:
        return of_device(self._driver.name, self._driver.address, what)

    def _close_device(self) -> None:
        self._is_open = False
        try:
            with self._call("close"):
                self._driver.close()
        except DeviceError as error:
            self._tell(error)

    def _confirm(self) -> None:
        """How pairing begins: throw away what is stale, fire one known pulse, and see that one
        sample comes, and no other."""
        for _ in range(_CONFIRM_TRIES):
            self._facts.flushed += self._caller.flush()
            self._fire(-1)
            try:
                reading = self._caller.read(self._claim(), self._caller.latency_max_ns)
            except TimeoutError:
                continue
            self._facts.readings += 1
            if not reading.reason and self._caller.flush() == 0:
                self._pairing.confirm(reading.sequence)
                return
        raise DeviceError(
            f"device {self._driver.name} ({self._driver.address}) does not answer one trigger "
            f"with one good sample within {self._caller.latency_max_ns / 1e6:g} ms; check its "
            f"trigger mode and its stated latency"
        )

    def enable(self) -> tuple[float, ...]:
        """Make the actuator follow commands; the goals at which it holds. Raises DeviceError."""
        with self._call("enable"):
            if not self._is_open:
                raise DeviceError(f"device {self._driver.name} is gone")
            self._driver.enable()
            return self._driver.goals()

    def torque(self) -> tuple[bool | None, ...]:
        """`Driver.torque`. Raises DeviceError."""
        with self._call("torque"):
            return self._driver.torque() if self._is_open else ()

    def disable(self) -> None:
        """Make the actuator stop following commands; a device that is away is tried to be opened
        for it. Raises DeviceError."""
        with self._call("disable"):
            if self._is_open:
                self._driver.disable()
                return
            try:
                self._driver.open()
                self._driver.disable()
            finally:
                self._close_device()

    def run(self, control: Supervised | None = None) -> None:
        """Follow the grid until the core's run is over, or `stop`. Any trouble with the device is a
        loss: it is reported, and the device is opened again."""
        self._wait_for_start(control)
        is_free_running = self.sensor.schedule.free_running
        if is_free_running:  # what has piled up since the device was opened
            self._facts.flushed += self._caller.flush()
        turn = self._turn_free_running if is_free_running else self._turn
        cycle = 0
        while not self._is_over():
            try:
                # anew in each turn: it moves where a device paces the cycle
                cycle = turn(int(lib.inphase_worker_start_ns(self._handle)), cycle)
            except Exception as error:
                self._tell(error)
                self._get_back(control)
            if control is not None:
                control.obey(self)
            lib.inphase_worker_tell(self._handle)

    def _tell(self, error: Exception) -> None:
        """Say once what is wrong: with its place in the driver's code, where that is the cause."""
        name = f"device {self._driver.name} ({self._driver.address})"
        is_known = isinstance(error, DeviceError)
        text = str(error) if is_known else f"{name}: {type(error).__name__}: {error}"
        if text == self._told:
            return
        self._told = text
        print(text, file=sys.stderr)
        if not is_known:
            traceback.print_exception(error)

    def stop(self) -> None:
        """Ask `run` to end. Any thread."""
        self._stopped = True

    def close(self) -> None:
        """Close the device; always callable."""
        self._close_device()
        if self._handle is not None:
            self._views.clear()
            lib.inphase_worker_close(self._handle)
            self._handle = None

    def _is_over(self) -> bool:
        return self._stopped or bool(lib.inphase_worker_over(self._handle))

    def _wait_for_start(self, control: Supervised | None) -> None:
        """Until the core has said when cycle 0 starts, which is some periods from then."""
        pause_ns = min(self._period_ns // 2, 1_000_000)
        while not lib.inphase_worker_start_ns(self._handle) and not self._is_over():
            self._sleep_until(lib.inphase_now() + pause_ns)
            if control is not None:
                control.obey(self)

    def _get_back(self, control: Supervised | None) -> None:
        """The device is gone: say so, and open it again until that works."""
        lib.inphase_worker_state(self._handle, lib.INPHASE_WORKER_OFFLINE)
        self._close_device()
        trouble, tries = "", 0
        while not self._is_over():
            time.sleep(_RETRY_S)
            if control is not None:
                control.obey(self)
            try:
                self.open()
            except DeviceError as error:
                tries = tries + 1 if str(error) == trouble else 1
                trouble = str(error)
                if tries == _TELL_TRIES:
                    self._tell(error)
            else:
                return

    # ---- one turn --------------------------------------------------------------------------

    def _turn(self, start_ns: int, cycle: int) -> int:
        """Wait for the trigger of `cycle`, fire, read, post; the cycle of the next trigger."""
        every = self.sensor.schedule.every
        period_ns = self._period_ns
        first_ns = start_ns + self.sensor.schedule.trigger_ns
        behind_ns = lib.inphase_now() - first_ns - cycle * period_ns
        if behind_ns > 0:  # held up: whole grid points are left out, the phase stays
            cycle += (behind_ns // (every * period_ns) + 1) * every
        due_ns = first_ns + cycle * period_ns
        while due_ns - lib.inphase_now() > _LOOK_NS:
            self._sleep_until(lib.inphase_now() + _LOOK_NS)
            if self._is_over():
                return cycle
        self._sleep_until(due_ns)
        if lib.inphase_now() - due_ns >= every * period_ns:
            return cycle  # woken too late for this trigger: it would be of another cycle
        if self._actuator >= 0 and lib.inphase_worker_starved(self._handle, self._actuator):
            return cycle + every  # reads would feed its watchdog
        left_over, slips = self._caller.flush(), self._pairing.slips
        self._facts.flushed += left_over
        if self._pairing.look(left_over, int(lib.inphase_now())):
            self._read(self._fire(cycle), self._give_up_ns(start_ns, cycle))
        self._facts.slips += self._pairing.slips - slips
        return cycle + every

    def _give_up_ns(self, start_ns: int, cycle: int) -> int:
        """When the sample of a trigger is waited for no longer: what comes later is found by the
        next turn. A worker that also writes commands must be free when they come."""
        plan, period_ns = self.sensor.schedule, self._period_ns
        grid_ns = start_ns + cycle * period_ns
        if self._actuator >= 0:
            return grid_ns + plan.deadline_ns(self._cycle)
        return grid_ns + plan.trigger_ns + plan.every * period_ns - period_ns // 8

    def _turn_free_running(self, start_ns: int, cycle: int) -> int:
        """Post the next sample of a device that runs by itself; write commands meanwhile."""
        view, passed = self._claim(), self._caller.passed
        look_ns = _LOOK_NS if self._actuator < 0 else _ORDER_NS
        until_ns, reading = lib.inphase_now() + _LOOK_NS, None
        while reading is None:
            self._sleep_until(0)  # which is over: commands that wait are written
            try:
                reading = self._caller.read(view, look_ns)
            except TimeoutError:
                if lib.inphase_now() >= until_ns:
                    self._facts.timeouts += 1
                    return 0
        self._facts.readings += 1
        self._facts.flushed += self._caller.passed - passed
        if reading.notice:
            self._tell(DeviceError(f"device {self._driver.name}: {reading.notice}"))
        self._post(reading, UNKNOWN)
        return 0

    def _fire(self, cycle: int) -> Pulse:
        pulse = Pulse(cycle, int(lib.inphase_now()))
        self._caller.trigger()
        self._facts.pulses += 1
        self._pairing.fire(pulse.triggered_ns)
        return pulse

    def _read(self, pulse: Pulse, until_ns: int) -> None:
        """Read until the sample of this pulse is there, or until a time; post it.

        At its worst case a reply that is not whole was cut short, and that is said; what comes
        later is a late sample.
        """
        pairing = self._pairing
        wait_ns = min(until_ns, pulse.triggered_ns + self._caller.latency_max_ns)
        left_over = False
        while True:
            view = self._claim()
            try:
                reading = self._caller.read(view, max(0, wait_ns - int(lib.inphase_now())))
            except TimeoutError:
                if wait_ns < until_ns:
                    wait_ns = until_ns
                    self._post_part(pulse)
                    continue
                self._facts.timeouts += 1
                if left_over and pairing.counts:
                    pairing.doubt(int(lib.inphase_now()))
                return
            self._facts.readings += 1
            if reading.reason:
                pairing.refuse(int(lib.inphase_now()))
                self._post(reading, pulse)
                return
            received_ns = reading.received_ns or int(lib.inphase_now())
            reading = reading._replace(received_ns=received_ns)
            off = pairing.judge(reading.sequence)
            if off > 0:
                pairing.slip(received_ns)
                self._post(reading._replace(reason="slip", detail=min(off, _DETAIL_MAX)), pulse)
                return
            if off < 0:  # of an earlier pulse: the one that was asked for may still come
                pairing.pass_over()
                left_over = True
            elif received_ns - pulse.triggered_ns < self.sensor.earliest_ns:
                pairing.slip(received_ns)
            else:
                pairing.answer(reading.sequence, received_ns)
                self._post(reading, UNKNOWN if pairing.is_suspect else pulse)
                return

    def _post_part(self, pulse: Pulse) -> None:
        """Say that a reply is there in part."""
        if self._caller.part:
            self._post(Reading(reason="size", detail=self._caller.part), pulse)

    # ---- posting ---------------------------------------------------------------------------

    def _post(self, reading: Reading, pulse: Pulse) -> None:
        received_ns = reading.received_ns or int(lib.inphase_now())
        acquired_ns, uncertainty_ns = self._times.of(self.sensor, reading, pulse, received_ns)
        posted = self._posted
        posted.cycle = pulse.cycle
        posted.triggered_ns = pulse.triggered_ns
        posted.acquired_ns = acquired_ns
        posted.received_ns = received_ns
        posted.uncertainty_ns = uncertainty_ns
        posted.device_sequence = self._number(reading)
        posted.reason = REASONS.index(reading.reason) if reading.reason else 0
        posted.detail = reading.detail
        lib.inphase_worker_post(self._handle, posted)

    def _number(self, reading: Reading) -> int:
        """The device's own number of a sample; the last one again when its clock stands still."""
        stands = reading.device_ns is not None and reading.device_ns == self._device_ns
        self._device_ns = reading.device_ns
        if not stands:
            known = (reading.sequence, self._caller.number, reading.device_ns)
            number = next((n for n in known if n is not None), None)
            self._sequence = ABSENT if number is None else number
        return self._sequence

    # ---- memory and time -------------------------------------------------------------------

    def _claim(self) -> NDArray[Any]:
        """The memory of the next sample as a structured array, to be filled in place."""
        memory = lib.inphase_worker_claim(self._handle)
        at = int(ffi.cast("uintptr_t", memory))
        view = self._views.get(at)
        if view is None:
            dtype = self.sensor.dtype
            view = np.ndarray((), dtype, ffi.buffer(memory, dtype.itemsize))
            self._views[at] = view
        return view

    def _sleep_until(self, time_ns: int) -> None:
        """Sleep, and write the commands that come meanwhile."""
        while True:
            rc = lib.inphase_worker_wait(
                self._handle, time_ns, max(self._actuator, 0), self._values, self._order_cycle
            )
            if rc == 1:
                self._caller.write(self._command)
                self._facts.orders += 1
            elif rc == 2:
                self._halt()
            elif rc == -errno.EAGAIN:
                self._facts.expired += 1
            elif rc != -errno.EINTR:
                return

    def _halt(self) -> None:
        """The device is back, and was told to move when it went. A refused stop was not heard: its
        samples show if it rests."""
        try:
            self._caller.halt(self._command)
        except DeviceError as error:
            print(error, file=sys.stderr)
        self._facts.orders += 1


def _open(fds: WorkerFds, sensor: int) -> Any:
    handle = ffi.new("inphase_worker **")
    rc = lib.inphase_worker_open(handle, ffi.new("struct inphase_worker_fds *", fds), sensor)
    if rc < 0:
        raise StoreError(f"the segment of sensor {sensor} cannot be taken over: {os.strerror(-rc)}")
    return handle[0]
