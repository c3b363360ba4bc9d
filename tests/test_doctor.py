"""`inphase doctor`: facts as the kernel shows them, judged, mended, measured."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from inphase.command import doctoring
from inphase.doctor import examination, host_facts, wakes
from inphase.doctor.examination import HostFinding, HostFix, judge
from inphase.doctor.host_facts import HostFacts
from inphase.doctor.interrupts import chain, interrupts
from inphase.doctor.wakes import Wakes
from inphase.schedule import Schedule, load
from test_schedule import GOOD

PCI = "sys/devices/pci0000:00/0000:00:14.0"
USB = f"{PCI}/usb1/1-3"
PORT = "/dev/ttyUSB7"  # not on this machine


def write(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine as the kernel's files show it: an FTDI adapter on a USB controller whose interrupt
    comes on core 1, a network card on core 0, an interrupt that nobody listens to."""
    for number, name, cores, counts in (
        (28, "xhci_hcd", "1", "0,900"),
        (29, "eth0-rx-0", "0", "70000,0"),
        (30, "nvme0q1", "1", "3,5000"),
        (31, "", "0-1", "0,0"),
    ):
        write(tmp_path, f"sys/kernel/irq/{number}/actions", name)
        write(tmp_path, f"sys/kernel/irq/{number}/per_cpu_count", counts)
        write(tmp_path, f"proc/irq/{number}/effective_affinity_list", cores)
    write(tmp_path, f"{PCI}/msi_irqs/28", "msi")
    write(tmp_path, f"{USB}/power/control", "auto")
    tty = tmp_path / USB / "1-3:1.0/ttyUSB7"
    tty.mkdir(parents=True)
    driver = tmp_path / "sys/bus/pci/drivers/xhci_hcd"
    driver.mkdir(parents=True)
    (tmp_path / PCI / "driver").symlink_to(driver)
    (tmp_path / "sys/class/tty/ttyUSB7").mkdir(parents=True)
    (tmp_path / "sys/class/tty/ttyUSB7/device").symlink_to(tty)
    write(tmp_path, "sys/bus/usb-serial/devices/ttyUSB7/latency_timer", "16")
    for state, name, latency, disabled in ((0, "POLL", 0, 0), (1, "C1", 2, 0), (3, "C10", 890, 0)):
        folder = f"sys/devices/system/cpu/cpu1/cpuidle/state{state}"
        write(tmp_path, f"{folder}/name", name)
        write(tmp_path, f"{folder}/latency", str(latency))
        write(tmp_path, f"{folder}/disable", str(disabled))
    write(tmp_path, "sys/devices/system/cpu/isolated", "")
    clock = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    write(tmp_path, clock, "hpet")
    write(tmp_path, "sys/kernel/debug/sched/preempt", "none (voluntary) full lazy")
    write(tmp_path, "sys/kernel/debug/sched/fair_server/cpu0/runtime", "50000000")
    write(tmp_path, "sys/kernel/debug/sched/fair_server/cpu0/period", "1000000000")
    write(tmp_path, "proc/sys/net/core/rmem_max", "212992")
    write(tmp_path, "proc/stat", "cpu  10 0 10 100 0 0 0 42 0 0\ncpu0 1 2 3")
    return tmp_path


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    path = tmp_path / "robot.toml"
    text = GOOD.replace("[cycle]\n", "[cycle]\ncpu = 1\n")
    assert '"/tmp/inphase-demo/arm"' in text
    path.write_text(text.replace("/tmp/inphase-demo/arm", PORT))
    return load(path)


def by_name(found: list[HostFinding]) -> dict[str, HostFinding]:
    return {one.name: one for one in found}


def test_a_device_is_followed_to_the_core_of_its_interrupt(root: Path) -> None:
    found = chain(PORT, root)
    assert found is not None
    assert found.links == ("ttyUSB7", "USB 1-3", "xhci_hcd 0000:00:14.0")
    assert found.numbers == (28,) and Path(found.usb) == root / USB
    assert chain("/dev/ttyUSB8", root) is None and chain("eth9", root) is None
    assert [(one.number, one.name, one.cpus, one.counts) for one in interrupts(root)] == [
        (28, "xhci_hcd", frozenset({1}), (0, 900)),
        (29, "eth0-rx-0", frozenset({0}), (70000, 0)),
        (30, "nvme0q1", frozenset({1}), (3, 5000)),
    ]
    assert host_facts.stolen_ticks(root) == 42


def test_each_bad_fact_has_its_cost_and_a_remedy(root: Path, schedule: Schedule) -> None:
    found = by_name(judge(host_facts.look(schedule, root), schedule))
    bad = {name for name, one in found.items() if not one.ok}
    assert bad == {
        "preemption",
        "clock source",
        "idle states",
        "isolated cores",
        f"interrupt of {PORT}",
        "interrupt 30",
        f"latency timer of {PORT}",
        f"USB sleep of {PORT}",
    } | ({"socket buffers"} & found.keys())
    assert all(one.costs and one.remedy for name, one in found.items() if name in bad)
    ours = found[f"interrupt of {PORT}"]
    assert ours.found == ("ttyUSB7 <- USB 1-3 <- xhci_hcd 0000:00:14.0 <- interrupt 28 on core 1")
    assert ours.costs == "xhci_hcd interrupts the cycle thread on core 1"
    assert str(ours.fix) == "echo 0 | sudo tee /proc/irq/28/smp_affinity_list"
    assert found["interrupt 30"].found == "nvme0q1, 5000 times here"
    assert found["idle states"].costs == "a core that slept wakes up to 890 us late"
    assert str(found[f"latency timer of {PORT}"].fix).endswith("ttyUSB7/latency_timer")
    assert found["fair server"].ok and "50000 us in each 1000000 us" in found["fair server"].found


