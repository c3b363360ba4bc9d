"""The outcomes of a sensor's triggers: samples, and what took their place."""

from collections import Counter

import numpy as np

from inphase.timing.cycle_series import DOUBT, INVALID, LATE, NONE, OFFLINE, STOOD, UNTOLD, Numbers
from inphase.timing.recorded_timing import TriggeredTiming
from inphase.timing.tally import Tally


class Outcomes:
    """Counts over all cycles in which a sensor was to be triggered."""

    def __init__(self, sensor: TriggeredTiming, period_ns: int) -> None:
        self.took = Tally()
        """from the trigger to the sample"""
        self.late = 0
        """samples of which it is only known that they were late"""
        self.doubted = 0
        """samples of which it is not sure that they answer their trigger"""
        self.refused = 0
        self.offline = 0
        """cycles without a device"""
        self.standing: list[int] = []
        """how many samples in a row it gave again, each time"""
        self._missing: Counter[int] = Counter()
        """cycles in a row without a sample, each time"""
        self._between_ns = sensor.facts.every * period_ns
        self._is_stamped = sensor.facts.is_stamped
        self._lengths = {NONE: 0, STOOD: 0}
        self._busy = 0
        self._before_first = 0
        """triggers without a sample, as long as there was none at all: its device was starting"""
        self._has_begun = False
        for block in sensor.took.blocks(sensor.facts.every):
            self._take(block)
        self._end(NONE)
        self._end(STOOD)
        if not self._has_begun and self._before_first:
            self._missing[self._before_first] += 1

    def _take(self, codes: Numbers) -> None:
        """Triggers in a row."""
        codes = self._without_start(self._without_busy(codes))
        self.took.add(codes)
        self.late += int(np.count_nonzero(codes == LATE))
        self.doubted += int(np.count_nonzero(codes >= DOUBT))
        self.refused += int(np.count_nonzero(codes == INVALID))
        self.offline += int(np.count_nonzero(codes == OFFLINE))
        for code in (NONE, STOOD):
            self._take_runs(codes == code, code)

    def _without_busy(self, codes: Numbers) -> Numbers:
        """A reply that takes longer than to the next trigger holds that up: it is not fired."""
        codes = codes.copy()
        if self._busy:
            codes[: self._busy][codes[: self._busy] == NONE] = UNTOLD
        self._busy = 0
        is_long = (codes >= self._between_ns) & (codes < DOUBT)
        for at in np.flatnonzero(is_long).tolist():
            held = int(codes[at] // self._between_ns)
            part = codes[at + 1 : at + 1 + held]
            part[part == NONE] = UNTOLD
            self._busy = max(0, at + 1 + held - len(codes))
        return codes

    def _without_start(self, codes: Numbers) -> Numbers:
        """Without what is missing before the first sample."""
        if self._has_begun:
            return codes
        samples = np.flatnonzero(codes >= 0)
        self._has_begun = len(samples) > 0
        start = codes[: samples[0]] if self._has_begun else codes
        self._before_first += int(np.count_nonzero(start == NONE))
        start[start == NONE] = UNTOLD
        return codes

    def _take_runs(self, is_so: np.ndarray[tuple[int], np.dtype[np.bool_]], code: int) -> None:
        edges = np.flatnonzero(np.diff(is_so.astype(np.int8), prepend=0, append=0))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if start > 0:
                self._end(code)
            self._lengths[code] += stop - start
        if len(is_so) and not is_so[-1]:
            self._end(code)

    def _end(self, code: int) -> None:
        length, self._lengths[code] = self._lengths[code], 0
        if length and code == NONE:
            self._missing[length] += 1
        elif length:
            self.standing.append(length)

    @property
    def dropped(self) -> int:
        """Samples that never came. On a line without numbers a missed reply holds up the triggers
        after it, so that the shortest silence is the one of a single sample."""
        unit = 1 if self._is_stamped else min(self._missing, default=1)
        return sum(max(1, length // unit) * count for length, count in self._missing.items())

    @property
    def moving(self) -> int:
        """Samples that were new."""
        return self.took.total

    @property
    def fired(self) -> int:
        """Triggers."""
        answered = self.took.total + self.doubted + self.refused + sum(self.standing)
        return answered + self.dropped
