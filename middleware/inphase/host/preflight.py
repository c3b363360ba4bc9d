"""A schedule's needs of this machine, the rights that it grants, and the command that grants more.

`judge` compares the facts of `machine` with a schedule. A remedy is one command, or a flag of a
container.
"""

from dataclasses import dataclass

from inphase.host.machine import UNLIMITED, Machine, SerialPortFacts, look
from inphase.schedule import Schedule

_CYCLE_BYTES = 4 << 20  # the cycle thread's stack, the core and its code: 2 MiB, and some room
_LIMITS = "/etc/security/limits.conf or limits.d"


@dataclass(frozen=True)
class Judgement:
    """One thing that the schedule wants of the machine; `remedy` is empty where `ok`."""

    name: str
    wanted: str
    found: str
    ok: bool
    remedy: str = ""


def examine(schedule: Schedule, store_bytes: int = 0, locked_bytes: int = 0) -> list[Judgement]:
    """Compare this machine with a schedule whose store needs `store_bytes`.

    locked_bytes: of those, what the cycle thread locks into memory. Raises nothing: what cannot be
    read is told as such.
    """
    return judge(look(schedule), schedule, store_bytes, locked_bytes)


def judge(
    machine: Machine, schedule: Schedule, store_bytes: int, locked_bytes: int = 0
) -> list[Judgement]:
    """Compare facts with a schedule; pure."""
    checks = [
        _fifo(machine, schedule),
        *([_emulator(machine, schedule)] if schedule.emulator is not None else []),
        _memlock(machine, locked_bytes),
        _memory(machine, store_bytes),
        _throttling(machine),
        _governor(machine),
    ]
    if machine.cgroup_rt_runtime_us is not None:
        checks.append(_cgroup_rt(machine))
    if machine.cgroup_cpu_max is not None:
        checks.append(_cgroup_quota(machine))
    if schedule.cycle.cpu is not None:
        checks.append(_cpu(machine, schedule.cycle.cpu))
    if schedule.store.group is not None:
        checks.append(_store_group(machine, schedule.store.group))
    checks.extend(_port(machine, port) for port in machine.ports)
    checks.append(_kernel(machine))
    if machine.timer_slack_ns is not None:
        checks.append(_timer_slack(machine))
    return checks


def _check(name: str, wanted: str, found: str, ok: bool, remedy: str) -> Judgement:
    return Judgement(name, wanted, found, ok, "" if ok else remedy)


def _fifo(machine: Machine, schedule: Schedule) -> Judgement:
    priority = schedule.cycle.priority
    granted = machine.login_rtprio is not None and machine.login_rtprio >= priority
    if machine.container:
        remedy = "docker run --cap-add=SYS_NICE --ulimit rtprio=98"
    else:
        remedy = _limit_remedy(machine, "rtprio", "98", granted=granted)
    refused = f"refused: {machine.fifo_error}; RLIMIT_RTPRIO is {machine.rtprio}"
    if granted:
        refused += f", though {_LIMITS} gives a login {machine.login_rtprio}"
    found = refused if machine.fifo_error else f"granted at {priority}"
    wanted = f"priority {priority} ({schedule.cycle.realtime})"
    return _check("SCHED_FIFO", wanted, found, machine.fifo_error is None, remedy)


def _emulator(machine: Machine, schedule: Schedule) -> Judgement:
    """It stands for hardware, which does not slow down when the computer is busy."""
    wanted = f"priority {schedule.cycle.emulator_priority}, below the cycle's, where it is granted"
    found = "ordinary: on a busy machine its replies are late" if machine.fifo_error else "granted"
    return Judgement("emulator", wanted, found, True)


def _memlock(machine: Machine, locked_bytes: int) -> Judgement:
    limit = machine.memlock_bytes
    needed = locked_bytes + _CYCLE_BYTES
    enough = limit == UNLIMITED or limit >= needed
    login = machine.login_memlock_bytes
    granted = login is not None and (login == UNLIMITED or login >= needed)
    if machine.container:
        remedy = "docker run --ulimit memlock=-1"
    else:
        remedy = _limit_remedy(machine, "memlock", "unlimited", granted=granted)
    found = "no limit" if limit == UNLIMITED else _size(limit)
    if not enough and granted:
        found += f", though {_LIMITS} gives a login more"
    wanted = f"{_size(needed)} for the store and the cycle thread"
    return _check("locked memory", wanted, found, enough, remedy)


def _memory(machine: Machine, store_bytes: int) -> Judgement:
    free = machine.memory_free_bytes
    found = "not shown here" if free is None else f"{_size(free)} free"
    remedy = "end other programs, or take fewer or smaller samples"
    if machine.container:
        remedy = f"docker run --memory with {-(-store_bytes // 2**20)}m more"
    enough = free is None or store_bytes <= free
    return _check("memory", f"{_size(store_bytes)} for the store", found, enough, remedy)


