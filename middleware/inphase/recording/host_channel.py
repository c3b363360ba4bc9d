"""Disturbances of the cycle thread by its host, as a channel of a recording beside the frames.

The supervisor counts about 20 times a second. So a message tells of a stretch of time, and not of a
cycle. RECORDING.md has its fields.
"""

import numpy as np

from inphase.frames import store
from inphase.recording.channels import PACKAGE
from inphase.recording.message_shape import Group, MessageShape, Number

HOST_TOPIC = "/host"
HOST_MEANING = (
    "page faults, preemption and stolen time of the cycle thread: from_ns, until_ns, page_faults, "
    "preemptions, waited_ns, stolen_ns"
)
_UNKNOWN = -1
_I8 = np.dtype("<i8")
_COUNTED = ("page_faults", "preemptions", "waited_ns", "stolen_ns")
_LOOK_NS = 20_000_000  # of frames: the supervisor counts every 50 ms at most


def host_shape() -> MessageShape:
    """Of a message; a count that the kernel does not tell is absent."""
    numbers = [Number("from_ns", _I8), Number("until_ns", _I8)]
    numbers += [Number(name, _I8, absent=_UNKNOWN) for name in _COUNTED]
    group = Group("", f"{PACKAGE}.Host", tuple(numbers))
    return MessageShape(group, np.dtype([(one.name, _I8) for one in numbers]))


class HostFollower:
    """Makes the messages of a store whose supervisor counts. Thread: one at a time."""

    def __init__(self, reader: store.Reader | None) -> None:
        """reader: None where the store is not on this host: then there is no message."""
        self._reader = reader
        self.shape = host_shape()
        self._before: dict[str, int] | None = None
        self._next_ns = 0

    def after(self, latched_ns: int) -> bytes | None:
        """The message behind a frame that was latched then; None: nothing new was counted."""
        if self._reader is None or latched_ns < self._next_ns:
            return None
        self._next_ns = latched_ns + _LOOK_NS
        now, before = self._reader.host(), self._before
        if now is None or (before is not None and now["ended_ns"] == before["ended_ns"]):
            return None
        self._before = now
        if before is None:
            return None
        since = [_difference(before[name], now[name]) for name in _COUNTED]
        # what came between two readings came after the first one began, and before the second ended
        plain = np.array([before["began_ns"], now["ended_ns"], *since], _I8)
        return self.shape.encode(plain.tobytes())


def _difference(before: int, now: int) -> int:
    return now - before if _UNKNOWN not in (before, now) else _UNKNOWN
