"""The CAN drives' driver against the contract, on an emulated slcan adapter."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import test_canopen
from inphase.testing import DriverContract, Peer
from inphase_drivers.canopen import Drives

pytestmark = pytest.mark.real

RATED_N_M = 1.5  # object 6076h of an emulated drive


class DrivesPeer(Peer):
    """Two emulated drives behind an adapter on a pseudo-terminal."""

    wire = "channel"

    def __init__(self, folder: Path) -> None:
        self.drives = test_canopen.Peer(folder, "slcan")
        self.options = self.drives.options | {"watchdog_ms": 1_000}
        for node in test_canopen.NODES:
            self.drives.node(node, marks=True)

    @property
    def place(self) -> str:
        return str(self.options["channel"])

    def silence(self) -> None:
        self.forget()
        for node in test_canopen.NODES:
            self.drives.node(node, mute=True)

    def forget(self) -> None:
        for node in test_canopen.NODES:  # SDOs are answered, a SYNC is not
            self.drives.node(node, faults=["silent"] * 100_000)

    def stall(self) -> None:
        self.drives.control(stall=True)

    def flood(self, count: int) -> int:
        for node in test_canopen.NODES:
            self.drives.node(node, flood=count)
        return min(samples[-1][1] for samples in self._samples())

    def taken_ns(self, value: NDArray[Any]) -> int:
        numbers = np.rint(np.abs(value["torque"]) / (RATED_N_M / 1000))
        return min(
            dict(samples)[number] for number, samples in zip(numbers, self._samples(), strict=True)
        )

    def _samples(self) -> list[list[list[int]]]:
        answer = self.drives.emulator.control({"device": "drives", "samples": True})
        return [answer["nodes"][str(node)] for node in test_canopen.NODES]

    def disguise(self) -> None:
        self.drives.node(1, object=[0x1000, 0, 0x00010191])  # an I/O module

    def heal(self) -> None:
        for node in test_canopen.NODES:
            self.drives.node(node, faults=[], mute=False)
        self.drives.control(stall=False)
        self.drives.node(1, object=[0x1000, 0, 0x00020192])

    def unplug(self) -> None:
        self.drives.control(port=False)

    def replug(self) -> None:
        self.drives.control(port=True)

    def asked(self) -> int:
        return max(int(node["syncs"]) for node in self.drives.control().values())

    def mute(self) -> None:
        self.drives.node(2, mute=True)

    def power(self) -> list[bool]:
        return [bool(node["power"]) for node in self.drives.control().values()]

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
