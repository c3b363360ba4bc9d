"""The rules of a schedule's actuators: their feedback, workspace, and how long a command holds."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.document import show
from inphase.schedule.duration import most_ms
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.motion import park_rules
from inphase.schedule.rules import limit_rules
from inphase.schedule.tables import HOLD_NS, Schedule, Status

FEEDBACK = ("feedback", "feedback_velocity", "feedback_effort")
_AXIS_MIN = 1e-6  # of the numbers of an axis, whose length is no matter
_MOVES_ON: tuple[Status, ...] = ("FRESH", "HELD", "LATE", "RECOVERING")


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    limit_rules.check(inspection)
    park_rules.check(inspection)
    for name in inspection.names("actuator"):
        for key in FEEDBACK:
            inspection.apply(_check_feedback, name, key)
    for rule in (
        _check_box,
        _check_axes,
        _check_moves_on,
        _check_accepts,
        _check_accepts_of_none,
        _check_coast,
        _check_handover,
        _check_hold,
    ):
        inspection.each("actuator", rule)


def _check_feedback(schedule: Schedule, name: str, which: str) -> Iterator[ScheduleFault]:
    feedback: str | None = getattr(schedule.actuator[name], which)
    if feedback is None:
        return
    key = f"actuator.{name}.{which}"
    sensor, dot, field = feedback.partition(".")
    if not (sensor and dot and field):
        yield schedule.fault(key, f'not a field, got {feedback!r}; give "sensor.field"')
    elif sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        yield schedule.fault(key, f"no such sensor, got {feedback!r}; the schedule has: {known}")


def _check_box(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    workspace = schedule.actuator[name].workspace
    if workspace is None:
        return
    for axis, low, high in zip("xyz", workspace.low, workspace.high, strict=True):
        if low >= high:
            yield schedule.fault(
                f"actuator.{name}.workspace.low",
                f"low is not below high along {axis}, got {low:g} and {high:g}; give low < high",
            )


def _check_axes(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    workspace = schedule.actuator[name].workspace
    for index, joint in enumerate(() if workspace is None else workspace.joints):
        if not _AXIS_MIN <= max(map(abs, joint.axis)) <= 1 / _AXIS_MIN:
            yield schedule.fault(
                f"actuator.{name}.workspace.joints[{index}].axis",
                f"not a direction, got {show(joint.axis)}; give {MEANING['workspace.axis']}",
            )


def _check_moves_on(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """An actuator moves only on statuses that come with a measured value."""
    for index, status in enumerate(schedule.actuator[name].accepts):
        if status not in _MOVES_ON:
            yield schedule.fault(
                f"actuator.{name}.accepts[{index}]",
                f"{status} is no basis for motion; give some of {', '.join(_MOVES_ON)}",
            )


def _check_accepts(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    accepts = schedule.actuator[name].accepts
    return check_statuses(schedule, f"actuator.{name}.accepts", accepts)


def check_statuses(
    schedule: Schedule, key: str, accepted: tuple[Status, ...]
) -> Iterator[ScheduleFault]:
    """FRESH is among them, and none is there twice."""
    if "FRESH" not in accepted:
        yield schedule.fault(
            key, f"FRESH is missing, got {show(list(accepted))}; add it: no status is better"
        )
    if len(set(accepted)) < len(accepted):
        yield schedule.fault(key, f"named twice, got {show(list(accepted))}; name each once")


def _check_accepts_of_none(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.feedback is None and actuator.accepts != _MOVES_ON[:3]:
        yield schedule.fault(
            f"actuator.{name}.accepts",
            f"{show(list(actuator.accepts))} needs a feedback, and the actuator has none; give "
            f'feedback = "sensor.field", or remove accepts',
        )


def _check_coast(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.on_miss == "coast" and actuator.mode == "switch":
        yield schedule.fault(
            f"actuator.{name}.on_miss",
            'a switch has no motion to carry on; use on_miss = "repeat", or remove on_miss',
        )


def _check_handover(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator = schedule.actuator[name]
    if actuator.handover_ms is not None and actuator.mode == "switch":
        yield schedule.fault(
            f"actuator.{name}.handover_ms",
            "a switch has no values between that a command could fade in by; remove handover_ms",
        )


def _check_hold(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    actuator, period_ns = schedule.actuator[name], schedule.cycle.period_ns
    hold_max_ns = max(2 * period_ns, HOLD_NS)
    if actuator.max_hold_ns(period_ns) > hold_max_ns:
        yield schedule.fault(
            f"actuator.{name}.max_hold_ms",
            f"{actuator.max_hold_ms} ms is longer than the larger of 20 ms and 2 periods: "
            f"a robot without commands must ramp; give at most {most_ms(hold_max_ns)}",
        )
