"""The CAN drives' driver against the contract, on an emulated slcan adapter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import test_canopen
from inphase.testing import DriverContract, Peer
from inphase_drivers.canopen import Drives

pytestmark = pytest.mark.real


class DrivesPeer(Peer):
    """Two emulated drives behind an adapter on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self.drives = test_canopen.Peer(folder, "slcan")
        self.options = self.drives.options | {"watchdog_ms": 800}

    @property
    def place(self) -> str:
        return str(self.options["channel"])

    def silence(self) -> None:
        for node in test_canopen.NODES:
            self.drives.node(node, faults=["silent"] * 100_000)

    def disguise(self) -> None:
        self.drives.node(1, object=[0x1000, 0, 0x00010191])  # an I/O module

    def heal(self) -> None:
        for node in test_canopen.NODES:
            self.drives.node(node, faults=[])
        self.drives.node(1, object=[0x1000, 0, 0x00020192])

    def unplug(self) -> None:
        self.drives.control(port=False)

    def replug(self) -> None:
        self.drives.control(port=True)

    def asked(self) -> int:
        return max(int(node["syncs"]) for node in self.drives.control().values())

    def speed(self) -> float:
        return max(abs(node["velocity"]) for node in self.drives.control().values())


class TestDrives(DriverContract):
    driver = Drives
    homes = ("process",)
    replugs = 3
    reach = 20.0

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[DrivesPeer]:
        peer = DrivesPeer(tmp_path)
        with peer.drives.emulator:
            yield peer
