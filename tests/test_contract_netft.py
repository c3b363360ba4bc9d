"""The force-torque sensor's driver against the contract, with the emulator as the sensor."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase.testing import DriverContract, Peer
from inphase_drivers.ati import NetFT
from peers import EmulatorProcess, robot_schedule

pytestmark = pytest.mark.real


class NetFTPeer(Peer):
    """An emulated sensor on loopback."""

    def __init__(self, folder: Path) -> None:
        schedule = robot_schedule(folder)
        self.emulator = EmulatorProcess().start(schedule)
        self.options = tomllib.loads(schedule.read_text())["device"]["wrist"]
        del self.options["driver"]

    def wrist(self, **request: Any) -> dict[str, Any]:
        return self.emulator.control({"device": "wrist", **request})

    def silence(self) -> None:
        self.wrist(fault="silent", count=-1)

    def spoil(self) -> None:
        self.wrist(fault="short", count=-1, arg=20)

    def disguise(self) -> None:
        self.wrist(fault="short", count=-1, arg=35)  # something else answers at this port

    def heal(self) -> None:
        self.wrist(fault="clear")

    def unplug(self) -> None:
        self.wrist(fault="close")

    def replug(self) -> None:
        self.wrist(fault="reopen")

    def asked(self) -> int:
        return int(self.wrist()["counters"]["requests"])


class TestNetFT(DriverContract):
    driver = NetFT

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[NetFTPeer]:
        peer = NetFTPeer(tmp_path)
        yield peer
        peer.emulator.stop()
