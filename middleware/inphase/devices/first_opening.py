"""The facts of a device at its first opening, which the core was configured from."""

from inphase.driver import ActuatorSpec, Driver, SensorSpec
from inphase.errors import DeviceError


class FirstOpening:
    """Remembers what an open driver declares: scales, units and bounds of its device."""

    def __init__(self) -> None:
        self._declared: tuple[SensorSpec | None, ActuatorSpec | None] | None = None

    def check(self, driver: Driver) -> bool:
        """After each opening; True at the first. Raises DeviceError where another device came back:
        its values would be taken in the units of the first."""
        found = (driver.sensor(), driver.actuator())
        if self._declared is None:
            self._declared = found
            return True
        if found != self._declared:
            raise DeviceError(
                f"device {driver.name} ({driver.address}) came back with other units, scales or "
                f"bounds than at the start of the run; connect the first device again, or start "
                f"the run again"
            )
        return False
