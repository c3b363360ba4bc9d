"""What of a frame goes with an observation: statuses, ages, the act, and commands that were missed.

A frame's record is unpacked once, and the dict holds nothing that the robot will write over.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import wire
from inphase.follow import StoreFollower
from inphase.packets import REASONS
from inphase.wire import ABSENT, STATUSES

# what is taken of wire.HEADER, of wire.ROW and of wire.ACT with its values
_HEADER = "q72xI4x"  # cycle, reason
_ROW = "q32xq8xHH4x"  # sequence, age, status, reason
_ACT = "II8x"  # flags, reason
_LIMITED = 1 << wire.ACT_FLAGS.index("LIMITED")
_MISSED = 1 << wire.ACT_FLAGS.index("MISSED")
_INVALID = 1 << wire.ACT_FLAGS.index("INVALID")

Facts = tuple[int, ...]
"""cycle; a reason, not 0 where motion is latched; then four per sensor, and two per actuator"""


class Report:
    """Makes the dicts of one run's frames, taken in order."""

    def __init__(self, follower: StoreFollower) -> None:
        layout = follower.layout
        channels = [count for _, count, _ in layout.actuators]
        acts = "".join(f"{_ACT}{16 * count}x" for count in channels)
        self._follower = follower
        self._number = follower.number
        layout_of_facts = Struct(f"<{_HEADER}{_ROW * len(layout.sensors)}{acts}")
        self.unpack: Callable[[bytes], Facts] = layout_of_facts.unpack_from
        """the numbers of a record that are looked at"""
        end = 2 + 4 * len(layout.sensors)
        self.sequences = slice(2, end, 4)
        """of the facts, the samples' numbers by sensor"""
        self._sensors = [(name, 3 + 4 * i) for i, name in enumerate(layout.sensors)]
        self._acts = [(name, end + 2 * i) for i, (name, _, _) in enumerate(layout.actuators)]
        self._applied = _applied(channels, layout.acts_offset)

    def info(self, facts: Facts, record: bytes) -> dict[str, Any]:
        """The dict of a frame, the next one that was given.

        `cycle`; per sensor `status`, `age_ns` where it is known, and `reason` where there is one;
        per channel what was `applied` in the act before the frame, with `limited`, and `refused`
        per actuator that did not follow; `missed` and `invalid`, the cycles since the frame before
        without a command and with one that was refused; `latched`: why motion is, where it is.
        """
        status, age_ns, reason, refused = {}, {}, {}, {}
        for name, at in self._sensors:
            status[name] = STATUSES[facts[at + 1]]
            if facts[at] != ABSENT:
                age_ns[name] = facts[at]
            if facts[at + 2]:
                reason[name] = REASONS[facts[at + 2]]
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
            "missed": 1 if flags & _MISSED else 0,
            "invalid": 1 if flags & _INVALID else 0,
        }
        if facts[1]:
            info["latched"] = REASONS[facts[1]]
        number = self._follower.number
        if number > self._number + 1:
            self._add_between(info, number)
        self._number = number
        return info

    def _add_between(self, info: dict[str, Any], number: int) -> None:
        """Count the acts before frames that were not given; written over: surely missed."""
        for between in range(self._number + 1, number):
            record = self._follower.reader.past(between)
            flags = _MISSED if record is None else self._flags(self.unpack(record))
            info["missed"] += 1 if flags & _MISSED else 0
            info["invalid"] += 1 if flags & _INVALID else 0

    def _flags(self, facts: Facts) -> int:
        """Of all actuators' acts."""
        flags = 0
        for _, at in self._acts:
            flags |= facts[at]
        return flags


def _applied(channels: list[int], offset: int) -> Callable[[bytes], NDArray[np.float64]]:
    """What gives a record's applied values, channel by channel; they cannot be written to."""
    if len(channels) == 1:
        count, at = channels[0], offset + wire.ACT.size + 8 * channels[0]
        return lambda record: np.frombuffer(record, np.float64, count, at)
    words: list[int] = []
    word = 0
    for count in channels:
        word += wire.ACT.size // 8
        words += range(word + count, word + 2 * count)
        word += 2 * count

    def applied(record: bytes) -> NDArray[np.float64]:
        values = np.frombuffer(record, np.float64, -1, offset)[words]
        values.flags.writeable = False
        return values

    return applied
