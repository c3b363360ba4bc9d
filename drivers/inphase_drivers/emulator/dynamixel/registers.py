"""The control table of an X-series servo: which registers there are, and what may be written.

Source: ROBOTIS e-manual, XM430-W350, "Control Table of EEPROM Area" and "... of RAM Area".
Addresses and raw units are the manual's. Indirect addresses (168 on) are left out.
"""

from enum import IntEnum
from typing import NamedTuple

SIZE = 147  # bytes from address 0 to the end of present temperature
RAM_START = 64
FIRMWARE = 46  # knows fast sync read
BAUD_OF_REGISTER = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)


class ErrorNumber(IntEnum):
    """Error numbers of a status packet (e-manual, Protocol 2.0, Status Packet, Error)."""

    NONE = 0
    RESULT_FAIL = 1
    INSTRUCTION = 2
    CRC = 3
    DATA_RANGE = 4
    DATA_LENGTH = 5
    DATA_LIMIT = 6
    ACCESS = 7


ALERT = 0x80  # bit of the error field: hardware error status is not zero


class Address(IntEnum):
    """The registers that the emulator itself looks at."""

    MODEL = 0
    FIRMWARE = 6
    ID = 7
    BAUD_RATE = 8
    RETURN_DELAY = 9
    OPERATING_MODE = 11
    SECONDARY_ID = 12
    MOVING_THRESHOLD = 24
    PWM_LIMIT = 36
    CURRENT_LIMIT = 38
    VELOCITY_LIMIT = 44
    MAX_POSITION = 48
    MIN_POSITION = 52
    TORQUE_ENABLE = 64
    STATUS_RETURN_LEVEL = 68
    REGISTERED = 69
    HARDWARE_ERROR = 70
    BUS_WATCHDOG = 98
    GOAL_PWM = 100
    GOAL_CURRENT = 102
    GOAL_VELOCITY = 104
    PROFILE_ACCELERATION = 108
    PROFILE_VELOCITY = 112
    GOAL_POSITION = 116
    REALTIME_TICK = 120
    PRESENT_CURRENT = 126
    PRESENT_VELOCITY = 128
    PRESENT_POSITION = 132
    INPUT_VOLTAGE = 144
    TEMPERATURE = 146


class Field(NamedTuple):
    """One register. `lowest` > `highest` marks one that can only be read."""

    size: int
    initial: int
    lowest: int
    highest: int

    @property
    def writable(self) -> bool:
        return self.lowest <= self.highest

    @property
    def signed(self) -> bool:
        return self.lowest < 0


def _read_only(size: int, initial: int = 0) -> Field:
    return Field(size, initial, 1, 0)


_S32 = 2**31 - 1

FIELDS: dict[int, Field] = {
    0: _read_only(2),
    2: _read_only(4),
    6: _read_only(1, FIRMWARE),
    7: Field(1, 1, 0, 252),
    8: Field(1, 1, 0, 7),
    9: Field(1, 250, 0, 254),
    10: Field(1, 0, 0, 13),
    11: Field(1, 3, 0, 16),
    12: Field(1, 255, 0, 255),
    13: Field(1, 2, 2, 2),
    20: Field(4, 0, -1_044_479, 1_044_479),
    24: Field(4, 10, 0, 1023),
    31: Field(1, 80, 0, 100),
    32: Field(2, 160, 95, 160),
    34: Field(2, 95, 95, 160),
    36: Field(2, 885, 0, 885),
    38: Field(2, 1193, 0, 1193),
    40: Field(4, 32767, 0, 32767),
    44: Field(4, 350, 0, 1023),
    48: Field(4, 4095, 0, 4095),
    52: Field(4, 0, 0, 4095),
    63: Field(1, 52, 0, 255),
    64: Field(1, 0, 0, 1),
    65: Field(1, 0, 0, 1),
    68: Field(1, 2, 0, 2),
    69: _read_only(1),
    70: _read_only(1),
    76: Field(2, 1920, 0, 16383),
    78: Field(2, 100, 0, 16383),
    80: Field(2, 0, 0, 16383),
    82: Field(2, 0, 0, 16383),
    84: Field(2, 800, 0, 16383),
    88: Field(2, 0, 0, 16383),
    90: Field(2, 0, 0, 16383),
    98: Field(1, 0, 0, 127),
    100: Field(2, 885, -885, 885),
    102: Field(2, 1193, -1193, 1193),
    104: Field(4, 0, -1023, 1023),
    108: Field(4, 0, 0, 32767),
    112: Field(4, 0, 0, 32767),
    116: Field(4, 2048, -_S32, _S32),
    120: _read_only(2),
    122: _read_only(1),
    123: _read_only(1),
    124: _read_only(2),
    126: _read_only(2),
    128: _read_only(4),
    132: _read_only(4),
    136: _read_only(4),
    140: _read_only(4),
    144: _read_only(2, 120),
    146: _read_only(1, 35),
}

