"""The channel between a simulated world's process and a device with a stand-in.

A pair of Unix sockets without a name, one message each way at a time: the device asks for the
world's state at an instant, and computes what it measures by itself; or it says what its actuator
is to do. All numbers are of this machine.
"""

import select
import socket
import struct
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.errors import DeviceError, WorldError

_ASK, _COMMAND, _SWITCH = 1, 2, 3
_ASKED = struct.Struct("=Bxxxxxxxq")
_HEAD = struct.Struct("=Bxxxxxxx")
_STATE = struct.Struct("=qqI4x")
REQUEST_MAX = 4096
_ROOM = 212_992  # what a kernel gives a socket without being asked


class State(NamedTuple):
    """The world at an instant of CLOCK_MONOTONIC: `numbers` as mj_getState gives them."""

    asked_ns: int
    """the instant that was asked for"""
    at_ns: int
    loose: bytes
    """one byte per actuator of the model: 1 where it exerts no force"""
    numbers: NDArray[np.float64]


class Ask(NamedTuple):
    """A device asks for the state at an instant."""

    at_ns: int


class StandInCommand(NamedTuple):
    """A command for an actuator, channel by channel, in the robot's frame."""

    values: list[float]


class Switch(NamedTuple):
    """An actuator follows commands from here on, or exerts no force."""

    on: bool


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def check_size(actuators: int, numbers: int) -> None:
    """Raise WorldError where a model's state is too large for one message."""
    size = _STATE.size + actuators + 8 * numbers
    if size > _ROOM // 2:
        raise WorldError(
            f"the world's state has {size} bytes, and a channel to a device takes {_ROOM // 2}; "
            f"make the model smaller, or run it with --lockstep"
        )


def pack_state(state: State) -> bytes:
    """A state as it goes over a channel."""
    return (
        _STATE.pack(state.asked_ns, state.at_ns, len(state.loose))
        + state.loose
        + state.numbers.tobytes()
    )


def parse(request: bytes) -> Ask | StandInCommand | Switch:
    """A device's request. Raises ValueError for an impossible one."""
    kind = request[0] if request else 0
    if kind == _ASK and len(request) == _ASKED.size:
        return Ask(int(_ASKED.unpack(request)[1]))
    rest = request[_HEAD.size :]
    if kind == _COMMAND and len(rest) % 8 == 0:
        return StandInCommand(np.frombuffer(rest, np.float64).tolist())
    if kind == _SWITCH and len(rest) == 1:
        return Switch(rest != b"\0")
    raise ValueError(f"no such request: {request[:16].hex()}")


class WorldLine:
    """A device's end. Thread: one. Raises DeviceError when the world's process is gone."""

    def __init__(self, fd: int, name: str) -> None:
        self._socket = socket.socket(fileno=fd)
        self._name = name

    def ask(self, at_ns: int) -> None:
        """Ask for the state at an instant; `receive` then waits for it. Answers keep the order."""
        self._send(_ASKED.pack(_ASK, at_ns))

    def command(self, values: NDArray[np.float64]) -> None:
        """Say what the actuator is to do."""
        self._send(_HEAD.pack(_COMMAND) + np.ascontiguousarray(values, np.float64).tobytes())

    def switch(self, on: bool) -> None:
        """Make the actuator follow commands, or exert no force."""
        self._send(_HEAD.pack(_SWITCH) + bytes([on]))

    def receive(self, until_ns: int) -> State | None:
        """The next state that was asked for; None when none came by then."""
        left_s = max(0, until_ns - time.monotonic_ns()) * 1e-9
        if not select.select([self._socket], [], [], left_s)[0]:
            return None
        try:
            data = self._socket.recv(_ROOM)
        except OSError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        asked_ns, at_ns, actuators = _STATE.unpack_from(data)
        end = _STATE.size + actuators
        numbers = np.frombuffer(data[end:], np.float64)
        return State(asked_ns, at_ns, data[_STATE.size : end], numbers)

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> DeviceError:
        return DeviceError(f"device {self._name}: the simulated world's process is gone")
