"""Emulated servos on a pseudo-terminal, as the drivers' contract wants a device: any protocol."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from inphase.testing import Peer
from peers import EmulatorProcess


class ServoBusPeer(Peer):
    """Six of them. Their samples say their own numbers, in one of their fields."""

    mark: ClassVar[tuple[str, float]]
    """that field, and a count of it in SI"""
    baud: ClassVar[tuple[int, int, int]]
    """the register of the rate; a wrong value, the right one"""

    def __init__(self, schedule: Path) -> None:
        self.emulator = EmulatorProcess().start(schedule)
        self.options: dict[str, Any] = tomllib.loads(schedule.read_text())["device"]["arm"]
        del self.options["driver"]
        self.arm(set={"marks": True})

    def arm(self, **request: Any) -> dict[str, Any]:
        """Ask the emulator's control channel."""
        return self.emulator.control({"device": "arm", **request})

    def put(self, address: int, value: int, servo: int = 2) -> None:
        """Set a register of one servo."""
        self.arm(set={"register": {"servo": servo, "address": address, "value": value}})

    def silence(self) -> None:
        self.arm(fault="silent", count=-1)

    def spoil(self) -> None:
        self.arm(fault="garble", count=-1)

    def stall(self) -> None:
        self.arm(fault="stall")

    def flood(self, count: int) -> int:
        return int(self.arm(flood=count, samples=True)["samples"][-1][1])

    def taken_ns(self, value: Mapping[str, NDArray[Any]]) -> int:
        samples = dict(self.arm(samples=True)["samples"])
        name, count = self.mark
        return min(int(samples[number]) for number in np.rint(value[name] / count))

    def disguise(self) -> None:
        register, wrong, _ = self.baud
        self.put(register, wrong)

    def heal(self) -> None:
        register, _, right = self.baud
        self.put(register, right)
        self.arm(fault="clear")

    def unplug(self) -> None:
        self.arm(fault="close")

    def replug(self) -> None:
        self.arm(fault="reopen")

    def asked(self) -> int:
        return int(self.arm()["counters"]["requests"])

    def mute(self) -> None:
        self.arm(fault="off", servo=1)

    def power(self) -> list[bool]:
        return [bool(one) for one in self.arm()["torque"]]

    def speed(self) -> float:
        return max(abs(velocity) for velocity in self.arm()["velocity"])
