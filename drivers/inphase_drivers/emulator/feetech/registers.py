"""Registers of an emulated STS3215: their addresses, and what it has after power-on.

Sources: Feetech, "STS3215 memory table"; feetech-cli 0.1.8, whose authors measured a servo.
"""

from enum import IntEnum

SIZE = 128
EEPROM_END = 40  # what lies below outlives the power, and the lock protects it


class Address(IntEnum):
    """The registers that the emulator gives a meaning."""

    FIRMWARE = 0
    MODEL = 3
    ID = 5
    BAUD_RATE = 6
    RETURN_DELAY = 7
    RESPONSE_LEVEL = 8
    MIN_POSITION = 9
    MAX_POSITION = 11
    HOMING_OFFSET = 31
    OPERATING_MODE = 33
    TORQUE_ENABLE = 40
    ACCELERATION = 41
    GOAL_POSITION = 42
    GOAL_TIME = 44
    GOAL_VELOCITY = 46
    LOCK = 55
    PRESENT_POSITION = 56
    PRESENT_VELOCITY = 58
    PRESENT_LOAD = 60
    VOLTAGE = 62
    TEMPERATURE = 63
    STATUS = 65
    MOVING = 66
    CURRENT = 69


BAUD_OF_REGISTER = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
READ_ONLY = frozenset((0, 1, 2, 3, 4, *range(Address.PRESENT_POSITION, 80)))
_POWER_ON = {
    Address.FIRMWARE: b"\x03\x0a",
    Address.MODEL: (777).to_bytes(2, "little"),
    Address.RESPONSE_LEVEL: b"\x01",
    Address.MAX_POSITION: (4095).to_bytes(2, "little"),
    Address.LOCK: b"\x01",
    Address.VOLTAGE: b"\x79",
    Address.TEMPERATURE: b"\x23",
}


def memory_at_power_on() -> bytearray:
    """All registers of a servo from the box, but for id, rate and positions."""
    memory = bytearray(SIZE)
    for address, data in _POWER_ON.items():
        memory[address : address + len(data)] = data
    return memory


def to_sign_magnitude(value: int, sign: int) -> int:
    """A number with its sign in a bit of its own; a larger one is cut."""
    size = min(abs(value), sign - 1)
    return size | sign if value < 0 else size


def of_sign_magnitude(raw: int, sign: int) -> int:
    """Undo `to_sign_magnitude`."""
    size = raw & (sign - 1)
    return -size if raw & sign else size
