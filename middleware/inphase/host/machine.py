"""Facts of this machine that a schedule asks for: rights, memory, cores, ports.

No device is opened, and nothing of the machine is changed."""

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

UNLIMITED = resource.RLIM_INFINITY
_CAP_IPC_LOCK = 14
_CONTAINER_SIGNS = ("docker", "kubepods", "containerd", "libpod", "lxc")


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
        rt_runtime_us=number_of(proc / "sys/kernel/sched_rt_runtime_us"),
        rt_period_us=number_of(proc / "sys/kernel/sched_rt_period_us"),
        cgroup_rt_runtime_us=number_of(_cgroup(root, "cpu") / "cpu.rt_runtime_us"),
        cgroup_cpu_max=text_of(_cgroup(root, "") / "cpu.max"),
        governors=frozenset(
            governor
            for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))
            if schedule.cycle.cpu in (None, int(path.parts[-3][3:]))
            and (governor := text_of(path)) is not None
        ),
        cpus_online=cpu_list(text_of(cpus / "online")),
        cpus_allowed=frozenset(os.sched_getaffinity(0)),
        cpus_isolated=cpu_list(text_of(cpus / "isolated")),
        group_members=group,
        in_group=member,
        ports=_ports(schedule),
        kernel=platform.release(),
        preempt_rt=text_of(root / "sys/kernel/realtime") == "1"
        or "PREEMPT_RT" in (text_of(proc / "version") or ""),
        timer_slack_ns=number_of(proc / "self/timerslack_ns"),
        login_rtprio=_login_limit(root, "rtprio"),
        login_memlock_bytes=_login_limit(root, "memlock"),
        service=_service(root),
    )


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
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", text_of(proc / "self/status") or "", re.MULTILINE)
    if found and int(found[1], 16) >> _CAP_IPC_LOCK & 1:
        return UNLIMITED
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]


def _login_limit(root: Path, item: str) -> int | None:
    """The limit that pam_limits gives a login of this user by the files; None: they have none.

    memlock in bytes. As limits.conf(5) has it, a line for the user has priority over one for a
    group, and that one over `*`. Of the same kind the last one counts. Root is not reached by `*`
    and groups.
    """
    folder = root / "etc/security"
    names = _names_of_user()
    best, found = -1, None
    for path in [folder / "limits.conf", *sorted((folder / "limits.d").glob("*.conf"))]:
        for line in (text_of(path) or "").splitlines():
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
        return UNLIMITED
    if not re.fullmatch(r"[0-9]+", text):
        return None
    return int(text) * 1024 if item == "memlock" else int(text)


def _service(root: Path) -> str | None:
    """The unit whose process this is, of a service of the system, not of a login."""
    groups = text_of(root / "proc/self/cgroup") or ""
    found = re.search(
        r"^(?:0:|\d+:name=systemd):/system\.slice/(?:.*/)?([^/\n]+\.service)$", groups, re.M
    )
    return None if found is None or found[1].startswith(("ssh", "cron")) else found[1]


def _memory_free_bytes(root: Path) -> int | None:
    """The memory of the machine and of the control group that is free without swapping."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", text_of(root / "proc/meminfo") or "")
    free = [int(found[1]) * 1024] if found else []
    group = _cgroup(root, "")
    limit, used = number_of(group / "memory.max"), number_of(group / "memory.current")
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
    """The kind of container that this is, None if none can be seen."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = text_of(root / "proc/self/cgroup") or ""
    return next((sign for sign in _CONTAINER_SIGNS if sign in groups), None)


def _cgroup(root: Path, controller: str) -> Path:
    """The folder of this process's control group; version 1 with a controller, else version 2."""
    for line in (text_of(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller and controller in controllers.split(","):
            return root / "sys/fs/cgroup" / controller / path.lstrip("/")
        if not controller and not controllers:
            return root / "sys/fs/cgroup" / path.lstrip("/")
    return root / "sys/fs/cgroup"


def text_of(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def number_of(path: Path) -> int | None:
    text = text_of(path)
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else None


def processor() -> str:
    """The name of this machine's processor, with family and model, which tell its instructions."""
    facts: dict[str, str] = {}
    for line in (text_of(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())  # of the first core
    name = facts.get("model name", platform.machine())
    if "cpu family" not in facts:
        return name
    return f"{name}, family {facts['cpu family']} model {facts.get('model', '?')}"


def cpu_list(text: str | None) -> frozenset[int]:
    """Read `0-2,5`."""
    cpus: set[int] = set()
    for low, high in re.findall(r"(\d+)(?:-(\d+))?", text or ""):
        cpus.update(range(int(low), int(high or low) + 1))
    return frozenset(cpus)
