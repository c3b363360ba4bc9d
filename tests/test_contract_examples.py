"""The example drivers, a streaming IMU and a Modbus gauge, against the contract and others."""

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from numpy.typing import NDArray

from inphase import packets
from inphase.driver import DeviceError
from inphase.serial_sensor import SerialOptions
from inphase.testing import DriverContract
from inphase.testing.rig import Rig
from inphase_drivers.examples import ModbusGauge, StreamingImu
from inphase_drivers.examples.imu import RAD_S
from modbus_servers import modbus_server
from peers import BOUND_S, ROOT
from script_peers import ModedPeer

pytestmark = [pytest.mark.real, pytest.mark.long]


class ExamplePeer(ModedPeer):
    """An emulated example device in a process of its own."""

    driver: ClassVar[str]

    def program(self, folder: Path) -> list[str]:
        schedule = folder / "device.toml"
        driver = f"inphase_drivers.examples:{self.driver}"
        schedule.write_text(f'[device.one]\ndriver = "{driver}"\nport = "{folder}/port"\n')
        return ["-m", "inphase_drivers.examples.emulator", str(schedule), "--control"]

    forget = ModedPeer.silence  # it knows one question, or none

    def taken(self, number: int) -> int:
        """When sample `number` was taken."""
        found = int(self.tell(f"taken {number}"))
        if found < 0:
            raise KeyError(number)
        return found


class ImuPeer(ExamplePeer):
    driver = "StreamingImu"

    def taken_ns(self, value: NDArray[Any]) -> int:
        return self.taken(round(float(value["gyro"][0]) / RAD_S) % 65536)


class GaugePeer(ExamplePeer):
    driver = "ModbusGauge"

    def asked(self) -> int:
        return int(self.tell("asked"))

    def pause(self) -> None:
        """From now on it falls silent in the middle of each answer."""
        self.tell("pause")

    def taken_ns(self, value: NDArray[Any]) -> int:
        return self.taken(round(float(value["torque"]) * 1e3))


class TestStreamingImu(DriverContract):
    driver = StreamingImu
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[ImuPeer]:
        peer = ImuPeer(tmp_path)
        yield peer
        peer.close()


class TestModbusGauge(DriverContract):
    driver = ModbusGauge
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[GaugePeer]:
        peer = GaugePeer(tmp_path)
        yield peer
        peer.close()

    def test_a_pause_in_an_answer_is_refused_and_never_a_value(
        self, running: Rig, device: GaugePeer
    ) -> None:
        with running.run() as robot:
            robot.status("FRESH")
            device.pause()
            bad = robot.status("INVALID")
            assert bad.reason in {"checksum", "size"}
            for sample in robot.samples(10):
                # whoever is held up for the whole pause sees none, and has the whole answer
                is_whole = sample.status in {"FRESH", "RECOVERING"}
                assert is_whole or sample.status in {"INVALID", "LATE", "MISSING"}
                assert device.taken_ns(sample.value) <= time.monotonic_ns(), "it was sent"
            device.heal()
            assert robot.status("FRESH").sequence > bad.sequence

    def test_an_answer_is_received_with_its_last_byte(
        self, running: Rig, device: GaugePeer
    ) -> None:
        """The silence that ends it is no part of the way."""
        exchange = running.driver.sensor().exchange  # type: ignore[union-attr]
        assert exchange is not None
        with running.run() as robot:
            for _ in range(5):
                frame = robot.frame(lambda frame: frame["device"].status == "FRESH", "FRESH")
                received_ns = frame["device"].received_ns
                assert received_ns is not None and frame.latched_ns is not None
                assert frame.latched_ns - received_ns >= exchange.framing.idle_ns


@pytest.mark.parametrize("module", ["imu", "gauge"])
def test_an_example_is_shorter_than_forty_lines(module: str) -> None:
    text = (ROOT / "drivers" / "inphase_drivers" / "examples" / f"{module}.py").read_text()
    assert len(text.splitlines()) <= 40


SERVER = """
import sys
from pymodbus.server import StartSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

data = SimData(int(sys.argv[2]), values=[1.5, 21.25, 0.0, 0.0], datatype=DataType.FLOAT32)
StartSerialServer(SimDevice(1, simdata=[data]), port=sys.argv[1], baudrate=115200)
"""


def opened(driver: ModbusGauge) -> int:
    """Open it, as soon as the server is up. Raises DeviceError."""
    end_s = time.monotonic() + BOUND_S
    while True:
        try:
            return driver.open()
        except DeviceError as error:
            if "no answer" not in str(error) or time.monotonic() > end_s:
                raise


def test_the_gauge_reads_a_device_of_pymodbus() -> None:
    pytest.importorskip("pymodbus", reason="pymodbus is not installed")
    with modbus_server(SERVER, "0") as port:
        driver = ModbusGauge("gauge", SerialOptions(port=port))
        fd = opened(driver)
        exchange = driver.sensor().exchange
        assert exchange is not None
        parser = packets.Parser(exchange, 2)
        for _ in range(5):
            os.write(fd, exchange.request)
            values = None
            while values is None:
                idle_ns = parser.idle_ns
                if select.select([fd], [], [], BOUND_S if idle_ns is None else idle_ns / 1e9)[0]:
                    values = parser.feed(os.read(fd, 4096))
                else:
                    values = parser.end()
            assert values == [1.5, 21.25]
        driver.close()


def test_a_refusal_of_pymodbus_is_told_by_its_code() -> None:
    pytest.importorskip("pymodbus", reason="pymodbus is not installed")
    with modbus_server(SERVER, "100") as port:  # it has no register 0: illegal data address
        driver = ModbusGauge("gauge", SerialOptions(port=port))
        with pytest.raises(DeviceError, match=r"device \(2\) in its reply"):
            opened(driver)
