"""Facts of this machine that make a cycle late, beside the rights that `host.machine` has."""

import os
from dataclasses import dataclass
from pathlib import Path

from inphase.doctor.interrupts import Chain, Interrupt, chain, interrupts
from inphase.host.machine import cpu_list, number_of, text_of
from inphase.schedule import Schedule

_FAIR = "sys/kernel/debug/sched/fair_server"


@dataclass(frozen=True)
class HostFacts:
    """Facts, as this process sees them. None: not shown here."""

    preemption: str | None
    """the kernel's model: `full`, `voluntary`, `none`, `lazy`"""
    clock_source: str | None
    idle_exit_us: int | None
    """the longest time that a core takes to come back from a sleep that it may fall into"""
    idle_state: str | None
    """of that sleep"""
    fair_server_us: tuple[int, int] | None
    """that ordinary threads are given on a core which real-time threads fill, of each period"""
    fair_servers: tuple[str, ...]
    """the file of that time, per core"""
    isolated: frozenset[int]
    receive_bytes: int | None
    """the most that a socket may hold back"""
    interrupts: tuple[Interrupt, ...]
    chains: tuple[Chain, ...]
    """of the schedule's devices"""
    latency_timers: dict[str, int]
    """ms until a serial adapter hands on what has come, by port"""
    autosuspends: dict[str, str]
    """by port, the file by which its USB device may be put to sleep"""


def look(schedule: Schedule, root: Path = Path("/")) -> HostFacts:
    """Gather the facts. `root` stands in front of /proc and /sys."""
    cpus = root / "sys/devices/system/cpu"
    chains = [one for name in _names(schedule) if (one := chain(name, root)) is not None]
    state, exit_us = _deepest_idle(cpus)
    return HostFacts(
        preemption=_preemption(root),
        clock_source=text_of(
            root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        idle_exit_us=exit_us,
        idle_state=state,
        fair_server_us=_fair_server(root),
        fair_servers=tuple(map(str, sorted((root / _FAIR).glob("cpu*/runtime")))),
        isolated=cpu_list(text_of(cpus / "isolated")),
        receive_bytes=number_of(root / "proc/sys/net/core/rmem_max"),
        interrupts=tuple(interrupts(root)),
        chains=tuple(chains),
        latency_timers={
            one.device: wait_ms
            for one in chains
            if (wait_ms := number_of(_timer(one, root))) is not None
        },
        autosuspends={
            one.device: str(Path(one.usb) / "power/control")
            for one in chains
            if one.usb and text_of(Path(one.usb) / "power/control") == "auto"
        },
    )


def _names(schedule: Schedule) -> list[str]:
    """The ports and interfaces of the devices, each once."""
    found = []
    for device in schedule.device.values():
        for key in ("port", "interface", "channel"):
            value = device.options.get(key)
            if isinstance(value, str) and value not in found:
                found.append(value)
    return found


def _timer(one: Chain, root: Path) -> Path:
    name = Path(one.device).resolve().name
    return root / "sys/bus/usb-serial/devices" / name / "latency_timer"


def _preemption(root: Path) -> str | None:
    """As the kernel runs now, where that may be read; else as it was built."""
    now = text_of(root / "sys/kernel/debug/sched/preempt")
    if now is not None and "(" in now:
        return now.partition("(")[2].partition(")")[0]
    version = text_of(root / "proc/version") or ""
    if "PREEMPT_DYNAMIC" in version:
        return None  # it depends on how it was started
    return "full" if "PREEMPT" in version else "voluntary or none"


def _deepest_idle(cpus: Path) -> tuple[str | None, int | None]:
    """Name and exit latency, us, of the deepest sleep that is not disabled."""
    found: list[tuple[int, str]] = []
    for state in cpus.glob("cpu[0-9]*/cpuidle/state[0-9]*"):
        latency, disabled = number_of(state / "latency"), number_of(state / "disable")
        if latency is not None and not disabled:
            found.append((latency, text_of(state / "name") or state.name))
    if not found:
        return None, None
    latency, name = max(found)
    return name, latency


def _fair_server(root: Path) -> tuple[int, int] | None:
    folder = root / _FAIR / "cpu0"
    runtime, period = number_of(folder / "runtime"), number_of(folder / "period")
    if runtime is None or period is None:
        return None
    return runtime // 1000, period // 1000


def stolen_ticks(root: Path = Path("/")) -> int:
    """Ticks that the host of a virtual machine took from all its cores since its start."""
    head = (text_of(root / "proc/stat") or "").partition("\n")[0].split()
    return int(head[8]) if len(head) > 8 else 0


TICKS_PER_S = os.sysconf("SC_CLK_TCK")
