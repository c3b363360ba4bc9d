"""Serial ports: what is set on a pseudo-terminal, and an FTDI adapter's latency timer in a tree of
files as sysfs has them."""

import grp
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase.devices.serial_port import (
    Character,
    Port,
    check_character,
    check_latency_timer,
    hand_over,
    keep_others_out,
    open_port,
)
from inphase.errors import DeviceError, ScheduleError
from inphase.plan.declarations import make_driver
from inphase.schedule import Schedule, load
from inphase.serial_sensor import SerialOptions

NOBODY = 65534
becomes_a_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
PLACES = ("class/tty/ttyUSB0/device/latency_timer", "bus/usb-serial/devices/ttyUSB0/latency_timer")


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: the device's end, and the port's path."""
    device, port = pty.openpty()
    yield device, os.ttyname(port)
    os.close(port)
    os.close(device)


def timer(sysfs: Path, place: str, text: str) -> Path:
    """Write a latency timer as the kernel's driver shows it."""
    path = sysfs / place
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_latency_timer_that_is_not_1_is_refused_with_file_and_rule(
    tmp_path: Path, place: str
) -> None:
    path = timer(tmp_path, place, "16\n")
    with pytest.raises(DeviceError) as refused:
        check_latency_timer("arm", "/dev/ttyUSB0", tmp_path)
    text = str(refused.value)
    assert f"device arm: {path} is 16 (ms), needed is 1" in text
    assert f"echo 1 > {path}" in text
    assert 'DRIVER=="ftdi_sio", ATTR{latency_timer}="1"' in text


@pytest.mark.parametrize("place", PLACES)
def test_a_latency_timer_of_1_and_an_adapter_without_one_pass(tmp_path: Path, place: str) -> None:
    check_latency_timer("arm", "/dev/ttyUSB0", tmp_path)
    timer(tmp_path, place, "1\n")
    check_latency_timer("arm", "/dev/ttyUSB0", tmp_path)
    check_latency_timer("arm", "/dev/ttyACM0", tmp_path)


def test_a_latency_timer_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / PLACES[0]).mkdir(parents=True)
    with pytest.raises(DeviceError, match="cannot be read: Is a directory"):
        check_latency_timer("arm", "ttyUSB0", tmp_path)


def test_a_port_is_held_by_one(line: tuple[int, str]) -> None:
    _, path = line
    said = f"cannot open {path}: .*; process {os.getpid()} has it open: stop that first"
    with open_port("arm", path, 1_000_000), pytest.raises(DeviceError, match=said):
        open_port("arm", path, 1_000_000)
    open_port("arm", path, 1_000_000).close()


def test_a_port_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"device arm: cannot open .*is it plugged in"):
        open_port("arm", str(tmp_path / "ttyUSB9"), 1_000_000)


