"""What the guest tests share: a test names the device it needs, and skips without it."""

import fcntl
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from runtimes import Run

GUEST = os.environ.get("INPHASE_GUEST") == "1"

CAN_PAIR = ("can0", "can1")
"""Two controllers on one wire."""

# of linux/videodev2.h
_QUERYCTRL, _S_CTRL, _NEXT_CONTROL = 0xC0445624, 0xC008561C, 0x80000000
_QUERY = struct.Struct("=II32siiiiI8x")


def need(path: str, what: str) -> None:
    """Skip a test where the kernel has no such device; in the guest its absence is a failure."""
    if Path(path).exists():
        return
    if GUEST:
        pytest.fail(f"the guest has no {what}: {path} is missing")
    pytest.skip(f"no {what} here ({path} is missing): run `make vm-test`")


def tool(name: str, package: str) -> str:
    """The path of a program; skips when it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


class Robot:
    """A schedule in a folder, and beside it the modules that it names; as runtimes.Run takes it."""

    def __init__(self, folder: Path, name: str, schedule: str, **modules: str) -> None:
        self.folder = folder
        self.name = name
        self.schedule = folder / "run.toml"
        self.schedule.write_text(f'name = "{name}"\n{schedule}')
        for module, text in modules.items():
            folder.joinpath(f"{module}.py").write_text(text)

    def run(self, *options: str) -> Run:
        """Start `inphase run`."""
        return Run(self, ["-m", "inphase", "run", str(self.schedule), "--json", *options], {})


class Card(NamedTuple):
    """A GPIO card: its chip's device file, and its registers (see test_guest_gpio)."""

    chip: str
    registers: mmap.mmap


def _card_function() -> Path | None:
    """The PCI function with the memory that the card's registers are."""
    for path in Path("/sys/bus/pci/devices").glob("*"):
        ids = tuple(path.joinpath(name).read_text().strip() for name in ("vendor", "device"))
        if ids == ("0x1b36", "0x0010"):
            return path
    return None


@contextmanager
def gpio_card() -> Iterator[Card]:
    """The card, taken by its driver."""
    driver = Path("/sys/bus/pci/drivers/pci-idio-16")
    need(str(driver), "driver for a GPIO card")
    found = _card_function()
    if found is None:
        pytest.skip("no PCI function 1b36:0010 here: run `make vm-test`")
    if not found.joinpath("driver").exists():
        driver.joinpath("new_id").write_text("1b36 0010")
    with (
        found.joinpath("resource2").open("r+b", buffering=0) as bar,
        mmap.mmap(bar.fileno(), mmap.PAGESIZE) as registers,
    ):
        yield Card(f"/dev/{next(found.glob('gpiochip*')).name}", registers)


@contextmanager
def wire_up() -> Iterator[None]:
    """Both controllers up, at 500 kbit/s."""
    need(f"/sys/class/net/{CAN_PAIR[1]}", "pair of CAN controllers")
    ip = tool("ip", "iproute2")
    for name in CAN_PAIR:
        subprocess.run([ip, "link", "set", name, "down"], check=True)
        setting = ("type", "can", "bitrate", "500000", "restart-ms", "100")
        subprocess.run([ip, "link", "set", name, *setting], check=True)
        subprocess.run([ip, "link", "set", name, "up"], check=True)
    try:
        yield
    finally:
        for name in CAN_PAIR:
            subprocess.run([ip, "link", "set", name, "down"], check=True)


def vivid(port: str, name: str, value: int) -> None:
    """Set a control of the virtual camera, found by its name."""
    fd = os.open(port, os.O_RDWR)
    try:
        ident = 0
        while True:
            query = bytearray(_QUERY.pack(ident | _NEXT_CONTROL, 0, b"", 0, 0, 0, 0, 0))
            try:
                fcntl.ioctl(fd, _QUERYCTRL, query)
            except OSError:
                pytest.skip(f"this kernel's vivid has no control {name!r}")
            ident, _, label, *_ = _QUERY.unpack(query)
            if label.rstrip(b"\0").decode() == name:
                break
        fcntl.ioctl(fd, _S_CTRL, struct.pack("=Ii", ident, value))
    finally:
        os.close(fd)
