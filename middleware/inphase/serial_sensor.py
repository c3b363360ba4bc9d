"""For drivers: a sensor that streams on a serial line."""

from inphase.devices.serial_sensor import (
    SerialOptions,
    SerialSensor,
)

__all__ = [
    "SerialOptions",
    "SerialSensor",
]
