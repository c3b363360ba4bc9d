"""The force-torque sensor's driver against the contract, with the emulator as the sensor."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

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

    forget = silence  # its page goes on answering

    def spoil(self) -> None:
        self.wrist(fault="short", count=-1, arg=20)

    def stall(self) -> None:
        self.wrist(fault="stall")

    def flood(self, count: int) -> int:
        return int(self.wrist(flood=count, samples=True)["samples"][-1][1])

    def taken_ns(self, value: NDArray[Any]) -> int:
        counts = [round(part * 1e6) for name in ("force", "torque") for part in value[name]]
        samples = {tuple(told): asked_ns for told, asked_ns in self.wrist(samples=True)["samples"]}
        return int(samples[tuple(counts)])

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
