"""What this machine grants to a schedule, and the one command or container flag that grants more.

`look` gathers facts, `judge` compares them with the schedule. No device is opened, and nothing of
the calling process is changed.
"""

import grp
import os
import platform
import pwd
import re
import resource
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from inphase.schedule import Schedule

_CAP_IPC_LOCK = 14
_CYCLE_BYTES = 4 << 20  # the cycle thread's stack, the core and its code: 2 MiB, and some room
_UNLIMITED = resource.RLIM_INFINITY
_LIMITS = "/etc/security/limits.conf or limits.d"
_CONTAINER_SIGNS = ("docker", "kubepods", "containerd", "libpod", "lxc")


@dataclass(frozen=True)
class Judgement:
    """One thing that the schedule wants of the machine; `remedy` is empty where `ok`."""

    name: str
    wanted: str
    found: str
    ok: bool
    remedy: str = ""


@dataclass(frozen=True)
class SerialPortFacts:
    """A serial port that exists: its group, and whether this process may open it."""

    path: str
    group: str
    allowed: bool


@dataclass(frozen=True)
class Machine:
    """Facts about the machine, as this process sees it. None: not shown here."""

    user: str
    container: str | None
    fifo_error: str | None  # why SCHED_FIFO at the wanted priority was refused
    rtprio: int
    memlock_bytes: int  # resource.RLIM_INFINITY: no limit
    memory_free_bytes: int | None
    rt_runtime_us: int | None
    rt_period_us: int | None
    cgroup_rt_runtime_us: int | None
    cgroup_cpu_max: str | None
    governors: frozenset[str]
    cpus_online: frozenset[int]
    cpus_allowed: frozenset[int]
    cpus_isolated: frozenset[int]
    group_members: tuple[str, ...] | None  # of the store's group; None where it does not exist
    in_group: bool
    ports: tuple[SerialPortFacts, ...]
    kernel: str
    preempt_rt: bool
    timer_slack_ns: int | None
    login_rtprio: int | None = (
        None  # what the limits' files give a login of this user; None: nothing
    )
    login_memlock_bytes: int | None = None
    service: str | None = None  # the systemd unit that this runs in, where it is a service


def examine(schedule: Schedule, store_bytes: int = 0, locked_bytes: int = 0) -> list[Judgement]:
    """Compare this machine with a schedule whose store needs `store_bytes`.

    locked_bytes: of those, what the cycle thread locks into memory. Raises nothing: what cannot be
    read is told as such.
    """
    return judge(look(schedule), schedule, store_bytes, locked_bytes)


def look(schedule: Schedule, root: Path = Path("/")) -> Machine:
    """Gather the facts. `root` stands in front of /proc and /sys."""
    proc, cpus = root / "proc", root / "sys/devices/system/cpu"
    user_id = os.geteuid()
    group, member = _group(schedule.store.group)
    return Machine(
        user=_user_name(user_id),
        container=_container(root),
        fifo_error=_try_fifo(schedule.cycle.priority),
        rtprio=resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
        memlock_bytes=_memlock_bytes(proc),
        memory_free_bytes=_memory_free_bytes(root),
        rt_runtime_us=_number(proc / "sys/kernel/sched_rt_runtime_us"),
        rt_period_us=_number(proc / "sys/kernel/sched_rt_period_us"),
        cgroup_rt_runtime_us=_number(_cgroup(root, "cpu") / "cpu.rt_runtime_us"),
        cgroup_cpu_max=_text(_cgroup(root, "") / "cpu.max"),
        governors=frozenset(
            governor
            for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))
            if schedule.cycle.cpu in (None, int(path.parts[-3][3:]))
            and (governor := _text(path)) is not None
        ),
        cpus_online=_cpu_list(_text(cpus / "online")),
        cpus_allowed=frozenset(os.sched_getaffinity(0)),
        cpus_isolated=_cpu_list(_text(cpus / "isolated")),
        group_members=group,
        in_group=member,
        ports=_ports(schedule),
        kernel=platform.release(),
        preempt_rt=_text(root / "sys/kernel/realtime") == "1"
        or "PREEMPT_RT" in (_text(proc / "version") or ""),
        timer_slack_ns=_number(proc / "self/timerslack_ns"),
        login_rtprio=_login_limit(root, "rtprio"),
        login_memlock_bytes=_login_limit(root, "memlock"),
        service=_service(root),
    )


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


# ---------------------------------------------------------------- judging


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
    enough = limit == _UNLIMITED or limit >= needed
    login = machine.login_memlock_bytes
    granted = login is not None and (login == _UNLIMITED or login >= needed)
    if machine.container:
        remedy = "docker run --ulimit memlock=-1"
    else:
        remedy = _limit_remedy(machine, "memlock", "unlimited", granted=granted)
    found = "no limit" if limit == _UNLIMITED else _size(limit)
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


