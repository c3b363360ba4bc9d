"""`inphase ports`: the serial ports of a machine, by names that stay."""

import json
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from inphase.command import ports
from test_run import inphase


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two ports as pyserial describes them; the adapter has a link that stays."""
    built_in, adapter = tmp_path / "ttyS0", tmp_path / "ttyUSB0"
    for device in (built_in, adapter):
        device.touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-FTDI_U2D2_FT4NRSFK-if00-port0").symlink_to(adapter)
    plain, usb = ListPortInfo(str(built_in)), ListPortInfo(str(adapter))
    usb.vid, usb.pid, usb.serial_number = 0x0403, 0x6014, "FT4NRSFK"
    usb.manufacturer, usb.product = "FTDI", "USB <-> Serial Converter"
    monkeypatch.setattr(list_ports, "comports", lambda: [plain, usb])
    monkeypatch.setattr(ports, "BY_ID", by_id)
    return tmp_path


def test_an_adapter_comes_first_by_the_name_that_stays(machine: Path) -> None:
    adapter, built_in = ports.all_ports()
    assert adapter.path == f"{machine}/by-id/usb-FTDI_U2D2_FT4NRSFK-if00-port0"
    assert adapter.device == f"{machine}/ttyUSB0"
    assert adapter.about == "FTDI USB <-> Serial Converter"
    assert (adapter.usb_id, adapter.serial_number) == ("0403:6014", "FT4NRSFK")
    assert (built_in.path, built_in.usb_id) == (f"{machine}/ttyS0", "")


def test_a_port_that_may_not_be_opened_has_its_remedy(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "missing_right", lambda path: f"the group of {path} may use it")
    assert [port.remedy for port in ports.all_ports()] == [
        f"the group of {machine}/{name} may use it" for name in ("ttyUSB0", "ttyS0")
    ]


def test_the_command_lists_what_pyserial_finds_here() -> None:
    listed = json.loads(inphase("ports", "--json").stdout)
    assert {port["device"] for port in listed} == {port.device for port in list_ports.comports()}
    done = inphase("ports")
    assert done.returncode == 0
    assert all(port["path"] in done.stdout for port in listed)
    assert listed or "no serial port" in done.stderr
