"""The policy's answers in a recording: to which frame, and how long it took.

The frame after an act tells the answer that it followed. An act without a command tells an answer
that came too late since the act before. One that came in the same cycle as the next one is told by
nobody: what the next one says of its own start has to do.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import ABSENT
from inphase.timing.cycle_series import CycleSeries
from inphase.timing.recorded_schedule import RecordedSchedule

_PART = 20  # of a period: a policy that took its frame so late after the latch had no time before


class _Told(NamedTuple):
    """An answer: its frame, when the policy took that, and the act that found it."""

    cycle: int
    taken_ns: int
    acted: int


class Answers:
    """Inference times by the cycle of the frame that was answered.

    The policy is a server: it takes the newest frame that is due, as soon as it is free. An
    inference lasts from the latch of its frame, or from the answer before if that came later.
    """

    def __init__(
        self, schedule: RecordedSchedule, latched: CycleSeries, inference: CycleSeries
    ) -> None:
        self._schedule = schedule
        self._latched = latched
        self.inference = inference
        self.every = 1 if schedule.policy is None else schedule.policy.every
        """a frame of so many is for the policy"""
        self._answered = -1
        self._posted_ns = -1
        self.count = 0
        """answers that frames tell"""
        self.guessed = 0
        """answers that no frame tells, and that others leave room for"""
        self.guess_low_ns, self.guess_high_ns = 1 << 62, 0
        """between these times they took"""
        self.censored = 0
        """frames between the first and the last answer of which nothing is known: the policy was
        busy, or its answer came too late"""
        self.missed = 0
        """cycles without a command of their own"""

    def take(self, frames: NDArray[Any], before: NDArray[Any] | None, start_ns: int) -> None:
        """Those that these frames are the first to tell. before: the frame before them."""
        self._count_missed(frames, before)
        posted, answered = frames["inferred_ns"], frames["answered_cycle"]
        last = -1 if before is None else before["inferred_ns"]
        is_new = (posted != ABSENT) & (answered >= 0) & (np.diff(posted, prepend=last) != 0)
        answered, own = answered[is_new], frames["inference_ns"][is_new]
        acted = frames["acted_cycle"][is_new]
        posted = posted[is_new] - start_ns
        if not len(posted):
            return
        latched = self._latched.at(answered)
        is_known = (latched >= 0) & (posted >= latched)
        since = np.maximum(latched, np.append(self._posted_ns, posted[:-1]))
        follows = answered - np.append(self._answered, answered[:-1]) == self.every
        # between two answers in a row it waited for nothing else; else its own word counts
        took = np.where(follows | (own == ABSENT), posted - since, own)
        self.inference.put(answered[is_known], np.maximum(0, took[is_known]))
        self.count += int(np.count_nonzero(is_known))
        has_own = is_known & (own != ABSENT)
        for at in np.flatnonzero(~follows).tolist():
            before_it = (self._answered, self._posted_ns)
            if at > 0:
                before_it = (int(answered[at - 1]), int(posted[at - 1]))
            guessed = 0
            if has_own[at]:
                taken_ns = int(posted[at] - own[at])
                guessed = self._guess(before_it, _Told(int(answered[at]), taken_ns, int(acted[at])))
            self._censor(before_it[0], int(answered[at]), guessed)
        self._answered, self._posted_ns = int(answered[-1]), int(posted[-1])

    def _count_missed(self, frames: NDArray[Any], before: NDArray[Any] | None) -> None:
        has_none = np.ones(len(frames), bool)
        for name in frames.dtype.names or ():
            if name.endswith(".requested"):
                has_none &= ~np.isfinite(frames[name]).any(axis=-1)
        acted = frames["acted_cycle"]
        last = -1 if before is None else before["acted_cycle"]
        is_new = (np.diff(acted, prepend=last) != 0) & (acted >= 0)
        self.missed += int(np.count_nonzero(is_new & has_none))

    def _censor(self, last: int, cycle: int, guessed: int) -> None:
        """Count the frames between two answers that had a turn and have no number."""
        if last >= 0:
            turns = np.arange(last + self.every, cycle, self.every)
            self.censored += int(np.count_nonzero(self._latched.at(turns) >= 0)) - guessed

    def _guess(self, before: tuple[int, int], behind: "_Told") -> int:
        """The answer between two that frames tell: it was too late for its act, and came in the
        same cycle as the one behind it. before: cycle and time of the answer before. How many were
        put, 0 or 1."""
        last, posted_ns = before
        if last < 0:
            return 0
        cycle = last + self.every
        # it takes what was due when it was free, or waits for the next one
        while cycle < behind.cycle and 0 <= self._latch(cycle + self.every) <= posted_ns:
            cycle += self.every
        since_ns, latched_ns = max(self._latch(cycle), posted_ns), self._latch(behind.cycle)
        if cycle >= behind.cycle or since_ns < 0 or latched_ns < 0:
            return 0
        until_ns, schedule = behind.taken_ns, self._schedule
        needed_ns = (cycle + schedule.latency_cycles) * schedule.period_ns + (schedule.act_ns or 0)
        self.guess_low_ns = min(self.guess_low_ns, max(0, needed_ns - since_ns))
        self.guess_high_ns = max(self.guess_high_ns, until_ns - since_ns)
        if until_ns - latched_ns <= schedule.period_ns // _PART:
            # it was free before that frame was latched, and after the act before
            act_ns = (behind.acted - 1) * schedule.period_ns + (schedule.act_ns or 0)
            until_ns = (min(max(act_ns, since_ns), latched_ns) + latched_ns) // 2
        self.inference.put(np.array([cycle]), max(0, until_ns - since_ns))
        self.guessed += 1
        return 1

    def _latch(self, cycle: int) -> int:
        return int(self._latched.at(np.array([cycle]))[0])
