"""The drawing of `inphase check`: a schedule as spans, acquisitions and deadlines in time."""

import math
from collections.abc import Sequence

from inphase.plan.timeline import Mark, Point, Span, Timeline
from inphase.plan.timing import CommandTiming, SampleTiming
from inphase.schedule.tables import Cycle, Schedule

CYCLE = "cycle"
"""The lane of the cycle thread."""


def timeline(
    schedule: Schedule, timings: Sequence[SampleTiming], commands: Sequence[CommandTiming]
) -> Timeline:
    """The events of a cycle in time, as far as the devices state them."""
    cycle = schedule.cycle
    every = {t.sensor: t.every_ns // cycle.period_ns for t in timings}
    spans = _cycle_spans(schedule.cycle, timings)
    for timing in timings:
        if timing.device == cycle.clock:
            spans.append(_packet_span(timing))
            continue
        spans += _sensor_spans(timing, every[timing.sensor], cycle.period_ns)
    for command in commands:
        end_ns = cycle.act_ns + command.write_ns
        spans.append(Span(command.device, "command", cycle.act_ns, end_ns, "act"))
    points = [
        Point(t.device, "acquired", t.acquired_ns, every[t.sensor])
        for t in timings
        if t.acquired_ns is not None
    ]
    points += [Point(t.device, "packet", 0, sign="▶") for t in timings if t.device == cycle.clock]
    homes = {t.device: t.home for t in timings if t.home != "cycle"}
    marks = [
        Mark("read deadline", cycle.read_deadline_ns),
        Mark("act", cycle.act_ns),
        Mark("next due", cycle.period_ns),
    ]
    return Timeline(cycle.period_ns, spans, marks, points, homes, math.lcm(*every.values()))


def _cycle_spans(cycle: Cycle, timings: Sequence[SampleTiming]) -> list[Span]:
    last_ns = max((t.trigger_ns for t in timings if t.home == "cycle"), default=0)
    return [
        Span(CYCLE, "trigger", 0, min(last_ns, cycle.read_deadline_ns), "trigger"),
        Span(CYCLE, "read", 0, cycle.read_deadline_ns, "read"),
        Span(CYCLE, "infer", cycle.read_deadline_ns, cycle.act_ns, "infer"),
        Span(CYCLE, "publish", cycle.act_ns, cycle.period_ns, "publish"),
    ]


def _packet_span(timing: SampleTiming) -> Span:
    """The device whose packets start the cycles: until when the cycle waits for its packet."""
    due = Mark("read deadline", timing.deadline_ns)
    return Span(timing.device, "packet", 0, timing.deadline_ns, "read", 1, due)


def _sensor_spans(timing: SampleTiming, every: int, period_ns: int) -> list[Span]:
    due = Mark("read deadline", timing.deadline_ns)
    if timing.free_running:
        start_ns = timing.deadline_ns - timing.typical_ns
        return [Span(timing.device, "latched", start_ns, timing.deadline_ns, "latched", 1, due)]
    if timing.deadline_ns >= period_ns:
        due = Mark(f"read deadline of cycle {timing.deadline_ns // period_ns}", timing.deadline_ns)
    start_ns, end_ns = timing.trigger_ns, timing.trigger_ns + timing.typical_ns
    if not timing.request_ns:
        return [Span(timing.device, "sample", start_ns, end_ns, "read", every, due)]
    sent_ns = start_ns + timing.request_ns
    return [
        Span(timing.device, "request", start_ns, sent_ns, "trigger", every, due),
        Span(timing.device, "reply", sent_ns, end_ns, "read", every, due),
    ]
