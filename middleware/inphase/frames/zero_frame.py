"""A frame that nobody acquired, for a policy to warm up on: zeros, all of them FRESH."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames.frame import Frame, Payloads
from inphase.frames.layout import Layout
from inphase.frames.record_layout import ABSENT, ACT, HEADER, ROW, STATES, STATUSES
from inphase.frames.sample_array import sample_array

_FRESH = STATUSES.index("FRESH")


class _Zeros:
    """Samples of zeros; there was nothing before."""

    def __init__(self, layout: Layout) -> None:
        self._samples = [sample_array(np.zeros((), dtype)) for dtype in layout.dtypes]
        for sample in self._samples:
            sample.flags.writeable = False

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """The sample."""
        return self._samples[sensor]

    def intact(self, sensor: int, sequence: int) -> bool:
        """Always: nobody writes it."""
        return True

    def whole(self, record: bytes) -> bool:
        """Always."""
        return True

    def past(self, cycle: int) -> Iterator[tuple[bytes, Payloads]]:
        """Nothing."""
        return iter(())


def frame(layout: Layout) -> Frame:
    """Cycle 0 at time 0 of a robot that runs, no command before it."""
    stamps = dict.fromkeys(("acted_ns", "inferred_ns", "inference_ns"), ABSENT)
    nothing = dict.fromkeys(("acted_cycle", "answered_cycle", "reason_cycle"), -1) | stamps
    record = HEADER.pack(*HEADER.values(state=STATES.index("running"), **nothing))
    record += ROW.pack(*ROW.values(status=_FRESH)) * len(layout.sensors)
    for _, channels, _ in layout.actuators:
        record += ACT.pack(*ACT.values(channels=channels)) + np.full(2 * channels, np.nan).tobytes()
    return Frame(layout, record, _Zeros(layout))
