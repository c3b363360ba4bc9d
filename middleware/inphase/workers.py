"""The supervisor's side of drivers' workers: their segments, their processes, their return.

A worker's process that ends is started again; the segment stays, and the new worker goes on with
its numbers. A worker in the user's own process (home `thread`) ends with that process.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from inphase import store
from inphase._core import lib
from inphase.core import Core
from inphase.errors import DeviceError
from inphase.locks import DeviceLock
from inphase.plan import Plan
from inphase.process import Process
from inphase.worker import WorkerThread, ask, control_line
from inphase.world_process import WorldProcess

_AGAIN_S = 0.5  # between the end of a worker's process and the start of the next


class WorkerLink:
    """One worker, seen from the supervisor."""

    def __init__(
        self,
        plan: Plan,
        core: Core,
        device: int,
        mode: int,
        gid: int,
        *,
        outside: bool,
        world: WorldProcess | None,
    ) -> None:
        self.plan = plan
        self._world = world
        self.index = device
        self.name = list(plan.schedule.device)[device]
        self.sensor = next(i for i, s in enumerate(plan.sensors) if s.device == device)
        self.actuator = next((i for i, a in enumerate(plan.actuators) if a.device == device), -1)
        self.home = plan.sensors[self.sensor].home
        self.is_guest = self.home == "thread" and outside
        """it runs in a thread of the process that started this one"""
        self.core_path = core.segment.path
        self.path = store.sensor_path(self.core_path, self.sensor)
        self.process: Process | None = None
        self.is_attached = False
        self.again_at_s = 0.0
        self._thread: WorkerThread | None = None
        self._lock = DeviceLock(self.name, plan.drivers[self.name].address, plan.schedule.name)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.order_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._control: socket.socket | None = None
        spec = plan.sensors[self.sensor]
        rc = lib.inphase_worker_make(
            self.path.encode(), spec.dtype.itemsize, spec.depth, core.epoch, mode, gid
        )
        if rc < 0:
            raise store.no_segment(self.path, spec.depth * spec.dtype.itemsize, rc)
        self._segment = store.Segment.attach(self.path)
        core.worker(
            device, self._segment, self.wake_fd, self.order_fd if self.actuator >= 0 else -1
        )

    def start(self, enable: bool) -> None:
        """Start the worker; `wait_ready` says when its device is there."""
        if self.is_guest:
            return
        if self.home == "thread":
            eventfds = self.wake_fd, self.order_fd
            self._thread = WorkerThread(self.plan, self.name, self.core_path, *eventfds)
            self._thread.start(enable)
            return
        with contextlib.ExitStack() as stack:
            self._control, theirs = control_line()
            stack.enter_context(theirs)
            fds = [self.wake_fd, self.order_fd, theirs.fileno()]
            options = ["--enable"] * enable
            if self._world is not None:
                options += ["--stand-ins", ",".join(self._world.stand_ins)]
                if self.name in self._world.stand_ins:
                    line = stack.enter_context(self._world.connect(self.name))
                    options += ["--world", str(line.fileno())]
                    fds.append(line.fileno())
            path = str(self.plan.schedule.path)
            self.process = Process(
                f"worker of {self.name}",
                "inphase.worker",
                [path, self.name, self.core_path, *map(str, fds[:3]), *options],
                pass_fds=fds,
            )

    def ask(self, what: str) -> None:
        """Ask the worker to `enable` or `disable`, and wait. Raises DeviceError."""
        if self._thread is not None:
            self._thread.ask(what)
            return
        assert self._control is not None
        ask(self._control, self.name, what)

    def end_process(self) -> None:
        """After the process has ended, or to end it."""
        if self.process is not None:
            self.process.stop()
            self.process = None
        if self._control is not None:
            self._control.close()
            self._control = None

    def close(self) -> None:
        """End the worker and remove its segment."""
        if self._thread is not None:
            self._thread.close()
        self.end_process()
        self._segment.close()
        Path(self.path).unlink(missing_ok=True)
        os.close(self.wake_fd)
        os.close(self.order_fd)
        self._lock.close()


class Workers:
    """All workers of one runtime. Thread: the supervisor's.

    outside: drivers of home `thread` run in the process that started this one. Raises DeviceError
    (a device that is in use) and StoreError (no room).
    """

    def __init__(
        self,
        plan: Plan,
        core: Core,
        say: Callable[[str], None],
        *,
        mode: int,
        gid: int,
        outside: bool,
        world: WorldProcess | None = None,
    ) -> None:
        self._say = say
        self._enable = False
        self.links: list[WorkerLink] = []
        self._states: dict[int, int] = {}
        try:
            for device, home in enumerate(plan.homes):
                if home != "cycle":
                    link = WorkerLink(plan, core, device, mode, gid, outside=outside, world=world)
                    self.links.append(link)
        except BaseException:
            self.close()
            raise

    def start(self, core: Core, observe: bool) -> None:
        """Start all, and wait until their devices are there. Raises RuntimeFault, DeviceError."""
        self._enable = not observe
        for link in self.links:
            link.start(self._enable and link.actuator >= 0)
        for link in self.links:
            if link.process is not None:
                link.process.wait_ready()
            self._attach(link, core)

    def _attach(self, link: WorkerLink, core: Core) -> None:
        if link.actuator >= 0 and self._enable:
            core.enable(link.actuator, True)
        core.attach(link.index, -1)
        link.is_attached = True

    @property
    def pidfds(self) -> list[int]:
        """Of the processes that run: readable when one has ended."""
        return [
            link.process.pidfd
            for link in self.links
            if link.process is not None and link.process.ended() is None
        ]

    def tend(self, core: Core, reader: store.Reader) -> None:
        """Called now and then: notice ends, start again, say what is lost and what is back."""
        for link in self.links:
            if link.process is None:
                if link.home == "process" and time.monotonic() >= link.again_at_s:
                    link.start(enable=False)
                continue
            how = link.process.ended()
            if how is not None:
                self._lose(link, core, how)
            elif not link.is_attached and link.process.is_ready():
                core.attach(link.index, -1)
                link.is_attached = True
        for link in self.links:
            self._tell_state(link, core, reader)

    def _lose(self, link: WorkerLink, core: Core, how: str) -> None:
        if link.is_attached:
            self._say(f"the worker of {link.name} ended ({how}); it is started again")
            core.detach(link.index)
            link.is_attached = False
            if link.actuator >= 0:
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
            if link.actuator >= 0:
                core.enable(link.actuator, False)
            self._say(f"device {link.name} is gone")
        elif facts["state"] == lib.INPHASE_WORKER_RUNNING:
            self._say(f"device {link.name} is back; motion needs to be armed again")

    def arm(self, core: Core, observe: bool) -> None:
        """Enable what came back. Raises DeviceError."""
        for link in self.links:
            if not link.is_attached or not core.attached(link.index):
                raise DeviceError(f"device {link.name} is still gone: nothing is armed")
            if link.actuator >= 0 and not observe:
                if not link.is_guest:  # whoever has it has enabled it
                    link.ask("enable")
                core.enable(link.actuator, True)

    def switch_off(self, core: Core, actuators: list[int]) -> None:
        """Take power away from actuators that are at rest, until they are armed again; those of
        guests have gone on without. Raises DeviceError."""
        for link in self.links:
            if link.actuator in actuators and link.is_attached and not link.is_guest:
                core.enable(link.actuator, False)
                link.ask("disable")

    def disable(self, plan: Plan) -> None:
        """After the cycle thread has ended: what `on_stop` says."""
        for link in self.links:
            if link.actuator < 0 or plan.actuators[link.actuator].schedule.on_stop != "off":
                continue
            if link.is_attached and not link.is_guest:
                link.ask("disable")

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
