"""A policy's command as doubles that C takes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi
from inphase.devices.packets import Refusal
from inphase.schedule import Schedule

_ARRAY = np.ndarray


class CommandBuffer:
    """Turns what a policy returns into doubles that C can take."""

    def __init__(self, actuators: tuple[tuple[str, int, str], ...], chunk: int = 1) -> None:
        channels = sum(channels for _, channels, _ in actuators)
        self.count = chunk * channels
        """doubles in it"""
        self._values = np.zeros(channels if chunk == 1 else (chunk, channels))
        self.pointer = ffi.cast("double *", ffi.from_buffer(self._values))
        self._memory: Any = memoryview(self._values.data)
        self._shape = self._values.shape
        self._parts: dict[str, NDArray[np.float64]] = {}
        at = 0
        for name, width, _ in actuators:
            self._parts[name] = self._values[..., at : at + width]
            at += width

    def tobytes(self) -> bytes:
        """The values as little-endian float64."""
        return self._values.tobytes()

    def frombytes(self, values: bytes) -> None:
        """Take values in as `tobytes` gives them."""
        self._values[:] = np.frombuffer(values).reshape(self._shape)

    def fill(self, command: Any) -> str | None:
        """Take a command in; the reason when it is none."""
        # nearly every command is an array of float64, and memory takes no other type or length
        if type(command) is _ARRAY:
            try:
                self._memory[:] = command
                return None
            except (TypeError, ValueError, BufferError, NotImplementedError):
                pass
        return self._fill_other(command)

    def _fill_other(self, command: Any) -> str | None:
        if command is None:
            return "silent"
        if isinstance(command, Refusal):
            return command.reason
        if isinstance(command, dict):
            if command.keys() != self._parts.keys():
                return "shape"
            for name, part in command.items():
                trouble = self._put(self._parts[name], part)
                if trouble:
                    return trouble
            return None
        return self._put(self._values, command)

    def _put(self, to: NDArray[np.float64], values: Any) -> str | None:
        if type(values) is not np.ndarray:
            try:
                values = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                return "shape"
        if values.shape != to.shape or values.dtype.kind not in "fiu":
            return "shape"
        to[:] = values
        return None


def make_buffer(described: Schedule, actuators: tuple[tuple[str, int, str], ...]) -> CommandBuffer:
    """Room for the policy's answer."""
    chunk = described.policy.chunk if described.policy is not None else 1
    return CommandBuffer(actuators, chunk)
