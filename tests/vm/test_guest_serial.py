"""Serial lines of the kernel's own USB drivers: what pseudo-terminals are not."""

from pathlib import Path

import pytest
import serial
from guest import need


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


def test_the_latency_timer_of_an_ftdi_adapter_is_had_and_set() -> None:
    need("/sys/bus/usb-serial/devices/ttyUSB0", "FTDI adapter")
    timer = Path("/sys/bus/usb-serial/devices/ttyUSB0/latency_timer")
    timer.write_text("16")
    assert timer.read_text().strip() == "16"
    timer.write_text("1")
    assert timer.read_text().strip() == "1"
