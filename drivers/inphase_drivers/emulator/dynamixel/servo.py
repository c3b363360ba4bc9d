"""One DYNAMIXEL servo (X series): its registers, and the joint that it turns.

Source: ROBOTIS e-manual, "XM430-W350" (Control Table Description). Where the manual is silent
the choice is in a comment.
"""

import math
import struct

from ...dynamixel.models import BY_NUMBER, LOAD_PER_COUNT, USUAL
from ..arm import ACCELERATION_MAX, VELOCITY_MAX, Drive, Joints
from ..instruction import Block
from ..serial_bus import Listener
from ..wire import NEVER_NS
from .registers import (
    ALERT,
    BAUD_OF_REGISTER,
    SIZE,
    WATCHDOG_EXPIRED,
    Address,
    ErrorNumber,
    Registers,
)

RAD_PER_COUNT = 2 * math.pi / 4096  # present and goal position; 2048 is 0 rad
RAD_S_PER_COUNT = 0.229 * 2 * math.pi / 60  # velocities: 0.229 rev/min
RAD_S2_PER_COUNT = 214.577 * 2 * math.pi / 3600  # profile acceleration: 214.577 rev/min^2
FULL_LOAD_A = 3.2  # largest torque of a servo that measures load; the manual gives no current
ZERO_COUNT = 2048

_PRESENT = struct.Struct("<hii")  # current, velocity, position from address 126 on
_PRESENT_START, _PRESENT_END = Address.REALTIME_TICK, 136
_WATCHDOG_UNIT_NS = 20_000_000
_DRIVE_OF_MODE = {0: Drive.CURRENT, 1: Drive.VELOCITY, 16: Drive.CURRENT}


_RETURN_DELAY_UNIT_NS = 2_000


