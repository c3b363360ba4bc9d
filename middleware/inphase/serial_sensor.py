"""For drivers: a sensor that is one exchange on a serial line, or streams there."""

from inphase.devices.serial_sensor import (
    SerialOptions,
    SerialSensor,
    ask_once,
)

__all__ = [
    "SerialOptions",
    "SerialSensor",
    "ask_once",
]
