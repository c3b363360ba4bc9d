"""Robotiq grippers: the driver on the emulator and on a device of pymodbus, and clients of somebody
else on the emulator."""

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyrobotiqgripper
import pytest
from pymodbus.client import ModbusSerialClient

from inphase import packets
from inphase.driver import DeviceError
from inphase.testing import DriverContract, Peer
from inphase_drivers.robotiq import Gripper, GripperOptions
from modbus_servers import modbus_server
from peers import BOUND_S, EmulatorProcess, until

STROKE = 0.085
COUNT = STROKE / 255
SCHEDULE = """
[emulator]
module = "inphase_drivers.emulator"
wire_time = {wire_time}
[device.gripper]
driver = "robotiq"
port = "{folder}/gripper"
model = "2F-85"
"""


class GripperPeer(Peer):
    """An emulated gripper on a port of its own."""

    def __init__(self, folder: Path, *, wire_time: bool = False) -> None:
        path = folder / "robot.toml"
        path.write_text(SCHEDULE.format(folder=folder, wire_time=str(wire_time).lower()))
        self.emulator = EmulatorProcess().start(path)
        self.options = {"port": f"{folder}/gripper", "model": "2F-85", "activate": True}

    def gripper(self, **request: Any) -> dict[str, Any]:
        """Ask the emulator's control channel."""
        return self.emulator.control({"device": "gripper", **request})

    def silence(self) -> None:
        self.gripper(silent=True)

    def spoil(self) -> None:
        self.gripper(garble=True)

    def heal(self) -> None:
        self.gripper(silent=False, garble=False, object=None, fault=0)

    def unplug(self) -> None:
        self.gripper(port=False)

    def replug(self) -> None:
        self.gripper(port=True)

    def asked(self) -> int:
        return int(self.gripper()["asked"])

    def speed(self) -> float:
        return abs(self.gripper()["speed"]) * COUNT

    def power(self) -> list[bool]:
        return [bool(self.gripper()["command"][0] & 0x08)]


@pytest.mark.real
@pytest.mark.long
class TestRobotiq(DriverContract):
    driver = Gripper
    reach, rest = 0.06, 0.005

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[GripperPeer]:
        peer = GripperPeer(tmp_path, wire_time=True)
        peer.gripper(active=True)
        yield peer
        peer.emulator.stop()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GripperPeer]:
    """One process for the tests of this file."""
    peer = GripperPeer(tmp_path_factory.mktemp("gripper"))
    yield peer
    peer.emulator.stop()


@pytest.fixture
def peer(started: GripperPeer) -> GripperPeer:
    """A gripper that has its power since now."""
    started.heal()
    started.gripper(power=False)
    return started


def driver_of(options: dict[str, Any]) -> Gripper:
    return Gripper("gripper", msgspec.convert(options, GripperOptions))


def opened(driver: Gripper) -> float:
    """The opening that it measures, by what every cycle asks."""
    exchange = driver.sensor().exchange
    assert exchange is not None
    parser = packets.Parser(exchange, 4)
    assert driver._serial is not None
    status = driver._ask(exchange.request, exchange.replies[0])
    values = parser.feed(status)
    assert values is not None
    return values[0]


# ---- bytes -----------------------------------------------------------------------------------


def test_the_manuals_requests_are_made_byte_for_byte() -> None:
    # Robotiq 2F-85 instruction manual, "Modbus RTU example": status, and close at full speed, force
    driver = driver_of({"port": "/dev/null", "model": "2F-85", "force": 1.0})
    exchange = driver.sensor().exchange
    assert exchange is not None
    assert exchange.request.hex() == "090307d00003040e"
    close = packets.encode(driver.actuator().encoding, [0.0])
    assert close.hex() == "091003e8000306090000ffffff4229"
    full = packets.encode(driver.actuator().encoding, [STROKE])
    assert full.hex() == "091003e800030609000000ffff7219"


def test_zero_metres_is_closed_and_limits_beyond_are_not_taken() -> None:
    driver = driver_of({"port": "/dev/null", "model": "2F-140"})
    (bound,) = driver.actuator().bounds
    assert (bound.low, bound.high) == pytest.approx((0.0, 0.140), abs=0.0004)
    assert "metres of opening, 0 is closed and 0.14 is open" in bound.where


# ---- clients of somebody else ----------------------------------------------------------------


@pytest.mark.real
def test_the_package_pyrobotiqgripper_moves_the_emulated_gripper(peer: GripperPeer) -> None:
    client = pyrobotiqgripper.RobotiqGripper(com_port=peer.options["port"])
    try:
        client.connect()
        client.activate()
        assert client.isActivated()
        client.start()
        client.move(120)
        assert client.position() == 120
        assert round(peer.gripper()["position"]) == 120
        peer.gripper(object=180)
        client.close()
        assert client.position() == 180
        assert client.objectDetection() == 2
    finally:
        client.disconnect()
    assert peer.gripper()["activations"] == 1


