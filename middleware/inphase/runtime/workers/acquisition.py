"""When a worker's samples were acquired: by the driver, the device's clock, or the stated model."""

from typing import Any, NamedTuple

from inphase.devices.device_clock import DeviceClock
from inphase.driver import Acquire, Reading
from inphase.frames.record_layout import ABSENT
from inphase.plan.sensor_plan import SensorPlan


class Pulse(NamedTuple):
    """One trigger: the cycle it was for, and when it was fired; -1 and ABSENT: there was none."""

    cycle: int
    triggered_ns: int


UNKNOWN = Pulse(-1, ABSENT)
"""which pulse it was is in doubt: the core takes the sample for RECOVERING"""


class AcquisitionTimes:
    """Gives each reading its acquisition time, and keeps the device's clock for it.

    facts: the worker's own, which hold what is known of the clock. latency_max_ns: the longest from
    acquisition to arrival. Thread: the worker's.
    """

    def __init__(self, facts: Any, latency_max_ns: int) -> None:
        self._facts = facts
        self._latency_max_ns = latency_max_ns
        self._clock = DeviceClock()

    def restart(self) -> None:
        """The device was opened: its clock may say anything."""
        self._clock = DeviceClock()

    def of(
        self, sensor: SensorPlan, reading: Reading, pulse: Pulse, received_ns: int
    ) -> tuple[int, int]:
        """Time and its uncertainty: by what the driver knows, by the device's clock, by the stated
        model; else ABSENT."""
        for echo in reading.echoes:
            self._clock.add(*echo)
        if pulse is UNKNOWN and not sensor.schedule.free_running:
            return ABSENT, 0
        if reading.acquired_ns is not None:
            return reading.acquired_ns, reading.uncertainty_ns or 0
        triggered_ns = pulse.triggered_ns
        if reading.device_ns is not None and not reading.reason:
            calls = sensor.spec.calls
            if calls is not None and calls.clock_echoed:
                return self._by_echoes(reading.device_ns, received_ns) or (ABSENT, 0)
            mapped = self._map(sensor, reading.device_ns, triggered_ns, received_ns)
            if mapped is not None:
                return mapped
        acquire, acquire_ns = sensor.acquire
        if triggered_ns == ABSENT or acquire == Acquire.ABSENT:
            return ABSENT, 0
        acquired_ns = triggered_ns + acquire_ns
        if acquire == Acquire.MIDDLE:
            acquired_ns += (received_ns - triggered_ns) // 2

        # nothing is acquired after it has come: then the model does not hold
        return (ABSENT if acquired_ns > received_ns else acquired_ns), 0

    def _by_echoes(self, device_ns: int, received_ns: int) -> tuple[int, int] | None:
        """A device's stamp by the round trips so far: arrivals teach nothing."""
        self._tell()
        mapped = self._clock.map(device_ns)
        if mapped is None or mapped[0] - mapped[1] > received_ns:
            return None  # taken after it has come: the clock was set, or the stamp is wrong
        return min(mapped[0], received_ns), mapped[1]

    def _map(
        self, sensor: SensorPlan, device_ns: int, triggered_ns: int, received_ns: int
    ) -> tuple[int, int] | None:
        """A device's stamp by the host's clock, learned from this exchange or arrival too."""
        earliest_ns = triggered_ns
        if triggered_ns == ABSENT:
            most_ns = self._latency_max_ns
            earliest_ns = received_ns - most_ns
            least_ns = min(sensor.earliest_ns, most_ns)
            self._clock.hear(device_ns, received_ns, least_ns, sensor.typical_ns, most_ns)
        elif received_ns < triggered_ns:
            return None
        else:
            self._clock.add(device_ns, triggered_ns, received_ns)
        self._tell()
        return self._clock.locate(device_ns, earliest_ns, received_ns)

    def _tell(self) -> None:
        """Keep what is known of the clock where others read it."""
        known = self._clock.facts()
        facts = self._facts
        facts.clock_exchanges, facts.clock_rejected = known.taken, known.rejected
        facts.clock_resets = known.resets
        facts.clock_drift_ppb = known.drift_ppb or 0
        facts.clock_uncertainty_ns = ABSENT if known.error_ns is None else known.error_ns
