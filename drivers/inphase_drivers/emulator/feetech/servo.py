"""One Feetech servo of the STS series: its registers, and the joint that it turns.

Sources: ftservo-python-sdk 2.0.1, the maker's; feetech-cli 0.1.8, whose authors measured a servo.
Where both are silent the choice is in a comment.
"""

import math

from ..arm import ACCELERATION_MAX, VELOCITY_MAX, Drive, Joints
from ..instruction import Block
from ..serial_bus import Listener
from .registers import (
    BAUD_OF_REGISTER,
    EEPROM_END,
    READ_ONLY,
    SIZE,
    Address,
    memory_at_power_on,
    of_sign_magnitude,
    to_sign_magnitude,
)

COUNTS = 4096
CENTRE = 2048
RAD_PER_COUNT = 2 * math.pi / COUNTS
_RAD_S2_PER_ACCELERATION = 100 * RAD_PER_COUNT  # register 41: hundreds of counts per second squared
_LOAD_PER_AMPERE = 300  # the manual gives no relation of load and current
_COUNT_PER_AMPERE = 1 / 6.5e-3
_RETURN_DELAY_UNIT_NS = 2_000
_SIGN, _LOAD_SIGN, _OFFSET_SIGN = 0x8000, 0x400, 0x800
_RAW = {"position_raw": _SIGN, "velocity_raw": _SIGN, "load_raw": _LOAD_SIGN}


class FeetechServo(Listener):
    """One servo: its registers, and the joint that it turns."""

    def __init__(self, ident: int, joint: int, joints: Joints) -> None:
        self.memory = memory_at_power_on()
        self.memory[Address.ID] = ident
        self._joint = joint
        self._joints = joints
        self._raw: dict[str, int] = {}  # set by the control channel: reported as they are
        self._put(Address.GOAL_POSITION, self._position())
        self._follow()

    @property
    def id(self) -> int:
        """The number that it answers to."""
        return self.memory[Address.ID]

    @property
    def return_delay_ns(self) -> int:
        """How long it waits before an answer."""
        return self.memory[Address.RETURN_DELAY] * _RETURN_DELAY_UNIT_NS

    @property
    def torque(self) -> int:
        """Its torque register."""
        return self.memory[Address.TORQUE_ENABLE]

    def mark(self, number: int) -> None:
        """Present velocities say the number of their sample."""
        self._raw["velocity_raw"] = number

    def put_register(self, address: int, value: int) -> None:
        """Set a register of one byte, whatever protects it."""
        self.memory[address] = value

    def put_raw(self, name: str, value: int | None) -> None:
        """Report a number of counts as it is. Raises ValueError for what has no place."""
        if value is None:
            self._raw.pop(name, None)
        elif not isinstance(value, int) or abs(value) >= _RAW[name]:
            raise ValueError(f"{name} must be below {_RAW[name]} in size or null, got {value!r}")
        else:
            self._raw[name] = value

    def jump(self, position: float) -> None:
        """Put the joint at `position` [rad] at rest, as a hand would with the torque off."""
        self._joints.jump(self._joint, position)

    def block(self, data: bytes = b"") -> Block:
        """This servo's answer; its error byte is the status register."""
        return Block(self.memory[Address.STATUS], self.id, data)

    def read(self, address: int, length: int) -> Block:
        """Read registers as they are now."""
        if address < SIZE and address + length > Address.PRESENT_POSITION:
            self._sample()
        return self.block(bytes(self.memory[address : address + length]))

    def write(self, address: int, data: bytes) -> None:
        """Write registers and let the joint follow; what is protected keeps its value, unsaid."""
        locked = self.memory[Address.LOCK]
        for at, byte in enumerate(data, address):
            if at < SIZE and at not in READ_ONLY and not (locked and at < EEPROM_END):
                self.memory[at] = byte
        if address <= Address.GOAL_POSITION < address + len(data):
            self.memory[Address.TORQUE_ENABLE] = 1  # a goal switches torque on by itself
        if not locked and address <= Address.BAUD_RATE < address + len(data):
            self.baud = BAUD_OF_REGISTER[self.memory[Address.BAUD_RATE] % len(BAUD_OF_REGISTER)]
        self._follow()

    def _follow(self) -> None:
        """Hand goal, torque and caps from the registers to the joint."""
        joints, joint, memory = self._joints, self._joint, self.memory
        holds = memory[Address.TORQUE_ENABLE] == 1
        mode = memory[Address.OPERATING_MODE]
        joints.drive[joint] = Drive.OFF
        if holds and mode == 0:
            low, high = self._get(Address.MIN_POSITION), self._get(Address.MAX_POSITION)
            goal = of_sign_magnitude(self._get(Address.GOAL_POSITION), _SIGN)
            if high:  # both 0: several turns
                goal = min(max(goal, low), high)  # that it stops at its limits is our reading
            joints.goal[joint] = (goal + self._offset() - CENTRE) * RAD_PER_COUNT
            joints.drive[joint] = Drive.POSITION
        elif holds and mode == 1:
            goal = of_sign_magnitude(self._get(Address.GOAL_VELOCITY), _SIGN)
            joints.goal[joint] = goal * RAD_PER_COUNT
            joints.drive[joint] = Drive.VELOCITY
        speed = of_sign_magnitude(self._get(Address.GOAL_VELOCITY), _SIGN) if mode == 0 else 0
        joints.velocity_max[joint] = abs(speed) * RAD_PER_COUNT or VELOCITY_MAX
        acceleration = memory[Address.ACCELERATION] * _RAD_S2_PER_ACCELERATION
        joints.acceleration_max[joint] = acceleration or ACCELERATION_MAX

    def _sample(self) -> None:
        """Write the present values into their registers."""
        joints, joint = self._joints, self._joint
        velocity = round(joints.velocity[joint] / RAD_PER_COUNT)
        current = joints.current[joint]
        values = {
            "position_raw": self._position(),
            "velocity_raw": velocity,
            "load_raw": round(current * _LOAD_PER_AMPERE),
        } | self._raw
        for address, name in (
            (Address.PRESENT_POSITION, "position_raw"),
            (Address.PRESENT_VELOCITY, "velocity_raw"),
            (Address.PRESENT_LOAD, "load_raw"),
        ):
            self._put(address, to_sign_magnitude(values[name], _RAW[name]))
        self._put(Address.CURRENT, to_sign_magnitude(round(current * _COUNT_PER_AMPERE), _SIGN))
        self.memory[Address.MOVING] = abs(velocity) > 1

    def _position(self) -> int:
        """The reading: inside of one turn, less the offset."""
        turned = round(self._joints.position[self._joint] / RAD_PER_COUNT) + CENTRE
        return (turned - self._offset()) % COUNTS

    def _offset(self) -> int:
        return of_sign_magnitude(self._get(Address.HOMING_OFFSET), _OFFSET_SIGN)

    def _get(self, address: int) -> int:
        return int.from_bytes(self.memory[address : address + 2], "little")

    def _put(self, address: int, value: int) -> None:
        self.memory[address : address + 2] = value.to_bytes(2, "little")
