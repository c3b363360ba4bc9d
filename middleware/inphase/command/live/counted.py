"""Counters of a robot: those of its core, in the store, or of the frames that came."""

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from inphase.core.late_moment import LATE, LateMoment
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.record_layout import HISTOGRAMS, REASONS, STATUSES
from inphase.runtime.words import late_words
from inphase.runtime.words.late_words import Waited

_KEPT = 512  # frames whose times are kept
_BY_FLAG = {"missed": "MISSED", "invalid": "INVALID", "limited": "LIMITED", "starved": "STARVED"}
_LATCH_TO_COMMAND = HISTOGRAMS.index("latch_to_command_ns")


class Counted(Protocol):
    """Counters, by the names of inphase.h."""

    whole: bool
    """since the run's start, and not only in the frames that came"""

    def take(self, frame: Frame) -> None:
        """A frame that came."""

    def status(self) -> Mapping[str, int]:
        """skipped, overruns, latched and reason_cycle."""

    def counts(self) -> Mapping[str, int]:
        """commands, missed, invalid, limited, late_answers and starved."""

    def statuses(self) -> list[dict[str, int]]:
        """Per sensor, frames with each status."""

    def policy(self) -> Mapping[str, int]:
        """From a latch to its command, nanoseconds: count and p50."""

    def late(self, layout: Layout) -> str:
        """Late moments by cause, and whose fault the newest one was; "": there is none."""


class CountedByCore:
    """The counters in a store."""

    whole = True

    def __init__(self, reader: store.Reader) -> None:
        self._reader = reader
        self.status = reader.status
        self.counts = reader.counts
        self.statuses = reader.statuses

    def take(self, frame: Frame) -> None:
        """The core has counted it."""

    def late(self, layout: Layout) -> str:
        """As the supervisor tells it."""
        found = self._reader.late(count - 1) if (count := self._reader.lates()) else None
        if found is None:
            return ""
        late = LateMoment.of(np.frombuffer(found, LATE)[0])
        names = [Waited(name, name, "") for name in layout.sensors]
        return f"late: {late_words.by_cause(late.causes)}; cycle {late.cycle}: " + late_words.cause(
            names, late
        )

    def policy(self) -> Mapping[str, int]:
        """From a latch to its command, nanoseconds."""
        return self._reader.quantiles(_LATCH_TO_COMMAND)


class CountedInFrames:
    """The same of the frames that came, where there is no store."""

    whole = False

    def __init__(self, sensors: int) -> None:
        self._status = {"skipped": 0, "overruns": 0, "latched": 0, "reason_cycle": -1}
        self._counts = dict.fromkeys(("commands", "late_answers", *_BY_FLAG), 0)
        self._statuses = [dict.fromkeys(STATUSES, 0) for _ in range(sensors)]
        self._latched_ns: dict[int, int] = {}
        self._took_ns: deque[int] = deque(maxlen=_KEPT)

    def take(self, frame: Frame) -> None:
        """Count a frame."""
        is_latched = "LATCHED" in frame.flags and frame.reason in REASONS
        self._status["skipped"] += frame.skipped
        self._status["overruns"] += "OVERRUN" in frame.flags
        self._status["latched"] = REASONS.index(frame.reason) if is_latched else 0
        self._status["reason_cycle"] = -1 if frame.reason_cycle is None else frame.reason_cycle
        acts = {flag for act in frame.command for flag in act.flags}
        for name, flag in _BY_FLAG.items():
            self._counts[name] += flag in acts
        is_answer = frame.command.answered_cycle is not None
        self._counts["commands"] += is_answer and "INVALID" not in acts
        for counts, sample in zip(self._statuses, frame.samples.values(), strict=True):
            counts[sample.status] = counts.get(sample.status, 0) + 1
        self._take_answer(frame)

    def _take_answer(self, frame: Frame) -> None:
        self._latched_ns[frame.cycle] = frame.latched_ns
        if len(self._latched_ns) > _KEPT:
            del self._latched_ns[next(iter(self._latched_ns))]
        answered, inferred_ns = frame.command.answered_cycle, frame.command.inferred_ns
        if answered in self._latched_ns and inferred_ns is not None:
            self._took_ns.append(inferred_ns - self._latched_ns[answered])

    def status(self) -> Mapping[str, int]:
        """Of the newest frame, and sums."""
        return self._status

    def counts(self) -> Mapping[str, int]:
        """Frames whose act has such a flag."""
        return self._counts

    def statuses(self) -> list[dict[str, int]]:
        """Per sensor."""
        return self._statuses

    def late(self, layout: Layout) -> str:
        """Frames do not tell it."""
        return ""

    def policy(self) -> Mapping[str, int]:
        """Of the last answers."""
        took = self._took_ns
        return {"count": len(took), "p50": round(statistics.median(took)) if took else 0}
