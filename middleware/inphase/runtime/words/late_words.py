"""Sentences on late cycles: what was late, whose fault it was, how that is known, what to do."""

from typing import NamedTuple

from inphase.plan.plan import Plan
from inphase.runtime.words.policy_notices import milliseconds as ms

_WHYS = {
    "unseen": "nothing that was seen explains it. Try: `inphase doctor SCHEDULE` examines the "
    "machine",
    "stolen": "the host of this virtual machine took the core, as its stolen time says, and a "
    "thread above the cycle thread did not run either. Try: give the machine cores of its own",
    "interrupts": "the kernel was busy with interrupts on this core. Try: `inphase doctor "
    "SCHEDULE` names them, and moves those that may be moved",
    "kernel thread": "{thief}, a thread of the kernel, had the core. Try: give [cycle] priority "
    "above it, or isolate the core",
    "not preemptible": "the kernel worked for {thief} on this core and could not be interrupted. "
    "Try: keep that program off the core, or use a kernel with PREEMPT_RT",
    "disk": "the cycle thread waited for a page from a disk. Try: let it lock its memory "
    "(`inphase check SCHEDULE` prints how)",
    "preempted": "{thief} had the core. Try: end it, move it to another core, or give [cycle] a "
    "priority above it",
    "stopped": "a signal or a debugger had stopped this process. Try: send it no SIGSTOP",
    "busy": "no core was free, and an emulated device is brought its bytes by threads of the kernel "
    "of ordinary priority. Try: close other programs; a real device does not wait for a core",
    "peer stopped": "a signal or a debugger had stopped the process that was to give it. Try: send "
    "it no SIGSTOP",
    "policy": "the policy had not answered, and nothing kept it from its core. Try: `inphase "
    "explain silent`",
    "policy threads": "other threads of the policy's process computed meanwhile, and one thread of "
    "Python runs at a time (the GIL). Try: compute in another process, or in C that lets it go",
    "policy faults": "the policy touched memory that was not there yet. Try: make its arrays once, "
    "and touch them in warm_up(frame)",
    "own code": "the cycle thread itself computed for so long. Try: fewer sensors or values per "
    "cycle, or a lower rate_hz",
    "own process": "{thief}, a process of this run, had the core. Try: give [cycle] cpu a core "
    "that no other part of the schedule has",
    "page faults": "the cycle thread touched memory that was not there yet. Try: let it lock its "
    "memory (`inphase check SCHEDULE` prints how)",
}


class LateKind(NamedTuple):
    """Late moments that one sentence tells."""

    phase: str
    sensor: int
    """-1: none was waited for"""
    cause: str
    why: str
    thief: str
    """name of the program that had the core; "": none is known"""


class LateTold(NamedTuple):
    """The latest of a kind, and how many there were."""

    cycle: int
    late_ns: int
    times: int
    process: int
    """number of the thief's process"""
    missing_bytes: int
    """of a reply; -1: not known"""

    def with_one(self, one: "LateTold") -> "LateTold":
        """This kind, and one more of it."""
        latest = max(self, one, key=lambda told: told.late_ns)
        return latest._replace(times=self.times + one.times)


def sentence(plan: Plan, kind: LateKind, told: LateTold) -> str:
    """All of a kind, for a person."""
    times = "in 1 cycle" if told.times == 1 else f"in {told.times} cycles"
    what = {
        "wake": "the cycle thread woke late",
        "overrun": "a cycle took too long",
        "latch": "the frame was latched late",
        "act": "the act was late",
        "command": "no command came in time",
        "read": f"sensor {_sensor(plan, kind)} had no whole sample in time",
    }[kind.phase]
    late = f"up to {ms(told.late_ns)}, " if kind.phase not in ("read", "command") else ""
    cause = kind.cause.capitalize()
    return f"{what} {times} ({late}cycle {told.cycle}). {cause}: {_why(plan, kind, told)}"


def _sensor(plan: Plan, kind: LateKind) -> str:
    return plan.sensors[kind.sensor].name


def _why(plan: Plan, kind: LateKind, told: LateTold) -> str:
    if kind.why == "device":
        return _device(plan, kind, told)
    thief = f"{kind.thief or 'a program that has ended'} (process {told.process})"
    return _WHYS[kind.why].format(thief=thief)


def _device(plan: Plan, kind: LateKind, told: LateTold) -> str:
    """Of a device that did not answer in time, while the cycle thread did its part."""
    sensor = plan.sensors[kind.sensor]
    device = sensor.schedule.device
    address = plan.drivers[device].address
    if told.missing_bytes > 0:
        missing = f"{told.missing_bytes} bytes of its reply were missing"
    else:
        missing = "its sample was missing"
    return (
        f"{missing} from device {device} ({address}) at the read deadline, and the cycle thread "
        f"was in time. Try: `inphase probe SCHEDULE {sensor.name}` measures how long it takes; "
        f"give [cycle] a later read_deadline_us"
    )