def test_what_a_remedy_asks_for_is_good(root: Path, schedule: Schedule) -> None:
    for number in (28, 30):
        write(root, f"proc/irq/{number}/effective_affinity_list", "0")
    write(root, "sys/bus/usb-serial/devices/ttyUSB7/latency_timer", "1")
    write(root, f"{USB}/power/control", "on")
    write(root, "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc")
    write(root, "sys/devices/system/cpu/cpu1/cpuidle/state3/disable", "1")
    write(root, "sys/devices/system/cpu/isolated", "1")
    write(root, "sys/kernel/debug/sched/preempt", "none voluntary (full) lazy")
    write(root, "proc/sys/net/core/rmem_max", str(32 << 20))
    found = judge(host_facts.look(schedule, root), schedule)
    assert [one.name for one in found if not one.ok] == []


def test_a_machine_that_shows_nothing_is_not_called_bad(tmp_path: Path, schedule: Schedule) -> None:
    facts = host_facts.look(schedule, tmp_path)
    assert facts == replace(
        HostFacts(None, None, None, None, None, (), frozenset(), None, (), (), {}, {}),
        preemption="voluntary or none",
    )
    shown = judge(replace(facts, preemption=None), schedule)
    assert {one.name for one in shown if not one.ok} == {"isolated cores"}
    assert examination.examine(schedule)  # of this machine, whatever that is


@pytest.mark.parametrize(
    ("latest_us", "grade"),
    [(100, "A"), (101, "B"), (400, "B"), (1000, "C"), (2000, "D"), (2001, "E")],
)
def test_the_grade_is_the_latest_wakes_share_of_the_period(latest_us: int, grade: str) -> None:
    late_ns = np.array([10_000, latest_us * 1000, 20_000])
    assert Wakes("alone", 1.0, late_ns, 0.0, True).grade(2_000_000) == grade


def test_wakes_are_on_the_grid_and_none_is_early(schedule: Schedule) -> None:
    found = wakes.measure("alone", msgspec.structs.replace(schedule.cycle, cpu=None), 0.05)
    assert found.late_ns.size == max(1, round(0.05e9 / schedule.cycle.period_ns))
    assert (found.late_ns >= 0).all()


def test_names_of_a_schedule_are_words_of_a_fix_and_no_shell_reads_them() -> None:
    fix = HostFix(("sudo", "tee", "/sys/a b; c"), "1 & 2")
    assert str(fix) == "echo '1 & 2' | sudo tee '/sys/a b; c'"


def test_too_much_time_for_ordinary_threads_is_mended_on_each_core(
    root: Path, schedule: Schedule
) -> None:
    for core in (0, 1):
        write(root, f"sys/kernel/debug/sched/fair_server/cpu{core}/runtime", "500000000")
    found = by_name(judge(host_facts.look(schedule, root), schedule))["fair server"]
    assert not found.ok and found.fix is not None
    folder = root / "sys/kernel/debug/sched/fair_server"
    files = [str(folder / f"cpu{core}/runtime") for core in (0, 1)]
    assert found.fix == HostFix(("sudo", "tee", *files), "50000000")


def test_a_fix_is_run_where_it_is_wanted_and_not_otherwise(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    findings = [
        HostFinding(
            "first", "x", ok=False, costs="time", remedy="r", fix=HostFix(("tee", str(one)), "a; b")
        ),
        HostFinding(
            "second", "x", ok=False, costs="time", remedy="r", fix=HostFix(("touch", str(other)))
        ),
        HostFinding("third", "x", ok=False, costs="time", remedy="start anew"),
    ]
    runner = CliRunner()
    with runner.isolation(input="y\nn\n") as (_, said, *_rest):
        doctoring._mend(findings)
        assert said is not None and b"third" not in said.getvalue()
    assert one.read_text() == "a; b" and not other.exists()


def test_the_command_says_all_of_it_and_strict_fails_where_something_is_wrong(
    tmp_path: Path,
) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "inphase", "doctor", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    shown = run("--json", "--seconds", "0.05")
    facts: dict[str, Any] = json.loads(shown.stdout)
    assert [one["name"] for one in facts["wakes"]] == ["alone", "a busy process per core"]
    assert all(one["count"] == 25 and one["grade"] in "ABCDE" for one in facts["wakes"])
    path = tmp_path / "robot.toml"
    path.write_text(GOOD.replace("[cycle]\n", "[cycle]\ncpu = 4095\n"))
    done = run(str(path), "--seconds", "0", "--strict")
    assert done.returncode == 4 and f"not fit for {path}" in done.stderr
    assert "cpu" in done.stdout and "isolated cores" in done.stderr
    assert run("--fix", "--json").returncode == 2
