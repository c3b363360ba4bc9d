"""Which trigger gave which sample: both sides are counted, from one known pulse on.

A device that counts its samples gives their numbers: number `base + n` belongs to pulse n, any
other does not. Without numbers pairing is by silence: a sample belongs to the pulse before it as
long as none was ever left over, and none was ever missing.

Whenever that is in doubt, a device that is a pulse behind looks the same as one that left a pulse
out, and no count tells them apart. So the count begins anew: a turn without a pulse, in which what
is still under way comes and is thrown away; then one pulse, whose sample is not trusted yet; and
when nothing is left over before the pulse after that, all is known again.
"""

from enum import Enum


class State(Enum):
    """How far the count has come."""

    DOUBTFUL = "the next turn fires no pulse"
    CONFIRMING = "the next sample is the one known pulse's, and is not trusted"
    PAIRED = "samples belong to pulses as they are counted"


class Pairing:
    """The count of pulses and samples of one device. Thread: one at a time."""

    def __init__(self) -> None:
        self.state = State.CONFIRMING
        self._fired = 0
        self._base: int | None = None

    def fire(self) -> None:
        """Note a pulse."""
        self._fired += 1

    def doubt(self) -> None:
        """A sample was missing, left over, or of another number."""
        self.state = State.DOUBTFUL

    def begin(self) -> None:
        """All is quiet: the next pulse is the one to count from."""
        self.state = State.CONFIRMING

    def confirm(self, sequence: int | None) -> None:
        """The last pulse gave a sample of this number: count from here."""
        self._base = None if sequence is None else sequence - self._fired
        self.state = State.PAIRED

    @property
    def counts(self) -> bool:
        """Whether the device numbers its samples."""
        return self._base is not None

    def judge(self, sequence: int | None) -> int:
        """By how many samples the device's count differs from ours: 0 for the last pulse's sample,
        below 0 for one that is older."""
        if self._base is None or sequence is None:
            return 0
        return sequence - self._base - self._fired
