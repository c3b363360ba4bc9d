"""GPIO trigger lines, as far as a machine without a GPIO chip goes: what is refused, and how."""

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from inphase.driver import Reading
from inphase.errors import DeviceError
from inphase.runtime.gpio import Line
from inphase.runtime.workers.sample_source import OnALine
from inphase.schedule.tables import GpioLine

gpiod = pytest.importorskip("gpiod", reason="gpiod is not installed (pip install 'inphase[gpio]')")


def test_a_chip_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"sensor.cam.trigger_line: line 17 of .*: no such dev"):
        Line("cam", GpioLine(chip=str(tmp_path / "gpiochip9"), line=17))


@pytest.mark.parametrize("path", ["/dev/null", __file__])
def test_what_is_no_chip_is_refused(path: str) -> None:
    with pytest.raises(DeviceError, match="not a GPIO chip; gpiodetect lists the chips"):
        Line("cam", GpioLine(chip=path, line=0))


def test_a_missing_binding_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(DeviceError, match=r"pip install 'inphase\[gpio\]'"):
        Line("cam", GpioLine(chip="/dev/gpiochip0", line=0))


class Recorded:
    """A line and a caller that write down what is asked of them; a chip has a test of its own."""

    latency_max_ns = 1

    def __init__(self) -> None:
        self.log: list[object] = []

    def set(self, up: bool) -> None:
        self.log.append(up)

    def read(self, sample: object, timeout_ns: int) -> Reading:
        self.log.append("read")
        raise TimeoutError

    def learn(self, sensor: object, actuator: object) -> None: ...
    def opened(self, descriptor: int) -> None: ...
    def flush(self) -> int: ...
    def write(self, command: object) -> None: ...
    def halt(self, command: object) -> None: ...
    def trigger(self) -> None: ...


def test_a_worker_lowers_the_line_when_it_has_read_whatever_came_of_it() -> None:
    both = Recorded()
    caller = OnALine(cast(Any, both), cast(Any, both))
    caller.trigger()
    with pytest.raises(TimeoutError):
        caller.read(np.zeros(()), 1)
    assert both.log == [True, "read", False]


CHIPS = sorted(Path("/dev").glob("gpiochip*"))


@pytest.mark.skipif(not CHIPS, reason="no GPIO chip here (modprobe gpio-sim, and configure one)")
def test_a_line_belongs_to_one_at_a_time() -> None:
    free = [
        GpioLine(chip=str(path), line=offset)
        for path in CHIPS
        for offset in range(gpiod.Chip(str(path)).get_info().num_lines)
        if "gpio-sim" in gpiod.Chip(str(path)).get_info().label
        and not gpiod.Chip(str(path)).get_line_info(offset).used
    ]
    if not free:
        pytest.skip("no free line of a simulated GPIO chip here")
    with Line("cam", free[0]) as line:
        assert line.fd >= 0
        line.set(True)
        line.set(False)
        with pytest.raises(DeviceError, match="in use by somebody else"):
            Line("other", free[0])
    Line("other", free[0]).close()
