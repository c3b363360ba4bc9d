"""A frame that nobody acquired, for a policy to warm up on: zeros, all of them FRESH."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames import wire
from inphase.frames.frame import Frame, Layout, Payloads

_FRESH = wire.STATUSES.index("FRESH")


class _Zeros:
    """Samples of zeros; there was nothing before."""

    def __init__(self, layout: Layout) -> None:
        self._samples = [np.zeros((), dtype) for dtype in layout.dtypes]
        for sample in self._samples:
            sample.flags.writeable = False

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """The sample."""
        return self._samples[sensor]

    def intact(self, sensor: int, sequence: int) -> bool:
        """Always: nobody writes it."""
        return True

    def past(self, cycle: int) -> Iterator[tuple[bytes, Payloads]]:
        """Nothing."""
        return iter(())


def frame(layout: Layout) -> Frame:
    """Cycle 0 at time 0 of a robot that runs, no command before it."""
    times = (0, 0, 0, 0, 0, 0, -1, wire.ABSENT, wire.ABSENT, -1)
    record = wire.HEADER.pack(*times, 0, 0, 0, 0, wire.STATES.index("running"), 0)
    record += wire.ROW.pack(0, 0, 0, 0, 0, 0, 0, _FRESH, 0, 0) * len(layout.sensors)
    for _, channels, _ in layout.actuators:
        record += wire.ACT.pack(0, 0, channels, 0) + np.full(2 * channels, np.nan).tobytes()
    return Frame(layout, record, _Zeros(layout))
