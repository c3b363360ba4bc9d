"""What of a frame goes with an observation: statuses, ages, the act, and commands that were missed.

A frame's record is unpacked once, and the dict holds nothing that the robot will write over.
"""

from struct import Struct
from typing import Any

import numpy as np

from inphase import wire
from inphase.follow import StoreFollower
from inphase.packets import REASONS

_HEADER = 13  # numbers of wire.HEADER
_ROW = 10  # numbers of wire.ROW
_AGE, _STATUS, _REASON = 5, 7, 8  # in a row
_FRAME_REASON = 11  # in the header
_LIMITED = 1 << wire.ACT_FLAGS.index("LIMITED")
_MISSED = 1 << wire.ACT_FLAGS.index("MISSED")
_INVALID = 1 << wire.ACT_FLAGS.index("INVALID")


class Report:
    """Makes the dicts of one run's frames, taken in order."""

    def __init__(self, follower: StoreFollower) -> None:
        layout = follower.layout
        self._follower = follower
        self._number = follower.number
        count = len(layout.sensors)
        heads = "".join(f"4I{16 * channels}x" for _, channels, _ in layout.actuators)
        self._struct = Struct("<9q4I" + "7q2HI" * count + heads)
        self._sequences = slice(_HEADER, _HEADER + _ROW * count, _ROW)
        rows = [(name, _HEADER + _ROW * i) for i, name in enumerate(layout.sensors)]
        self._sensors = [(name, at + _AGE, at + _STATUS, at + _REASON) for name, at in rows]
        first_act = _HEADER + _ROW * count
        self._acts = [(name, first_act + 4 * i) for i, (name, _, _) in enumerate(layout.actuators)]
        self._offset = layout.acts_offset
        self._applied = np.array(_applied_words([c for _, c, _ in layout.actuators]), np.intp)

    def unpack(self, record: bytes) -> tuple[int, ...]:
        """All numbers of a record but the commands."""
        return self._struct.unpack_from(record)

    def sequences(self, facts: tuple[int, ...]) -> tuple[int, ...]:
        """The samples' numbers, by sensor."""
        return facts[self._sequences]

    def info(self, facts: tuple[int, ...], record: bytes) -> dict[str, Any]:
        """The dict of a frame, the next one that was given.

        `cycle`; per sensor `status`, `age_ns` where it is known, and `reason` where there is one;
        per channel what was `applied` in the act before the frame, with `limited`, and `refused`
        per actuator that did not follow; `missed` and `invalid`, the cycles since the frame before
        without a command and with one that was refused; `latched`: why motion is, where it is.
        """
        status, age_ns, reason, refused = {}, {}, {}, {}
        for name, age_at, status_at, reason_at in self._sensors:
            status[name] = wire.STATUSES[facts[status_at]]
            if facts[age_at] != wire.ABSENT:
                age_ns[name] = facts[age_at]
            if facts[reason_at]:
                reason[name] = REASONS[facts[reason_at]]
        flags = 0
        for name, at in self._acts:
            flags |= facts[at]
            if facts[at + 1]:
                refused[name] = REASONS[facts[at + 1]]
        missed, invalid = self._count(flags)
        info = {
            "cycle": facts[0],
            "status": status,
            "age_ns": age_ns,
            "reason": reason,
            "applied": np.frombuffer(record, np.float64, -1, self._offset)[self._applied],
            "limited": flags & _LIMITED != 0,
            "refused": refused,
            "missed": missed,
            "invalid": invalid,
        }
        if facts[_FRAME_REASON]:
            info["latched"] = REASONS[facts[_FRAME_REASON]]
        return info

    def _count(self, flags: int) -> tuple[int, int]:
        """Cycles since the frame before that had no command, and a bad one, by this frame's act
        and those of the frames between; what is written over already had none."""
        missed = 1 if flags & _MISSED else 0
        invalid = 1 if flags & _INVALID else 0
        number = self._follower.number
        for between in range(self._number + 1, number):
            record = self._follower.reader.past(between)
            facts = self._struct.unpack_from(record) if record is not None else None
            passed = self._flags(facts) if facts is not None else _MISSED
            missed += passed & _MISSED != 0
            invalid += passed & _INVALID != 0
        self._number = number
        return missed, invalid

    def _flags(self, facts: tuple[int, ...]) -> int:
        """Of all actuators' acts."""
        flags = 0
        for _, at in self._acts:
            flags |= facts[at]
        return flags


def _applied_words(channels: list[int]) -> list[int]:
    """Where the applied values lie in the acts, in words of 8 bytes."""
    words: list[int] = []
    at = 0
    for count in channels:
        at += 2  # wire.ACT
        words += range(at + count, at + 2 * count)
        at += 2 * count
    return words
