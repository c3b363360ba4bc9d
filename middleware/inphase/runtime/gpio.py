"""GPIO lines that trigger sensors, and those of the emergency stop: requested through libgpiod.

In home `cycle` the core raises a sensor's line at the trigger offset; in the other homes its worker
does. Lines of the emergency stop are read by the core alone.

The binding is the package `gpiod`, version 2 (extra `gpio`), imported when a line is asked for.
"""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Self

from inphase.core.core import Core
from inphase.errors import DeviceError, install
from inphase.plan.plan import Plan
from inphase.schedule.tables import GpioLine

if TYPE_CHECKING:
    from gpiod import LineRequest

_CONSUMER_MAX = 31  # bytes that the kernel keeps of a consumer's name


def _ask(key: str, wanted: GpioLine, consumer: str, settings: dict[str, str]) -> "LineRequest":
    """Request one line. key: the schedule's, for messages; settings: names of gpiod.line's enums,
    by argument of gpiod.LineSettings. Raises DeviceError."""
    chip, where = wanted.chip, f"{key}: line {wanted.line} of {wanted.chip}"
    try:
        import gpiod
    except ImportError as error:
        raise DeviceError(
            f"{where} needs libgpiod's Python binding: {error}; {install('gpiod')}"
        ) from error
    kinds = {
        "direction": gpiod.line.Direction,
        "output_value": gpiod.line.Value,
        "bias": gpiod.line.Bias,
    }
    chosen = {name: getattr(kinds[name], value) for name, value in settings.items()}
    try:
        if not gpiod.is_gpiochip_device(chip):
            _refuse_chip(chip)
        return gpiod.request_lines(
            chip,
            config={wanted.line: gpiod.LineSettings(**chosen)},
            consumer=f"inphase {consumer}"[:_CONSUMER_MAX],
        )
    except (OSError, ValueError) as error:
        raise DeviceError(f"{where}: {_trouble(error, chip)}") from error


def _refuse_chip(chip: str) -> None:
    with Path(chip).open("rb"):  # says what is wrong with a path that cannot be opened
        raise OSError(errno.ENODEV, "not a GPIO chip")


def _trouble(error: OSError | ValueError, chip: str) -> str:
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    hint = {
        errno.ENOENT: "no such device; gpiodetect lists the chips",
        errno.ENODEV: "not a GPIO chip; gpiodetect lists the chips",
        errno.EACCES: f"no permission; let the user's group have it: chgrp gpio {chip}, "
        f"chmod 660 {chip}, for good by a udev rule",
        errno.EBUSY: "in use by somebody else; gpioinfo says by whom",
        errno.EINVAL: "no such line, or it cannot do that; gpioinfo lists the lines",
    }
    return hint.get(number or 0, str(error))


class Line:
    """One output line, low, requested for one sensor. Its maker closes it.

    sensor: its name, for messages and as the line's consumer in `gpioinfo`. Raises DeviceError.
    """

    def __init__(self, sensor: str, wanted: GpioLine) -> None:
        key = f"sensor.{sensor}.trigger_line"
        self._where = f"{key}: line {wanted.line} of {wanted.chip}"
        self._offset = wanted.line
        settings = {"direction": "OUTPUT", "output_value": "INACTIVE"}
        self._request = _ask(key, wanted, sensor, settings)

    @property
    def fd(self) -> int:
        """The descriptor of the line request, for `Core.line`; it has this one line."""
        return int(self._request.fd)

    def set(self, up: bool) -> None:
        """Raise or lower the line, in a worker; not while the core has it. Raises DeviceError."""
        from gpiod.line import Value

        try:
            self._request.set_value(self._offset, Value.ACTIVE if up else Value.INACTIVE)
        except OSError as error:
            raise DeviceError(f"{self._where}: {error.strerror}") from error

    def close(self) -> None:
        """Give the line back; it stays as it is until somebody else asks for it."""
        self._request.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StopLine:
    """One input line of the emergency stop, pulled to the level that stops: a wire that breaks
    stops too. Its maker closes it. Raises DeviceError."""

    def __init__(self, name: str, wanted: GpioLine, pressed: str) -> None:
        bias = "PULL_UP" if pressed == "high" else "PULL_DOWN"
        settings = {"direction": "INPUT", "bias": bias}
        self._request = _ask(f"estop.{name}.line", wanted, f"estop {name}", settings)

    @property
    def fd(self) -> int:
        """The descriptor of the line request, for `Core.estop_line`."""
        return int(self._request.fd)

    def close(self) -> None:
        """Give the line back."""
        self._request.release()


class Lines:
    """The lines that the core has. It raises those of the sensors with home `cycle`. The lines of
    the emergency stop are there unless the run is simulated. Raises DeviceError."""

    def __init__(self, plan: Plan, simulated: bool = False) -> None:
        self._lines: dict[int, Line] = {}
        self._stops: dict[int, StopLine] = {}
        try:
            for index, stop in enumerate(plan.estop if not simulated else ()):
                wanted = stop.schedule.line
                if wanted is not None:
                    pressed = stop.schedule.pressed or "low"
                    self._stops[index] = StopLine(stop.name, wanted, pressed)
            for index, sensor in enumerate(plan.sensors):
                line = sensor.schedule.trigger_line
                if line is not None and sensor.home == "cycle":
                    self._lines[index] = Line(sensor.name, line)
        except BaseException:
            self.close()
            raise

    def hand_over(self, core: Core) -> None:
        """Let the core have them, before its start."""
        for index, line in self._lines.items():
            core.line(index, line.fd)
        for index, stop in self._stops.items():
            core.estop_line(index, stop.fd)

    def close(self) -> None:
        """Give all back, after the core has ended."""
        for line in self._lines.values():
            line.close()
        for stop in self._stops.values():
            stop.close()
