"""The devices of a running robot: locked, opened, enabled, lost and brought back.

Everything here runs off the cycle thread. A device is handed to the core by `Core.attach`; from
then on only the cycle thread reads and writes it, until it is lost or given back.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from inphase.core.core import Core
from inphase.devices.first_opening import FirstOpening
from inphase.driver import Driver
from inphase.errors import DeviceError, RuntimeFault
from inphase.frames.record_layout import REASONS
from inphase.host.locks import DeviceLock
from inphase.plan.plan import Plan
from inphase.runtime.guarding.guard import Given, GuardProcess
from inphase.runtime.motion.driver_calls import DriverCalls

_RETRY_S = 0.25
_TELL_TRIES = 4  # in which a device that is away refuses with the same words; then they are told
_HAND_OVER_S = 2.0
_WHY = {errno.ECOMM: ": bus-off", errno.ETIMEDOUT: ": its bus takes no frame"}

T = TypeVar("T")


def _file_of(fd: int) -> tuple[int, int] | None:
    """The file behind a descriptor; None: it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Link:
    """One device's connection. Its methods raise DeviceError for whatever the driver raises."""

    def __init__(self, index: int, driver: Driver, robot: str, lock: DeviceLock) -> None:
        self.index = index
        self.driver = driver
        self._robot = robot
        self._lock = lock
        self.fd = -1
        self._file: tuple[int, int] | None = None
        self._first = FirstOpening()
        self._calls = DriverCalls(driver)
        self.actuator: int | None = None
        self.is_powered = False
        """whether it was enabled, and is not known to have been switched off since"""
        self.stands = False
        """whether its `engage` is still to be called"""
        self.is_engaged = False
        self.trouble = ""
        """why the device does not come back, beside its absence"""
        self._reopening: threading.Thread | None = None
        self._stopped = threading.Event()

    def call(self, what: str, method: Callable[[], T]) -> T:
        """Call the driver; see `DriverCalls.call`."""
        return self._calls.call(what, method)

    def open(self) -> None:
        """Open and check the device."""
        fd = self.call("open", self.driver.open)
        try:
            self._first.check(self.driver)
        except DeviceError:
            self.call("close", self.driver.close)
            raise
        self.fd = fd
        self._file = _file_of(self.fd)

    def is_open(self) -> bool:
        """True if the descriptor is still the one that `open` gave: not closed by the driver since,
        and perhaps somebody else's by now."""
        return self._file is not None and _file_of(self.fd) == self._file

    @property
    def hangs(self) -> str:
        """The call from which the driver has not returned; empty: there is none."""
        return self._calls.hangs

    def enable(self) -> tuple[float, ...]:
        """Let the driver enable it; from the attempt on it counts as powered. The goals at which it
        holds."""
        self.is_powered = True
        self.call("enable", self.driver.enable)
        return self.call("enable", self.driver.goals)

    def engage(self, core: Core) -> None:
        """Let the driver begin what it begins under the core's commands. Raises DeviceError."""
        assert self.actuator is not None
        self.stands = False
        self.is_engaged = True
        self.call("engage", self.driver.engage)
        core.enable(self.actuator, True)

    def disengage(self) -> None:
        """Let the driver end that. Raises DeviceError."""
        if self.is_engaged:
            self.is_engaged = False
            self.call("disengage", self.driver.disengage)

    def disable(self) -> None:
        """Let the driver disable it, which verifies that."""
        self.call("disable", self.driver.disable)
        self.is_powered = False

    def is_gone(self) -> DeviceError:
        """The error for a device that is needed and away."""
        return DeviceError(f"device {self.driver.name} ({self.driver.address}) is gone")

    def start_reopening(self) -> None:
        """Close, and try to open again in the background until it works.

        The lock is given up and taken anew: a device that comes back may have another address,
        and its old one may be somebody else's by then.
        """
        self.fd = -1
        self.stands = self.is_engaged = False  # its close ends what goes on
        self._reopening = threading.Thread(target=self._reopen, daemon=True)
        self._reopening.start()

    def _reopen(self) -> None:
        try:
            # here: a serial port waits until what was written is out
            self.call("close", self.driver.close)
        except DeviceError as error:
            self.trouble = str(error)
        while self.hangs:  # the port is the driver's until it returns
            if self._stopped.wait(_RETRY_S):
                return
        self._lock.close()
        trouble, tries = "", 0
        while not self._stopped.wait(_RETRY_S):
            try:
                self._open_again()
            except Exception as error:
                tries = tries + 1 if str(error) == trouble else 1
                trouble = str(error)
                if tries == _TELL_TRIES:
                    self.trouble = f"device {self.driver.name} does not come back: {trouble}"
            else:
                return

    def _open_again(self) -> None:
        self._lock = DeviceLock(self.driver.name, self.driver.address, self._robot)
        try:
            self.open()
        except DeviceError:
            self._lock.close()
            raise

    def open_once_more(self) -> None:
        """At the end of a run: one last attempt at a device that is away."""
        if self._reopening is None:
            self.start_reopening()
        self._stopped.set()
        assert self._reopening is not None
        self._reopening.join(_HAND_OVER_S)
        if self._reopening.is_alive():
            raise self.is_gone()
        if self.is_back():
            return
        try:
            self._open_again()
        except (DeviceError, OSError) as error:
            raise self.is_gone() from error

    def is_back(self) -> bool:
        """True if the device was opened again; true once."""
        if self._reopening is None or self._reopening.is_alive():
            return False
        self._reopening = None
        return self.fd >= 0

    @property
    def reopening(self) -> bool:
        """True if the device is being waited for."""
        return self._reopening is not None

    def close(self) -> None:
        """End the waiting, close and unlock."""
        self._stopped.set()
        if self._reopening is not None:
            self._reopening.join(_HAND_OVER_S)
        try:
            self.call("close", self.driver.close)
        finally:
            if not self.hangs:  # else its lock ends with the process: the driver may write yet
                self._lock.close()


