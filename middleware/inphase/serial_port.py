"""For drivers: a serial port that is theirs alone."""

from inphase.devices.serial_port import (
    Port,
    hand_over,
    keep_others_out,
    missing_right,
    open_port,
)

__all__ = [
    "Port",
    "hand_over",
    "keep_others_out",
    "missing_right",
    "open_port",
]
