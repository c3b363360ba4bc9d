"""Sentences on late cycles: what was late, whose fault it was, how that is known, what to do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from inphase.core.late_moment import LateMoment
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
    "busy": "no core was free, and an emulated device is brought its bytes by threads of the "
    "kernel of ordinary priority. Try: close other programs; a real device waits for no core",
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


class Waited(NamedTuple):
    """A sensor, as a sentence names it."""

    sensor: str
    device: str
    address: str
    """of the device, "": not known"""


class LateKind(NamedTuple):
    """Late moments that one sentence tells."""

    phase: str
    sensor: int
    cause: str
    why: str
    thief: str


class LateTold(NamedTuple):
    """The latest of a kind, and how many there were."""

    latest: LateMoment
    times: int


def by_cause(causes: Mapping[str, int]) -> str:
    """How many late moments there were so far, by cause; "": none."""
    return ", ".join(f"{cause} {count}" for cause, count in causes.items() if count)


def are_ours(causes: Mapping[str, int]) -> bool:
    """True if most of them are this run's own."""
    return causes["ours"] > sum(causes.values()) / 2


def names_of(plan: Plan) -> list[Waited]:
    """Of each sensor."""
    return [
        Waited(sensor.name, sensor.schedule.device, plan.drivers[sensor.schedule.device].address)
        for sensor in plan.sensors
    ]


def of_kind(names: Sequence[Waited], told: LateTold) -> str:
    """All of a kind, for a person."""
    late = told.latest
    times = "in 1 cycle" if told.times == 1 else f"in {told.times} cycles"
    took = f"up to {ms(late.late_ns)}, " if late.phase not in ("read", "command") else ""
    return f"{_what(names, late)} {times} ({took}cycle {late.cycle}). {cause(names, late)}"


def of_cause(cause: str, said: Iterable[str]) -> list[str]:
    """Those of such sentences that name the cause."""
    return [text for text in said if f". {cause.capitalize()}: " in text]


def cause(names: Sequence[Waited], late: LateMoment) -> str:
    """Whose fault one moment was, how that is known, and what to do."""
    if late.why == "device":
        return f"{late.cause.capitalize()}: {_device(names, late)}"
    thief = f"{late.thief or 'a program that has ended'} (process {late.process})"
    return f"{late.cause.capitalize()}: {_WHYS.get(late.why, late.why).format(thief=thief)}"


def _what(names: Sequence[Waited], late: LateMoment) -> str:
    sensor = names[late.sensor].sensor if 0 <= late.sensor < len(names) else ""
    return {
        "wake": "the cycle thread woke late",
        "overrun": "a cycle took too long",
        "latch": "the frame was latched late",
        "act": "the act was late",
        "command": "no command came in time",
        "read": f"sensor {sensor} had no whole sample in time",
    }.get(late.phase, late.phase)


def _device(names: Sequence[Waited], late: LateMoment) -> str:
    """Of a device that did not answer in time, while the cycle thread did its part."""
    sensor, device, address = names[late.sensor]
    missing = (
        f"{late.missing_bytes} bytes of its reply were missing"
        if late.missing_bytes > 0
        else "its sample was missing"
    )
    where = f" ({address})" if address else ""
    return (
        f"{missing} from device {device}{where} at the read deadline, and the cycle thread was in "
        f"time. Try: `inphase probe SCHEDULE {sensor}` measures how long it takes; give [cycle] a "
        f"later read_deadline_us"
    )