def _throttling(machine: Machine) -> Judgement:
    runtime, period = machine.rt_runtime_us, machine.rt_period_us
    wanted = "at least half of the time for real-time threads"
    if runtime is None or period is None:
        return _check("real-time throttling", wanted, "not shown here", True, "")
    found = "off" if runtime < 0 else f"{runtime} us in each {period} us"
    enough = runtime < 0 or 2 * runtime >= period
    share = period * 95 // 100
    remedy = _on_host(machine, f"sudo sysctl -w kernel.sched_rt_runtime_us={share}")
    return _check("real-time throttling", wanted, found, enough, remedy)


def _governor(machine: Machine) -> Judgement:
    found = ", ".join(sorted(machine.governors)) or "not shown here"
    remedy = _on_host(machine, "sudo cpupower frequency-set -g performance")
    enough = machine.governors <= {"performance"}
    return _check("cpu governor", "performance", found, enough, remedy)


def _cgroup_rt(machine: Machine) -> Judgement:
    runtime = machine.cgroup_rt_runtime_us
    assert runtime is not None
    if machine.container:
        remedy = "docker run --cpu-rt-runtime=950000"
    else:
        remedy = "echo 950000 | sudo tee /sys/fs/cgroup/cpu/$GROUP/cpu.rt_runtime_us"
    found = f"{runtime} us"
    return _check("cgroup real-time share", "more than 0 us", found, runtime != 0, remedy)


def _cgroup_quota(machine: Machine) -> Judgement:
    quota, _, period = (machine.cgroup_cpu_max or "max").partition(" ")
    enough = not (quota.isdigit() and period.isdigit()) or int(quota) >= int(period)
    remedy = "docker run --cpus=2" if machine.container else "systemctl set-property -p CPUQuota="
    wanted = "no quota, or one core at least"
    return _check("cgroup cpu quota", wanted, machine.cgroup_cpu_max or "", enough, remedy)


def _cpu(machine: Machine, cpu: int) -> Judgement:
    isolated = "isolated" if cpu in machine.cpus_isolated else "not isolated"
    if cpu in machine.cpus_allowed:
        return Judgement("cpu", f"core {cpu}", f"allowed, {isolated}", True)
    allowed = _ranges(machine.cpus_allowed)
    if cpu not in machine.cpus_online:
        found = f"no core {cpu} online; cores {_ranges(machine.cpus_online)}"
        return Judgement("cpu", f"core {cpu}", found, False, f"set cycle.cpu to one of {allowed}")
    flag = f"docker run --cpuset-cpus={cpu}" if machine.container else f"taskset -c {allowed},{cpu}"
    return Judgement("cpu", f"core {cpu}", f"this process may use {allowed} only", False, flag)


def _store_group(machine: Machine, group: str) -> Judgement:
    wanted = f"group {group}, with {machine.user} in it"
    if machine.group_members is None:
        remedy = f"sudo groupadd -f {group} && sudo usermod -aG {group} {machine.user}"
        return Judgement("store group", wanted, "no such group", False, remedy)
    if machine.in_group:
        return Judgement("store group", wanted, "member", True)
    if machine.user in machine.group_members:
        return Judgement(
            "store group", wanted, "member, not in this session", False, f"newgrp {group}"
        )
    remedy = f"sudo usermod -aG {group} {machine.user}"
    return Judgement("store group", wanted, "not a member", False, remedy)


def _port(machine: Machine, port: SerialPortFacts) -> Judgement:
    if machine.container:
        remedy = f"docker run --device={port.path} --group-add={port.group}"
    else:
        remedy = f"sudo usermod -aG {port.group} {machine.user}  # then log in again"
    found = "allowed" if port.allowed else f"not allowed; it belongs to group {port.group}"
    return _check(f"port {port.path}", "read and write", found, port.allowed, remedy)


def _kernel(machine: Machine) -> Judgement:
    kind = "PREEMPT_RT" if machine.preempt_rt else "not PREEMPT_RT: lateness has no bound"
    return Judgement("kernel", "any (PREEMPT_RT is best)", f"{machine.kernel}, {kind}", True)


def _timer_slack(machine: Machine) -> Judgement:
    found = f"{machine.timer_slack_ns} ns (ordinary threads only)"
    return Judgement("timer slack", "any (SCHED_FIFO has none)", found, True)


def _limit_remedy(machine: Machine, item: str, value: str, *, granted: bool) -> str:
    """How this session comes to a limit; granted: a file gives it already."""
    if machine.service is not None:  # no login, so that pam_limits reads no file for it
        setting = f"Limit{item.upper()}={'infinity' if value == 'unlimited' else value}"
        return f"systemctl edit {machine.service}, add [Service] {setting}, and restart it"
    if granted:
        return f"log in again: this session is older than {_LIMITS}, or began without PAM"
    return _limits_line(machine.user, item, value)


def _limits_line(user: str, item: str, value: str) -> str:
    line = f"{user} - {item} {value}"
    return f"echo '{line}' | sudo tee -a /etc/security/limits.d/inphase.conf  # then log in again"


def _on_host(machine: Machine, command: str) -> str:
    return f"{command}  # on the container's host" if machine.container else command


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def _ranges(cpus: frozenset[int]) -> str:
    """Write {0, 1, 2, 5} as `0-2,5`."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
