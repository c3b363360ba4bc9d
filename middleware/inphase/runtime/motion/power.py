"""Which actuators have power, and taking it away: `on_estop` in a run, `on_stop` at its end. Then
what became of each: its rest, and whether its torque is on.

An actuator that was ever enabled counts as powered until its driver has verified that it is off.
Each is switched off on its own: the trouble of one keeps no other on.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from inphase.core.core import Core
from inphase.errors import InphaseError
from inphase.plan.plan import Plan

_AGAIN_S = 1.0  # between two attempts after an emergency stop


class Switches(Protocol):
    """The devices of one home. Methods raise InphaseError for what stays on."""

    @property
    def actuators(self) -> list[int]:
        """All that it has."""

    @property
    def powered(self) -> list[int]:
        """Actuators that were enabled, and are not known to have been switched off since."""

    def switch_off(self, core: Core, actuator: int) -> None:
        """While the cycle runs: take power away, until it is armed again."""

    def switch_off_at_end(self, core: Core, actuator: int) -> None:
        """After the cycle has ended, or where it never began: the same, at its last chance."""

    def torque(self, core: Core, actuator: int) -> tuple[bool | None, ...]:
        """After the cycle has ended: per channel, read from the device; empty: not known."""


class Power:
    """The power of one runtime's actuators. Thread: the supervisor's."""

    def __init__(
        self,
        plan: Plan,
        core: Core,
        homes: list[Switches],
        say: Callable[[str], None],
        *,
        observes: bool = False,
    ) -> None:
        self._observes = observes
        self._plan = plan
        self._core = core
        self._homes = homes
        self._say = say
        self._told: dict[int, str] = {}
        self._off: set[int] = set()  # at the end, by drivers that verify it
        self._refused: set[int] = set()  # at the end, by drivers that failed
        self._again_s = 0.0
        self._is_over = False

    def follow(self, is_stopped: bool) -> None:
        """Called now and then. is_stopped: there was an emergency stop, and its ramp is over.
        Actuators with `on_estop = "limp"` are then switched off, until it works."""
        if not is_stopped:
            self._told.clear()
            self._again_s = 0.0
            return
        wanted = [i for i, a in enumerate(self._plan.actuators) if a.schedule.on_estop == "limp"]
        if time.monotonic() < self._again_s or not self._powered(wanted):
            return
        off = []
        for home, actuator in self._powered(wanted):
            try:
                home.switch_off(self._core, actuator)
                off.append(self._name(actuator))
            except Exception as error:
                self._tell(actuator, f"is not switched off yet: {error}")
        self._again_s = time.monotonic() + _AGAIN_S
        if off:
            self._say(f"switched off: {', '.join(off)}")

    def end(self) -> None:
        """Once the cycle has ended, however that was; another call does nothing."""
        if self._is_over:
            return
        self._is_over = True
        wanted = [i for i, a in enumerate(self._plan.actuators) if a.schedule.on_stop != "hold"]
        self._told.clear()
        for home, actuator in self._powered(wanted):
            if not self._may_let_go(actuator):
                self._tell(actuator, "holds: it did not reach the end of its path to park")
                continue
            try:
                home.switch_off_at_end(self._core, actuator)
                self._off.add(actuator)
            except Exception as error:
                self._refused.add(actuator)
                self._tell(actuator, f"may still be powered, switch it off by hand: {error}")

    def _may_let_go(self, actuator: int) -> bool:
        """True if nothing falls that is to be put down first."""
        one = self._plan.actuators[actuator].schedule
        return one.on_stop == "brake" or one.park is None or self._core.parked(actuator) == "done"

    def tell_rests(self, actuators: dict[str, dict[str, Any]]) -> None:
        """After `end`, into the summary of every actuator: its declared rest and the one that was
        reached, the outcome of its path (None: it has none), and its torque."""
        for index, one in enumerate(() if self._observes else self._plan.actuators):
            actuators[one.name]["rest"] = self._rest(index)

    def _rest(self, actuator: int) -> dict[str, Any]:
        one = self._plan.actuators[actuator].schedule
        torque = self._torque(actuator)
        reached = {"on": "hold", "off": "brake" if one.on_stop == "brake" else "limp"}
        if self._core.loose(actuator) and torque != "off":
            reached = {}
        return {
            "declared": one.on_stop,
            "reached": reached.get(torque, "unknown"),
            "park": self._core.parked(actuator) if one.park is not None else None,
            "torque": torque,
        }

    def _torque(self, actuator: int) -> str:
        """Of all its channels: "on", "off" or "part". Where nobody read it back it is "unknown",
        and "refused" after a driver that did not switch it off."""
        read: tuple[bool | None, ...] = ()
        for home in self._homes:
            if actuator in home.actuators:
                with contextlib.suppress(InphaseError):
                    read = home.torque(self._core, actuator)
        if actuator in self._off and not read:
            return "off"
        if not read or None in read:
            return "refused" if actuator in self._refused else "unknown"
        return "part" if len(set(read)) > 1 else "on" if read[0] else "off"

    def _powered(self, wanted: list[int]) -> list[tuple[Switches, int]]:
        return [(home, one) for home in self._homes for one in home.powered if one in wanted]

    def _name(self, actuator: int) -> str:
        return self._plan.actuators[actuator].name

    def _tell(self, actuator: int, text: str) -> None:
        if text != self._told.get(actuator):
            self._told[actuator] = text
            self._say(f"actuator {self._name(actuator)} {text}")
