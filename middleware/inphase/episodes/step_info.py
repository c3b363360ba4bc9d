"""What of a frame goes with an observation: statuses, ages, the act, and commands that were missed.

A frame's record is unpacked once, and the dict holds nothing that the robot will write over.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.devices.packets import REASONS
from inphase.frames import wire
from inphase.frames.store_follower import StoreFollower
from inphase.frames.wire import ABSENT, STATUSES

# what is taken of wire.HEADER, of wire.ROW and of wire.ACT with its values
_HEADER = "q80xI12x"  # cycle, reason
_SEQUENCE = f"q{wire.ROW.size - 8}x"
_ROW = "40xq8xHH4x"  # age, status, reason
_ACT = "II8x"  # flags, reason
_LIMITED = 1 << wire.ACT_FLAGS.index("LIMITED")
_MISSED = 1 << wire.ACT_FLAGS.index("MISSED")
_INVALID = 1 << wire.ACT_FLAGS.index("INVALID")

Facts = tuple[int, ...]


class Info(dict[str, Any]):
    """A dict that is filled when it is first looked at: most steps of a learner look at none."""

    __slots__ = ("_facts", "_make")

    def __init__(self, make: Callable[..., dict[str, Any]], *facts: Any) -> None:
        self._make: Callable[..., dict[str, Any]] | None = make
        self._facts = facts

    def fill(self) -> "Info":
        """Now at the latest."""
        make, self._make = self._make, None
        if make is not None:
            super().update(make(*self._facts))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.fill()),)


def _filled(name: str) -> Any:
    """A method of dict, on what is filled."""
    method = getattr(dict, name)

    def call(self: Info, *arguments: Any, **named: Any) -> Any:
        return method(self.fill(), *arguments, **named)

    return call


for _name in (
    *("__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__reversed__"),
    *("__len__", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__repr__"),
    *("get", "keys", "values", "items", "copy", "pop", "popitem", "setdefault", "update", "clear"),
):
    setattr(Info, _name, _filled(_name))


class Report:
    """Makes the dicts of one run's frames, taken in order."""

    def __init__(self, follower: StoreFollower) -> None:
        layout = follower.layout
        channels = [count for _, count, _ in layout.actuators]
        acts = "".join(f"{_ACT}{16 * count}x" for count in channels)
        sensors = len(layout.sensors)
        self._follower = follower
        self._number = follower.number
        self.unpack: Callable[[bytes], Facts] = Struct(
            f"<{_HEADER}{_SEQUENCE * sensors}"
        ).unpack_from
        """cycle; a reason, not 0 where motion is latched; then the samples' numbers, by sensor"""
        self._unpack: Callable[[bytes], Facts] = Struct(
            f"<{_HEADER}{_ROW * sensors}{acts}"
        ).unpack_from
        end = 2 + 3 * sensors
        self._sensors = [(name, 2 + 3 * i) for i, name in enumerate(layout.sensors)]
        self._acts = [(name, end + 2 * i) for i, (name, _, _) in enumerate(layout.actuators)]
        self._applied = _applied(channels, layout.acts_offset)

    def info(self, record: bytes) -> Info:
        """The dict of a frame, the next one that was given.

        `cycle`; per sensor `status`, `age_ns` where it is known, and `reason` where there is one;
        per channel what was `applied` in the act before the frame, with `limited`, and `refused`
        per actuator that did not follow; `missed` and `invalid`, the cycles since the frame before
        without a command and with one that was refused; `latched`: why motion is, where it is.
        """
        number, before = self._follower.number, self._number
        self._number = number
        if number == before + 1:
            return Info(self._made, record, 0, 0)
        return Info(self._made, record, *self._between(before, number))

    def _made(self, record: bytes, missed: int, invalid: int) -> dict[str, Any]:
        facts = self._unpack(record)
        status, age_ns, reason, refused = {}, {}, {}, {}
        for name, at in self._sensors:
            status[name] = STATUSES[facts[at + 1]]
            if facts[at] != ABSENT:
                age_ns[name] = facts[at]
            if facts[at + 2]:
                reason[name] = REASONS[facts[at + 2]]
        for name, at in self._acts:
            if facts[at + 1]:
                refused[name] = REASONS[facts[at + 1]]
        flags = self._flags(facts)
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
            flags = _MISSED if record is None else self._flags(self._unpack(record))
            missed += 1 if flags & _MISSED else 0
            invalid += 1 if flags & _INVALID else 0
        return missed, invalid

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
