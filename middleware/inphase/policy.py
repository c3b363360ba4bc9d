"""The policy: a callable named in the schedule, and the loop of its own process.

    python -m inphase.policy SCHEDULE STORE MAILBOX
    python -m inphase.policy SCHEDULE STORE --lockstep FD

A policy is a function or an object called with a frame; it returns a command: an array of all
actuators' channels in schedule order, or a dict of actuator name to array, in SI; None for no
command in this cycle. It may have `reset()`. A class is made once, with the schedule's `args`.
"""

import gc
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import process, schedule, store
from inphase._core import ffi
from inphase.calls import resolve_call
from inphase.errors import RuntimeFault, ScheduleError
from inphase.follow import StoreFollower
from inphase.frame import Frame
from inphase.packets import REASONS
from inphase.schedule import Schedule

PolicyCall = Callable[[Frame], Any]
_ARRAY = np.ndarray
_TRACEBACKS = 3  # shown in full; later ones would flood


def load(described: Schedule) -> PolicyCall:
    """Import and make the schedule's policy, and reset it. Raises ScheduleError."""
    assert described.policy is not None
    try:
        found = resolve_call(described.policy.call, described.path.parent)
        if isinstance(found, type):
            found = found(**described.policy.args)
    except ScheduleError as error:
        raise described.error("policy.call", str(error)) from error
    except Exception as error:
        raise described.error(
            "policy.args", f"{described.policy.call} cannot be made: {error!r}; correct args"
        ) from error
    if not callable(found):
        raise described.error("policy.call", f"{described.policy.call} is not callable")
    reset = getattr(found, "reset", None)
    if callable(reset):
        reset()
    return found


class CommandBuffer:
    """Turns what a policy returns into doubles that C can take."""

    def __init__(self, actuators: tuple[tuple[str, int, str], ...]) -> None:
        self.channels = sum(channels for _, channels, _ in actuators)
        self._values = np.zeros(self.channels)
        self.pointer = ffi.cast("double *", ffi.from_buffer(self._values))
        self._memory: Any = memoryview(self._values.data)
        self._parts: dict[str, slice] = {}
        at = 0
        for name, channels, _ in actuators:
            self._parts[name] = slice(at, at + channels)
            at += channels

    def tobytes(self) -> bytes:
        """The values as little-endian float64."""
        return self._values.tobytes()

    def frombytes(self, values: bytes) -> None:
        """Take values in as `tobytes` gives them."""
        self._values[:] = np.frombuffer(values)

    def fill(self, command: Any) -> str | None:
        """Take a command in; the reason when it is none."""
