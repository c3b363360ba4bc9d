"""The samples of a free-running sensor in a recording: when it took them, and how long they took.

A frame names its newest sample. So of a sensor that is faster than the cycle some are not there.
"""

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import ABSENT
from inphase.timing.cycle_series import no_room
from inphase.timing.recorded_schedule import SensorFacts

SAMPLE = np.dtype(
    [("acquired_ns", "<i8"), ("received_ns", "<i8"), ("looked_ns", "<i8"), ("passed", "<i8")]
)
"""looked_ns: the latch of the frame before the first one that names it; passed: samples between
this one and the one before, which no frame names"""


class FreeSamples:
    """Of one sensor, in a file without a name, on the grid's clock. `close` ends it."""

    def __init__(self, facts: SensorFacts) -> None:
        self.facts = facts
        self.count = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (close is its end)

    def take(self, frames: NDArray[Any], before: NDArray[Any] | None, start_ns: int) -> None:
        """Those that these frames are the first to name. before: the frame before them."""
        at = f"sensors.{self.facts.name}."
        numbers = frames[f"{at}sequence"]
        latched = frames["latched_ns"] - start_ns
        step = np.diff(numbers, prepend=-1 if before is None else before[f"{at}sequence"])
        looked = np.append(latched[:1] - 1, latched[:-1])
        if before is not None:
            looked[0] = before["latched_ns"][0] - start_ns
        is_new = step > 0
        fresh = frames[is_new]
        samples = np.zeros(len(fresh), SAMPLE)
        for name in ("acquired_ns", "received_ns"):
            stamps = fresh[at + name]
            samples[name] = np.where(stamps == ABSENT, ABSENT, stamps - start_ns)
        samples["looked_ns"] = looked[is_new]
        samples["passed"] = step[is_new] - 1
        if before is None and len(samples):
            samples["passed"][0] = 0
        self._file.seek(0, 2)
        try:
            self._file.write(samples.tobytes())
            self._file.flush()
        except OSError as error:
            raise no_room(error, samples.nbytes) from error
        self.count += len(samples)

    def read(self, first: int = 0, count: int = -1) -> NDArray[Any]:
        """Some of them in order: acquired_ns may be ABSENT."""
        size = SAMPLE.itemsize
        self._file.seek(first * size)
        return np.frombuffer(self._file.read(-1 if count < 0 else count * size), SAMPLE)

    def close(self) -> None:
        """Its file is gone."""
        self._file.close()


def known(samples: NDArray[Any]) -> NDArray[Any]:
    """Those of which it is known when they were acquired."""
    return np.asarray(samples[samples["acquired_ns"] != ABSENT])