def as_a_user(call: Callable[[], object]) -> str:
    """The DeviceError of a call by a user without a group or a right, in a process of its own."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            call()
        except DeviceError as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        text = pipe.read().decode()
    assert os.waitpid(child, 0) == (child, 0)
    return text


@pytest.mark.parametrize("name", ["/dev/null", "a file"])
def test_what_is_no_serial_port_is_refused_as_such(tmp_path: Path, name: str) -> None:
    path = Path(name) if name.startswith("/") else tmp_path / "run.log"
    path.touch()
    with pytest.raises(DeviceError, match="it is no serial port; `inphase ports` lists"):
        open_port("arm", str(path), 1_000_000)


@becomes_a_user
@pytest.mark.parametrize("name", ["dialout", "uucp"])
def test_a_port_of_another_group_is_refused_with_the_command_that_gives_the_right(
    line: tuple[int, str], name: str
) -> None:
    os.chown(line[1], 0, grp.getgrnam(name).gr_gid)
    Path(line[1]).chmod(0o660)
    said = as_a_user(lambda: open_port("arm", line[1], 115_200))
    assert f"device arm: cannot open {line[1]}: [Errno 13]" in said
    assert f"the group {name} may use it: sudo usermod -aG {name} $USER, then log in again" in said
    assert "plugged in" not in said


@becomes_a_user
@pytest.mark.parametrize(("group", "mode"), [("dialout", 0o600), ("root", 0o660)])
def test_a_port_that_no_group_may_use_is_refused_with_the_command_that_gives_it_to_one(
    line: tuple[int, str], group: str, mode: int
) -> None:
    os.chown(line[1], 0, grp.getgrnam(group).gr_gid)
    Path(line[1]).chmod(mode)
    said = as_a_user(lambda: open_port("arm", line[1], 115_200))
    assert f"sudo chgrp dialout {line[1]} && sudo chmod g+rw {line[1]}" in said


@becomes_a_user
def test_a_can_adapter_on_a_port_of_another_group_is_refused_likewise(
    line: tuple[int, str],
) -> None:
    bus = pytest.importorskip("inphase_drivers.canopen.bus", reason="needs the extra can")
    os.chown(line[1], 0, grp.getgrnam("dialout").gr_gid)
    Path(line[1]).chmod(0o660)
    arguments = {"interface": "slcan", "channel": f"{line[1]}@115200", "bitrate": 1_000_000}
    said = as_a_user(lambda: bus.Bus("drives", arguments, print))
    assert "sudo usermod -aG dialout $USER" in said


def test_an_empty_line_says_so_instead_of_reading_as_none(line: tuple[int, str]) -> None:
    device, path = line
    with open_port("arm", path, 1_000_000) as port:
        fd = hand_over(port)
        with pytest.raises(BlockingIOError):
            os.read(fd, 16)
        os.write(device, b"\x00\xff\n")
        assert os.read(fd, 16) == b"\x00\xff\n"
        assert termios.tcgetattr(fd)[6][termios.VMIN] == 1


def test_a_port_without_a_low_latency_mode_opens(
    line: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, path = line
    # a pseudo-terminal has no TIOCGSERIAL, like the drivers of some adapters
    monkeypatch.setattr("inphase.devices.serial_port.os.ttyname", lambda _: "/dev/ttyUSB0")
    with open_port("arm", path, 1_000_000) as port:
        os.write(device, b"\x01\n")
        assert port.read(2) == b"\x01\n"


OPEN = "import os, sys; os.setuid(65534); os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)"


def may_open(path: str) -> bool:
    """Whether another user, who has the right to, can open a port."""
    Path(path).chmod(0o666)
    code = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, check=False)
    return code.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, who is not root")
def test_a_terminal_that_is_held_cannot_be_opened_by_others_until_it_is_closed(
    line: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = line[1]
    port = Port(path, 115_200)
    keep_others_out(port.fileno())
    assert may_open(path)  # a pseudo-terminal is left alone
    monkeypatch.setattr("inphase.devices.serial_port.os.ttyname", lambda _: "/dev/ttyUSB0")
    keep_others_out(port.fileno())
    assert not may_open(path)
    port.close()
    assert may_open(path)


@pytest.mark.parametrize(
    ("wanted", "bits"),
    [(Character(), 10), (Character(7, "E"), 10), (Character(8, "O", 2), 12), (Character(5), 7)],
)
def test_a_character_has_its_bits_on_the_line(wanted: Character, bits: int) -> None:
    assert wanted.bits == bits


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(Character(8, "E"), "8N1"), (Character(8, "M", 2), "8N2"), (Character(7), "8N1")],
)
def test_a_port_that_cannot_do_it_is_refused_with_what_it_does(
    line: tuple[int, str], wanted: Character, found: str
) -> None:
    """The kernel gives a pseudo-terminal no parity, and 8 bits."""
    path = line[1]
    with open_port("arm", path, 9600, character=wanted) as port:
        with pytest.raises(DeviceError, match=f"{path} stays at {found} and cannot do {wanted}"):
            check_character("arm", path, port.fileno(), wanted)
        check_character("arm", path, port.fileno(), Character(stopbits=wanted.stopbits))


@pytest.mark.parametrize(
    ("name", "parity", "mark", "odd"),
    [
        ("E", True, False, False),
        ("O", True, False, True),
        ("S", True, True, False),
        ("M", True, True, True),
    ],
)
def test_parity_has_pyserials_names(
    monkeypatch: pytest.MonkeyPatch, name: str, parity: bool, mark: bool, odd: bool
) -> None:
    """As pyserial sets the flags, so they are read: caught on the way to the kernel, which drops
    them of a pseudo-terminal."""
    device, end = pty.openpty()
    asked: list[Any] = []
    real = termios.tcsetattr

    def note(fd: int, when: int, settings: list[Any]) -> None:
        asked.append(list(settings))
        real(fd, when, settings)

    with monkeypatch.context() as patch:
        patch.setattr(termios, "tcsetattr", note)
        open_port("arm", os.ttyname(end), 9600, character=Character(7, name, 2)).close()
        patch.setattr(termios, "tcgetattr", lambda _: asked[0])
        check_character("arm", "port", end, Character(7, name, 2))
    flags = asked[0][2]
    assert bool(flags & termios.PARENB) == parity
    assert bool(flags & 0o10000000000) == mark
    assert bool(flags & termios.PARODD) == odd
    os.close(end)
    os.close(device)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('parity = "even"', 'parity: .*got \'even\'; give "N" or "E" or "O" or "M" or "S"$'),
        ("stopbits = 3", "stopbits: .*got 3; give 1 or 2$"),
        ("stopbits = 1.5", "stopbits: .*got 1.5; give 1 or 2$"),
        ("bytesize = 9", "bytesize: .*got 9; give 5 or 6 or 7 or 8$"),
    ],
)
def test_keys_of_the_line_take_what_pyserial_takes(tmp_path: Path, given: str, said: str) -> None:
    schedule = load_gauge(tmp_path, given)
    with pytest.raises(ScheduleError, match=rf"device\.q\.{said}"):
        make_driver(schedule, "q")
    good = load_gauge(tmp_path, 'bytesize = 7\nparity = "E"\nstopbits = 2')
    options = make_driver(good, "q").options
    assert isinstance(options, SerialOptions)
    assert (str(options.character), options.char_ns) == ("7E2", 11 * 1_000_000_000 // 115_200)


def load_gauge(folder: Path, keys: str) -> Schedule:
    """A schedule whose device q has these keys."""
    path = folder / "q.toml"
    path.write_text(
        'name = "q"\n[cycle]\nrate_hz = 50\nread_deadline_us = 9000\nact_us = 9500\n'
        'realtime = "prefer"\n[device.q]\ndriver = "inphase_drivers.examples:ModbusGauge"\n'
        f'port = "/dev/q"\n{keys}\n'
        '[sensor.q]\ndevice = "q"\ntrigger_us = 0\nmax_age_ms = 60\n'
    )
    return load(path)