# ---------------------------------------------------------------- looking


def _try_fifo(priority: int) -> str | None:
    """Ask for SCHED_FIFO in a thread that ends at once; the reason if it is refused."""
    reasons: list[str] = []

    def ask() -> None:
        try:  # 0: the calling thread alone
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError as error:
            reasons.append(error.strerror or str(error))

    thread = threading.Thread(target=ask, name="inphase-preflight")
    thread.start()
    thread.join()
    return reasons[0] if reasons else None


def _memlock_bytes(proc: Path) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(proc / "self/status") or "", re.MULTILINE)
    if found and int(found[1], 16) >> _CAP_IPC_LOCK & 1:
        return _UNLIMITED
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]


def _login_limit(root: Path, item: str) -> int | None:
    """What pam_limits gives a login of this user by the files; None where they say nothing.

    memlock in bytes. As limits.conf(5) has it: a line for the user beats one for a group, that one
    `*`; of the same kind the last one counts. Root is not reached by `*` and groups.
    """
    folder = root / "etc/security"
    names = _names_of_user()
    best, found = -1, None
    for path in [folder / "limits.conf", *sorted((folder / "limits.d").glob("*.conf"))]:
        for line in (_text(path) or "").splitlines():
            words = line.partition("#")[0].split()
            if len(words) != 4 or words[1] not in ("-", "soft") or words[2] != item:
                continue
            rank = names.get(words[0], -1)
            value = _limit(words[3], item)
            if rank >= max(best, 0) and value is not None:
                best, found = rank, value
    return found


def _names_of_user() -> dict[str, int]:
    """How the files may call this user, and which counts more."""
    user = _user_name(os.geteuid())
    if os.geteuid() == 0:
        return {user: 2}
    groups = {_group_name(group): 1 for group in {os.getegid(), *os.getgroups()}}
    return {"*": 0, **{f"@{name}": rank for name, rank in groups.items()}, user: 2}


def _limit(text: str, item: str) -> int | None:
    if text in ("unlimited", "infinity", "-1"):
        return _UNLIMITED
    if not re.fullmatch(r"[0-9]+", text):
        return None
    return int(text) * 1024 if item == "memlock" else int(text)


def _service(root: Path) -> str | None:
    """The unit whose process this is, of a service of the system, not of a login."""
    groups = _text(root / "proc/self/cgroup") or ""
    found = re.search(
        r"^(?:0:|\d+:name=systemd):/system\.slice/(?:.*/)?([^/\n]+\.service)$", groups, re.M
    )
    return None if found is None or found[1].startswith(("ssh", "cron")) else found[1]


def _memory_free_bytes(root: Path) -> int | None:
    """What can be had without swapping, of the machine and of the control group."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo") or "")
    free = [int(found[1]) * 1024] if found else []
    group = _cgroup(root, "")
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and used is not None:
        free.append(max(0, limit - used))
    return min(free, default=None)


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _group(name: str | None) -> tuple[tuple[str, ...] | None, bool]:
    """Members of a group, None if there is no such group; and whether this process is in it."""
    if name is None:
        return None, False
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return None, False
    return tuple(group.gr_mem), os.geteuid() == 0 or group.gr_gid in (os.getegid(), *os.getgroups())


def _ports(schedule: Schedule) -> tuple[SerialPortFacts, ...]:
    ports: list[SerialPortFacts] = []
    for device in schedule.device.values():
        path = device.options.get("port")
        if not (isinstance(path, str) and path.startswith("/")):
            continue
        try:
            found = Path(path).stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISCHR(found.st_mode):
            ports.append(
                SerialPortFacts(path, _group_name(found.st_gid), os.access(path, os.R_OK | os.W_OK))
            )
    return tuple(ports)


def _group_name(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def _container(root: Path) -> str | None:
    """What kind of container this is, None if none can be seen."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = _text(root / "proc/self/cgroup") or ""
    return next((sign for sign in _CONTAINER_SIGNS if sign in groups), None)


def _cgroup(root: Path, controller: str) -> Path:
    """The folder of this process's control group; version 1 with a controller, else version 2."""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller and controller in controllers.split(","):
            return root / "sys/fs/cgroup" / controller / path.lstrip("/")
        if not controller and not controllers:
            return root / "sys/fs/cgroup" / path.lstrip("/")
    return root / "sys/fs/cgroup"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else None


def _cpu_list(text: str | None) -> frozenset[int]:
    """Read `0-2,5`."""
    cpus: set[int] = set()
    for low, high in re.findall(r"(\d+)(?:-(\d+))?", text or ""):
        cpus.update(range(int(low), int(high or low) + 1))
    return frozenset(cpus)
