"""`inphase ports`: the serial ports of a machine, by names that stay."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from inphase.command import ports
from inphase.driver import Driver, Scan
from inphase.errors import DeviceError
from inphase.host.locks import DeviceLock
from inphase.serial_port import open_port
from inphase_drivers.dynamixel import packet
from inphase_drivers.dynamixel.scan import scan
from peers import EmulatorProcess
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


# ---- who answers on a port -------------------------------------------------------------------

ARM = """[device.arm]
driver = "dynamixel"
port = "{port}"
baud = 1_000_000
ids = [1, 2, 7]
"""


@pytest.fixture
def silent() -> Iterator[tuple[int, str]]:
    """A terminal with nobody behind it: our descriptor, and its name."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


@contextlib.contextmanager
def emulated(folder: Path) -> Iterator[EmulatorProcess]:
    """Three servos: an XM430, an XL330, and one with a hardware error."""
    (folder / "arm.toml").write_text(ARM.format(port=folder / "port"))
    with EmulatorProcess() as emulator:
        emulator.start(folder / "arm.toml")
        for servo, address, value in ((1, 0, 1200), (2, 70, 0x20)):
            register = {"servo": servo, "address": address, "value": value}
            emulator.control({"device": "arm", "set": {"register": register}})
        yield emulator


@pytest.mark.real
@pytest.mark.long
def test_a_scan_shows_who_answers_and_what_a_schedule_says_of_them(tmp_path: Path) -> None:
    with emulated(tmp_path) as emulator:
        done = inphase("ports", "--scan", f"{tmp_path}/port")
        counters = emulator.control({"device": "arm"})["counters"]
    assert done.returncode == 0, done.stderr
    rows = [line.split()[1::2] for line in done.stdout.splitlines() if "dynamixel │" in line]
    assert rows == [
        ["dynamixel", "1", "XM430-W350", "46", "1000000"],
        ["dynamixel", "2", "XL330-M288", "46", "1000000"],
        ["dynamixel", "7", "XM430-W350", "46", "1000000"],
    ]
    assert f'port = "{tmp_path}/port"\nbaud = 1000000\nids = [1, 2, 7]\n' in done.stdout
    assert "servo 7 at 1000000 baud says that it has a hardware error" in done.stderr
    assert (counters["requests"], counters["writes"]) == (1, 0)


@pytest.mark.real
@pytest.mark.long
def test_a_scan_of_a_port_where_nothing_answers_says_what_it_asked(silent: tuple[int, str]) -> None:
    _, port = silent
    done = inphase("ports", "--scan", port, "--json")
    assert done.returncode == DeviceError.exit_code
    told = json.loads(done.stdout)
    assert (told["port"], told["found"], told["remarks"]) == (port, [], [])
    assert f"{port}: nothing answers; asked was: DYNAMIXEL broadcast ping" in done.stderr
    assert "4500000 baud; Feetech broadcast ping at 1000000," in done.stderr
    assert "38400 baud. Check that the devices have power" in done.stderr


def test_a_scan_writes_nothing_to_a_port_that_a_runtime_holds(silent: tuple[int, str]) -> None:
    ours, port = silent
    with (
        contextlib.closing(DeviceLock("arm", port, "lab")),
        pytest.raises(DeviceError, match=f"^{port} is used by robot lab, process {os.getpid()}"),
    ):
        ports.scan(port)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)


def test_a_scan_names_the_program_that_has_the_port_open(silent: tuple[int, str]) -> None:
    _, port = silent
    with (
        contextlib.closing(open_port("arm", port, 57_600)),
        pytest.raises(DeviceError, match=f"^cannot open {port}.*process {os.getpid()} has it open"),
    ):
        ports.scan(port)


def test_a_scan_of_no_port_says_how_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(
        DeviceError, match="is it plugged in\\? `inphase ports` lists those that are"
    ):
        ports.scan(f"{tmp_path}/none")


def test_what_comes_beside_answers_is_told_and_an_echo_is_not(silent: tuple[int, str]) -> None:
    ours, port = silent
    ping, answer = packet(0xFE, 0x01), packet(3, 0x55, b"\x00\xfc\x03\x2e")

    def talk() -> None:
        os.set_blocking(ours, True)
        heard = os.read(ours, 64)
        os.write(ours, heard + answer + answer[:6] + b"\x99" + answer[7:])

    peer = threading.Thread(target=talk)
    peer.start()
    told = scan(port, (1_000_000,))
    peer.join()
    assert ping.hex() == "fffffd00fe0300013142"  # the manual's example
    assert [(found.ident, found.model) for found in told.found] == [(3, "XM430-W350")]
    assert [remark.partition(":")[0] for remark in told.remarks] == [
        "14 bytes at 1000000 baud are no servo's answer"
    ]


def test_a_driver_whose_scan_fails_is_named_and_keeps_no_other_from_asking(
    silent: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Driver):
        @classmethod
        def scan(cls, port: str) -> Scan | None:
            raise ValueError(f"no table for {port}")

    class Whole(Driver):
        @classmethod
        def scan(cls, port: str) -> Scan | None:
            return Scan(f"nothing on {port}", (), ())

    monkeypatch.setattr(ports, "_drivers", lambda: {"broken": Broken, "whole": Whole})
    found = ports.scan(silent[1])
    assert "driver broken failed" in found["broken"].remarks[0]
    assert "no table for" in found["broken"].remarks[0]
    assert found["whole"].question == f"nothing on {silent[1]}"
