"""GPIO lines of a kernel driver, and the registers behind them.

Debian's kernels have no simulated GPIO chip. The emulated machine has 1 MB of plain memory in bar 2
of a PCI function; the kernel's driver for an ACCES PCI-IDIO-16 card, whose registers are there, is
told to take it. So the lines are those of a real driver, and the test reads and writes the
registers that the card would have: byte 0 and 4 are outputs 0 to 15, byte 1 and 5 inputs 16 to 31.
"""

import re
from collections.abc import Iterator

import pytest
from guest import Card, gpio_card

from inphase._core import lib
from inphase.errors import DeviceError
from inphase.runtime.gpio import Line
from inphase.schedule.tables import GpioLine

gpiod = pytest.importorskip("gpiod", reason="libgpiod's Python binding (gpiod) is not installed")

OUTPUT, INPUT, OUTPUT_HIGH = 0, 1, 4
"""registers"""


@pytest.fixture
def card() -> Iterator[Card]:
    """The card's chip and its registers."""
    with gpio_card() as found:
        yield found


def test_a_trigger_line_is_set_in_the_register_and_no_other(card: Card) -> None:
    with Line("cam", GpioLine(chip=card.chip, line=3)) as line:
        assert card.registers[OUTPUT] == 0
        for _ in range(20):
            line.set(True)
            assert card.registers[OUTPUT] == 1 << 3
            line.set(False)
            assert card.registers[OUTPUT] == 0


def test_the_cores_own_call_sets_the_lines_of_a_request(card: Card) -> None:
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT)
    config = {(2, 5, 8): settings}
    with gpiod.request_lines(card.chip, consumer="inphase test", config=config) as lines:
        assert lib.inphase_gpio_set(lines.fd, 0b111, 0b101) == 0
        assert (card.registers[OUTPUT], card.registers[OUTPUT_HIGH]) == (1 << 2, 1)
        assert lib.inphase_gpio_set(lines.fd, 0b010, 0b010) == 0
        assert (card.registers[OUTPUT], card.registers[OUTPUT_HIGH]) == (1 << 2 | 1 << 5, 1)
        assert lib.inphase_gpio_set(lines.fd, 0b111, 0) == 0
        assert (card.registers[OUTPUT], card.registers[OUTPUT_HIGH]) == (0, 0)


def test_a_line_belongs_to_one_at_a_time(card: Card) -> None:
    with (
        Line("cam", GpioLine(chip=card.chip, line=3)),
        pytest.raises(DeviceError, match="in use by somebody else"),
    ):
        Line("other", GpioLine(chip=card.chip, line=3))
    Line("other", GpioLine(chip=card.chip, line=3)).close()


def test_a_line_that_the_chip_does_not_have_is_refused(card: Card) -> None:
    where = re.escape(f"sensor.cam.trigger_line: line 32 of {card.chip}: no such line")
    with pytest.raises(DeviceError, match=where):
        Line("cam", GpioLine(chip=card.chip, line=32))


def test_an_input_follows_its_register(card: Card) -> None:
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.INPUT)
    with gpiod.request_lines(card.chip, consumer="inphase test", config={21: settings}) as lines:
        for level in (1, 0, 1):
            card.registers[INPUT] = level << 5
            assert lines.get_value(21).value == level
