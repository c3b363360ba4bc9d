"""The episodes of a recording, as its frames tell them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import OUTCOMES, name_of

_RUNNING = OUTCOMES.index("running")


class EpisodeMark(NamedTuple):
    """The episode that a frame tells."""

    number: int
    outcome: int

    @property
    def is_running(self) -> bool:
        """The frame belongs to it."""
        return self.outcome == _RUNNING


@dataclass(frozen=True)
class RecordedEpisode:
    """A stretch of a recording's frames: `recording[first]` to `recording[stop - 1]`."""

    number: int
    """from 1 on, in its run"""
    first: int
    stop: int
    outcome: str
    """what the last frame that tells it says; `running`: the recording ends within it"""
    score: float | None = None
    """the highest that a job's classifier gave it; None: none did"""

    def __len__(self) -> int:
        """The number of its frames."""
        return self.stop - self.first


class EpisodeFinder:
    """Takes a recording's frames block by block, in order, and finds the episodes in them."""

    def __init__(self) -> None:
        self._taken = 0
        self._stretches: dict[int, list[int]] = {}
        self._outcomes: dict[int, int] = {}

    def take(self, frames: NDArray[Any]) -> None:
        """The next frames, as `Recording.frames` gives them."""
        numbers, outcomes = frames["episode"], frames["outcome"]
        is_new = np.ones(len(frames), bool)
        is_new[1:] = (numbers[1:] != numbers[:-1]) | (outcomes[1:] != outcomes[:-1])
        starts = np.flatnonzero(is_new).tolist()
        for start, stop in zip(starts, [*starts[1:], len(frames)], strict=True):
            mark = EpisodeMark(int(numbers[start]), int(outcomes[start]))
            if mark.number == 0:
                continue
            self._outcomes[mark.number] = mark.outcome
            if mark.is_running:
                stretch = self._stretches.setdefault(mark.number, [self._taken + start, 0])
                stretch[1] = self._taken + stop
        self._taken += len(frames)

    def found(self, scores: Mapping[str, float]) -> list[RecordedEpisode]:
        """In the order of their frames. scores: of some of them, by number."""
        outcomes = {number: name_of(one, OUTCOMES) for number, one in self._outcomes.items()}
        return [
            RecordedEpisode(number, first, stop, outcomes[number], scores.get(str(number)))
            for number, (first, stop) in self._stretches.items()
        ]
