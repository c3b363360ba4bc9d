"""The frames of a core on virtual time, for the thread that runs it."""

from inphase.frames.frame import Frame
from inphase.frames.store_follower import SLOT_HEADER, StoreFollower


class OwnFrames(StoreFollower):
    """The frames of a store that this very thread writes: nothing is waited for or checked."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.newest = -1
        """number of the newest frame that was given; a loop that takes records itself sets it"""
        first, stride, size, depth = self.reader.frame_ring
        starts = (first + slot * stride + SLOT_HEADER for slot in range(depth))
        self.records = [slice(at, at + size) for at in starts]
        """where the records lie in `memory`, by `mask & number`"""
        self.mask = depth - 1  # a power of two
        self.memory = self.reader.memory

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
