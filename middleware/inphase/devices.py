"""The devices of a running robot: locked, opened, enabled, lost and brought back.

Everything here runs off the cycle thread. A device is handed to the core by `Core.attach`; from
then on only the cycle thread reads and writes it, until it is lost or given back.
"""

import errno
import threading
import time
from collections.abc import Callable

from inphase.core import Core
from inphase.driver import Driver
from inphase.errors import DeviceError, RuntimeFault
from inphase.guard import Guard
from inphase.locks import DeviceLock
from inphase.plan import Plan

_RETRY_S = 0.25
_HAND_OVER_S = 2.0
_WHY = {errno.ECOMM: ": bus-off", errno.ETIMEDOUT: ": its bus takes no frame"}


class Link:
    """One device's connection."""

    def __init__(self, index: int, driver: Driver, robot: str) -> None:
        self.index = index
        self.driver = driver
        self._robot = robot
        self._lock = DeviceLock(driver.name, driver.address, robot)
        self.fd = -1
        self.actuator = -1
        self._reopening: threading.Thread | None = None
        self._stopped = threading.Event()

    def open(self) -> None:
        """Open and check the device. Raises DeviceError."""
        self.fd = self.driver.open()

    def start_reopening(self) -> None:
        """Close, and try to open again in the background until it works.

        The lock is given up and taken anew: a device that comes back may have another address,
        and its old one may be somebody else's by then.
        """
        self.fd = -1
        self._reopening = threading.Thread(target=self._reopen, daemon=True)
        self._reopening.start()

    def _reopen(self) -> None:
        self.driver.close()  # here: a serial port waits until what was written is out
        self._lock.close()
        while not self._stopped.wait(_RETRY_S):
            try:
                self._lock = DeviceLock(self.driver.name, self.driver.address, self._robot)
            except DeviceError:
                continue
            try:
                self.fd = self.driver.open()
            except DeviceError:
                self._lock.close()
                continue
            return

    def is_back(self) -> bool:
        """Whether the device was opened again; true once."""
        if self._reopening is None or self._reopening.is_alive():
            return False
        self._reopening = None
        return self.fd >= 0

    @property
    def reopening(self) -> bool:
        """Whether the device is being waited for."""
        return self._reopening is not None

    def close(self) -> None:
        """End the waiting, close and unlock."""
        self._stopped.set()
        if self._reopening is not None:
            self._reopening.join(_HAND_OVER_S)
        self.driver.close()
        self._lock.close()


class Devices:
    """All devices of one runtime. Thread: the supervisor's."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._say = say
        self.guard: Guard | None = None
        """who stops the actuators when this process cannot; it has their descriptors first"""
        self.links: list[Link] = []
        try:
            for index, driver in enumerate(plan.drivers.values()):
                if plan.homes[index] != "cycle":
                    continue
                self.links.append(Link(index, driver, plan.schedule.name))
            for link in self.links:
                link.open()
        except BaseException:
            self.close()
            raise
        for index, actuator in enumerate(plan.actuators):
            if actuator.home == "cycle":
                self._link(actuator.device).actuator = index

    def _link(self, device: int) -> Link:
        return next(link for link in self.links if link.index == device)

    def start(self, core: Core, observe: bool) -> None:
        """Enable the actuators and hand every device to the core, before its thread starts."""
        for link in self.links:
            if link.actuator >= 0 and not observe:
                link.driver.enable()
                self._give(link, core)
                core.enable(link.actuator, True)
            core.attach(link.index, link.fd)

    def _give(self, link: Link, core: Core) -> None:
        """Give the guard an actuator's descriptor, and wait for its word. Raises RuntimeFault."""
        if self.guard is not None and link.actuator >= 0:
            self.guard.give(link.actuator, link.driver.name, link.fd)
            core.guarded(link.actuator, True)

    def tend(self, core: Core) -> None:
        """Called now and then: notice losses, hand over what came back."""
        for link in self.links:
            if link.reopening:
                if link.is_back():
                    self._give(link, core)
                    core.attach(link.index, link.fd)
                    self._say(f"device {link.driver.name} is back; motion needs to be armed again")
            elif core.lost(link.index):
                if link.actuator >= 0:
                    core.enable(link.actuator, False)
                why = _WHY.get(core.lost(link.index), "")
                self._say(f"device {link.driver.name} ({link.driver.address}) is gone{why}")
                if self.guard is not None:  # a port that the guard has open does not come back
                    self.guard.drop(link.actuator)
                    core.guarded(link.actuator, False)
                link.start_reopening()

    def arm(self, core: Core, observe: bool) -> None:
        """Enable what is to move. Raises DeviceError, RuntimeFault."""
        for link in self.links:
            if link.reopening:
                raise DeviceError(f"device {link.driver.name} is still gone: nothing is armed")
        for link in self.links:
            if link.actuator < 0 or observe:
                continue
            self._take_back(link, core)
            try:
                link.driver.enable()
                # said before it is attached: it stands, and is owed no stop
                core.enable(link.actuator, True)
            finally:
                core.attach(link.index, link.fd)
            self._wait_taken(link, core)

    def switch_off(self, core: Core, actuators: list[int]) -> None:
        """Take power away from actuators that are at rest, until they are armed again. Raises
        DeviceError, RuntimeFault."""
        for link in self.links:
            if link.actuator not in actuators or link.reopening:
                continue
            core.enable(link.actuator, False)
            self._take_back(link, core)
            try:
                link.driver.disable()
            finally:
                core.attach(link.index, link.fd)

    def _take_back(self, link: Link, core: Core) -> None:
        """Have the core let a device go. Raises RuntimeFault."""
        core.detach(link.index)
        self._wait(lambda: core.let_go(link.index))

    def _wait_taken(self, link: Link, core: Core) -> None:
        """Wait until the core has taken a device. Raises RuntimeFault, and DeviceError where it is
        lost again already."""
        self._wait(lambda: core.attached(link.index) or core.let_go(link.index))
        if not core.attached(link.index):
            raise DeviceError(f"device {link.driver.name} is gone again: nothing is armed")

    def _wait(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + _HAND_OVER_S
        while not done():
            if time.monotonic() > until:
                raise RuntimeFault("the cycle thread does not hand the device over")
            time.sleep(0.001)

    def disable(self, plan: Plan) -> None:
        """After the cycle thread has ended: what `on_stop` says."""
        for actuator in plan.actuators:
            if actuator.home != "cycle":
                continue
            link = self._link(actuator.device)
            if actuator.schedule.on_stop == "off" and link.fd >= 0 and not link.reopening:
                link.driver.disable()

    def close(self) -> None:
        """Close all."""
        for link in self.links:
            link.close()
