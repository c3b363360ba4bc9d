"""The moments of a cycle that were late, out of its frame and the one behind it."""

from collections.abc import Iterator
from typing import NamedTuple

from inphase.frames.record_layout import (
    ABSENT,
    ACT,
    ACT_FLAGS,
    FRAME_FLAGS,
    HEADER,
    REASONS,
    ROW,
    STATUSES,
    RecordLayout,
)
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan
from inphase.runtime.attribution.sentinel import threshold_ns

_OVERRUN = 1 << FRAME_FLAGS.index("OVERRUN")
_MISSED = 1 << ACT_FLAGS.index("MISSED")
_SILENT, _SIZE = REASONS.index("silent"), REASONS.index("size")
_LATE, _MISSING, _INVALID = map(STATUSES.index, ("LATE", "MISSING", "INVALID"))
_status, _reason, _detail = (ROW.word(name) for name in ("status", "reason", "detail"))
_act_flags, _act_reason = ACT.word("flags"), ACT.word("reason")
_header = {name: HEADER.index(name) for name in HEADER.names}


class Moment(NamedTuple):
    """Of one cycle."""

    cycle: int
    phase: str
    """one of LATE_PHASES"""
    from_ns: int
    """when it was due"""
    until_ns: int
    sensor: int = -1
    missing_bytes: int = -1
    """of the reply; -1: not known"""

    @property
    def late_ns(self) -> int:
        """How long it took since it was due."""
        return self.until_ns - self.from_ns


def reply_bytes(sensor: SensorPlan) -> int:
    """How many bytes answer a trigger; -1: it is not known, or not always as many."""
    replies = sensor.exchange.replies if sensor.exchange is not None else ()
    sizes = [reply.size for reply in replies]
    return sum(sizes) if sizes and all(sizes) else -1


class Moments:
    """Of the frames of one robot, in order. Thread: one at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._late_ns = threshold_ns(plan.schedule.cycle.period_ns)
        self._layout = RecordLayout(
            len(plan.sensors), [actuator.spec.channels for actuator in plan.actuators]
        )
        self._latched_ns: dict[int, int] = {}
        """of the frame before, by its cycle"""

    def of(self, record: bytes) -> list[Moment]:
        """Those that this frame tells, the thread's own before what it waited for."""
        values = HEADER.unpack_from(record)
        frame = {name: values[at] for name, at in _header.items()}
        found = [*self._of_thread(frame), *self._of_sensors(frame, record)]
        found += self._of_act(frame, record)
        self._latched_ns = {frame["cycle"]: frame["latched_ns"]}
        return found

    def _of_thread(self, frame: dict[str, int]) -> Iterator[Moment]:
        cycle = self._plan.schedule.cycle
        due_ns = frame["due_ns"] - frame["skipped"] * cycle.period_ns
        if frame["woke_ns"] - due_ns > self._late_ns:
            phase = "overrun" if frame["flags"] & _OVERRUN and frame["skipped"] else "wake"
            yield Moment(frame["cycle"], phase, due_ns, frame["woke_ns"])
        deadline_ns = max(frame["due_ns"] + cycle.read_deadline_ns, frame["woke_ns"])
        if frame["latched_ns"] - deadline_ns > self._late_ns:
            yield Moment(frame["cycle"], "latch", deadline_ns, frame["latched_ns"])

    def _of_sensors(self, frame: dict[str, int], record: bytes) -> Iterator[Moment]:
        period_ns = self._plan.schedule.cycle.period_ns
        for number, sensor in enumerate(self._plan.sensors):
            at, trigger_us = self._layout.row(number), sensor.schedule.trigger_us
            (status,), (reason,) = _status(record, at), _reason(record, at)
            is_silent = status in (_LATE, _MISSING) and reason == _SILENT
            is_cut = status == _INVALID and reason == _SIZE
            if trigger_us is None or not (is_silent or is_cut):
                continue
            size = reply_bytes(sensor)
            missing = max(0, size - _detail(record, at)[0]) if is_cut and size > 0 else size
            yield Moment(
                frame["cycle"],
                "read",
                frame["due_ns"] + trigger_us * 1000 - sensor.schedule.latency_cycles * period_ns,
                frame["latched_ns"],
                number,
                missing,
            )

    def _of_act(self, frame: dict[str, int], record: bytes) -> Iterator[Moment]:
        """The frame tells the act before it."""
        cycle, latched_ns = self._plan.schedule.cycle, self._latched_ns.get(frame["acted_cycle"])
        if latched_ns is None or frame["acted_ns"] == ABSENT:
            return
        due_ns = frame["due_ns"] - (frame["cycle"] - frame["acted_cycle"]) * cycle.period_ns
        act_ns = max(due_ns + cycle.act_ns, latched_ns)
        if frame["acted_ns"] - act_ns > self._late_ns:
            yield Moment(frame["acted_cycle"], "act", act_ns, frame["acted_ns"])
        places = [self._layout.act(number) for number in range(len(self._plan.actuators))]
        if any(
            _act_flags(record, at)[0] & _MISSED and _act_reason(record, at)[0] == _SILENT
            for at in places
        ):
            yield Moment(frame["acted_cycle"], "command", latched_ns, act_ns)
