"""CAN drives on SocketCAN: the driver at one end, canopen's LocalNode as drives at the other."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from guest import CAN_PAIR, tool, wire_up

from inphase.driver import DeviceError, Reading
from peers import BOUND_S, EmulatorProcess, until

pytest.importorskip("can", reason="python-can is not installed")
pytest.importorskip("canopen", reason="canopen is not installed")

from inphase_drivers.canopen import DriveOptions, Drives

WAIT_NS = int(BOUND_S * 1e9)
NODES, SCALES = [1, 2], [10_000.0, -20_000.0]


class Peer:
    """Emulated drives at one end of a bus, and a driver for the other."""

    def __init__(self, folder: Path, theirs: str, ours: str) -> None:
        self._options = {
            "interface": "socketcan",
            "channel": ours,
            "nodes": NODES,
            "counts_per_rad": SCALES,
            # patient: what is tested is what happens, not when, in an emulated machine
            "heartbeat_ms": 200,
            "watchdog_ms": 20_000,
            "reply_max_us": 1_000_000,
            "hand_over_ms": 60_000,
            "stop_ms": 20_000,
        }
        schedule = folder / "drives.toml"
        schedule.write_text(
            f"""
[device.drives]
driver = "inphase_drivers.canopen:Drives"
interface = "socketcan"
channel = "{theirs}"
nodes = {NODES}
counts_per_rad = {SCALES}
"""
        )
        self.emulator = EmulatorProcess().start(schedule)
        self.driver = Drives("drives", msgspec.convert(self._options, DriveOptions))

    def nodes(self) -> list[dict[str, Any]]:
        """What each node says of itself."""
        return list(self.emulator.control({"device": "drives"})["nodes"].values())


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Peer]:
    """Each on a controller, with a wire between them."""
    with wire_up():
        peer = Peer(tmp_path, *CAN_PAIR)
        with peer.emulator:
            yield peer


def once(driver: Drives) -> tuple[Reading, Any]:
    """One trigger and its sample."""
    spec = driver.sensor()
    assert spec is not None
    sample = np.zeros((), [(f.name, f.dtype, f.shape) for f in spec.fields])
    driver.trigger()
    return driver.read(sample, WAIT_NS), sample


def test_each_sync_gives_one_sample_and_commands_move_the_joints(wire: Peer) -> None:
    driver = wire.driver
    driver.open()
    try:
        driver.start()
        for _ in range(50):
            reading, sample = once(driver)
            assert reading.reason == ""
            assert np.isfinite(sample["position"]).all()
        assert driver.flush() == 0
        assert [node["syncs"] for node in wire.nodes()] == [50, 50]

        driver.enable()
        target = np.array([0.05, -0.1])

        def arrived() -> bool:
            reading, sample = once(driver)
            assert reading.reason == ""
            driver.write(target)
            return bool(np.allclose(sample["position"], target, atol=1e-3))

        until(arrived)
        driver.disable()
    finally:
        driver.close()
    assert [node["position"] for node in wire.nodes()] == pytest.approx([0.05, -0.1], abs=1e-3)


def test_a_bus_that_is_taken_down_is_gone_and_comes_back(wire: Peer) -> None:
    driver = wire.driver
    channel = driver.options.channel
    ip = tool("ip", "iproute2")
    driver.open()
    try:
        driver.start()
        assert once(driver)[0].reason == ""
        subprocess.run([ip, "link", "set", channel, "down"], check=True)
        with pytest.raises(DeviceError, match=channel):
            once(driver)
        driver.close()
        subprocess.run([ip, "link", "set", channel, "up"], check=True)
        driver.open()
        driver.start()
        assert once(driver)[0].reason == ""
    finally:
        driver.close()