class Servo(Listener):
    """One servo: its registers, and the joint that it turns."""

    def __init__(self, dxl_id: int, joint: int, joints: Joints, model: int = USUAL.number) -> None:
        self.registers = Registers()
        self.registers.put(Address.ID, dxl_id)
        self.registers.put(Address.MODEL, model)
        self.velocity_raw: int | None = None  # set by the control channel: reported as it is
        self.current_raw: int | None = None
        self._joint = joint
        self._joints = joints
        self._registered: tuple[int, bytes] | None = None
        self.boot()

    @property
    def id(self) -> int:
        """The number that it answers to."""
        return self.registers.memory[Address.ID]

    @property
    def return_delay_ns(self) -> int:
        """How long it waits before an answer."""
        return self.registers.memory[Address.RETURN_DELAY] * _RETURN_DELAY_UNIT_NS

    @property
    def torque(self) -> int:
        """Its torque register."""
        return self.registers.memory[Address.TORQUE_ENABLE]

    def mark(self, number: int) -> None:
        """Present currents say the number of their sample."""
        self.current_raw = number

    def put_register(self, address: int, value: int) -> None:
        """Set a register, as the control channel asks."""
        self.registers.put(address, value)

    def put_raw(self, name: str, value: int | None) -> None:
        """Report a current or a velocity as it is."""
        limit = 2**15 if name == "current_raw" else 2**31
        if value is not None and not (isinstance(value, int) and -limit <= value < limit):
            raise ValueError(f"{name} must be {-limit}..{limit - 1} or null, got {value!r}")
        setattr(self, name, value)

    @property
    def _a_per_count(self) -> float:
        """Current of a count, or of a count of load, by the model that the register names."""
        model = BY_NUMBER.get(self.registers.get(Address.MODEL), USUAL)
        return model.a_per_count or FULL_LOAD_A * LOAD_PER_COUNT

    def boot(self) -> None:
        """Start with the RAM area as after power-on: torque off, goal where the joint stands."""
        self.registers.reset_ram()
        self.registers.put(Address.GOAL_POSITION, self._position_raw(0.0))
        self._registered = None
        self._follow()

    def block(self, error: int, data: bytes = b"") -> Block:
        """This servo's part of a status packet."""
        alert = ALERT if self.registers.memory[Address.HARDWARE_ERROR] else 0
        return Block(error | alert, self.id, data)

    def read(self, address: int, length: int, now_ns: int) -> Block:
        """Read registers as they are at `now_ns`."""
        if address + length > SIZE or not length:
            return self.block(ErrorNumber.ACCESS)
        if address < _PRESENT_END and address + length > _PRESENT_START:
            self._sample(now_ns)
        return self.block(0, bytes(self.registers.memory[address : address + length]))

    def write(self, address: int, data: bytes) -> int:
        """Write registers and let the joint follow; returns the error number."""
        error = self.registers.write(address, data)
        if error is ErrorNumber.NONE:
            if address <= Address.BAUD_RATE < address + len(data):
                self.baud = BAUD_OF_REGISTER[self.registers.memory[Address.BAUD_RATE]]
            self._follow()
        return error

    def register(self, address: int, data: bytes) -> int:
        """Keep a write for `act` (Reg Write); returns the error number."""
        error = self.registers.check(address, data)
        if error is ErrorNumber.NONE:
            self._registered = (address, data)
            self.registers.put(Address.REGISTERED, 1)
        return error

    def act(self) -> int:
        """Do the write that was registered (Action); returns the error number."""
        if self._registered is None:
            return ErrorNumber.INSTRUCTION
        address, data = self._registered
        self._registered = None
        self.registers.put(Address.REGISTERED, 0)
        return self.write(address, data)

    def watchdog_ns(self) -> int:
        """How long the bus may stay silent, or NEVER_NS where the watchdog does not watch."""
        memory = self.registers.memory
        units = memory[Address.BUS_WATCHDOG]
        if not memory[Address.TORQUE_ENABLE] or not 0 < units < WATCHDOG_EXPIRED:
            return NEVER_NS
        return units * _WATCHDOG_UNIT_NS

    def expire(self) -> None:
        """Stop as the bus watchdog does: goals refused until 0 is written to it."""
        registers = self.registers
        registers.put(Address.BUS_WATCHDOG, WATCHDOG_EXPIRED)
        registers.put(Address.GOAL_VELOCITY, 0)
        if registers.memory[Address.OPERATING_MODE] == 0:  # the manual says that it stops
            registers.put(Address.GOAL_CURRENT, 0)
        registers.put(Address.PROFILE_ACCELERATION, 0)
        registers.put(Address.PROFILE_VELOCITY, 0)
        registers.put(Address.GOAL_POSITION, self._position_raw(0.0))
        self._follow()

    def jump(self, position: float) -> None:
        """Put the joint at `position` [rad] at rest, as a hand would with the torque off."""
        self._joints.jump(self._joint, position)

    def _follow(self) -> None:
        """Hand goal, mode and caps from the registers to the joint."""
        registers, joints, joint = self.registers, self._joints, self._joint
        drive = Drive.OFF
        if registers.memory[Address.TORQUE_ENABLE]:
            drive = _DRIVE_OF_MODE.get(registers.memory[Address.OPERATING_MODE], Drive.POSITION)
        joints.drive[joint] = drive
        if drive is Drive.VELOCITY:
            joints.goal[joint] = registers.get(Address.GOAL_VELOCITY) * RAD_S_PER_COUNT
        elif drive is Drive.CURRENT:
            joints.goal[joint] = registers.get(Address.GOAL_CURRENT) * self._a_per_count
        else:
            goal = registers.get(Address.GOAL_POSITION)
            joints.goal[joint] = (goal - ZERO_COUNT) * RAD_PER_COUNT
        velocity = registers.get(Address.PROFILE_VELOCITY) * RAD_S_PER_COUNT
        limit = registers.get(Address.VELOCITY_LIMIT) * RAD_S_PER_COUNT
        joints.velocity_max[joint] = min(velocity or VELOCITY_MAX, limit, VELOCITY_MAX)
        acceleration = registers.get(Address.PROFILE_ACCELERATION) * RAD_S2_PER_COUNT
        joints.acceleration_max[joint] = min(acceleration or ACCELERATION_MAX, ACCELERATION_MAX)

    def _position_raw(self, lag_s: float) -> int:
        joints, joint = self._joints, self._joint
        position = joints.position[joint] + joints.velocity[joint] * lag_s
        return round(position / RAD_PER_COUNT) + ZERO_COUNT

    def _sample(self, now_ns: int) -> None:
        """Write the present values at `now_ns` into the registers."""
        joints, joint, memory = self._joints, self._joint, self.registers.memory
        lag_s = max(0, now_ns - joints.time_ns) * 1e-9
        velocity = round(joints.velocity[joint] / RAD_S_PER_COUNT)
        current = round(joints.current[joint] / self._a_per_count)
        _PRESENT.pack_into(
            memory,
            Address.PRESENT_CURRENT,
            current if self.current_raw is None else self.current_raw,
            velocity if self.velocity_raw is None else self.velocity_raw,
            self._position_raw(lag_s),
        )
        tick_ms = now_ns // 1_000_000 % 32768
        memory[120], memory[121] = tick_ms & 0xFF, tick_ms >> 8
        memory[122] = abs(velocity) > self.registers.get(Address.MOVING_THRESHOLD)
