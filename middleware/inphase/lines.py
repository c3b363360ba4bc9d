"""GPIO lines that trigger sensors: requested through libgpiod, raised and lowered by the core.

In home `cycle` the core raises a sensor's line at the trigger offset; in the other homes its worker
does.

The binding is the package `gpiod`, version 2 (extra `gpio`), imported when a line is asked for.
"""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Self

from inphase.core import Core
from inphase.errors import DeviceError
from inphase.plan import Plan

if TYPE_CHECKING:
    from gpiod import LineRequest

_CONSUMER_MAX = 31  # bytes that the kernel keeps of a consumer's name


class Line:
    """One output line, low, requested for one sensor. Whoever makes it closes it.

    sensor: its name, for messages and as the line's consumer in `gpioinfo`. Raises DeviceError.
    """

    def __init__(self, sensor: str, chip: str, line: int) -> None:
        self._where = f"sensor.{sensor}.trigger_line: line {line} of {chip}"
        self._offset = line
        self._request = self._ask(sensor, chip)

    def _ask(self, sensor: str, chip: str) -> "LineRequest":
        try:
            import gpiod
        except ImportError as error:
            raise DeviceError(
                f"{self._where} needs libgpiod's Python binding: {error}; "
                f"install it: pip install 'inphase[gpio]'"
            ) from error
        self._up, self._down = gpiod.line.Value.ACTIVE, gpiod.line.Value.INACTIVE
        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT, output_value=self._down
        )
        try:
            if not gpiod.is_gpiochip_device(chip):
                self._refuse_chip(chip)
            return gpiod.request_lines(
                chip,
                config={self._offset: settings},
                consumer=f"inphase {sensor}"[:_CONSUMER_MAX],
            )
        except (OSError, ValueError) as error:
            raise DeviceError(f"{self._where}: {self._trouble(error, chip)}") from error

    def _refuse_chip(self, chip: str) -> None:
        with Path(chip).open("rb"):  # says what is wrong with a path that cannot be opened
            raise OSError(errno.ENODEV, "not a GPIO chip")

    def _trouble(self, error: OSError | ValueError, chip: str) -> str:
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        hint = {
            errno.ENOENT: "no such device; gpiodetect lists the chips",
            errno.ENODEV: "not a GPIO chip; gpiodetect lists the chips",
            errno.EACCES: f"no permission; let the user's group have it: chgrp gpio {chip}, "
            f"chmod 660 {chip}, for good by a udev rule",
            errno.EBUSY: "in use by somebody else; gpioinfo says by whom",
            errno.EINVAL: "no such line, or no output; gpioinfo lists the lines",
        }
        return hint.get(number or 0, str(error))

    @property
    def fd(self) -> int:
        """The descriptor of the line request, for `Core.line`; it has this one line."""
        return int(self._request.fd)

    def set(self, up: bool) -> None:
        """Raise or lower the line, in a worker; not while the core has it. Raises DeviceError."""
        try:
            self._request.set_value(self._offset, self._up if up else self._down)
        except OSError as error:
            raise DeviceError(f"{self._where}: {error.strerror}") from error

    def close(self) -> None:
        """Give the line back; it stays as it is until somebody else asks for it."""
        self._request.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines:
    """The lines that the core raises: of the sensors with home `cycle`. Raises DeviceError."""

    def __init__(self, plan: Plan) -> None:
        self._lines: dict[int, Line] = {}
        try:
            for index, sensor in enumerate(plan.sensors):
                line = sensor.schedule.trigger_line
                if line is not None and sensor.home == "cycle":
                    self._lines[index] = Line(sensor.name, line.chip, line.line)
        except BaseException:
            self.close()
            raise

    def hand_over(self, core: Core) -> None:
        """Let the core have them, before its start."""
        for index, line in self._lines.items():
            core.line(index, line.fd)

    def close(self) -> None:
        """Give all back, after the core has ended."""
        for line in self._lines.values():
            line.close()
