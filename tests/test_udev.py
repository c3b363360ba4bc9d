"""`inphase udev`: rules for a schedule's ports, judged by udev itself where it is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from inphase.command import check, udev
from inphase.command.cli import cli
from inphase.errors import DeviceError

# of `udevadm info --export-db`: a U2D2, two adapters that share a number, one without, a camera
FTDI = """P: /devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/ttyUSB0/tty/ttyUSB0
N: ttyUSB0
E: DEVNAME=/dev/ttyUSB0
E: SUBSYSTEM=tty
E: ID_VENDOR_ID=0403
E: ID_MODEL_ID=6014
E: ID_SERIAL_SHORT=FT4NRSFK
E: ID_USB_INTERFACE_NUM=00
E: ID_USB_DRIVER=ftdi_sio
E: ID_PATH=pci-0000:00:14.0-usb-0:2:1.0
"""
CH340 = """P: /devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/ttyUSB{n}/tty/ttyUSB{n}
E: DEVNAME=/dev/ttyUSB{n}
E: SUBSYSTEM=tty
E: ID_VENDOR_ID=1a86
E: ID_MODEL_ID={model}
E: ID_USB_INTERFACE_NUM=00
E: ID_USB_DRIVER=ch341-uart
E: ID_PATH=pci-0000:00:14.0-usb-0:{n}:1.0
"""
CAMERA = """E: DEVNAME=/dev/video{n}
E: SUBSYSTEM=video4linux
E: ID_VENDOR_ID=046d
E: ID_MODEL_ID=0825
E: ID_SERIAL_SHORT=5A6B
E: ID_USB_INTERFACE_NUM=00
E: ID_V4L_CAPABILITIES={can}
E: ID_PATH=pci-0000:00:14.0-usb-0:5:1.0
"""
SHARED = "E: ID_SERIAL_SHORT=0001\n"
DATABASE = "\n".join(
    (
        FTDI,
        CH340.format(n=1, model=7523),
        CH340.format(n=2, model=5523) + SHARED,
        CH340.format(n=3, model=5523) + SHARED,
        CAMERA.format(n=0, can=":capture:"),
        CAMERA.format(n=1, can=":"),
        "E: DEVNAME=/dev/ttyS0\nE: SUBSYSTEM=tty\n",
        "E: DEVNAME=/dev/sda\nE: SUBSYSTEM=block\n",
    )
)


def rules(path: str) -> udev.KnownPort:
    return udev.port_of("arm", path, "inphase/robot/arm", udev.nodes_in(DATABASE))


def test_a_port_with_a_serial_number_is_known_by_it_in_any_socket() -> None:
    port, timer = rules("/dev/ttyUSB0").rules
    assert 'ENV{ID_SERIAL_SHORT}=="FT4NRSFK"' in port and "ID_PATH" not in port
    assert port.startswith('SUBSYSTEM=="tty", ENV{ID_VENDOR_ID}=="0403", ENV{ID_MODEL_ID}=="6014"')
    assert port.endswith('MODE="0660", ENV{ID_MM_DEVICE_IGNORE}="1", SYMLINK+="inphase/robot/arm"')
    assert timer.endswith('DRIVER=="ftdi_sio", ATTR{latency_timer}="1"')


@pytest.mark.parametrize(
    ("number", "told"),
    [(1, "no serial"), (2, "/dev/ttyUSB2 and /dev/ttyUSB3 have one serial number")],
)
def test_a_port_without_a_number_of_its_own_is_known_by_its_socket(number: int, told: str) -> None:
    port = rules(f"/dev/ttyUSB{number}")
    assert f'ENV{{ID_PATH}}=="pci-0000:00:14.0-usb-0:{number}:1.0"' in port.rules[0]
    assert "ID_SERIAL_SHORT" not in port.rules[0] and len(port.rules) == 1
    assert f"{told}: known by its USB socket, leave it in there" in port.about


def test_a_cameras_rule_takes_the_node_that_captures() -> None:
    (rule,) = rules("/dev/video0").rules
    assert 'ENV{ID_V4L_CAPABILITIES}==":capture:"' in rule and 'GROUP="video"' in rule


def test_what_is_no_port_is_refused_with_its_device() -> None:
    with pytest.raises(DeviceError, match=r"device arm: udev knows /dev/sda as no serial port"):
        rules("/dev/sda")


SCHEDULE = """
name = "robot"
[cycle]
rate_hz = 100
read_deadline_us = 4000
act_us = 5000
[device.arm]
driver = "feetech"
port = "{port}"
ids = [1]
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 30
"""


def asked(tmp_path: Path, port: str, *options: str) -> tuple[int, str]:
    path = tmp_path / "robot.toml"
    path.write_text(SCHEDULE.format(port=port))
    done = CliRunner().invoke(cli, ["udev", str(path), "--folder", str(tmp_path), *options])
    return (getattr(done.exception, "exit_code", done.exit_code), f"{done.output}{done.exception}")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What udevadm is asked for; its database is that of a machine with a terminal as a port."""
    calls = []

    def ask(*arguments: str) -> str:
        calls.append(arguments)
        place = os.path.realpath("/dev/null")
        return f"E: DEVNAME={place}\nE: SUBSYSTEM=tty\n" if "info" in arguments else ""

    monkeypatch.setattr(udev, "_ask", ask)
    return calls


