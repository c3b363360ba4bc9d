"""FCI from the controller's side: what it is asked, and the bytes of its states.

Source: libfranka's protocol headers, version 10: packed, low bytes first.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

HEADER = struct.Struct("<III")  # command, its number, size with this header
SIZE_MAX = 4096  # of a question
JOINTS = 7
COMMAND = struct.Struct("<Q7d7d16d6d2d??7d?")
_ERRORS = 41
START_POSE_INVALID, VELOCITY_LIMITS, TOO_QUICK, TOO_ROUGH, UNANSWERED = 11, 13, 14, 15, 25
"""Errors of a motion, by their bytes in a state."""
_UNIT = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
_NO_JOINT = (0.0,) * JOINTS
_STATE = struct.Struct("<Q96f30f56f26f7f6f6f6f3f6f16f12f14f36fBB41B41BBf")


class Question(IntEnum):
    """Commands over TCP."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    RECOVER = 10
    MODEL = 11


class MoveResult(IntEnum):
    """The answers to a Move that this controller gives."""

    SUCCESS = 0
    STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 5
    REFLEX = 8


class ArmMode(IntEnum):
    """Modes of the arm, in a state."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    REFLEX = 4
    USER_STOPPED = 5


def message(command: int, number: int, payload: bytes) -> bytes:
    """A whole message."""
    return HEADER.pack(command, number, HEADER.size + len(payload)) + payload


@dataclass
class ArmState:
    """The part of a state that changes."""

    message_id: int = 0
    mode: ArmMode = ArmMode.IDLE
    generator: int = 0  # of the state: 0 idle, 1 joint positions
    position: Sequence[float] = _NO_JOINT
    velocity: Sequence[float] = _NO_JOINT
    torque: Sequence[float] = _NO_JOINT
    commanded: Sequence[float] = _NO_JOINT
    commanded_velocity: Sequence[float] = _NO_JOINT
    commanded_acceleration: Sequence[float] = _NO_JOINT
    success_rate: float = 0.0
    errors: set[int] = field(default_factory=set)

    def pack(self) -> bytes:
        """Its bytes."""
        flags = [number in self.errors for number in range(_ERRORS)]
        return _STATE.pack(
            self.message_id,
            *_UNIT * 6,
            *(0.0,) * 30,
            *self.torque,
            *_NO_JOINT * 2,
            *self.position,
            *self.commanded,
            *self.velocity,
            *self.commanded_velocity,
            *self.commanded_acceleration,
            *(0.0,) * 60,
            *_UNIT,
            *(0.0,) * 12,
            *self.position,
            *self.velocity,
            *(0.0,) * 36,
            self.generator,
            0 if self.generator else 3,
            *flags,
            *flags,
            self.mode,
            self.success_rate,
        )
