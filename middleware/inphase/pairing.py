"""Which trigger gave which sample: both sides are counted, from one known pulse on.

A device that counts its samples gives their numbers: number `base + n` belongs to pulse n. One
that is too low is an earlier pulse's, as long as that one is owed its sample; any other number is
a slip: it is said, never passed on as fresh, and counted from anew.

Without numbers pairing is by silence: after a pulse whose sample never came, the next sample may be
the old one. It is not trusted, unless a look into the device's buffer right before the next pulse
found the old one there.
"""

from collections import deque
from typing import NamedTuple

_PULSES = 64  # remembered


class Pulse(NamedTuple):
    """One trigger: its number since the count began, its cycle, and when it was fired."""

    number: int
    cycle: int
    triggered_ns: int


class Verdict(NamedTuple):
    """Which pulse a sample belongs to; None: it cannot be told, or to none that is known."""

    pulse: Pulse | None
    off: int
    """by how many samples the device's count differs from ours"""


class Pairing:
    """The count of pulses and samples of one device. Thread: one at a time."""

    def __init__(self) -> None:
        self._fired = 0
        self._base: int | None = None
        self._owed: deque[Pulse] = deque(maxlen=_PULSES)
        self._is_sure = True

    def fire(self, cycle: int, now_ns: int, left_over: int = 0) -> Pulse:
        """Note a pulse. left_over: samples found in the device's buffer right before it."""
        if left_over:  # what had not come has come: nothing of it can come now
            self._is_sure = True
            self._owed.clear()
        pulse = Pulse(self._fired, cycle, now_ns)
        self._fired += 1
        self._owed.append(pulse)
        return pulse

    def confirm(self, sequence: int | None) -> None:
        """The last pulse gave exactly one sample, of this number: count from here."""
        if sequence is not None:
            self.count_anew(sequence)
        self._owed.clear()
        self._is_sure = True

    def miss(self) -> None:
        """The last pulse has given no sample yet, and is waited for no longer."""
        self._is_sure = False

    def judge(self, sequence: int | None) -> Verdict:
        """Say which pulse the sample that was just read belongs to; it is owed no further one."""
        last = self._fired - 1
        if self._base is None or sequence is None:
            if not self._is_sure:
                self._is_sure = True
                return Verdict(None, 0)
            return Verdict(self._settle(last), 0)
        off = sequence - self._base - last
        pulse = self._settle(last + off) if off <= 0 else None
        return Verdict(pulse, off)

    def count_anew(self, sequence: int) -> None:
        """The sample of this number belongs to the last pulse."""
        self._base = sequence - (self._fired - 1)
        self._owed.clear()

    def _settle(self, number: int) -> Pulse | None:
        """The pulse of that number, if it is still owed its sample; those before it get none."""
        while self._owed and self._owed[0].number < number:
            self._owed.popleft()
        if self._owed and self._owed[0].number == number:
            return self._owed.popleft()
        return None
