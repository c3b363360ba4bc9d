"""For drivers: a serial port that is theirs alone."""

import os

from inphase.devices.serial_port import (
    Character,
    Port,
    hand_over,
    keep_others_out,
    missing_right,
    open_port,
)

__all__ = [
    "Character",
    "Port",
    "hand_over",
    "keep_others_out",
    "missing_right",
    "open_port",
    "os",  # for tests of a driver: calls to the kernel that they answer themselves
]
