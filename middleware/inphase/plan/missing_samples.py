"""Sensors of which the timing model lets no sample be in time, by the times that it can draw."""

from collections.abc import Iterator

from inphase.driver import Acquire
from inphase.errors import ScheduleFault
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan
from inphase.schedule.duration import ms


def faults(plan: Plan) -> list[ScheduleFault]:
    """One for each sensor that would be MISSING in every frame of a simulated robot."""
    return [fault for sensor in plan.sensors for fault in _check(plan, sensor)]


def _check(plan: Plan, sensor: SensorPlan) -> Iterator[ScheduleFault]:
    path = f"sensors.{sensor.name}"
    if plan.timing.number(f"{path}.dropout") >= 1.0:
        yield from plan.timing.error(
            f"{path}.dropout",
            "no sample ever comes: the sensor would always be MISSING; give less than 1, and for a "
            "sensor that fails in a test a Fault of inphase.testing",
        ).faults
    latency = plan.timing.ns(f"{path}.latency_ms")
    if latency is None:
        return
    jitter = plan.timing.ns(f"{path}.jitter_ms")
    least_ns = latency.low + (jitter.low if jitter is not None else 0.0)
    age_ns = _youngest_ns(plan, sensor, least_ns)
    if age_ns > sensor.schedule.max_age_ns:
        yield from plan.timing.error(
            f"{path}.latency_ms",
            f"a sample is at least {ms(round(age_ns))} old in its first frame, and one is MISSING "
            f"from max_age_ms = {sensor.schedule.max_age_ms:g} of [sensor.{sensor.name}] on: it "
            f"would always be; give less here, or a larger max_age_ms there",
        ).faults


def _youngest_ns(plan: Plan, sensor: SensorPlan, latency_ns: float) -> float:
    """Least age of a sample in a frame, if it comes after this latency or later."""
    cycle, spec = plan.schedule.cycle, sensor.spec
    if sensor.schedule.free_running:
        return latency_ns
    stated = spec.calls if spec.exchange is None else spec.exchange
    assert stated is not None
    if stated.acquire is Acquire.ABSENT:
        return 0.0
    if stated.acquire is Acquire.MIDDLE:  # a later reply is of a later instant
        return latency_ns / 2 - stated.acquire_ns
    in_hand_ns = sensor.schedule.trigger_ns + latency_ns
    latches = max(0, -(-(in_hand_ns - cycle.read_deadline_ns) // cycle.period_ns))
    latched_ns = latches * cycle.period_ns + cycle.read_deadline_ns
    return float(latched_ns - sensor.schedule.trigger_ns - stated.acquire_ns)
