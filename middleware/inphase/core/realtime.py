"""The rights of the cycle thread."""

from inphase._core import ffi, lib
from inphase.schedule.tables import Cycle


def is_realtime(cycle: Cycle) -> bool:
    """True if the kernel gives this process the cycle thread's priority and core."""
    out = ffi.new("struct inphase_realtime *")
    cpu = -1 if cycle.cpu is None else cycle.cpu
    return lib.inphase_realtime_try(cycle.priority, cpu, out) == 0 and bool(out.granted)
