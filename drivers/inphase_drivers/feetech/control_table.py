"""Registers of the STS and SMS series, and their units.

Sources: Feetech, "STS3215 memory table"; ftservo-python-sdk 2.0.1 (sms_sts), the maker's. The table
of rates is the maker's: LeRobot 0.4.4 has other rates for 5 to 7.
"""

import math

FIRMWARE, MODEL_NUMBER = 0, 3  # firmware: two bytes, major and minor
BAUD_RATE, RETURN_DELAY, RESPONSE_LEVEL = 6, 7, 8
MIN_POSITION, MAX_POSITION = 9, 11
OPERATING_MODE = 33
TORQUE_ENABLE, ACCELERATION, GOAL_POSITION, GOAL_VELOCITY = 40, 41, 42, 46
LOCK = 55
PRESENT_POSITION, STATUS = 56, 65
POSITION_MODE = 0
UNLOCKED, LOCKED = 0, 1
BAUD_INDEX = {
    1_000_000: 0,
    500_000: 1,
    250_000: 2,
    128_000: 3,
    115_200: 4,
    76_800: 5,
    57_600: 6,
    38_400: 7,
}

SIGN = 0x8000  # of positions and velocities: a magnitude of 15 bits beside it
COUNTS = 4096  # per turn
CENTRE = 2048
RAD_PER_COUNT = 2 * math.pi / COUNTS
RAD_S_PER_COUNT = RAD_PER_COUNT  # counts per second
LOAD_PER_COUNT = 1e-3  # of the largest duty of the motor's voltage

MODELS = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL"}
"""the models whose numbers are known to have these units; LeRobot 0.4.4, tables of motors"""
