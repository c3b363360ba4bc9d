"""The supervisor's side of drivers' workers: their segments, their processes, their return.

A worker's process that ends is started again; the segment stays, and the new worker goes on with
its numbers. A worker in the user's own process (home `thread`) ends with that process.
"""

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Mapping

from inphase._core import lib
from inphase.core.core import Core
from inphase.errors import DeviceError
from inphase.frames import store
from inphase.host.locks import DeviceLock
from inphase.host.process import Process
from inphase.plan.plan import Plan
from inphase.runtime.guarding.guard import Given, GuardProcess
from inphase.runtime.workers import device_handover
from inphase.runtime.workers.worker import WorkerFds
from inphase.runtime.workers.worker_thread import Asking, WorkerThread
from inphase.world.world_process import WorldProcess

_START_S = 60.0  # one of a simulated run loads the world's model
_AGAIN_S = 0.5  # between the end of a worker's process and the start of the next


class WorkerLink:
    """One worker, seen from the supervisor."""

    def __init__(
        self,
        plan: Plan,
        core: Core,
        device: int,
        lock: DeviceLock,
        *,
        outside: bool,
        world: WorldProcess | None,
    ) -> None:
        self.plan = plan
        self._world = world
        self.index = device
        self.name = list(plan.schedule.device)[device]
        self.sensor = next(i for i, s in enumerate(plan.sensors) if s.device == device)
        self.actuator = next((i for i, a in enumerate(plan.actuators) if a.device == device), None)
        self.is_powered = False
        """whether it was asked to enable, and is not known to have been switched off since"""
        self.guests_goals: tuple[float, ...] = ()
        """of a guest: where its device holds, as the caller's process said it last"""
        self.home = plan.sensors[self.sensor].home
        self.is_guest = self.home == "thread" and outside
        """it runs in a thread of the process that started this one"""
        self.process: Process | None = None
        self.is_attached = False
        self.again_at_s = 0.0
        self._thread: WorkerThread | None = None
        self._lock = lock
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asking: Asking | None = None
        self._handed: socket.socket | None = None
        self.guests_hand: socket.socket | None = None
        """where a guest hands its device on"""
        self._host = -1
        """pidfd of the process that this worker is a thread of"""
        stop = plan.actuators[self.actuator].stop if self.actuator is not None else None
        self.is_guarded = stop is not None and world is None
        """the guard is to have its device"""
        self.device_fd = -1
        """a duplicate of the worker's, for the guard; -1: it has handed none on"""
        spec = plan.sensors[self.sensor]
        self.ring = store.Segment.ring(spec.dtype.itemsize, spec.depth, core.epoch)
        self._bell = store.Segment.bell()
        self.fds = WorkerFds(self.ring.fd, core.segment.fd, self.wake_fd, self._bell.fd)
        """what its worker gets"""
        is_moved = self.actuator is not None
        core.worker(device, self.ring, self.wake_fd, self._bell if is_moved else None)
        if self.home == "thread" and self.is_guarded:
            self._host = os.pidfd_open(os.getppid() if self.is_guest else os.getpid())
            if self.is_guest:
                self._handed, self.guests_hand = device_handover.line()

    @property
    def writer(self) -> int:
        """pidfd of the process that writes to the device; -1: it does not run."""
        return self._host if self.process is None else self.process.pidfd

    def start(self) -> None:
        """Start the worker; its `process` says when its device is there. Raises RuntimeFault,
        DeviceError."""
        if self.is_guest:
            return
        if self.home == "thread":
            hand = None
            if self.is_guarded:
                self._handed, hand = device_handover.line()
            self._thread = WorkerThread(self.plan, self.name, self.fds, hand)
            self._thread.start()
            return
        with contextlib.ExitStack() as stack:
            self._asking = Asking(self.plan.drivers[self.name])
            theirs = stack.enter_context(self._asking.theirs)
            fds = [*self.fds, theirs.fileno()]
            options: list[str] = []
            if self.is_guarded:
                self._handed, hands = device_handover.line()
                stack.enter_context(hands)
                fds.append(hands.fileno())
                options += ["--hand", str(hands.fileno())]
            if self._world is not None:
                options += ["--stand-ins", ",".join(self._world.stand_ins)]
                if self.name in self._world.stand_ins:
                    line = stack.enter_context(self._world.connect(self.name))
                    options += ["--world", str(line.fileno())]
                    fds.append(line.fileno())
            path = str(self.plan.schedule.path)
            self.process = Process(
                f"worker of {self.name}",
                "inphase.runtime.workers",
                [path, self.name, *map(str, fds[:5]), *options],
                pass_fds=fds,
            )

    def enable(self, core: Core) -> None:
        """Have the driver enable its actuator, and let it move; from the attempt on it counts as
        powered. Raises DeviceError."""
        assert self.actuator is not None
        goals = self.guests_goals
        if not self.is_guest:  # whoever has it has enabled it
            self.is_powered = True
            goals = self._ask("enable")
        core.holds(self.actuator, self.plan.actuators[self.actuator].turned(goals))
        core.enable(self.actuator, True)

    def disable(self) -> None:
        """Have the driver disable its actuator, which verifies that. Raises DeviceError."""
        self._ask("disable")
        self.is_powered = False

    def torque(self) -> tuple[bool | None, ...]:
        """Per channel; empty: not known, as in the process of a guest. Raises DeviceError."""
        if self._thread is None and self._asking is None:
            return ()
        return tuple(None if math.isnan(one) else one > 0 for one in self._ask("torque"))

    def start_if_gone(self) -> None:
        """At the end of a run: a worker that ended is needed once more. Raises RuntimeFault."""
        if self.process is not None and self.process.ended() is not None:
            self.end_process()
        if self.process is None and self._thread is None:
            self.start()

    def _ask(self, what: str) -> tuple[float, ...]:
        asking = self._thread or self._asking
        if asking is None:
            raise DeviceError(f"device {self.name} is gone")
        return asking.ask(what)

    def take_device(self) -> bool:
        """True if the worker has opened its device anew: `device_fd` is another then."""
        fd = device_handover.take(self._handed) if self._handed is not None else -1
        if fd < 0:
            return False
        self.drop_device()
        self.device_fd = fd
        return True

    def drop_device(self) -> None:
        """Close the duplicate: a port that somebody has open does not come back."""
        if self.device_fd >= 0:
            os.close(self.device_fd)
        self.device_fd = -1

    def end_process(self) -> None:
        """After the process has ended, or to end it."""
        if self.process is not None:
            self.process.stop()
            self.process = None
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        if self._handed is not None:
            self._handed.close()
            self._handed = None
        self.drop_device()

    def close(self) -> None:
        """End the worker and unmap its segment."""
        if self._thread is not None:
            self._thread.close()
        self.end_process()
        if self.guests_hand is not None:
            self.guests_hand.close()
        if self._host >= 0:
            os.close(self._host)
            self._host = -1
        self.ring.close()
        self._bell.close()
        os.close(self.wake_fd)
        self._lock.close()


