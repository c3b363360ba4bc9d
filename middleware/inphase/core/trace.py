"""The timing of a recorded run, for lock step to follow: struct inphase_trace of native/inphase.h.

The arrays are of int64, in nanoseconds. They live as long as the core.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib

Times = NDArray[np.int64]
NONE, STOOD = int(lib.INPHASE_TRACE_NONE), int(lib.INPHASE_TRACE_STOOD)
"""in place of a duration: no reply comes; the device gives its last sample again"""


@dataclass(frozen=True)
class TriggeredTrace:
    """A sensor that is triggered: one number per cycle."""

    took: Times
    """from the trigger to the reply, or NONE, or STOOD"""
    trigger_late: Times


@dataclass(frozen=True)
class FreeTrace:
    """A free-running sensor: its samples in their order, from the start of the trace on."""

    acquired: Times
    received: Times

    @property
    def longest_ns(self) -> int:
        """From the acquisition of a sample to its receipt, at most."""
        return int(np.max(self.received - self.acquired, initial=0))

    @property
    def between_ns(self) -> int:
        """From a sample to the next, at least."""
        least = int(np.diff(self.acquired).min()) if len(self.acquired) > 1 else 0
        return max(least, self.longest_ns // 900, 1000)


@dataclass(frozen=True)
class Trace:
    """Cycle n has the timing of cycle n modulo `cycles`."""

    cycles: int
    wake_late: Times
    latched: Times
    """from the start of a cycle to its latch"""
    act_late: Times
    inference: Times
    """of the answer to the frame of a cycle; NONE: the policy does not take it"""
    sensors: tuple[TriggeredTrace | FreeTrace, ...]
    """in the schedule's order"""

    def fill(self, made: Any, keep: list[Any]) -> None:
        """Set struct inphase_trace; what it points at is appended to `keep`."""
        sensors = ffi.new("struct inphase_sensor_trace[]", max(1, len(self.sensors)))
        keep.append(sensors)
        for place, sensor in enumerate(self.sensors):
            if isinstance(sensor, FreeTrace):
                sensors[place].acquired = _pointer(sensor.acquired, keep)
                sensors[place].received = _pointer(sensor.received, keep)
                sensors[place].samples = len(sensor.acquired)
            else:
                sensors[place].took = _pointer(sensor.took, keep)
                sensors[place].trigger_late = _pointer(sensor.trigger_late, keep)
        made.cycles = self.cycles
        made.wake_late = _pointer(self.wake_late, keep)
        made.latched = _pointer(self.latched, keep)
        made.act_late = _pointer(self.act_late, keep)
        made.inference = _pointer(self.inference, keep)
        made.sensor = sensors


def _pointer(times: Times, keep: list[Any]) -> Any:
    assert times.dtype == np.int64 and times.flags.c_contiguous
    keep.append(times)
    return ffi.cast("int64_t *", times.ctypes.data)