class Devices:
    """All devices of one runtime. Thread: the supervisor's. locks: by device, from now on theirs
    who have the device."""

    def __init__(
        self, plan: Plan, locks: Mapping[str, DeviceLock], say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._told: dict[int, str] = {}
        self._plan = plan
        self.guard: GuardProcess | None = None
        """who stops the actuators when this process cannot; it has their descriptors first"""
        self.links: list[Link] = []
        try:
            for index, driver in enumerate(plan.drivers.values()):
                if plan.homes[index] != "cycle":
                    continue
                self.links.append(Link(index, driver, plan.schedule.name, locks[driver.name]))
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

    def _link_of(self, actuator: int) -> Link:
        return next(link for link in self.links if link.actuator == actuator)

    def start(self, core: Core, observe: bool) -> None:
        """Enable the actuators and hand every device to the core, before its thread starts."""
        for link in self.links:
            if link.actuator is not None and not observe:
                goals = link.enable()
                self._give(link, core)
                self._let_move(link, goals, core)
            core.attach(link.index, link.fd)

    def _give(self, link: Link, core: Core) -> None:
        """Give the guard an actuator's descriptor, and wait for its word. Raises RuntimeFault."""
        if self.guard is not None and link.actuator is not None:
            self.guard.give(Given(link.actuator, link.driver.name, link.fd))
            core.guarded(link.actuator, True)

    def tend(self, core: Core) -> None:
        """Called now and then: notice losses, hand over devices that came back.

        Any trouble with a device is its own. It is reported once, and the device is closed and
        opened again.
        """
        for link in self.links:
            try:
                self._tend(link, core)
                trouble, link.trouble = link.trouble, ""
            except Exception as error:
                trouble = str(error)
                if not link.reopening:
                    link.start_reopening()
            if trouble and trouble != self._told.get(link.index):
                self._told[link.index] = trouble
                self._say(trouble)

    def _tend(self, link: Link, core: Core) -> None:
        if link.is_back():
            self._give(link, core)
            core.attach(link.index, link.fd)
            self._told.pop(link.index, None)
            latched = (
                "; motion needs to be armed again"
                if link.index in self._plan.motion_devices
                else ""
            )
            self._say(f"device {link.driver.name} is back{latched}")
        elif not link.reopening and (error := core.lost(link.index)):
            self._lose(link, core, _WHY.get(error, ""))

    def _lose(self, link: Link, core: Core, why: str) -> None:
        self._say(f"device {link.driver.name} ({link.driver.address}) is gone{why}")
        try:
            if link.actuator is not None:
                core.enable(link.actuator, False)
                if self.guard is not None:  # a port that the guard has open does not come back
                    self.guard.drop(link.actuator)
                    core.guarded(link.actuator, False)
        finally:
            link.start_reopening()

    def arm(self, core: Core, observe: bool) -> None:
        """Enable what is to move. Raises DeviceError, RuntimeFault."""
        for link in self.links:
            if link.reopening:
                raise DeviceError(f"device {link.driver.name} is still gone: nothing is armed")
        for link in self.links:
            if link.actuator is None or observe:
                continue
            link.disengage()
            with self._borrowed(link, core):
                # said before it is attached: it stands, and is owed no stop
                self._let_move(link, link.enable(), core)
            self._wait_taken(link, core)

    def _let_move(self, link: Link, goals: tuple[float, ...], core: Core) -> None:
        assert link.actuator is not None
        core.holds(link.actuator, self._plan.actuators[link.actuator].turned(goals))
        link.stands = type(link.driver).engage is not Driver.engage
        core.enable(link.actuator, True, stands=link.stands)

    def engage(self, core: Core) -> None:
        """Called while motion is armed: let devices begin that wait for the core's commands. One
        that does not is told, and holds motion."""
        for link in self.links:
            if link.stands and not link.reopening and link.actuator is not None:
                try:
                    link.engage(core)
                except DeviceError as error:
                    core.enable(link.actuator, False)
                    core.latch(REASONS.index("device"))
                    self._say(f"{error}; nothing moves, arm again")

    @contextlib.contextmanager
    def _borrowed(self, link: Link, core: Core) -> Iterator[None]:
        """A device is the supervisor's meanwhile, and the core's again afterwards, whatever went
        wrong. Raises RuntimeFault."""
        core.detach(link.index)
        try:
            self._wait(lambda: core.let_go(link.index) or core.ended())
            yield
        finally:
            if link.hangs:  # it may write yet: the port is the driver's until it returns
                self._lose(link, core, f": its driver does not return from {link.hangs}")
            elif link.is_open():
                core.attach(link.index, link.fd)
            else:
                self._lose(link, core, ": its driver has closed it")

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

    # ---- power -----------------------------------------------------------------------------

    @property
    def actuators(self) -> list[int]:
        """All of these devices."""
        return [link.actuator for link in self.links if link.actuator is not None]

    @property
    def powered(self) -> list[int]:
        """Actuators that were enabled, and are not known to have been switched off since."""
        return [
            link.actuator for link in self.links if link.is_powered and link.actuator is not None
        ]

    def switch_off(self, core: Core, actuator: int) -> None:
        """Take power away from an actuator that is at rest, until it is armed again. Raises
        DeviceError, RuntimeFault."""
        link = self._link_of(actuator)
        core.enable(actuator, False)
        if link.reopening:
            raise link.is_gone()
        link.disengage()
        with self._borrowed(link, core):
            link.disable()

    def switch_off_at_end(self, core: Core, actuator: int) -> None:
        """The same after the cycle thread has ended. A device that is away is tried to be opened
        once more. Raises DeviceError."""
        link = self._link_of(actuator)
        core.enable(actuator, False)  # a cycle thread that has not ended writes nothing more to it
        if link.reopening or core.lost(link.index):
            link.open_once_more()
        link.disable()

    def torque(self, core: Core, actuator: int) -> tuple[bool | None, ...]:
        """Per channel, read from the device after the cycle thread has ended; empty: not known.
        Raises DeviceError."""
        link = self._link_of(actuator)
        if not link.is_open() or link.reopening or core.lost(link.index):
            return ()
        return link.call("torque", link.driver.torque)

    def tell_faults(self) -> None:
        """After the cycle thread has ended: say what the devices say of themselves."""
        for link in self.links:
            if link.is_open() and not link.reopening:
                try:
                    faults = link.call("faults", link.driver.faults)
                except DeviceError as error:
                    faults = [str(error)]
                for fault in faults:
                    self._say(fault)

    def close(self) -> None:
        """Close all."""
        for link in self.links:
            try:
                link.close()
            except DeviceError as error:
                self._say(str(error))
