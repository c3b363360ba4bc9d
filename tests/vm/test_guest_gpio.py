"""GPIO lines of a kernel driver, and the registers behind them.

Debian's kernels have no simulated GPIO chip. The emulated machine has 1 MB of plain memory in bar 2
of a PCI function; the kernel's driver for an ACCES PCI-IDIO-16 card, whose registers are there, is
told to take it. So the lines are those of a real driver, and the test reads and writes the
registers that the card would have: byte 0 and 4 are outputs 0 to 15, byte 1 and 5 inputs 16 to 31.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest import need

gpiod = pytest.importorskip("gpiod", reason="libgpiod's Python binding (gpiod) is not installed")

DRIVER = Path("/sys/bus/pci/drivers/pci-idio-16")
VENDOR, DEVICE = "1b36", "0010"
OUTPUT, INPUT = 0, 1


def function() -> Path | None:
    """The PCI function with the memory."""
    for path in Path("/sys/bus/pci/devices").glob("*"):
        ids = [path.joinpath(name).read_text().strip() for name in ("vendor", "device")]
        if ids == [f"0x{VENDOR}", f"0x{DEVICE}"]:
            return path
    return None


@pytest.fixture(scope="module")
def card() -> Iterator[tuple[str, mmap.mmap]]:
    """The chip's device file, and its registers."""
    need(str(DRIVER), "driver for a GPIO card")
    found = function()
    if found is None:
        pytest.skip(f"no PCI function {VENDOR}:{DEVICE} here: run `make vm-test`")
    if not found.joinpath("driver").exists():
        DRIVER.joinpath("new_id").write_text(f"{VENDOR} {DEVICE}")
    chip = next(found.glob("gpiochip*")).name
    with (
        found.joinpath("resource2").open("r+b", buffering=0) as bar,
        mmap.mmap(bar.fileno(), mmap.PAGESIZE) as registers,
    ):
        yield f"/dev/{chip}", registers


def test_a_line_set_through_the_kernel_is_set_in_the_register(
    card: tuple[str, mmap.mmap],
) -> None:
    chip, registers = card
    on, off = gpiod.line.Value.ACTIVE, gpiod.line.Value.INACTIVE
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT, output_value=off)
    with gpiod.request_lines(chip, consumer="inphase test", config={3: settings}) as lines:
        for _ in range(20):
            lines.set_value(3, on)
            assert registers[OUTPUT] == 1 << 3
            lines.set_value(3, off)
            assert registers[OUTPUT] == 0


def test_an_input_follows_its_register(card: tuple[str, mmap.mmap]) -> None:
    chip, registers = card
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.INPUT)
    with gpiod.request_lines(chip, consumer="inphase test", config={21: settings}) as lines:
        for level in (1, 0, 1):
            registers[INPUT] = level << 5
            assert lines.get_value(21).value == level
