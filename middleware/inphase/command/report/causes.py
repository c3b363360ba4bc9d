"""The cause of a late cycle in words, as far as its frame says it, and no further."""

from inphase.command.report.lateness import OVERRUN, Late
from inphase.command.report.measures import Measures
from inphase.frames.record_layout import FRAME_FLAGS, STATUSES, name_of, names_of
from inphase.runtime.words.policy_notices import milliseconds as ms

NOT_RECORDED = (
    "A recording does not say when another program had the core (preemption), or when the host "
    "took it from a virtual machine (stolen time)."
)


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
    return ". ".join(_capital(part) for part in [*parts, *_why(late)]) + "."


def _why(late: Late) -> list[str]:
    """Of the machine."""
    flags = names_of(late.frame_flags, FRAME_FLAGS)
    found = []
    if "RESUMED" in flags:
        found.append("the machine or the process stood still")
    if "PAGE_FAULTS" in flags:
        found.append("the cycle thread had page faults since the frame before")
    if "CLOCK_STEP" in flags:
        found.append("the wall clock was set")
    if "NOT_REALTIME" in flags and late.phase != "read":
        found.append("it had no real-time rights, so any program may have had its core")
    if not found and late.phase not in ("read", OVERRUN):
        found.append("the frame does not say why")
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