@pytest.mark.real
def test_a_modbus_client_reads_and_writes_its_registers(peer: GripperPeer) -> None:
    client = ModbusSerialClient(peer.options["port"], baudrate=115_200)
    assert client.connect()
    try:
        assert client.read_input_registers(2000, count=3, device_id=9).registers[0] == 0
        assert client.read_holding_registers(3000, count=1, device_id=9).exception_code == 2
        assert client.write_registers(1000, [0x0100, 0], device_id=9).count == 2
        both = client.readwrite_registers(
            read_address=2000, read_count=3, write_address=1000, values=[0x0100], device_id=9
        )
        assert len(both.registers) == 3
        until(
            lambda: client.read_holding_registers(2000, count=1, device_id=9).registers[0] == 0x3100
        )
    finally:
        client.close()


# ---- a device of somebody else ---------------------------------------------------------------

# an active gripper at count 100 that follows a goal of 100
SERVER = """
import sys
from pymodbus.server import StartSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

data = [SimData(1000, values=[0, 0, 0], datatype=DataType.REGISTERS),
        SimData(2000, values=[0x3900, 0x0064, 0x6405], datatype=DataType.REGISTERS)]
StartSerialServer(SimDevice(9, simdata=data), port=sys.argv[1], baudrate=115200)
"""


@pytest.mark.real
def test_a_device_of_pymodbus_is_read_and_written() -> None:
    with modbus_server(SERVER) as port:
        driver = driver_of({"port": port, "model": "2F-85"})
        fd = open_soon(driver)
        try:
            driver.enable()
            assert driver.goals() == pytest.approx((STROKE - 100 * COUNT,))
            exchange, encoding = driver.sensor().exchange, driver.actuator().encoding
            assert exchange is not None
            assert encoding is not None
            parser = packets.Parser(exchange, 4)
            for _ in range(5):
                # its confirmation comes before the reply, and is none
                parser.owe()
                os.write(fd, packets.encode(encoding, [0.03]))
                until(lambda: bool(select.select([fd], [], [], 0)[0]))
                time.sleep(0.02)  # it takes no request that follows at once
                os.write(fd, exchange.request)
                values = None
                while values is None:
                    assert select.select([fd], [], [], BOUND_S)[0]
                    values = parser.feed(os.read(fd, 4096))
                assert values == pytest.approx(
                    [STROKE - 100 * COUNT, 0.05, 0, STROKE - 100 * COUNT]
                )
            assert parser.answered == 5
        finally:
            driver.close()


def open_soon(driver: Gripper) -> int:
    """Open it, as soon as the server is up. Raises DeviceError."""
    end_s = time.monotonic() + BOUND_S
    while True:
        try:
            return driver.open()
        except DeviceError as error:
            if "no answer" not in str(error) or time.monotonic() > end_s:
                raise


# ---- the driver ------------------------------------------------------------------------------


@pytest.mark.real
def test_activation_is_asked_for_and_the_fingers_begin_where_they_are(peer: GripperPeer) -> None:
    shy = driver_of(peer.options | {"activate": False})
    shy.open()
    try:
        with pytest.raises(DeviceError, match=r"not activated.*opens and closes.*activate = true"):
            shy.enable()
    finally:
        shy.close()
    assert peer.gripper()["activations"] == 0

    driver = driver_of(peer.options)
    driver.open()
    try:
        driver.enable()
        assert peer.gripper()["activations"] == 1
        assert driver.goals() == pytest.approx((opened(driver),), abs=COUNT)
        driver._write(packets.encode(driver.actuator().encoding, [0.05])[:-2])
        until(lambda: abs(opened(driver) - 0.05) < COUNT)
    finally:
        driver.close()


@pytest.mark.real
def test_one_that_holds_something_keeps_its_goal(peer: GripperPeer) -> None:
    driver = driver_of(peer.options)
    driver.open()
    try:
        driver.enable()
        peer.gripper(object=100)
        driver._write(packets.encode(driver.actuator().encoding, [0.0])[:-2])
        until(lambda: round(peer.gripper()["position"]) == 100)
        driver.close()
        driver.open()
        driver.enable()
        assert driver.goals() == pytest.approx((0.0,), abs=1e-9)
        assert peer.gripper()["command"][3] == 255
        driver.disable()
        assert peer.power() == [False]
        assert round(peer.gripper()["position"]) == 100
    finally:
        driver.close()


@pytest.mark.real
def test_a_fault_is_told_by_its_name(peer: GripperPeer) -> None:
    driver = driver_of(peer.options)
    driver.open()
    try:
        driver.enable()
        peer.gripper(fault=0x0E)
        assert "over-current (gFLT is 0x0e); take out" in driver.faults()[0]
        exchange = driver.sensor().exchange
        assert exchange is not None
        with pytest.raises(DeviceError, match=r"device \(14\)"):
            driver._ask(exchange.request, exchange.replies[0])
        assert driver.meaning(14) == "over-current"
        assert "register (Modbus exception 2)" in driver.meaning(2)
        peer.gripper(fault=0x08)
        with pytest.raises(DeviceError, match="too hot"):
            driver.enable()
    finally:
        driver.close()


@pytest.mark.real
def test_who_does_not_answer_is_named_with_place_and_format(peer: GripperPeer) -> None:
    driver = driver_of(peer.options | {"unit": 5})
    with pytest.raises(DeviceError, match=r"gripper at 115200 baud, 8N1, unit 5: no answer; is it"):
        driver.open()