OPERATING_MODES = frozenset((0, 1, 3, 4, 5, 16))
WATCHDOG_EXPIRED = 0xFF  # -1 in the bus watchdog register

# goals and the limit registers that bound them (position apart: it depends on the mode)
_LIMIT_OF_GOAL = {
    Address.GOAL_PWM: Address.PWM_LIMIT,
    Address.GOAL_CURRENT: Address.CURRENT_LIMIT,
    Address.GOAL_VELOCITY: Address.VELOCITY_LIMIT,
}
_GOALS = frozenset((*_LIMIT_OF_GOAL, Address.GOAL_POSITION))
_EXTENDED_POSITION_MAX = 1_048_575


class Registers:
    """The control table of one servo: `memory` holds the bytes as they are on the wire."""

    def __init__(self) -> None:
        self.memory = bytearray(SIZE)
        for address, field in FIELDS.items():
            self._put_initial(address, field)

    def get(self, address: int) -> int:
        """The value of the register at `address`, in its raw unit."""
        field = FIELDS[address]
        raw = self.memory[address : address + field.size]
        return int.from_bytes(raw, "little", signed=field.signed)

    def put(self, address: int, value: int) -> None:
        """Set a register from inside the servo, without the checks of `write`."""
        size = FIELDS[address].size
        mask = (1 << 8 * size) - 1
        self.memory[address : address + size] = (value & mask).to_bytes(size, "little")

    def reset_ram(self) -> None:
        """Set the RAM area to its initial values, as a reboot does."""
        for address, field in FIELDS.items():
            if address >= RAM_START:
                self._put_initial(address, field)

    def write(self, address: int, data: bytes) -> ErrorNumber:
        """Write what a host sent: everything, or nothing and an error number."""
        error = self.check(address, data)
        if error is ErrorNumber.NONE:
            self.memory[address : address + len(data)] = data
        return error

    def check(self, address: int, data: bytes) -> ErrorNumber:
        """The answer that `write` would give."""
        at, end = address, address + len(data)
        if not data:
            return ErrorNumber.DATA_LENGTH
        while at < end:
            field = FIELDS.get(at)
            if field is None or not field.writable:
                return ErrorNumber.ACCESS
            if at < RAM_START and self.memory[Address.TORQUE_ENABLE]:
                return ErrorNumber.ACCESS
            if at + field.size > end:
                return ErrorNumber.DATA_LENGTH
            raw = data[at - address : at - address + field.size]
            error = self._check_value(at, field, int.from_bytes(raw, "little", signed=field.signed))
            if error is not ErrorNumber.NONE:
                return error
            at += field.size
        return ErrorNumber.NONE

    def _check_value(self, address: int, field: Field, value: int) -> ErrorNumber:
        expired = self.memory[Address.BUS_WATCHDOG] == WATCHDOG_EXPIRED
        if expired and (address in _GOALS or (address == Address.BUS_WATCHDOG and value)):
            return ErrorNumber.DATA_RANGE
        if not field.lowest <= value <= field.highest:
            return ErrorNumber.DATA_RANGE
        if address == Address.OPERATING_MODE and value not in OPERATING_MODES:
            return ErrorNumber.DATA_RANGE
        if address in _GOALS:
            lowest, highest = self._goal_limits(address)
            if not lowest <= value <= highest:
                return ErrorNumber.DATA_LIMIT
        return ErrorNumber.NONE

    def _goal_limits(self, address: int) -> tuple[int, int]:
        if address == Address.GOAL_POSITION:
            if self.memory[Address.OPERATING_MODE] == 3:
                return self.get(Address.MIN_POSITION), self.get(Address.MAX_POSITION)
            return -_EXTENDED_POSITION_MAX, _EXTENDED_POSITION_MAX
        limit = self.get(_LIMIT_OF_GOAL[Address(address)])
        return -limit, limit

    def _put_initial(self, address: int, field: Field) -> None:
        self.put(address, field.initial)
