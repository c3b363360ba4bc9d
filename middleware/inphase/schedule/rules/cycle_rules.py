"""The rules of a schedule's cycle: the grid, the offsets in it, the store and the guard."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.duration import least_ms
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule

_PERIOD_NS_MIN = 100_000
_PERIOD_NS_MAX = 1_000_000_000


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.apply(_check_period)
    inspection.apply(_check_read_deadline)
    inspection.apply(_check_act)
    inspection.apply(_check_store)
    inspection.apply(_check_guard)


def _check_period(schedule: Schedule) -> Iterator[ScheduleFault]:
    cycle = schedule.cycle
    if (cycle.rate_hz is None) == (cycle.period_us is None):
        found, remedy = "none", "add rate_hz = 500, or another rate"
        if cycle.rate_hz is not None:
            found = f"rate_hz = {cycle.rate_hz}, period_us = {cycle.period_us}"
            remedy = "keep one"
        yield schedule.fault(
            "cycle",
            f"exactly one of rate_hz and period_us is needed, got {found}; {remedy}",
            ("cycle.rate_hz", "cycle.period_us"),
        )
        return
    key = "cycle.period_us" if cycle.rate_hz is None else "cycle.rate_hz"
    written = cycle.period_us if cycle.rate_hz is None else cycle.rate_hz
    period = cycle.period_ns
    if not _PERIOD_NS_MIN <= period <= _PERIOD_NS_MAX:
        low, high = _PERIOD_NS_MIN // 1000, _PERIOD_NS_MAX // 1000
        if cycle.period_us is None:
            low, high = 10**9 // _PERIOD_NS_MAX, 10**9 // _PERIOD_NS_MIN
        yield schedule.fault(key, f"the period is {period} ns, got {written}; give {low} to {high}")


def _check_read_deadline(schedule: Schedule) -> Iterator[ScheduleFault]:
    cycle = schedule.cycle
    if cycle.read_deadline_us >= cycle.act_us:
        yield schedule.fault(
            "cycle.read_deadline_us",
            f"{cycle.read_deadline_us} us is not before act_us = {cycle.act_us} us; "
            f"the policy works between the two: move one of them",
        )


def _check_act(schedule: Schedule) -> Iterator[ScheduleFault]:
    cycle = schedule.cycle
    if cycle.act_ns >= cycle.period_ns:
        yield schedule.fault(
            "cycle.act_us",
            f"{cycle.act_us} us is not inside the period of {cycle.period_ns / 1000:g} us; "
            f"act earlier or make the period longer",
        )


def _check_store(schedule: Schedule) -> Iterator[ScheduleFault]:
    depth = schedule.store.depth
    if depth is not None and depth & (depth - 1):
        yield schedule.fault(
            "store.depth", f"not a power of two, got {depth}; give {MEANING['depth']}"
        )


def _check_guard(schedule: Schedule) -> Iterator[ScheduleFault]:
    max_hold_ms, period_ns = schedule.guard.max_hold_ms, schedule.cycle.period_ns
    if max_hold_ms is not None and max_hold_ms * 1e6 < 2 * period_ns:
        yield schedule.fault(
            "guard.max_hold_ms",
            f"{max_hold_ms:g} ms are less than two cycles of {period_ns / 1e6:g} ms: a cycle that "
            f"is late once would end the run; give {least_ms(2 * period_ns)} or more",
        )
