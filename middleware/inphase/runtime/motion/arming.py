"""The local reset: a robot that is at rest, or latched, is let move again."""

import time
from collections.abc import Callable

from inphase.core.core import Core
from inphase.errors import RuntimeFault
from inphase.frames import store
from inphase.frames.record_layout import STATES
from inphase.plan.plan import Plan
from inphase.runtime.attached_devices import Devices
from inphase.runtime.events import Events
from inphase.runtime.words import state_messages
from inphase.runtime.workers.worker_supervisor import Workers

_LOOK_S = 0.002
_ARMED = ("armed", "running", "ramping")
_REST_S = 1.5  # in which a ramp has ended: longer ones are cut, or refused with the schedule
_GRANT_S = 2.0  # in which feedback has come that is good enough to be armed on


class Arming:
    """Arms one robot. Thread: the supervisor's.

    events: where a grant is told; say: where it is said why not; observes: this run moves nothing.
    """

    def __init__(
        self,
        plan: Plan,
        core: Core,
        reader: store.Reader,
        *,
        devices: Devices,
        workers: Workers,
        events: Events,
        say: Callable[[str], None],
        observes: bool,
    ) -> None:
        self._plan = plan
        self._core = core
        self._reader = reader
        self._devices = devices
        self._workers = workers
        self._tell = events.tell
        self._say = say
        self._observes = observes

    def tend(self) -> None:
        """Called now and then: see to the devices, and let those begin that wait to be armed."""
        self._devices.tend(self._core)
        if self.state in ("armed", "running"):
            self._devices.engage(self._core)

    def arm(self, estops: int | None = None) -> bool:
        """The local reset: enable devices, and let motion start again once all is well.

        estops: so many emergency stops are known to whoever asks; one more wins. May take seconds,
        in which nothing is live. False: motion was armed already. Raises DeviceError, RuntimeFault:
        nothing is armed then.
        """
        if self._observes or not self._plan.actuators:
            raise RuntimeFault("nothing is armed: this run moves nothing")
        if self._is_armed():
            self._say("nothing is latched: motion is armed already")
            return False
        if pressed := self._reader.status()["estop"] & 0xFFFF:
            raise RuntimeFault(f"nothing is armed: {state_messages.pressed(self._plan, pressed)}")
        known = self._reader.status()["estops"] if estops is None else estops
        if not self._wait(lambda: self.state != "ramping", _REST_S):
            raise RuntimeFault("nothing is armed: a ramp has not come to rest; try again")
        self._wait(lambda: not self._moving(), _REST_S)
        if moving := self._moving():
            raise RuntimeFault(f"nothing is armed: {state_messages.moving(self._plan, moving[0])}")
        self._workers.arm(self._core, False)
        self._devices.arm(self._core, False)
        self._core.beat()
        self._core.arm_after(known)
        if not self._wait(self._is_armed, _GRANT_S, lambda: self._estops() != known):
            self._core.disarm()
            raise RuntimeFault(f"nothing is armed: {self._obstacle(known)}")
        self._tell("armed: motion starts from where the robot is")
        return True

    def _estops(self) -> int:
        return self._reader.status()["estops"]

    def _moving(self) -> list[int]:
        """The actuators that are measured to move: they are left to the core, which tells them to
        stop."""
        return [i for i in range(len(self._plan.actuators)) if self._core.moves(i)]

    @property
    def state(self) -> str:
        """One of STATES."""
        return STATES[self._reader.status()["state"]]

    def _is_armed(self) -> bool:
        status = self._reader.status()
        return not status["latched"] and STATES[status["state"]] in _ARMED

    def _wait(
        self,
        done: Callable[[], bool],
        timeout_s: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> bool:
        """True if that was so within the time, before the run was over or it was given up."""
        until_s = time.monotonic() + timeout_s
        while not done():
            if self._core.ended() or given_up() or time.monotonic() > until_s:
                return False
            self._core.beat()
            time.sleep(_LOOK_S)
        return True

    def _obstacle(self, estops: int) -> str:
        """Why arming is not granted, for a person."""
        status = self._reader.status()
        if status["estops"] != estops:
            return "an emergency stop came while it was being armed; arm again"
        return state_messages.obstacle(self._plan, status)
