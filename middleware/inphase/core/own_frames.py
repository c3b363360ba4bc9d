"""The frames of a core on virtual time, for the thread that runs it."""

import copy
from functools import cached_property
from typing import Any

from inphase.frames.frame import Frame
from inphase.frames.store_follower import SLOT_HEADER, StoreFollower


class OwnFrames(StoreFollower):
    """The frames of a store that this very thread writes: nothing is waited for or checked."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.newest = -1
        """number of the newest frame that was given; a loop that takes records itself sets it"""
        self.mask = self.reader.frame_ring[3] - 1  # a power of two
        self.memory = self.reader.memory
        self._is_over = False

    @cached_property
    def records(self) -> list[slice]:
        """Where the records lie in `memory`, by `mask & number`."""
        first, stride, size, depth = self.reader.frame_ring
        starts = (first + slot * stride + SLOT_HEADER for slot in range(depth))
        return [slice(at, at + size) for at in starts]

    def of_next(self, epoch: int, facts: dict[str, Any]) -> "OwnFrames":
        """Of the next run in this memory: another epoch, other facts, and the rest as it is.
        Samples of this run are not whole any more."""
        made = copy.copy(self)
        self._is_over = True
        made.newest = -1
        made.description = {**self.description, "epoch": epoch, **facts}
        made.layout = copy.copy(self.layout)
        object.__setattr__(made.layout, "epoch", epoch)
        return made

    def intact(self, sensor: int, sequence: int) -> bool:
        """True if the slot still holds that sample, of this run."""
        return not self._is_over and super().intact(sensor, sequence)

    def whole(self, record: bytes) -> bool:
        """True if every slot still holds the sample that the record names, of this run."""
        return not self._is_over and super().whole(record)

    @property
    def number(self) -> int:
        """Number of the newest frame that was given."""
        return self.newest

    def peek(self, number: int) -> Frame:
        """A frame that was latched lately; it does not count as given."""
        return Frame(self.layout, self.memory[self.records[number & self.mask]], self)

    def frame(self, number: int) -> Frame:
        """A frame that was just latched."""
        self.newest = number
        return Frame(self.layout, self.memory[self.records[number & self.mask]], self)
