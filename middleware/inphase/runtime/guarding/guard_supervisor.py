"""The guard of a run: started, given the devices, and replaced when it ends."""

import os
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from inphase.core.core import Core
from inphase.core.realtime import is_realtime
from inphase.errors import RuntimeFault
from inphase.host import store_names
from inphase.host.process import Process
from inphase.plan.plan import Plan
from inphase.runtime.attached_devices import Devices
from inphase.runtime.events import Events
from inphase.runtime.guarding.guard import Given, GuardProcess
from inphase.runtime.guarding.own_emulator import is_emulated
from inphase.runtime.run_options import RunOptions
from inphase.runtime.workers.worker_supervisor import Workers


def hold_ns(plan: Plan) -> int:
    """How old the cycle's heartbeat may be, with the rights that there are."""
    return plan.guard_hold_ns(is_realtime(plan.schedule.cycle))


def held(plan: Plan) -> Plan:
    """A plan whose motion is latched by every pause that the guard acts upon.

    A runtime that the guard leaves alive then ramps when it goes on, and has to be armed.
    """
    cycle = plan.schedule.cycle
    # from the heartbeat on the guard counts, from the next grid point the core
    hold_ms = (hold_ns(plan) - cycle.period_ns) / 1e6
    cycle = structs.replace(cycle, resumed_after_ms=min(cycle.resumed_after_ms, hold_ms))
    return replace(plan, schedule=structs.replace(plan.schedule, cycle=cycle))


class GuardSupervisor:
    """Thread: the supervisor's. `close` ends the guard.

    path: of the robot's store; emulator: this run's own.
    """

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        core: Core,
        *,
        devices: Devices,
        workers: Workers,
        events: Events,
        path: str,
        emulator: Process | None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._core = core
        self._devices = devices
        self._workers = workers
        self._tell = events.tell
        self._path = path
        self._emulator = emulator
        self._guard: GuardProcess | None = None
        self._pages: tuple[int, int] | None = None

    @property
    def pid(self) -> int:
        """The guard's process; 0: there is none."""
        return 0 if self._guard is None else self._guard.pid

    @property
    def pidfds(self) -> list[int]:
        """Become readable when the guard has ended."""
        return [] if self._guard is None else [self._guard.pidfd]

    def start(self, given: Sequence[Given] = ()) -> None:
        """Start the guard, where there is a device that it can stop. Raises RuntimeFault.

        given: the devices that an earlier one had.
        """
        for index, _ in enumerate(self._plan.actuators):
            if self._options.simulate:  # no device
                self._core.guarded(index, True)
        if self._options.simulate or all(a.stop is None for a in self._plan.actuators):
            return
        if self._pages is None:
            self._pages = self._core.guard(hold_ns(self._plan))
        cycle = self._plan.schedule.cycle
        self._guard = GuardProcess(
            self._pages,
            store_names.note_path(self._path),
            cycle.priority,
            cycle.cpu,
            hold=self._options.debug_hold,
            is_emulated=self._is_emulated,
        )
        # where the cycle thread gets none either, the summary says so once
        refused = self._guard.refused if is_realtime(cycle) else {}
        for what, why in refused.items():
            self._tell(f"guard: {what} is refused: {why}; runs on")
        for device in given:
            if device.worker < 0:
                self._guard.give(device)
                self._core.guarded(device.actuator, True)
        self._devices.guard = self._workers.guard = self._guard
        self._workers.give(self._core)

    def _is_emulated(self, fd: int) -> bool:
        """True if this run's emulator, and nothing real, answers at a descriptor."""
        emulator = self._emulator
        return emulator is not None and emulator.ended() is None and is_emulated(fd, emulator.pid)

    def tend(self) -> bool:
        """A guard that ended is replaced at once; False where that fails. The core latches
        motion, however soon the new one has the devices."""
        if self._guard is None or (how := self._guard.ended()) is None:
            return True
        given = self._guard.given
        for device in given:
            self._core.guarded(device.actuator, False)
        self._guard.close()
        self._guard = self._devices.guard = self._workers.guard = None
        self._tell(f"the guard ended ({how}); it is started again")
        try:
            self.start(given)
        except RuntimeFault as error:
            self._tell(str(error))
            return False
        return True

    def close(self) -> None:
        """End the guard: nothing is commanded any more."""
        if self._guard is not None:
            self._guard.close()

    def close_pages(self) -> None:
        """Once the core is closed."""
        for fd in self._pages or ():
            os.close(fd)
