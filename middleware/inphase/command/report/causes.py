"""The cause of a late cycle in words, as far as its frame says it, and no further."""

from inphase.command.report.host_times import HostTime
from inphase.command.report.lateness import OVERRUN, Late
from inphase.command.report.measures import Measures
from inphase.frames.record_layout import FRAME_FLAGS, STATUSES, name_of, names_of
from inphase.runtime.words import late_words
from inphase.runtime.words.late_words import Waited
from inphase.runtime.words.policy_notices import milliseconds as ms

_WORTH = 10
"""a wait for a processor is named if it may have been a tenth of the lost time"""
_COUNTED = (
    "Page faults, preemption and stolen time are counted about every 50 ms. So they came in the "
    "time around a cycle that is told with them, and need not be its own."
)
_NOT_COUNTED = (
    "This recording does not say when another program had the processor (preemption), or when the "
    "host took it from a virtual machine (stolen time). A run on the wall clock says it to a "
    "recorder on its own host."
)


def note(found: Measures) -> str:
    """How far the causes can be trusted."""
    return _COUNTED if len(found.host) else _NOT_COUNTED


def of(late: Late, found: Measures) -> str:
    """Sentences on one cycle."""
    devices = {sensor.name: sensor.device for sensor in found.schedule.sensors}
    device = f" (device {devices[late.sensor]})" if devices.get(late.sensor) else ""
    took = ms(late.late_ns)
    first = {
        "wake": f"the cycle thread woke late: the cycle began {took} after its time"
        if late.skipped
        else f"the cycle thread woke {took} late",
        OVERRUN: f"it began {took} late, because the cycle before took too long",
        "trigger": f"the trigger of {late.sensor}{device} came {took} late",
        "read": f"{took} passed after the trigger of {late.sensor}{device} without a good sample: "
        f"{name_of(late.status, STATUSES)}",
        "latch": f"the frame was latched {took} after the read deadline: the cycle thread itself "
        f"was held up",
        "act": f"the writes of the act were done {took} after their time",
    }[late.phase]
    parts = [first]
    if late.skipped:
        points = "grid point was" if late.skipped == 1 else "grid points were"
        parts.append(f"{late.skipped} {points} left out just before")
    known = found.late.get((late.cycle, late.phase, late.sensor))
    if known is not None:
        parts.append(late_words.cause(_names(found), known))
    return ". ".join(_capital(part) for part in [*parts, *_why(late, found)]) + "."


def by_cause(found: Measures) -> str:
    """All late moments by cause; "": nobody looked, or there was none."""
    newest = next(reversed(found.late.values()), None)
    if newest is None:
        return ""
    return f"Late moments by cause: {late_words.by_cause(newest.causes)}"


def _names(found: Measures) -> list[Waited]:
    return [Waited(one.name, one.device or "", "") for one in found.schedule.sensors]


def _why(late: Late, found: Measures) -> list[str]:
    """Of the machine."""
    flags = names_of(late.frame_flags, FRAME_FLAGS)
    is_threads = late.phase not in ("read", OVERRUN)
    told = []
    if "RESUMED" in flags:
        told.append("the machine or the process stood still")
    around = found.host.around(late.ended_ns - late.late_ns, late.ended_ns)
    if around is not None:
        told += _host(around, late.late_ns)
    elif "PAGE_FAULTS" in flags:
        told.append("page faults of the cycle thread were counted shortly before this frame")
    if "CLOCK_STEP" in flags:
        told.append("the wall clock was set")
    if around is not None and is_threads and not told:
        told.append(
            f"no page fault, preemption or stolen time that may explain it was counted in the "
            f"{ms(around.lasted_ns)} around it"
        )
    if "NOT_REALTIME" in flags and late.phase != "read":
        told.append("it had no real-time rights, so any program may have had its core")
    if not told and is_threads:
        told.append("the frame does not say why")
    return told


def _host(around: HostTime, late_ns: int) -> list[str]:
    """The disturbances that may have cost that much time."""
    within = f"in the {ms(around.lasted_ns)} around it"
    told = []
    if around.page_faults:
        told.append(f"page fault: the cycle thread had {around.page_faults} {within}")
    waited_ns, preemptions = around.waited_ns, around.preemptions
    if waited_ns is not None and waited_ns * _WORTH >= late_ns:
        lost = "" if preemptions is None else f", which it lost {_times(preemptions)}"
        told.append(
            f"preemption: {within} the cycle thread was ready for {ms(waited_ns)} without a "
            f"processor{lost}"
        )
    elif waited_ns is None and preemptions:
        told.append(
            f"preemption: {within} the cycle thread lost its processor {_times(preemptions)}"
        )
    if around.stolen_ns:
        told.append(
            f"stolen time: {within} the host took {ms(around.stolen_ns)} of the processors that "
            f"the cycle thread may run on, as counted in steps of a tick"
        )
    return told


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