def test_a_look_changes_nothing_and_an_installation_is_read_by_udev(
    tmp_path: Path, known: list[tuple[str, ...]]
) -> None:
    code, said = asked(tmp_path, "/dev/null")
    file = tmp_path / "70-inphase-robot.rules"
    assert (code, file.exists(), known) == (0, False, [("info", "--export-db")])
    assert f"{file} would be; nothing was changed: --install writes it" in said
    assert '[device.arm]  port = "/dev/inphase/robot/arm"' in said
    code, said = asked(tmp_path, "/dev/null", "--install")
    assert code == 0 and ("control", "--reload") in known and ("settle",) in known
    assert file.read_text() in said
    asks = len(known)
    code, said = asked(tmp_path, "/dev/null", "--install")
    assert (code, len(known)) == (0, asks + 1), "nothing was left to do"
    assert "is like that already" in said


@pytest.mark.parametrize(
    ("port", "options", "told"),
    [
        ("/dev/ttyUSB77", (), "device arm: /dev/ttyUSB77 is not there; plug it in, or say where"),
        ("/tmp/pty", (), "no device of robot has a port below /dev, so it needs no rule"),
        ("/tmp/pty", ("--port", "leg=/dev/null"), "no device 'leg'; it has: arm"),
    ],
)
def test_a_port_that_cannot_have_a_rule_is_told(
    tmp_path: Path, known: list[tuple[str, ...]], port: str, options: tuple[str, ...], told: str
) -> None:
    code, said = asked(tmp_path, port, *options)
    assert code != 0 and told in said


UDEV = shutil.which("udevadm")
TTY = Path("/sys/class/tty/ttyS0")


@pytest.mark.skipif(
    UDEV is None or not TTY.exists() or os.geteuid() != 0, reason="needs udevadm, ttyS0 and root"
)
@pytest.mark.parametrize("path", ["/dev/ttyUSB0", "/dev/ttyUSB2", "/dev/ttyS0"])
def test_udev_itself_takes_the_rules_and_gives_the_name(tmp_path: Path, path: str) -> None:
    """On a real port, which a rule before gives the facts of the one that is meant."""
    nodes = udev.nodes_in(DATABASE)
    facts = {key: nodes[path][key] for key in nodes[path] if key.startswith("ID_")}
    sets = "".join(f', ENV{{{key}}}="{value}"' for key, value in facts.items())
    tmp_path.joinpath("69-facts.rules").write_text(f'KERNEL=="ttyS0"{sets}\n' if sets else "")
    tmp_path.joinpath("70-ours.rules").write_text(udev.rules_of("robot", [rules(path)]))
    script = (
        f"mkdir -p /run/udev/rules.d && mount --bind {tmp_path} /run/udev/rules.d && "
        f"udevadm test --action=add {TTY} 2>&1"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no namespace for mounts: {done.stderr}")
    about_ours = [line for line in done.stdout.splitlines() if "70-ours.rules:" in line]
    print(done.stdout)
    assert any(re.search(r"LINK 'inphase/robot/arm'", line) for line in about_ours)
    assert any("MODE 0660" in line for line in about_ours)
    assert not [line for line in about_ours if "nvalid" in line or "nknown" in line]


@pytest.mark.parametrize("port", ["/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_U2D2-if00"])
def test_a_check_says_which_port_has_no_name_that_stays(tmp_path: Path, port: str) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(SCHEDULE.format(port=port))
    told = f"device arm: {port} may be another device after a new start"
    notes = check.make(path).facts()["notes"]
    assert any(note.startswith(told) for note in notes) == port.startswith("/dev/tty")
