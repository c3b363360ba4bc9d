"""How late a thread wakes that has the cycle's rights and does nothing: the machine's own share."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.doctor.host_facts import TICKS_PER_S, stolen_ticks
from inphase.schedule.tables import Cycle

_SETTLE_S = 0.3
GRADES = ((0.05, "A"), (0.2, "B"), (0.5, "C"), (1.0, "D"))
"""by the latest wake, as a share of the period; E is what lies beyond"""


class Wakes(NamedTuple):
    """One measurement."""

    name: str
    seconds: float
    late_ns: NDArray[np.int64]
    """of each wake"""
    stolen_ms: float
    """that the host of a virtual machine took from all cores meanwhile"""
    is_realtime: bool

    def quantile_us(self, share: float) -> float:
        """Microseconds that this share of the wakes was late at most."""
        return float(np.quantile(self.late_ns, share, method="higher")) / 1000

    def grade(self, period_ns: int) -> str:
        """A to E, by the latest wake."""
        share = float(self.late_ns.max()) / period_ns
        return next((grade for most, grade in GRADES if share <= most), "E")


def measure(name: str, cycle: Cycle, seconds: float) -> Wakes:
    """Wake with the rights and the period of a cycle for so long. Raises OSError."""
    count = max(1, round(seconds * 1e9 / cycle.period_ns))
    late_ns = np.zeros(count, np.int64)
    out = ffi.new("struct inphase_realtime *")
    cpu = -1 if cycle.cpu is None else cycle.cpu
    stolen = stolen_ticks()
    begun_s = time.monotonic()
    rc = lib.inphase_realtime_wakes(
        cycle.priority, cpu, cycle.period_ns, ffi.from_buffer("int64_t[]", late_ns), count, out
    )
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return Wakes(
        name,
        time.monotonic() - begun_s,
        late_ns,
        1000 * (stolen_ticks() - stolen) / TICKS_PER_S,
        bool(out.granted),
    )


def _spin() -> None:
    while True:
        pass


@contextmanager
def hogs() -> Iterator[None]:
    """A process for each core that computes all the time, at ordinary priority."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    children = [context.Process(target=_spin, daemon=True) for _ in cores]
    try:
        for child in children:
            child.start()
        time.sleep(_SETTLE_S)
        yield
    finally:
        for child in children:
            child.kill()
            child.join()
