"""Damiao's models: the ranges that the bit fields of an MIT frame span, as delivered.

Source: the tables of damiao-motor 1.0.6 and of Damiao's own DM_Motor_SDK. A motor has its ranges in
registers 21 to 23, and `open` holds those against these.
"""

from typing import NamedTuple

KP_MAX, KD_MAX = 500.0, 5.0
"""N m/rad and N m s/rad: the same for every model"""


class Ranges(NamedTuple):
    """Each field spans from minus this to this: rad, rad/s, N m."""

    position: float
    velocity: float
    torque: float

    def __str__(self) -> str:
        return f"[{self.position:g}, {self.velocity:g}, {self.torque:g}]"


MODELS = {
    "DM3507": Ranges(12.566, 50, 5),
    "DM4310": Ranges(12.5, 30, 10),
    "DM4310P": Ranges(12.5, 50, 10),
    "DM4340": Ranges(12.5, 10, 28),
    "DM4340P": Ranges(12.5, 10, 28),
    "DM6006": Ranges(12.5, 45, 20),
    "DM8006": Ranges(12.5, 45, 40),
    "DM8009": Ranges(12.5, 45, 54),
    "DM10010L": Ranges(12.5, 25, 200),
    "DM10010": Ranges(12.5, 20, 200),
    "DMH3510": Ranges(12.5, 280, 1),
    "DMG6215": Ranges(12.5, 45, 10),
    "DMH6220": Ranges(12.5, 45, 10),
}
