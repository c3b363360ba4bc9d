"""Which trigger gave which sample, for devices in workers.

The rules are those of `native/src/collect.c` and `arrival.c`.

A device that counts its samples gives their numbers: number `base + n` belongs to pulse n, any
other does not. If the sample before is missing, it may have been lost, or the device is behind and
counted a pulse twice. Only a silence before the pulse tells these apart. Without numbers pairing is
by silence. A sample belongs to the pulse before it as
long as none was ever left over, and none was ever missing.

Whenever that is in doubt, a device that is a pulse behind looks the same as one that left a pulse
out. Samples are then not trusted until the doubt ends: before a pulse, with nothing left over, and
with the pulse before answered. If pulses are unanswered, either their answers were lost, or the
device is behind. A device that is behind goes on with the next one within its stated worst case. So
no pulse is fired until the line was silent for that long.
"""

_NOT_KNOWN = 1 << 30


class Pairing:
    """The pulses and samples of one device. Times in ns. Thread: one at a time."""

    def __init__(self, worst_ns: int) -> None:
        self.is_suspect = False
        """which pulse the next sample belongs to is not known for sure"""
        self.slips = 0
        """samples of another pulse than the one they came for"""
        self._worst_ns = worst_ns
        self._fired = 0
        self._base: int | None = None
        self._owed = 0  # pulses without a sample, since nothing was in doubt
        self._has_slipped = False
        self._is_answered = True
        self._was_silent = True  # for the worst case, right before the last pulse
        self._quiet_ns = 0
        self._heard_ns = 0

    def confirm(self, sequence: int | None) -> None:
        """The last pulse gave a sample of this number, and nothing else: count from here."""
        self._count_from(sequence)
        self._trust()

    def _count_from(self, sequence: int | None) -> None:
        self._base = None if sequence is None else sequence - self._fired

    def _trust(self) -> None:
        self.is_suspect = False
        self._owed = 0
        self._has_slipped = False
        self._is_answered = True

    @property
    def counts(self) -> bool:
        """True if the device numbers its samples."""
        return self._base is not None

    # ---- before a pulse --------------------------------------------------------------------

    def look(self, left_over: int, now_ns: int) -> bool:
        """So many samples were there right before a pulse, and are thrown away.

        False: no pulse now. The worst case of the one before is not over, or that of an answer that
        is owed.
        """
        extra = left_over - self._owed
        self._owed = max(0, -extra)
        if self.counts and not self.is_suspect:  # silence says nothing: the numbers pair
            if extra > 0:
                self.slip(now_ns)
            return True
        was_answered = self._is_answered
        if left_over:
            self._heard_ns = now_ns
            self._is_answered = True
        if not self._is_answered and now_ns < self._quiet_ns:
            return False
        if self.is_suspect:
            return self._end_doubt(was_answered, left_over, now_ns)
        if extra > 0:
            self.slip(now_ns)
        elif not self._is_answered:
            self.doubt(now_ns)
        if not self.is_suspect:
            self._owed = 0
        return True

    def _end_doubt(self, was_answered: bool, left_over: int, now_ns: int) -> bool:
        if left_over or self._has_slipped or not was_answered:
            self.slips += was_answered and left_over > 0
            self._has_slipped = False
            return True
        if self._owed and now_ns - self._heard_ns < self._worst_ns:
            return False
        self._trust()
        return True

    def fire(self, now_ns: int) -> None:
        """Note a pulse."""
        self._fired += 1
        self._owed += 1
        self._is_answered = False
        self._was_silent = now_ns >= max(self._quiet_ns, self._heard_ns + self._worst_ns)
        self._quiet_ns = now_ns + self._worst_ns

    # ---- after it --------------------------------------------------------------------------

    def answer(self, sequence: int | None, now_ns: int) -> None:
        """A good sample came that is taken for the last pulse's."""
        self._owed = max(0, self._owed - 1)
        self._is_answered = True
        self._heard_ns = now_ns
        if self.is_suspect:
            self._count_from(sequence)
        elif self.counts and self._owed and not self._was_silent:
            self.is_suspect = True
        elif self.counts:  # it accounts for all before it
            self._owed = 0

    def refuse(self, now_ns: int) -> None:
        """One came that was refused: a further one may be the answer, or the rest of it."""
        self._is_answered = True
        self._heard_ns = now_ns

    def doubt(self, now_ns: int) -> None:
        """A sample is missing that may still come."""
        self.is_suspect = True
        self._heard_ns = now_ns

    def slip(self, now_ns: int) -> None:
        """A sample of an earlier pulse came, or one of another number."""
        self.slips += 1
        self._has_slipped = True
        self._owed = max(1, self._owed - 1) if self.is_suspect else _NOT_KNOWN
        self.is_suspect = True
        self._heard_ns = now_ns

    def pass_over(self) -> None:
        """A sample came whose number says that it is an earlier pulse's."""
        self.slips += 1
        self._owed = max(1, self._owed - 1)

    def judge(self, sequence: int | None) -> int:
        """By how many samples the device's count differs from ours: 0 for the last pulse's sample,
        below 0 for one that is older."""
        if self._base is None or sequence is None or self.is_suspect:
            return 0
        return sequence - self._base - self._fired
