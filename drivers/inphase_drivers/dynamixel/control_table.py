"""Control table of the X series: registers and their units (ROBOTIS e-manual, XM430-W350)."""

import math
from typing import NamedTuple

from inphase.driver import Raw

MODEL_NUMBER, FIRMWARE, BAUD_RATE, RETURN_DELAY, OPERATING_MODE = 0, 6, 8, 9, 11
TORQUE_ENABLE, STATUS_RETURN_LEVEL, HARDWARE_ERROR = 64, 68, 70
BUS_WATCHDOG = 98
WATCHDOG_UNIT_MS = 20
CURRENT_LIMIT, VELOCITY_LIMIT = 38, 44
MAX_POSITION, MIN_POSITION = 48, 52
GOAL_CURRENT, GOAL_VELOCITY, GOAL_POSITION = 102, 104, 116
PRESENT_CURRENT, PRESENT_POSITION = 126, 132
BAUD_INDEX = {
    9_600: 0,
    57_600: 1,
    115_200: 2,
    1_000_000: 3,
    2_000_000: 4,
    3_000_000: 5,
    4_000_000: 6,
    4_500_000: 7,
}

RAD_PER_COUNT = 2 * math.pi / 4096
RAD_S_PER_COUNT = 0.229 * 2 * math.pi / 60
CENTRE = 2048


class Goal(NamedTuple):
    """How a mode's goal is written."""

    operating_mode: int
    register: int
    type: Raw
    size: int
    scale: float | None
    """SI per count; None: each model has its own, of current"""
    zero: float
    limits: tuple[int, ...]
    """registers of the lowest and highest goal, or of the largest |goal|; a goal beyond is refused
    by the servo, unsaid"""
    limit_size: int


GOALS = {
    "position": Goal(
        operating_mode=3,
        register=GOAL_POSITION,
        type=Raw.I32,
        size=4,
        scale=RAD_PER_COUNT,
        zero=-CENTRE * RAD_PER_COUNT,
        limits=(MIN_POSITION, MAX_POSITION),
        limit_size=4,
    ),
    "velocity": Goal(1, GOAL_VELOCITY, Raw.I32, 4, RAD_S_PER_COUNT, 0.0, (VELOCITY_LIMIT,), 4),
    "effort": Goal(0, GOAL_CURRENT, Raw.I16, 2, None, 0.0, (CURRENT_LIMIT,), 2),
}