class Workers:
    """All workers of one runtime. Thread: the supervisor's.

    locks: by device. outside: drivers of home `thread` run in the process that started this one.
    Raises StoreError (no room).
    """

    def __init__(
        self,
        plan: Plan,
        core: Core,
        locks: Mapping[str, DeviceLock],
        say: Callable[[str], None],
        *,
        outside: bool,
        world: WorldProcess | None = None,
    ) -> None:
        self._say = say
        self._told: dict[int, str] = {}
        self.guard: GuardProcess | None = None
        self.links: list[WorkerLink] = []
        self._states: dict[int, int] = {}
        try:
            for device, home in enumerate(plan.homes):
                if home != "cycle":
                    lock = locks[list(plan.schedule.device)[device]]
                    link = WorkerLink(plan, core, device, lock, outside=outside, world=world)
                    self.links.append(link)
        except BaseException:
            self.close()
            raise

    def start(self, core: Core, observe: bool) -> None:
        """Start all, wait until their devices are there, and enable what is to move. Raises
        RuntimeFault, DeviceError."""
        for link in self.links:
            link.start()
        for link in self.links:
            if link.process is not None:
                link.process.wait_ready(_START_S)
        for link in self.links:
            if link.actuator is not None and not observe:
                link.enable(core)
            self._attach(link, core)

    @staticmethod
    def _attach(link: WorkerLink, core: Core) -> None:
        core.attach(link.index, -1)
        link.is_attached = True

    def give(self, core: Core) -> None:
        """Give the guard, a new one too, what the workers have handed on. Raises RuntimeFault."""
        for link in self.links:
            link.take_device()
            if link.device_fd >= 0:
                self._give(link, core)

    def _give(self, link: WorkerLink, core: Core) -> None:
        if self.guard is None or link.writer < 0 or link.actuator is None:
            return
        is_shared = link.home == "thread"
        self.guard.give(Given(link.actuator, link.name, link.device_fd, link.writer, is_shared))
        core.guarded(link.actuator, True)

    def _take_back(self, link: WorkerLink, core: Core) -> None:
        """A device is gone: the guard stops it, if that is still to be done, and closes it."""
        if not link.is_guarded or link.actuator is None:
            return
        core.guarded(link.actuator, False)
        if self.guard is not None:
            self.guard.drop(link.actuator)
        link.drop_device()

    @property
    def rings(self) -> list[int]:
        """Descriptors of their segments, in the order of their sensors."""
        return [link.ring.fd for link in sorted(self.links, key=lambda link: link.sensor)]

    @property
    def pidfds(self) -> list[int]:
        """Of the processes that run: readable when one has ended."""
        return [
            link.process.pidfd
            for link in self.links
            if link.process is not None and link.process.ended() is None
        ]

    def tend(self, core: Core, reader: store.Reader) -> None:
        """Called now and then: notice ends, start again, report losses and returns.

        Any trouble with a worker is its own: it is reported once, and the worker is started again.
        """
        for link in self.links:
            try:
                self._tend(link, core)
                self._tell_state(link, core, reader)
            except Exception as error:
                link.again_at_s = time.monotonic() + _AGAIN_S
                if str(error) != self._told.get(link.index):
                    self._told[link.index] = str(error)
                    self._say(f"device {link.name}: {error}")

    def _tend(self, link: WorkerLink, core: Core) -> None:
        if link.take_device():
            self._give(link, core)
        if link.process is None:
            if link.home == "process" and time.monotonic() >= link.again_at_s:
                link.start()
            return
        how = link.process.ended()
        if how is not None:
            self._lose(link, core, how)
        elif not link.is_attached and link.process.is_ready():
            self._attach(link, core)

    def _lose(self, link: WorkerLink, core: Core, how: str) -> None:
        if link.is_attached:
            self._say(f"the worker of {link.name} ended ({how}); it is started again")
            core.detach(link.index)
            link.is_attached = False
            self._take_back(link, core)
            if link.actuator is not None:
                core.enable(link.actuator, False)
        link.end_process()
        link.again_at_s = time.monotonic() + _AGAIN_S

    def _tell_state(self, link: WorkerLink, core: Core, reader: store.Reader) -> None:
        facts = reader.worker(link.sensor)
        assert facts is not None
        before = self._states.get(link.index, lib.INPHASE_WORKER_RUNNING)
        self._states[link.index] = facts["state"]
        if facts["state"] == before:
            return
        if facts["state"] == lib.INPHASE_WORKER_OFFLINE:
            self._take_back(link, core)
            if link.actuator is not None:
                core.enable(link.actuator, False)
            self._say(f"device {link.name} is gone")
        elif facts["state"] == lib.INPHASE_WORKER_RUNNING:
            depends = link.index in link.plan.motion_devices
            latched = "; motion needs to be armed again" if depends else ""
            self._say(f"device {link.name} is back{latched}")

    def arm(self, core: Core, observe: bool) -> None:
        """Enable what came back. Raises DeviceError."""
        for link in self.links:
            if not link.is_attached or not core.attached(link.index):
                raise DeviceError(f"device {link.name} is still gone: nothing is armed")
            if link.actuator is not None and not observe:
                link.enable(core)

    # ---- power -----------------------------------------------------------------------------

    @property
    def actuators(self) -> list[int]:
        """All of these workers."""
        return [link.actuator for link in self.links if link.actuator is not None]

    @property
    def powered(self) -> list[int]:
        """Actuators that were enabled, and are not known to have been switched off since; those of
        guests are switched off where they are."""
        actuators = (link.actuator for link in self.links if link.is_powered)
        return [actuator for actuator in actuators if actuator is not None]

    def switch_off(self, core: Core, actuator: int) -> None:
        """Take power away from an actuator that is at rest, until it is armed again. Raises
        DeviceError."""
        core.enable(actuator, False)
        self._link_of(actuator).disable()

    def switch_off_at_end(self, core: Core, actuator: int) -> None:
        """The same after the cycle thread has ended; a worker that is gone is started once more.
        Raises DeviceError, RuntimeFault."""
        self._link_of(actuator).start_if_gone()
        self.switch_off(core, actuator)

    def torque(self, core: Core, actuator: int) -> tuple[bool | None, ...]:
        """Per channel, read by the worker; empty: not known. Raises DeviceError."""
        return self._link_of(actuator).torque()

    def _link_of(self, actuator: int) -> WorkerLink:
        return next(link for link in self.links if link.actuator == actuator)

    def ask_to_end(self) -> None:
        """Send all processes SIGTERM; `close` then waits."""
        for link in self.links:
            if link.process is not None:
                link.process.ask_to_end()

    def close(self) -> None:
        """End all. The core is closed before: it reads their segments."""
        self.ask_to_end()
        for link in self.links:
            link.close()
