"""The facts of a frame beside an observation: statuses, ages, the act, and missed commands.

A frame's record is unpacked once, and the dict holds nothing that the robot will write over.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import (
    ABSENT,
    ACT_FLAGS,
    REASONS,
    STATUSES,
    VALUE_BYTES,
    RecordLayout,
)
from inphase.frames.store_follower import StoreFollower

_HEADER = ("cycle", "reason")
_ROW = ("sequence", "age_ns", "status", "reason")
_ACT = ("flags", "reason")
_LIMITED = 1 << ACT_FLAGS.index("LIMITED")
_MISSED = 1 << ACT_FLAGS.index("MISSED")
_INVALID = 1 << ACT_FLAGS.index("INVALID")

Facts = tuple[int, ...]


class StepInfo:
    """Makes the dicts of one run's frames, taken in order."""

    def __init__(self, follower: StoreFollower) -> None:
        layout = follower.layout
        self._follower = follower
        self.number = follower.number
        """of the frame that was told last"""
        self.unpack: Callable[[bytes], Facts] = layout.record.only(_HEADER, _ROW, _ACT).unpack_from
        """a record's facts: its cycle, a reason, not 0 where motion is latched, and the rest"""
        start = len(_HEADER)
        end = start + len(_ROW) * len(layout.sensors)
        self.sequences = slice(start, end, len(_ROW))
        """the samples' numbers among the facts, by sensor"""
        self._sensors = [(name, start + len(_ROW) * i) for i, name in enumerate(layout.sensors)]
        self._acts = [
            (name, end + len(_ACT) * i) for i, (name, _, _) in enumerate(layout.actuators)
        ]
        self._applied = _applied(layout.record)

    def info(self, record: bytes, facts: Facts) -> dict[str, Any]:
        """The dict of a frame, the next one that was given:

        - `cycle`,
        - per sensor `status`, `age_ns` if it is known, and `reason` if there is one,
        - per channel the values `applied` in the act before the frame, with `limited`,
        - `refused`, per actuator that did not follow,
        - `missed` and `invalid`: cycles since the frame before without a command, and with a
          refused one,
        - `latched`: the reason, while motion is latched.
        """
        return self.described(record, facts, *self.passed())

    def passed(self) -> tuple[int, int]:
        """The frame that was given last counts as told; the commands missed and refused since the
        one before it, but for its own act."""
        number, before = self._follower.number, self.number
        self.number = number
        return (0, 0) if number == before + 1 else self._between(before, number)

    def described(self, record: bytes, facts: Facts, missed: int, invalid: int) -> dict[str, Any]:
        """The dict of any frame: `info` says what is in it; missed, invalid: as of `passed`."""
        status, age_ns, reason, refused = {}, {}, {}, {}
        for name, at in self._sensors:
            _, age, state, why = facts[at : at + 4]
            status[name] = STATUSES[state]
            if age != ABSENT:
                age_ns[name] = age
            if why:
                reason[name] = REASONS[why]
        flags = 0
        for name, at in self._acts:
            flags |= facts[at]
            if facts[at + 1]:
                refused[name] = REASONS[facts[at + 1]]
        info = {
            "cycle": facts[0],
            "status": status,
            "age_ns": age_ns,
            "reason": reason,
            "applied": self._applied(record),
            "limited": flags & _LIMITED != 0,
            "refused": refused,
            "missed": missed + (1 if flags & _MISSED else 0),
            "invalid": invalid + (1 if flags & _INVALID else 0),
        }
        if facts[1]:
            info["latched"] = REASONS[facts[1]]
        return info

    def _between(self, before: int, number: int) -> tuple[int, int]:
        """Of the acts before frames that were not given, those missed and those refused; one that
        is written over was surely missed."""
        missed = invalid = 0
        for between in range(before + 1, number):
            record = self._follower.reader.past(between)
            flags = _MISSED if record is None else self._flags(self.unpack(record))
            missed += 1 if flags & _MISSED else 0
            invalid += 1 if flags & _INVALID else 0
        return missed, invalid

    def _flags(self, facts: Facts) -> int:
        """Of all actuators' acts."""
        flags = 0
        for _, at in self._acts:
            flags |= facts[at]
        return flags


def _applied(layout: RecordLayout) -> Callable[[bytes], NDArray[np.float64]]:
    """A function that gives a record's applied values, channel by channel; they are read-only."""
    if len(layout.channels) == 1:
        count, at = layout.channels[0], layout.applied(0)
        return lambda record: np.frombuffer(record, np.float64, count, at)
    words: list[int] = []
    for actuator, count in enumerate(layout.channels):
        first = (layout.applied(actuator) - layout.acts) // VALUE_BYTES
        words += range(first, first + count)

    def applied(record: bytes) -> NDArray[np.float64]:
        values = np.frombuffer(record, np.float64, -1, layout.acts)[words]
        values.flags.writeable = False
        return values

    return applied
