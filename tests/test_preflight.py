"""What is said about a machine, judged from facts; the facts of this machine are only gathered."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from inphase.host.machine import Machine, SerialPortFacts, look
from inphase.host.preflight import Judgement, examine, judge
from inphase.schedule import Schedule, load

TEXT = """\
name = "demo"
[cycle]
rate_hz = 500
read_deadline_us = 1200
act_us = 1600
cpu = 1
[store]
group = "robots"
[device.arm]
driver = "a:B"
port = "/dev/null"
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10
"""
MIB = 2**20
GOOD = Machine(
    user="ada",
    container=None,
    fifo_error=None,
    rtprio=98,
    memlock_bytes=resource.RLIM_INFINITY,
    memory_free_bytes=60 * MIB,
    rt_runtime_us=950_000,
    rt_period_us=1_000_000,
    cgroup_rt_runtime_us=950_000,
    cgroup_cpu_max="max 100000",
    governors=frozenset({"performance"}),
    cpus_online=frozenset(range(4)),
    cpus_allowed=frozenset({0, 1, 2, 3}),
    cpus_isolated=frozenset({1}),
    group_members=("ada",),
    in_group=True,
    ports=(SerialPortFacts("/dev/ttyUSB0", "dialout", True),),
    kernel="6.12.0",
    preempt_rt=True,
    timer_slack_ns=50_000,
)


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    path = tmp_path / "robot.toml"
    path.write_text(TEXT)
    return load(path)


def named(checks: list[Judgement], name: str) -> Judgement:
    (check,) = [check for check in checks if check.name == name]
    return check


def test_a_machine_that_grants_all_has_no_remedies(schedule: Schedule) -> None:
    checks = judge(GOOD, schedule, 50 * MIB)
    assert [check.name for check in checks if not check.ok or check.remedy] == []
    assert len({check.name for check in checks}) == len(checks) == 12


LACKING = {
    "SCHED_FIFO": (
        {"fifo_error": "Operation not permitted", "rtprio": 0},
        "'ada - rtprio 98'",
        "--cap-add=SYS_NICE --ulimit rtprio=98",
    ),
    "locked memory": ({"memlock_bytes": 8 * MIB}, "ada - memlock unlimited", "--ulimit memlock=-1"),
    "memory": ({"memory_free_bytes": 10 * MIB}, "end other programs", "--memory with 50m more"),
    "real-time throttling": (
        {"rt_runtime_us": 0},
        "sysctl -w kernel.sched_rt_runtime_us=950000",
        "host",
    ),
    "cpu governor": ({"governors": frozenset({"powersave"})}, "cpupower frequency-set", "host"),
    "cgroup real-time share": (
        {"cgroup_rt_runtime_us": 0},
        "cpu.rt_runtime_us",
        "--cpu-rt-runtime=950000",
    ),
    "cgroup cpu quota": ({"cgroup_cpu_max": "50000 100000"}, "CPUQuota", "--cpus="),
    "cpu": ({"cpus_allowed": frozenset({0, 2, 3})}, "taskset -c 0,2-3,1", "--cpuset-cpus=1"),
    "store group": (
        {"in_group": False, "group_members": ()},
        "sudo usermod -aG robots ada",
        "robots",
    ),
    "port /dev/ttyUSB0": (
        {"ports": (SerialPortFacts("/dev/ttyUSB0", "dialout", False),)},
        "sudo usermod -aG dialout ada",
        "--device=/dev/ttyUSB0 --group-add=dialout",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_lacks_is_named_with_the_one_thing_that_grants_it(
    schedule: Schedule, name: str
) -> None:
    facts, command, flag = LACKING[name]
    machine = replace(GOOD, **facts)  # type: ignore[arg-type]
    checks = judge(machine, schedule, 50 * MIB, 50 * MIB)
    assert [check.name for check in checks if not check.ok] == [name]
    assert command in named(checks, name).remedy
    inside = judge(replace(machine, container="docker"), schedule, 50 * MIB, 50 * MIB)
    assert flag in named(inside, name).remedy


def test_a_core_that_does_not_exist_is_the_schedules_fault(schedule: Schedule) -> None:
    machine = replace(GOOD, cpus_online=frozenset({0}), cpus_allowed=frozenset({0}))
    assert "set cycle.cpu to one of 0" in named(judge(machine, schedule, 0), "cpu").remedy


def test_a_group_that_does_not_exist_is_made_first(schedule: Schedule) -> None:
    machine = replace(GOOD, in_group=False, group_members=None)
    remedy = named(judge(machine, schedule, 0), "store group").remedy
    assert remedy == "sudo groupadd -f robots && sudo usermod -aG robots ada"


def test_a_member_who_has_not_logged_in_again_is_told_so(schedule: Schedule) -> None:
    machine = replace(GOOD, in_group=False)
    assert named(judge(machine, schedule, 0), "store group").remedy == "newgrp robots"


def test_what_is_not_shown_is_not_held_against_the_machine(schedule: Schedule) -> None:
    machine = replace(GOOD, rt_runtime_us=None, governors=frozenset(), cgroup_cpu_max=None)
    assert all(check.ok for check in judge(machine, schedule, 0))


def test_facts_are_read_from_proc_and_sys(schedule: Schedule, tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n0::/unit\n",
        "proc/self/status": "Name:\tx\nCapEff:\t0000000000004000\n",
        "proc/self/timerslack_ns": "50000\n",
        "proc/sys/kernel/sched_rt_runtime_us": "-1\n",
        "proc/sys/kernel/sched_rt_period_us": "1000000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.rt_runtime_us": "0\n",
        "sys/fs/cgroup/unit/cpu.max": "50000 100000\n",
        "sys/kernel/realtime": "1\n",
        "sys/devices/system/cpu/online": "0-2,5\n",
        "sys/devices/system/cpu/isolated": "\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "performance\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = look(schedule, tmp_path)
    assert machine.container == "docker"
    assert machine.memlock_bytes == resource.RLIM_INFINITY  # CAP_IPC_LOCK
    assert (machine.rt_runtime_us, machine.cgroup_rt_runtime_us) == (-1, 0)
    assert machine.cgroup_cpu_max == "50000 100000"
    assert machine.cpus_online == frozenset({0, 1, 2, 5})
    assert machine.cpus_isolated == frozenset()
    assert machine.governors == frozenset({"powersave"})  # of the schedule's core alone
    assert machine.preempt_rt
    assert machine.memory_free_bytes is None


def test_a_machine_that_shows_nothing_is_still_judged(schedule: Schedule, tmp_path: Path) -> None:
    judge(look(schedule, tmp_path / "empty"), schedule, 0)


def test_a_refused_priority_is_a_fact_with_its_reason(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert look(schedule).fifo_error == "Operation not permitted"


NOBODY = {"fifo_error": "Operation not permitted", "rtprio": 0, "memlock_bytes": 8 * MIB}


def test_a_session_that_lacks_what_a_file_grants_is_told_to_log_in_again(
    schedule: Schedule,
) -> None:
    granted = {"login_rtprio": 98, "login_memlock_bytes": resource.RLIM_INFINITY}
    checks = judge(replace(GOOD, **NOBODY, **granted), schedule, 0, 50 * MIB)  # type: ignore[arg-type]
    for name, found in (
        ("SCHED_FIFO", "gives a login 98"),
        ("locked memory", "gives a login more"),
    ):
        check = named(checks, name)
        assert not check.ok and found in check.found
        assert check.remedy.startswith("log in again")
    too_little = replace(GOOD, **NOBODY, login_rtprio=5, login_memlock_bytes=MIB)  # type: ignore[arg-type]
    checks = judge(too_little, schedule, 0, 50 * MIB)
    assert "'ada - rtprio 98'" in named(checks, "SCHED_FIFO").remedy
    assert "'ada - memlock unlimited'" in named(checks, "locked memory").remedy


def test_a_service_is_told_of_its_own_settings(schedule: Schedule) -> None:
    machine = replace(GOOD, **NOBODY, login_rtprio=98, service="robot.service")  # type: ignore[arg-type]
    checks = judge(machine, schedule, 0, 50 * MIB)
    for name, setting in (
        ("SCHED_FIFO", "LimitRTPRIO=98"),
        ("locked memory", "LimitMEMLOCK=infinity"),
    ):
        assert f"edit robot.service, add [Service] {setting}" in named(checks, name).remedy


LIMITS: list[
    tuple[str, int | None, int | None]
] = [  # for ada, who is in @robots: rtprio, memlock in KiB
    ("", None, None),
    ("# ada - rtprio 98\n", None, None),
    ("* - rtprio 10\n@robots - rtprio 50\nada - rtprio 98\n@robots - rtprio 60\n", 98, None),
    ("@robots soft rtprio 50\n* - rtprio 10\n", 50, None),
    ("ada hard rtprio 98\nbob - rtprio 98\n", None, None),
    ("ada - memlock 64 # KiB\n", None, 64),
    ("ada - memlock unlimited\nada - rtprio lots\nada -\n", None, -1),
]


@pytest.mark.parametrize(("text", "limits"), [(text, found) for text, *found in LIMITS])
def test_limits_are_read_as_a_login_gets_them(
    tmp_path: Path,
    schedule: Schedule,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    limits: list[int | None],
) -> None:
    rtprio, memlock = limits
    monkeypatch.setattr(
        "inphase.host.machine._names_of_user", lambda: {"*": 0, "@robots": 1, "ada": 2}
    )
    folder = tmp_path / "etc/security/limits.d"
    folder.mkdir(parents=True)
    (folder.parent / "limits.conf").write_text("# as it comes\n* - core 0\n")
    (folder / "robot.conf").write_text(text)
    machine = look(schedule, tmp_path)
    wanted = {None: None, -1: resource.RLIM_INFINITY}.get(memlock, 1024 * (memlock or 0))
    assert (machine.login_rtprio, machine.login_memlock_bytes) == (rtprio, wanted)


@pytest.mark.parametrize(
    ("groups", "service"),
    [
        ("0::/system.slice/robot.service\n", "robot.service"),
        ("1:name=systemd:/system.slice/system-arm.slice/arm@1.service\n", "arm@1.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_a_unit_is_known_by_its_control_group(
    tmp_path: Path, schedule: Schedule, groups: str, service: str | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    assert look(schedule, tmp_path).service == service


@pytest.mark.real
def test_this_process_keeps_its_scheduling(schedule: Schedule) -> None:
    before = os.sched_getscheduler(0), os.sched_getaffinity(0)
    checks = examine(schedule, 50 * MIB, 50 * MIB)
    assert named(checks, "port /dev/null").ok
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before
