"""One Damiao motor: its registers, its MIT frame, and a joint with inertia and a load.

Source: damiao-motor 1.0.6, fastgripper-dm 0.1.1. Where they are silent the choice is in a comment.
"""

import math
import struct
from typing import Protocol

from .frame_bus import BusFrame

MST_ID, ESC_ID, TIMEOUT, CTRL_MODE = 7, 8, 9, 10
PMAX, VMAX, TMAX = 21, 22, 23
REGISTERS = 0x7FF
READ, WRITE, STORE, STATE = 0x33, 0x55, 0xAA, 0xCC
DISABLED, ENABLED, LOST = 0x0, 0x1, 0xD
FIRST_FAULT = 0x8
MIT = 1
KP_MAX, KD_MAX = 500.0, 5.0
_REALS = {PMAX, VMAX, TMAX}
_FIXED = {ESC_ID: 0x7F}
_TIMEOUT_UNIT_NS = 50_000
_STEP_NS = 250_000
_STEPS_MAX = 4000  # of one call: a second
_INERTIA = 0.02  # kg m^2
_DAMPING = 0.2  # N m s/rad
_FRICTION = 0.2  # N m, of a joint at rest without power

Target = tuple[float, float, float, float, float]
"""position, velocity, stiffness, damping, torque"""


class MitJoint(Protocol):
    """A joint that a motor turns: rad, rad/s, N m."""

    position: float

    @property
    def velocity(self) -> float:
        """[rad/s]"""

    @property
    def torque(self) -> float:
        """[N m]"""

    def step(self, target: Target | None, ns: int, most: float) -> None:
        """Go on by that time; None: without power. `most` is the largest torque."""


