"""The servos' driver against the contract, with the emulator as the bus."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inphase.testing import DriverContract, Peer
from inphase_drivers.dynamixel import Servos
from peers import EmulatorProcess, robot_schedule

pytestmark = pytest.mark.real


class ServosPeer(Peer):
    """Six emulated servos on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        schedule = robot_schedule(folder, "wire_time = true")
        self.emulator = EmulatorProcess().start(schedule)
        self.options = tomllib.loads(schedule.read_text())["device"]["arm"]
        del self.options["driver"]
        self.options["watchdog_ms"] = 400
        self.arm(set={"marks": True})
        for servo in range(6):  # slow: 4 s for the way on which the watchdog stops it
            self._set(112, 20, servo)

    def arm(self, **request: Any) -> dict[str, Any]:
        return self.emulator.control({"device": "arm", **request})

    def _set(self, address: int, value: int, servo: int = 2) -> None:
        self.arm(set={"register": {"servo": servo, "address": address, "value": value}})

    def silence(self) -> None:
        self.arm(fault="silent", count=-1)

    def spoil(self) -> None:
        self.arm(fault="garble", count=-1)

    def stall(self) -> None:
        self.arm(fault="stall")

    def flood(self, count: int) -> int:
        return int(self.arm(flood=count, samples=True)["samples"][-1][1])

    def taken_ns(self, value: NDArray[Any]) -> int:
        samples = dict(self.arm(samples=True)["samples"])
        return min(int(samples[number]) for number in np.rint(value["current"] / 2.69e-3))

    def disguise(self) -> None:
        self._set(8, 3)  # its register says another baud rate

    def forget(self) -> None:
        fast = self.options.get("read", "fast") == "fast"
        self.arm(fault="unknown", instruction=0x8A if fast else 0x82)

    def heal(self) -> None:
        self._set(8, 6)
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


class TestServos(DriverContract):
    driver = Servos

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[ServosPeer]:
        peer = ServosPeer(tmp_path)
        yield peer
        peer.emulator.stop()


@pytest.mark.long
class TestServosWithSyncRead(TestServos):
    homes = ("cycle",)
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[ServosPeer]:
        peer = ServosPeer(tmp_path)
        peer.options["read"] = "sync"
        yield peer
        peer.emulator.stop()
