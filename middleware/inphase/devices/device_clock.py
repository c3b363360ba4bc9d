"""A device's own clock, mapped to the host's by the core (`native/src/device_clock.c`)."""

import errno
from dataclasses import dataclass

from inphase._core import ffi, lib

REJECTED: int = lib.INPHASE_CLOCK_REJECTED
TAKEN: int = lib.INPHASE_CLOCK_TAKEN
RESTARTED: int = lib.INPHASE_CLOCK_RESTARTED


@dataclass(frozen=True)
class ClockFacts:
    """The facts of a device's clock; None while there is no mapping."""

    drift_ppb: int | None
    """how much faster than the host's it runs, parts per billion"""
    drift_error_ppb: int | None
    error_ns: int | None
    """how far from the truth a stamp taken now is mapped at most"""
    taken: int
    rejected: int
    resets: int
    """mappings that ended because the device's clock was reset or jumped"""


class DeviceClock:
    """Maps device stamps to the host's monotonic clock. Thread: one at a time."""

    def __init__(self) -> None:
        self._clock = ffi.new("struct inphase_device_clock *")
        lib.inphase_device_clock_init(self._clock)

    def add(self, device_ns: int, earliest_ns: int, latest_ns: int) -> int:
        """Learn that the device took this stamp between two host times.

        Returns REJECTED, TAKEN, or RESTARTED: the device's clock was reset or jumped. Raises
        ValueError when latest_ns is before earliest_ns.
        """
        answer: int = lib.inphase_device_clock_add(self._clock, device_ns, earliest_ns, latest_ns)
        if answer < 0:
            raise ValueError(f"latest_ns {latest_ns} is before earliest_ns {earliest_ns}")
        return answer

    def hear(
        self, device_ns: int, arrival_ns: int, least_ns: int, stated_ns: int, most_ns: int
    ) -> int:
        """Learn that a stamp of a device that is only heard arrived now, by its latency: the least,
        the stated, the worst. Later than the worst is TAKEN, unless it lasts: RESTARTED.

        Raises ValueError when most_ns is before least_ns, or the times overflow.
        """
        answer: int = lib.inphase_device_clock_hear(
            self._clock, device_ns, arrival_ns, least_ns, stated_ns, most_ns
        )
        if answer < 0:
            raise ValueError(f"latency of {least_ns} to {most_ns} ns before {arrival_ns}")
        return answer

    def map(self, device_ns: int) -> tuple[int, int] | None:
        """Host time of a stamp and its largest error, both in ns; None while it is not known.

        Add a stamp's own reading first: a stamp that contradicts the mapping is not mapped. Raises
        OverflowError for a stamp more than a century away.
        """
        host, error = ffi.new("int64_t *"), ffi.new("int64_t *")
        rc = lib.inphase_device_clock_map(self._clock, device_ns, host, error)
        if rc == -errno.ERANGE:
            raise OverflowError(f"device time {device_ns} is too far from the last one known")
        return None if rc < 0 else (host[0], error[0])

    def locate(self, device_ns: int, earliest_ns: int, latest_ns: int) -> tuple[int, int] | None:
        """The same for a reading that was added before, within its bounds; None: not known.

        Of a reading that was heard: its arrival minus the worst latency, and its arrival.
        """
        host, error = ffi.new("int64_t *"), ffi.new("int64_t *")
        rc = lib.inphase_device_clock_locate(
            self._clock, device_ns, earliest_ns, latest_ns, host, error
        )
        return None if rc < 0 else (host[0], error[0])

    def facts(self) -> ClockFacts:
        """The facts of the clock."""
        facts = ffi.new("struct inphase_clock_facts *")
        lib.inphase_device_clock_facts(self._clock, facts)
        known = facts.error_ns != lib.INPHASE_ABSENT
        return ClockFacts(
            drift_ppb=facts.drift_ppb if known else None,
            drift_error_ppb=facts.drift_error_ppb if known else None,
            error_ns=facts.error_ns if known else None,
            taken=facts.taken,
            rejected=facts.rejected,
            resets=facts.resets,
        )


def unwrap(previous: int, raw: int, bits: int) -> int:
    """The first value at or after `previous` that ends in `raw`, for a counter of so many bits.

    Good for reads that are less than one wrap apart.
    """
    return int(lib.inphase_unwrap(previous, raw, bits))


class Wrapping:
    """A device's number that wraps, followed from one sample to the next; 0 bits: it never wraps.

    Thread: one at a time.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self.value: int | None = None
        """the last one, gone on with; None: there was none"""

    def restart(self) -> None:
        """The device was opened: it may count from anywhere."""
        self.value = None

    def rise(self, raw: int) -> int:
        """Go on to a time, which only rises: less than one wrap after the one before."""
        before = self.value
        wraps = self._bits and before is not None
        self.value = unwrap(before, raw, self._bits) if wraps and before is not None else raw
        return self.value

    def step(self, raw: int) -> int:
        """Go on to a count, to the nearest value that ends in `raw`: one that came before is no
        step up."""
        before = self.value
        if self._bits and before is not None:
            half = 1 << (self._bits - 1)
            raw = before + (raw - before + half) % (2 * half) - half
        self.value = raw
        return raw