class OwnJoint:
    """A joint of its own: inertia, damping and a load [N m]."""

    position: float
    velocity: float
    torque: float

    def __init__(self, start: float) -> None:
        self.position = start
        self.velocity = self.torque = self.load = 0.0

    def step(self, target: Target | None, ns: int, most: float) -> None:
        """Integrate in steps of 250 us."""
        for _ in range(min(ns // _STEP_NS, _STEPS_MAX)):
            self._step(target, most)

    def _step(self, target: Target | None, most: float) -> None:
        seconds = _STEP_NS * 1e-9
        self.torque = 0.0
        if target is not None:
            position, velocity, kp, kd, torque = target
            torque += kp * (position - self.position) + kd * (velocity - self.velocity)
            self.torque = max(-most, min(most, torque))
        elif abs(self.load) <= _FRICTION and abs(self.velocity) < 1e-2:
            self.velocity = 0.0
            return
        push = self.torque + self.load - _DAMPING * self.velocity
        self.velocity += push / _INERTIA * seconds
        self.position += self.velocity * seconds


def _number(value: float, span: tuple[float, float], bits: int) -> int:
    """As the maker's code has it: cut off, not rounded."""
    low, high = span
    inside = max(low, min(high, value))
    return int((inside - low) * ((1 << bits) - 1) / (high - low))


def _value(number: int, span: tuple[float, float], bits: int) -> float:
    low, high = span
    return low + number * (high - low) / ((1 << bits) - 1)


class MitMotor:
    """A motor with its registers. `feed` gives its answers, `work` moves it on."""

    def __init__(
        self, ident: int, feedback: int, ranges: tuple[float, float, float], joint: MitJoint
    ) -> None:
        self.ident = ident
        self.joint = joint
        self.present = True
        self.silent = False
        """its plug is out of the bus: it has power, hears nothing, and nobody hears it"""
        self.muted: set[int] = set()
        """questions that it does not know"""
        self.state = DISABLED
        self.registers: dict[int, float] = {
            MST_ID: feedback, ESC_ID: ident, TIMEOUT: 0, CTRL_MODE: MIT,
            PMAX: ranges[0], VMAX: ranges[1], TMAX: ranges[2],
        }  # fmt: skip
        self.target: Target = (0.0, 0.0, 0.0, 0.0, 0.0)
        self.commands = 0
        self.states_asked = 0
        self._fed_ns = 0

    def power_off(self) -> None:
        """It answers nothing, and forgets what is not stored."""
        self.present = False
        self.state = DISABLED
        self.target = (0.0, 0.0, 0.0, 0.0, 0.0)

    def power_on(self) -> None:
        """It is there again, disabled."""
        self.present = True
        self.registers |= {TIMEOUT: 0, CTRL_MODE: MIT}

    def work(self, now_ns: int, ns: int) -> None:
        """Go on by `ns`, to `now_ns`; its time-out lets go."""
        limit_ns = int(self.registers[TIMEOUT]) * _TIMEOUT_UNIT_NS
        if self.state == ENABLED and limit_ns and now_ns - self._fed_ns > limit_ns:
            self.state = LOST
        is_on = self.present and self.state == ENABLED and self.registers[CTRL_MODE] == MIT
        self.joint.step(self.target if is_on else None, ns, self.registers[TMAX])

    def feed(self, frame: BusFrame, now_ns: int) -> BusFrame | None:
        """Its answer to a frame of the bus."""
        if not self.present or self.silent or len(frame.data) != 8:
            return None
        if frame.ident == REGISTERS:
            return self._on_register(frame.data)
        if frame.ident & 0xFF != self.ident or frame.ident >> 8 > 3:
            return None
        if frame.ident == self.ident:
            self._fed_ns = now_ns
            self._on_command(frame.data)
        return self._feedback()

    def _on_command(self, data: bytes) -> None:
        if data[:7] == b"\xff" * 7 and data[7] >= 0xFB:
            self._on_special(data[7])
            return
        self.commands += 1
        p, v, t = ((-self.registers[one], self.registers[one]) for one in (PMAX, VMAX, TMAX))
        bits = int.from_bytes(data, "big")
        # a frame that comes while it is off counts once it is on: the worst that it could do
        self.target = (
            _value(bits >> 48, p, 16),
            _value(bits >> 36 & 0xFFF, v, 12),
            _value(bits >> 24 & 0xFFF, (0.0, KP_MAX), 12),
            _value(bits >> 12 & 0xFFF, (0.0, KD_MAX), 12),
            _value(bits & 0xFFF, t, 12),
        )

    def _on_special(self, code: int) -> None:
        """Clear faults, enable, disable, or set zero here."""
        if code == 0xFB:
            self.state = DISABLED
        elif code == 0xFC and self.state < FIRST_FAULT:
            self.state = ENABLED
        elif code == 0xFD and self.state < FIRST_FAULT:
            self.state = DISABLED
        elif code == 0xFE:
            self.joint.position = 0.0

    def _feedback(self) -> BusFrame:
        p, v, t = ((-self.registers[one], self.registers[one]) for one in (PMAX, VMAX, TMAX))
        joint = self.joint
        # a position beyond the range comes round from its other end
        inside = math.remainder(joint.position, 2 * p[1])
        bits = (self.state << 4 | self.ident & 0x0F) << 40
        bits |= _number(inside, p, 16) << 24 | _number(joint.velocity, v, 12) << 12
        bits |= _number(joint.torque, t, 12)
        return BusFrame(int(self.registers[MST_ID]), bits.to_bytes(6, "big") + bytes([28, 31]))

    def _on_register(self, data: bytes) -> BusFrame | None:
        if int.from_bytes(data[:2], "little") != self.ident or data[2] in self.muted:
            return None
        if data[2] == STATE:
            self.states_asked += 1
            return self._feedback()
        number = data[3]
        if data[2] == WRITE and number not in _FIXED:
            kind = "<f" if number in _REALS else "<I"
            self.registers[number] = struct.unpack(kind, data[4:])[0]
        if data[2] not in (READ, WRITE, STORE) or number not in self.registers:
            return None
        value = self.registers[number]
        packed = struct.pack("<f", value) if number in _REALS else struct.pack("<I", int(value))
        return BusFrame(int(self.registers[MST_ID]), data[:4] + packed)

    def status(self) -> dict[str, object]:
        """For the control channel."""
        return {
            "state": self.state, "position": self.joint.position,
            "velocity": self.joint.velocity, "torque": self.joint.torque,
            "target": list(self.target), "commands": self.commands,
            "asked": self.states_asked,
            "registers": {str(number): value for number, value in self.registers.items()},
        }  # fmt: skip
