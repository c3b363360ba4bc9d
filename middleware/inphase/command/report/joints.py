"""Commands over time: the span of requested and applied values of each channel, per slot."""

import numpy as np
from numpy.typing import NDArray

from inphase.command.report.numbers import in_slots


class Joints:
    """The channels of one actuator; a slot without a value has NaN. Arrays: (channels, slots)."""

    def __init__(self, channels: int, slots: int) -> None:
        self.channels = channels
        shape = (channels, slots)
        self.requested_min, self.requested_max = np.full(shape, np.nan), np.full(shape, np.nan)
        self.applied_min, self.applied_max = np.full(shape, np.nan), np.full(shape, np.nan)
        self.apart = np.zeros(channels)
        """largest distance of applied and requested, per channel"""
        self.differing = np.zeros(channels, np.int64)
        """acts in which they differ, per channel"""
        self.requested = np.zeros(channels, np.int64)
        """acts with a requested value, per channel"""

    def add(
        self,
        requested: NDArray[np.float64],
        applied: NDArray[np.float64],
        is_new: NDArray[np.bool_],
        first_slot: int,
        per_slot: int,
    ) -> None:
        """The acts of a stretch of frames, shape (frames, channels); is_new: those that are no
        repetition of the frame before."""
        for channel in range(self.channels):
            wanted = np.where(is_new, requested[:, channel], np.nan)
            given = np.where(is_new, applied[:, channel], np.nan)
            for values, low, high in (
                (wanted, self.requested_min, self.requested_max),
                (given, self.applied_min, self.applied_max),
            ):
                rows = in_slots(values, per_slot)
                slots = slice(first_slot, first_slot + len(rows))
                low[channel, slots], high[channel, slots] = _range(rows)
            apart = np.abs(wanted - given)
            largest = np.max(apart, initial=0.0, where=~np.isnan(apart))
            self.apart[channel] = max(self.apart[channel], largest)
            self.differing[channel] += np.count_nonzero(apart > 0)
            self.requested[channel] += np.count_nonzero(~np.isnan(wanted))


def _range(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and the largest number of each row; NaN where all are NaN."""
    is_known = ~np.isnan(rows)
    low = np.min(rows, axis=1, initial=np.inf, where=is_known)
    high = np.max(rows, axis=1, initial=-np.inf, where=is_known)
    is_any = is_known.any(axis=1)
    return np.where(is_any, low, np.nan), np.where(is_any, high, np.nan)
