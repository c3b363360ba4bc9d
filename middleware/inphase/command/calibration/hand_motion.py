"""The motion of joints by hand, as a sensor saw it: a pose that is to be zero, and a range."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POSE_SAMPLES = 50
STILL_RAD = 0.02
"""a joint that moved by more around a pose was not held still"""


@dataclass
class HandMotion:
    """Samples of one field, channel by channel, as the schedule turns them now."""

    newest: list[NDArray[np.float64]] = field(default_factory=list)
    """the last samples, of which a pose is made"""
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    def take(self, value: Any) -> None:
        """One sample, whatever the shape of its field."""
        sample = np.array(value, np.float64).ravel()
        self.newest = [*self.newest[1 - _POSE_SAMPLES :], sample]
        if self.low is None or self.high is None:
            self.low, self.high = sample.copy(), sample.copy()
        np.minimum(self.low, sample, out=self.low)
        np.maximum(self.high, sample, out=self.high)

    def begin_range(self, pose: NDArray[np.float64]) -> None:
        """Forget where the joints were on their way to the pose: their range begins there."""
        self.low, self.high = pose.copy(), pose.copy()

    def pose(self) -> NDArray[np.float64]:
        """Medians of the last samples. Raises ValueError where a joint was not held still."""
        if not self.newest:
            raise ValueError("no sample came")
        samples = np.array(self.newest)
        spread = samples.max(axis=0) - samples.min(axis=0)
        if (restless := np.flatnonzero(spread > STILL_RAD)).size:
            raise ValueError(
                f"channels {restless.tolist()} moved by {spread.max():.3f} while the pose was taken"
            )
        middle: NDArray[np.float64] = np.median(samples, axis=0)
        return middle

    def range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest value of each channel. Raises ValueError without a sample."""
        if self.low is None or self.high is None:
            raise ValueError("no sample came")
        return self.low, self.high
