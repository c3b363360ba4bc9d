"""Disturbances of the cycle thread, as channels of a recording beside the frames.

The supervisor counts about 20 times a second. So a message of `/host` tells of a stretch of time,
and not of a cycle. One of `/late` tells a late moment of a cycle, and whose fault it was.
RECORDING.md has their fields.
"""

from collections.abc import Iterator

import numpy as np

from inphase.core.late_moment import LATE, NUMBERS, THIEF_BYTES
from inphase.frames import store
from inphase.frames.record_layout import CAUSES, LATE_PHASES, WHYS
from inphase.recording.channels import PACKAGE
from inphase.recording.message_shape import Group, MessageShape, Number

HOST_TOPIC = "/host"
HOST_MEANING = (
    "page faults, preemption and stolen time of the cycle thread: from_ns, until_ns, page_faults, "
    "preemptions, waited_ns, stolen_ns"
)
LATE_TOPIC = "/late"
LATE_MEANING = (
    "late moments of cycles, and whose fault they were: cycle, due_ns, until_ns, the numbers of "
    f"phase ({', '.join(LATE_PHASES)}), cause ({', '.join(CAUSES)}) and why ({', '.join(WHYS)}), "
    "sensor, thief and its process, and what was counted"
)
_UNKNOWN = -1
_I8 = np.dtype("<i8")
_MAY_BE_ABSENT = (
    "sensor",
    "missing_bytes",
    "held_ns",
    "stolen_ns",
    "interrupt_ns",
    "ran_ns",
    "waited_ns",
    "page_faults",
)
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


def late_shape() -> MessageShape:
    """Of a message of a late moment; a count that the kernel does not tell is absent."""
    numbers = [
        Number(name, _I8, absent=_UNKNOWN if name in _MAY_BE_ABSENT else None) for name in NUMBERS
    ]
    numbers += [
        Number("causes", _I8, (len(CAUSES),)),
        Number("thief", np.dtype(np.uint8), (THIEF_BYTES,)),
    ]
    return MessageShape(Group("", f"{PACKAGE}.Late", tuple(numbers)), LATE)


class LateFollower:
    """Makes the messages of a store whose supervisor tells late moments. Thread: one at a time."""

    def __init__(self, reader: store.Reader | None) -> None:
        """reader: None where the store is not on this host: then there is no message."""
        self._reader = reader
        self.shape = late_shape()
        self._next = 0

    def after(self) -> Iterator[tuple[int, bytes]]:
        """Those that are new, each with its number."""
        if self._reader is None:
            return
        while self._next < self._reader.lates():
            number, self._next = self._next, self._next + 1
            if (found := self._reader.late(number)) is not None:
                yield number, self.shape.encode(found)


def _difference(before: int, now: int) -> int:
    return now - before if _UNKNOWN not in (before, now) else _UNKNOWN
