"""The policy's answers in a recording: to which frame, and how long it took.

An answer is told by the frame after the act that followed it. An answer that was too late for every
act is in no frame.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import ABSENT
from inphase.timing.cycle_series import CycleSeries, Numbers
from inphase.timing.recorded_schedule import PolicyFacts, RecordedSchedule


class Answers:
    """Inference times by the cycle of the frame that was answered.

    The policy is a server: it takes the newest frame that is due, as soon as it is free. An
    inference lasts from the latch of its frame, or from the answer before if that came later.
    """

    def __init__(
        self, schedule: RecordedSchedule, latched: CycleSeries, inference: CycleSeries
    ) -> None:
        self._policy = schedule.policy or PolicyFacts(1, 0, 1, 1, interpolates=False)
        self._latched = latched
        self.inference = inference
        self._posted_ns = -1
        self._answered = -1
        self.count = 0
        """answers that were followed"""
        self.missed = 0
        """cycles without a command of their own"""

    @property
    def every(self) -> int:
        """A frame of so many is for the policy."""
        return self._policy.every

    def take(self, frames: NDArray[Any], before: NDArray[Any] | None, start_ns: int) -> None:
        """Those that these frames are the first to tell. before: the frame before them."""
        posted = frames["inferred_ns"]
        acted = frames["acted_cycle"]
        last = (-1, -1) if before is None else (before["inferred_ns"], before["acted_cycle"])
        self.missed += int(
            np.count_nonzero((np.diff(acted, prepend=last[1]) != 0) & (posted == ABSENT))
        )
        is_new = (posted != ABSENT) & (np.diff(posted, prepend=last[0]) != 0)
        posted, acted = posted[is_new] - start_ns, acted[is_new]
        if self._policy.chunk > 1:
            for one, of_cycle in zip(posted.tolist(), acted.tolist(), strict=True):
                self._follow_chunk(one, of_cycle)
        else:
            self._follow(posted, self._frames_of(acted))

    def _frames_of(self, acted: Numbers) -> Numbers:
        """The cycles of the frames that commands of these cycles answer."""
        since = acted - self._policy.latency_cycles
        between = since % self._policy.spacing
        if self._policy.interpolates:  # it is gone to the command that comes next
            return np.asarray(since + (self._policy.spacing - between) % self._policy.spacing)
        return np.asarray(since - between)

    def _follow(self, posted: Numbers, answered: Numbers) -> None:
        """Answers in their order."""
        latched = self._latched.at(answered)
        free = np.concatenate([[self._posted_ns], posted[:-1]])
        is_known = (latched >= 0) & (posted >= latched)
        took = posted - np.maximum(latched, free)
        self.inference.put(answered[is_known], np.maximum(0, took[is_known]))
        self.count += int(np.count_nonzero(is_known))
        if len(posted):
            self._posted_ns = int(posted[-1])

    def _follow_chunk(self, posted_ns: int, acted: int) -> None:
        """An answer of several commands; acted: the cycle in which one is seen for the first
        time."""
        policy, every = self._policy, self._policy.every
        newest = (acted - policy.latency_cycles + policy.spacing) // every * every
        oldest = newest - policy.chunk * policy.spacing - every
        cycle = self._answered + every
        if self._answered < 0 or cycle < oldest:  # of answers before it nothing is known
            cycle = oldest
            while self._is_latched(cycle + every, posted_ns) and cycle + every <= newest:
                cycle += every
        else:
            # it takes what was due when it was free, or waits for the next one
            while self._is_latched(cycle + every, self._posted_ns):
                cycle += every
            latched_ns = self._latch(cycle)
            if 0 <= latched_ns <= posted_ns:
                took = posted_ns - max(latched_ns, self._posted_ns)
                self.inference.put(np.array([cycle]), max(0, took))
                self.count += 1
        self._answered = cycle
        self._posted_ns = posted_ns

    def _is_latched(self, cycle: int, by_ns: int) -> bool:
        return 0 <= self._latch(cycle) <= by_ns

    def _latch(self, cycle: int) -> int:
        return int(self._latched.at(np.array([cycle]))[0])
