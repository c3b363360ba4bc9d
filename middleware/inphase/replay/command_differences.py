"""The commands of a recording and those of another policy, cycle by cycle: where they differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Commands = Mapping[str, NDArray[np.float64]]
"""by actuator, shape (channels,)"""


@dataclass(frozen=True)
class Difference:
    """A value in which the two differ, in SI."""

    cycle: int
    actuator: str
    channel: int
    recorded: float
    answered: float

    def __str__(self) -> str:
        return (
            f"cycle {self.cycle}: {self.actuator}[{self.channel}] was {self.recorded:.9g}, "
            f"this policy gives {self.answered:.9g}"
        )


@dataclass
class Comparison:
    """The outcome, in counts of cycles."""

    compared: int = 0
    """cycles for which both have a command"""
    differ: int = 0
    """cycles of these in which a value differs by more than the tolerance"""
    first: Difference | None = None
    largest: Difference | None = None
    only_recorded: int = 0
    """cycles for which the policy gives none"""
    only_answered: int = 0
    """cycles for which none was recorded"""
    reasons: dict[str, int] = field(default_factory=dict)
    """why the policy gave none, counts"""
    unasked: int = 0
    """frames of which the recording tells no answer, so that the policy was not asked there"""

    def take(
        self, cycle: int, recorded: Commands, answer: Commands | None, tolerance: float
    ) -> None:
        """Count one cycle. answer: None where the policy gave none."""
        was_asked = any(np.isfinite(values).any() for values in recorded.values())
        if answer is None or not was_asked:
            self.only_recorded += was_asked
            self.only_answered += answer is not None
            return
        self.compared += 1
        off = [
            Difference(cycle, name, channel, float(was), float(answer[name][channel]))
            for name, values in recorded.items()
            for channel, was in enumerate(values)
            if not abs(was - answer[name][channel]) <= tolerance
        ]
        if not off:
            return
        self.differ += 1
        self.first = self.first or off[0]
        largest = max(off, key=_size)
        if self.largest is None or _size(largest) > _size(self.largest):
            self.largest = largest


def _size(one: Difference) -> float:
    return abs(one.recorded - one.answered)
