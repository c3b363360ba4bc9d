"""The servos' driver against the contract, with the emulator as the bus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase.testing import DriverContract
from inphase_drivers.dynamixel import Servos
from peers import robot_schedule
from servo_peers import ServoBusPeer

pytestmark = pytest.mark.real


class ServosPeer(ServoBusPeer):
    """DYNAMIXEL servos."""

    mark = "current", 2.69e-3
    baud = 8, 3, 6

    def __init__(self, folder: Path) -> None:
        super().__init__(robot_schedule(folder, "wire_time = true"))
        self.options["watchdog_ms"] = 400
        for servo in range(6):  # slow: 4 s for the way on which the watchdog stops it
            self.put(112, 20, servo)

    def forget(self) -> None:
        fast = self.options.get("read", "fast") == "fast"
        self.arm(fault="unknown", instruction=0x8A if fast else 0x82)


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
