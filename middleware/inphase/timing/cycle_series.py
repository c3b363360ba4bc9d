"""A number per cycle of a run, in a file without a name: memory holds what is looked at."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError

Numbers = NDArray[np.int64]
UNTOLD, NONE, STOOD, LATE, OFFLINE, INVALID = -1, -2, -3, -4, -5, -6
"""of a sample: no frame tells; it never came; the device gave its last sample again; it came after
its frame and before the next trigger; the device was gone; it was refused"""
DOUBT = 1 << 60
"""is added to the duration of a sample of which it is not sure that it answers this trigger"""
_BLOCK = 1 << 16


def no_room(error: OSError, size: int) -> RecordingError:
    """The error of a file without a name that cannot have so many bytes."""
    return RecordingError(
        f"no room for {size} bytes in {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a "
        f"folder with room"
    )


class CycleSeries:
    """A number in nanoseconds, 0 or more, for each cycle from `first` on; or UNTOLD and so on.

    It has a file of 8 bytes per cycle: `close` ends it. Raises RecordingError where there is no
    room for that.
    """

    def __init__(self, first: int, cycles: int) -> None:
        self.first = first
        self.cycles = cycles
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (close is its end)
        size = 8 * max(1, cycles)
        try:  # all of it: a page that finds no room later would kill the process
            os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            self._file.close()
            raise no_room(error, size) from error
        self._stored: np.memmap[Any, Any] = np.memmap(self._file, "<i8", "r+", shape=(cycles or 1,))
        """one more than the number: a file of zeros says nothing"""

    def put(self, cycles: Numbers, values: Numbers | int) -> None:
        """Set the numbers of these cycles; of those outside of the series nothing is kept."""
        places = cycles - self.first
        is_in = (places >= 0) & (places < self.cycles)
        kept = values if isinstance(values, int) else values[is_in]
        self._stored[places[is_in]] = kept + 1

    def at(self, cycles: Numbers) -> Numbers:
        """The numbers of these cycles; UNTOLD outside of the series."""
        places = cycles - self.first
        is_in = (places >= 0) & (places < self.cycles)
        found = np.full(len(cycles), UNTOLD, np.int64)
        found[is_in] = self._stored[places[is_in]] - 1
        return found

    def blocks(self, every: int = 1) -> Iterator[Numbers]:
        """All numbers in order, a part at a time; every: of the cycles that this divides."""
        step = max(1, _BLOCK // every) * every
        for start in range(-self.first % every, self.cycles, step):
            yield self._stored[start : start + step : every] - 1

    def all(self, cycles: int) -> Numbers:
        """The first so many numbers."""
        return np.asarray(self._stored[:cycles] - 1)

    def close(self) -> None:
        """Its file is gone."""
        del self._stored
        self._file.close()
