"""An examination: the facts judged for a schedule, each with its cost and how to mend it."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from inphase.doctor import host_facts
from inphase.doctor.host_facts import HostFacts
from inphase.doctor.interrupts import Interrupt
from inphase.host import preflight
from inphase.host.preflight import Judgement
from inphase.schedule import Schedule

_GOOD_CLOCKS = {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen"}
_IDLE_SHARE = 0.05  # of the period that a core may take to come back from its sleep
_FAIR_SHARE = 0.1
_RECEIVE_BYTES = 4 << 20
_COSTS = {
    "SCHED_FIFO": "each other program may hold the cycle up for tens of milliseconds",
    "locked memory": "a page that was taken away costs up to a disk's time in mid-cycle",
    "memory": "the store cannot be made",
    "real-time throttling": "the kernel stops the cycle once it has had its share",
    "cpu governor": "a core that runs slowly takes several times as long for a cycle",
    "cgroup real-time share": "no thread here may be a real-time one",
    "cgroup cpu quota": "the kernel stops the cycle once the quota is used up",
    "cpu": "the cycle thread cannot run where the schedule wants it",
    "store group": "others of the group cannot read the store",
}
_FIXED_BY_REMEDY = ("real-time throttling", "cpu governor")
"""rights whose remedy is one command, which works at once"""


class HostFix(NamedTuple):
    """A command that mends something at once. It is run as it stands, by no shell: names of a
    schedule are in it."""

    command: tuple[str, ...]
    written: str = ""
    """to its input"""

    def __str__(self) -> str:
        """As a person types it."""
        words = shlex.join(self.command)
        return f"echo {shlex.quote(self.written)} | {words}" if self.written else words


@dataclass(frozen=True)
class HostFinding:
    """One thing of the machine. `costs`, `remedy` and `fix` are empty where `ok`."""

    name: str
    found: str
    ok: bool
    costs: str = ""
    remedy: str = ""
    """for a person"""
    fix: HostFix | None = None
    """None: nothing mends it without a new start"""

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"fix": str(self.fix or "")}


def examine(schedule: Schedule, root: Path = Path("/")) -> list[HostFinding]:
    """All findings for a schedule. `root` stands in front of /proc and /sys for what is read of
    them. Raises nothing: what cannot be read is told as such."""
    rights = [_of_judgement(one) for one in preflight.examine(schedule)]
    return rights + judge(host_facts.look(schedule, root), schedule)


def _of_judgement(one: Judgement) -> HostFinding:
    if one.ok:
        return HostFinding(one.name, one.found, ok=True)
    costs = _COSTS.get(one.name, f"wanted: {one.wanted}")
    if one.name.startswith("port "):
        costs = "the device cannot be opened"
    is_fix = one.name in _FIXED_BY_REMEDY and "#" not in one.remedy  # else it is another host's
    fix = HostFix(tuple(shlex.split(one.remedy))) if is_fix else None
    return HostFinding(one.name, one.found, ok=False, costs=costs, remedy=one.remedy, fix=fix)


def judge(facts: HostFacts, schedule: Schedule) -> list[HostFinding]:
    """Judge facts for a schedule; pure."""
    found = [
        _preemption(facts),
        _clock(facts),
        _idle(facts, schedule),
        _fair_server(facts),
        _cores(facts, schedule),
    ]
    found += [_interrupt_of(facts, number, schedule) for number in range(len(facts.chains))]
    found += _strangers(facts, schedule)
    found += [_timer(port, wait_ms) for port, wait_ms in facts.latency_timers.items()]
    found += [_autosuspend(port, path) for port, path in facts.autosuspends.items()]
    if any("host" in device.options for device in schedule.device.values()):
        found.append(_sockets(facts))
    return found


def _fixed(name: str, found: str, costs: str, fix: HostFix) -> HostFinding:
    return HostFinding(name, found, ok=False, costs=costs, remedy=str(fix), fix=fix)


def _write(text: str, *paths: str) -> HostFix:
    """A fix that writes a text into files of the kernel."""
    return HostFix(("sudo", "tee", *paths), text)


def _preemption(facts: HostFacts) -> HostFinding:
    model = facts.preemption
    if model in (None, "full", "lazy"):
        return HostFinding("preemption", model or "not shown here", ok=True)
    remedy = "start the kernel with preempt=full, or install one that is PREEMPT_RT"
    costs = "a system call of another program holds the cycle up until it ends"
    return HostFinding("preemption", str(model), ok=False, costs=costs, remedy=remedy)


def _clock(facts: HostFacts) -> HostFinding:
    source = facts.clock_source
    if source is None or source in _GOOD_CLOCKS:
        return HostFinding("clock source", source or "not shown here", ok=True)
    fix = _write("tsc", "/sys/devices/system/clocksource/clocksource0/current_clocksource")
    costs = "each look at the clock is a system call, of a microsecond or more"
    return _fixed("clock source", source, costs, fix)


def _idle(facts: HostFacts, schedule: Schedule) -> HostFinding:
    if facts.idle_exit_us is None:
        return HostFinding("idle states", "not shown here", ok=True)
    found = f"{facts.idle_state}, {facts.idle_exit_us} us to come back"
    most_us = _IDLE_SHARE * schedule.cycle.period_ns / 1000
    if facts.idle_exit_us <= most_us:
        return HostFinding("idle states", found, ok=True)
    costs = f"a core that slept wakes up to {facts.idle_exit_us} us late"
    return _fixed(
        "idle states",
        found,
        costs,
        HostFix(("sudo", "cpupower", "idle-set", "-D", str(int(most_us)))),
    )


def _fair_server(facts: HostFacts) -> HostFinding:
    if facts.fair_server_us is None:
        return HostFinding("fair server", "not shown here", ok=True)
    runtime_us, period_us = facts.fair_server_us
    found = f"{runtime_us} us in each {period_us} us for ordinary threads"
    if runtime_us <= _FAIR_SHARE * period_us:
        return HostFinding("fair server", found, ok=True)
    costs = f"a core that the cycle fills is taken away for {runtime_us} us"
    share = int(_FAIR_SHARE * period_us / 2) * 1000
    fix = _write(str(share), *facts.fair_servers)
    return _fixed("fair server", found, costs, fix)


def _cores(facts: HostFacts, schedule: Schedule) -> HostFinding:
    cpu = schedule.cycle.cpu
    isolated = ", ".join(map(str, sorted(facts.isolated))) or "none"
    if cpu is None or cpu in facts.isolated:
        return HostFinding("isolated cores", isolated, ok=True)
    remedy = f"start the kernel with isolcpus=managed_irq,domain,{cpu} nohz_full={cpu}"
    costs = f"other programs share core {cpu} with the cycle"
    return HostFinding("isolated cores", isolated, ok=False, costs=costs, remedy=remedy)


def _interrupt_of(facts: HostFacts, number: int, schedule: Schedule) -> HostFinding:
    """The chain of a device: on which core its interrupts come."""
    chain = facts.chains[number]
    ours = [one for one in facts.interrupts if one.number in chain.numbers]
    ends = [f"interrupt {one.number} on {_cores_of(one)}" for one in ours]
    found = " <- ".join((*chain.links, " and ".join(ends) or "interrupt not shown here"))
    name = f"interrupt of {chain.device}"
    shared = [one for one in ours if schedule.cycle.cpu in one.cpus]
    if not shared:
        return HostFinding(name, found, ok=True)
    return _moved(name, found, shared[0], schedule)


def _strangers(facts: HostFacts, schedule: Schedule) -> list[HostFinding]:
    """Interrupts of others on the core of the cycle thread, the most frequent ones first."""
    cpu = schedule.cycle.cpu
    if cpu is None:
        return []
    own = {number for chain in facts.chains for number in chain.numbers}

    def taken(one: Interrupt) -> int:
        return one.counts[cpu] if cpu < len(one.counts) else 0

    there = [one for one in facts.interrupts if cpu in one.cpus and one.number not in own]
    busy = sorted((one for one in there if taken(one)), key=taken, reverse=True)
    return [
        _moved(f"interrupt {one.number}", f"{one.name}, {taken(one)} times here", one, schedule)
        for one in busy[:3]
    ]


def _moved(name: str, found: str, one: Interrupt, schedule: Schedule) -> HostFinding:
    cpu = schedule.cycle.cpu
    others = [core for core in range(len(one.counts)) if core != cpu]
    costs = f"{one.name} interrupts the cycle thread on core {cpu}"
    if not others:
        return HostFinding(
            name, found, ok=False, costs=costs, remedy="give the machine another core"
        )
    cores = ",".join(map(str, others))
    fix = _write(cores, f"/proc/irq/{one.number}/smp_affinity_list")
    return _fixed(name, found, costs, fix)


def _cores_of(one: Interrupt) -> str:
    return "core " + ", ".join(map(str, sorted(one.cpus)))


def _timer(port: str, wait_ms: int) -> HostFinding:
    name, found = f"latency timer of {port}", f"{wait_ms} ms"
    if wait_ms <= 1:
        return HostFinding(name, found, ok=True)
    path = f"/sys/bus/usb-serial/devices/{Path(port).resolve().name}/latency_timer"
    costs = f"a reply waits up to {wait_ms} ms in the adapter"
    return _fixed(name, found, costs, _write("1", path))


def _autosuspend(port: str, path: str) -> HostFinding:
    costs = "the adapter may sleep, and takes tens of milliseconds to wake"
    return _fixed(f"USB sleep of {port}", "allowed", costs, _write("on", path))


def _sockets(facts: HostFacts) -> HostFinding:
    if facts.receive_bytes is None:
        return HostFinding("socket buffers", "not shown here", ok=True)
    found = f"at most {facts.receive_bytes / 2**20:.1f} MiB wait"
    if facts.receive_bytes >= _RECEIVE_BYTES:
        return HostFinding("socket buffers", found, ok=True)
    costs = "a burst of a camera on the network is dropped by the kernel"
    fix = HostFix(("sudo", "sysctl", "-w", f"net.core.rmem_max={8 * _RECEIVE_BYTES}"))
    return _fixed("socket buffers", found, costs, fix)
