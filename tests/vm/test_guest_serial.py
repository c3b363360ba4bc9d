"""Serial lines of the kernel's own USB drivers: what pseudo-terminals are not."""

from pathlib import Path

import pytest
import serial
from guest import need

from inphase.devices.serial_port import check_latency_timer, open_port
from inphase.errors import DeviceError


@pytest.fixture(autouse=True)
def _devices() -> None:
    need("/dev/ttyACM0", "USB serial gadget")


def test_bytes_cross_a_usb_cdc_line_both_ways() -> None:
    with (
        serial.Serial("/dev/ttyACM0", timeout=20) as host,
        serial.Serial("/dev/ttyGS0", timeout=20) as gadget,
    ):
        sent = bytes(range(256))
        host.write(sent)
        assert gadget.read(len(sent)) == sent
        gadget.write(sent)
        assert host.read(len(sent)) == sent


def test_a_usb_cdc_line_opens_for_a_driver() -> None:
    with open_port("arm", "/dev/ttyACM0", 1_000_000) as port:
        assert port.baudrate == 1_000_000


def test_an_ftdi_adapter_that_holds_replies_back_is_refused() -> None:
    timer = Path("/sys/bus/usb-serial/devices/ttyUSB0/latency_timer")
    need(str(timer), "FTDI adapter")
    timer.write_text("16")
    with pytest.raises(DeviceError, match=r"latency_timer is 16 \(ms\), needed is 1"):
        check_latency_timer("arm", "/dev/ttyUSB0")
    timer.write_text("1")
    check_latency_timer("arm", "/dev/ttyUSB0")


def test_opening_an_ftdi_adapter_sets_its_timer() -> None:
    timer = Path("/sys/bus/usb-serial/devices/ttyUSB0/latency_timer")
    need(str(timer), "FTDI adapter")
    timer.write_text("16")
    with open_port("arm", "/dev/ttyUSB0", 57_600) as port:
        assert port.is_open
        assert timer.read_text().strip() == "1"
