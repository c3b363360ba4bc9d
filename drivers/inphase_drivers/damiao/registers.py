"""Registers of Damiao motors, and questions to one motor, off the cycle thread.

Source: Damiao's register table, as damiao-motor 1.0.6 has it.
"""

import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from inphase.driver import DeviceError
from inphase.packets import can_frame

from .can_socket import CanFrame, CanSocket
from .mit import ASK_STATE, REGISTERS, question
from .options import DamiaoOptions

_ANSWER_NS = 100_000_000
_TRIES = 3
_READ, _WRITE = 0x33, 0x55
FEEDBACK_ID, TIMEOUT, CONTROL_MODE = 7, 9, 10
P_MAX, V_MAX, T_MAX = 21, 22, 23
MIT_MODE = 1
TIMEOUT_UNITS_PER_MS = 20
ENABLED, LOST = 0x1, 0xD
FIRST_FAULT = 8
_SPECIAL = {"clear": 0xFB, "enable": 0xFC, "disable": 0xFD}

FAULTS = {
    0x8: ("over-voltage", "check the supply: braking feeds it"),
    0x9: ("under-voltage", "check the supply and its cable"),
    0xA: ("over-current", "find what holds or pushes the joint"),
    0xB: ("its electronics are too hot", "let it cool down"),
    0xC: ("its winding is too hot", "let it cool down"),
    0xD: ("it had no command within its time-out", "give a longer watchdog_ms if cycles are slow"),
    0xE: ("overload", "find what holds or pushes the joint, and lower its load"),
}


def special(ident: int, what: str) -> bytes:
    """The frame of a command that is no target: clear (a fault), enable, disable."""
    return can_frame(ident, b"\xff" * 7 + bytes([_SPECIAL[what]]))


def fault_of(first: int) -> str:
    """The words for the first byte of a reply: motor and fault."""
    name = FAULTS.get(first >> 4, (f"fault {first >> 4:#x}, which the maker does not name", ""))[0]
    return f"motor {first & 0x0F}: {name}"


class State(NamedTuple):
    """A reply: the state in its first byte, and all its bytes."""

    code: int
    data: bytes


class Motors:
    """Questions to the motors of one device. All raise DeviceError with motor, place, remedy."""

    def __init__(self, device: str, options: DamiaoOptions) -> None:
        self._device = device
        self._options = options
        self.socket: CanSocket | None = None

    def open(self) -> CanSocket:
        """Open the bus."""
        self.socket = CanSocket(self._device, self._options.channel)
        return self.socket

    def close(self) -> None:
        """Close it; it may always be called."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def refusal(self, ident: int, trouble: str) -> DeviceError:
        """A DeviceError of one motor."""
        return DeviceError(
            f"device {self._device}: motor {ident} on {self._options.channel}: {trouble}"
        )

    def _ask(self, frame: bytes, is_answer: Callable[[CanFrame], bool]) -> CanFrame | None:
        """Send a frame; the first answer that fits, by a few tries."""
        assert self.socket is not None
        for _ in range(_TRIES):
            while self.socket.receive(0) is not None:
                pass  # of a question before
            self.socket.send(frame)
            until_ns = time.monotonic_ns() + _ANSWER_NS
            while (answer := self.socket.receive(until_ns)) is not None:
                if is_answer(answer):
                    return answer
        return None

    def _register(self, ident: int, number: int, value: bytes | None = None) -> CanFrame:
        head = ident.to_bytes(2, "little")
        kind = _READ if value is None else _WRITE

        def is_answer(frame: CanFrame) -> bool:
            return frame.ident != REGISTERS and frame.data[:4] == head + bytes([kind, number])

        answer = self._ask(question(ident, kind, number, *(value or b"")), is_answer)
        if answer is None:
            raise self.refusal(
                ident,
                f"no answer to the question for register {number}; is it powered, is {ident} its "
                f"id (register 8), and is {self._options.bitrate} the bus's bit rate?",
            )
        return answer

    def feedback_id(self, ident: int) -> int:
        """The CAN id under which a motor answers."""
        return self._register(ident, FEEDBACK_ID).ident

    def number(self, ident: int, register: int) -> int:
        """A register of a whole number."""
        return int.from_bytes(self._register(ident, register).data[4:8], "little")

    def real(self, ident: int, register: int) -> float:
        """A register of a float."""
        value: float = struct.unpack("<f", self._register(ident, register).data[4:8])[0]
        return value

    def set(self, ident: int, what: str, register: int, value: int) -> None:
        """Write a whole number, which is gone with the power, and read it back."""
        if self.number(ident, register) == value:
            return
        self._register(ident, register, struct.pack("<I", value))
        found = self.number(ident, register)
        if found != value:
            raise self.refusal(
                ident,
                f"{what} (register {register}) is {found} after {value} was written; set it with "
                f"the maker's tool",
            )

    def _state(self, ident: int, frame: bytes) -> State | None:
        feedback = self._options.feedbacks[self._options.ids.index(ident)]

        def is_answer(answer: CanFrame) -> bool:
            is_its = answer.data[:1] and answer.data[0] & 0x0F == ident & 0x0F
            return answer.ident == feedback and len(answer.data) == 8 and bool(is_its)

        answer = self._ask(frame, is_answer)
        return None if answer is None else State(answer.data[0] >> 4, answer.data)

    def state(self, ident: int) -> State:
        """Ask what every cycle asks of one motor."""
        found = self._state(ident, question(ident, ASK_STATE))
        if found is None:
            raise self.refusal(
                ident,
                f"it answers for its registers, but not with its state ({ASK_STATE:#x} under "
                f"{REGISTERS:#x}), which every cycle asks; bring its firmware up to date",
            )
        return found

    def command(self, ident: int, frame: bytes) -> State:
        """Send a command, or one of the special ones; the state that confirms it."""
        found = self._state(ident, frame)
        if found is None:
            raise self.refusal(ident, "no answer to a command; check its power and the bus")
        return found

    def check_fault(self, ident: int, state: State) -> None:
        """Raise DeviceError where the motor reports a fault: it has let go of its load."""
        if state.code < FIRST_FAULT:
            return
        name, remedy = FAULTS.get(state.code, ("a fault that the maker does not name", "see it"))
        raise self.refusal(
            ident,
            f"{name} (its state is {state.code:#x}); {remedy}, support the arm, then switch its "
            f"power off and on",
        )
