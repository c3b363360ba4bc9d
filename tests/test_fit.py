"""What cannot fit is refused, what may hurt is noted, and all of it is drawn."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from inphase.command import check
from inphase.errors import ScheduleError
from inphase.plan import cycle_spans, feasibility
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.plan.timeline import Timeline, render
from inphase.plan.timing import spread_ns
from inphase.schedule import load

ROBOT = """\
name = "fit"

[cycle]
rate_hz = 500
read_deadline_us = 1200
act_us = 1600

[device.arm]
driver = "timed:Timed"
place = "/dev/arm"
request_us = 50
takes_us = 300
worst_us = 500
write_us = 100
acquire_us = 40

[device.wrist]
driver = "timed:Timed"
place = "udp:wrist"
request_us = 10
takes_us = 200

[device.camera]
driver = "timed:Timed"
place = "usb:camera"
takes_us = 9000
worst_us = 12000
acquire_us = 2540

[device.lidar]
driver = "timed:Timed"
place = "udp:lidar"
triggered = false
takes_us = 30000
worst_us = 60000
interval_us = 33333

[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10

[sensor.wrench]
device = "wrist"
trigger_us = 0
max_age_ms = 10

[sensor.camera]
device = "camera"
trigger_us = 1500
every = 16
latency_cycles = 5
max_age_ms = 70

[sensor.lidar]
device = "lidar"
max_age_ms = 200

[actuator.arm]
device = "arm"
feedback = "joints.x"
limits = { position = [-1, 1], velocity = 1, acceleration = 10, step = 0.1 }
"""


Make = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> Make:
    def plan(*changes: tuple[str, str]) -> Plan:
        text = ROBOT
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        path = tmp_path / "robot.toml"
        path.write_text(text)
        return planning.make(load(path))

    return plan


def timeline(plan: Plan) -> Timeline:
    return cycle_spans.timeline(plan.schedule, plan.timings, plan.commands)


def draw(plan: Plan, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(render(timeline(plan), width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_homes_and_times_follow_from_what_the_drivers_state(plan: Make) -> None:
    joints, wrench, camera, lidar = plan().timings
    assert [t.home for t in (joints, wrench, camera, lidar)] == ["cycle", "cycle"] + ["process"] * 2
    assert (joints.request_ns, joints.typical_ns, joints.worst_ns) == (50_000, 300_000, 500_000)
    assert (joints.acquired_ns, wrench.acquired_ns) == (40_000, None)
    assert (camera.every_ns, camera.deadline_ns) == (32_000_000, 11_200_000)
    assert camera.acquired_ns == 1_500_000 + 2_540_000
    assert camera.slack_ns == 11_200_000 - 1_500_000 - 9_000_000
    assert (lidar.free_running, lidar.deadline_ns, lidar.interval_ns) == (
        True,
        1_200_000,
        33_333_000,
    )


def test_an_exchange_may_be_read_by_a_worker(plan: Make) -> None:
    robot = plan(('place = "udp:wrist"', 'place = "udp:wrist"\nhome = "process"\npriority = 5'))
    assert [t.home for t in robot.timings][:2] == ["cycle", "process"]


def test_a_camera_is_triggered_early_so_that_its_exposure_is_centred_on_the_encoders(
    plan: Make,
) -> None:
    robot = plan(
        ('device = "arm"\ntrigger_us = 0', 'device = "arm"\ntrigger_us = 500'),
        ("acquire_us = 2540", "acquire_us = 540"),
        ("trigger_us = 1500\nevery = 16", "trigger_us = 0\nevery = 16"),
    )
    assert spread_ns(robot.timings) == 0


REFUSED = {
    "no exchange for the cycle": (
        ('place = "usb:camera"', 'place = "usb:camera"\nhome = "cycle"'),
        "device.camera.home",
        ('"cycle" is for', "exchange", '"process"'),
    ),
    "priority of the cycle's own": (
        ('place = "/dev/arm"', 'place = "/dev/arm"\npriority = 5'),
        "device.arm.priority",
        ("5 is for a worker",),
    ),
    "core of the cycle's own": (
        ('place = "/dev/arm"', 'place = "/dev/arm"\ncpu = 0'),
        "device.arm.cpu",
        ("0 is for a worker",),
    ),
    "no trigger": (
        ('device = "arm"\ntrigger_us = 0', 'device = "arm"'),
        "sensor.joints.trigger_us",
        ("missing", "only when it is triggered", "trigger_us = 0"),
    ),
    "trigger of what runs by itself": (
        ('device = "lidar"', 'device = "lidar"\ntrigger_us = 0'),
        "sensor.lidar.trigger_us",
        ("'lidar' is free-running", "got 0", "remove trigger_us"),
    ),
    "reply after the read deadline": (
        ('device = "arm"\ntrigger_us = 0', 'device = "arm"\ntrigger_us = 901'),
        "sensor.joints.trigger_us",
        ("1201 us", "read deadline at 1200 us", "'arm' states 300 us"),
    ),
    "latency in too few cycles": (
        ("latency_cycles = 5", "latency_cycles = 4"),
        "sensor.camera.latency_cycles",
        ("10500 us", "deadline at 9200 us", "latency_cycles = 5 with every = 16"),
    ),
    "latency in no cycle": (
        ("trigger_us = 1500\nevery = 16\nlatency_cycles = 5", "trigger_us = 0"),
        "sensor.camera.trigger_us",
        ("9000 us", "latency_cycles = 4 with every = 5"),
    ),
    "worker that cannot keep up": (
        ("worst_us = 12000", "worst_us = 33000"),
        "sensor.camera.every",
        ("33000 us", "32000 us", "could not keep up", "every = 17"),
    ),
    "exchanges that share a bus": (
        (
            '"udp:wrist"\nrequest_us = 10\ntakes_us = 200',
            '"x"\nwire = "/dev/arm"\nrequest_us = 10\ntakes_us = 901',
        ),
        "sensor.wrench.trigger_us",
        ("joints, wrench share /dev/arm", "until 1201 us", "deadline at 1200 us"),
    ),
    "command into the next trigger": (
        ("write_us = 100", "write_us = 401"),
        "cycle.act_us",
        ("command of arm", "until 2001 us", "next trigger at 2000 us"),
    ),
    "exchange that has the bus at the act offset": (
        (
            'device = "arm"\ntrigger_us = 0\nmax_age_ms = 10',
            'device = "arm"\ntrigger_us = 1650\nevery = 3\nlatency_cycles = 1\nmax_age_ms = 20',
        ),
        "sensor.joints.trigger_us",
        ("/dev/arm from 1650 us to 1950 us", "at 1600 us the command of arm"),
    ),
    "worst case until it is missing": (
        ("worst_us = 500", "worst_us = 8100"),
        "sensor.joints.max_age_ms",
        ("10 ms", "11.16 ms", "one reply is missed", "8100 us"),
    ),
    "worst cases of one bus": (
        (
            '"udp:wrist"\nrequest_us = 10\ntakes_us = 200',
            '"x"\nwire = "/dev/arm"\nrequest_us = 10\ntakes_us = 200\nworst_us = 7700',
        ),
        "sensor.joints.max_age_ms",
        ("one reply is missed", "/dev/arm", "8200 us"),
    ),
    "latched sample that is old when it comes": (
        ('device = "lidar"\nmax_age_ms = 200', 'device = "lidar"\nmax_age_ms = 29'),
        "sensor.lidar.max_age_ms",
        ("29 ms", "30 ms", "always be MISSING"),
    ),
    "two devices at one address": (
        ('place = "udp:lidar"', 'place = "usb:camera"'),
        "device.lidar",
        ("usb:camera", "'camera' is already"),
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_fit_is_refused_with_its_key_and_numbers(
    plan: Make, case: tuple[tuple[str, str], str, tuple[str, ...]]
) -> None:
    change, key, words = case
    with pytest.raises(ScheduleError) as caught:
        plan(change)
    first, *others = caught.value.faults
    found = re.fullmatch(r"\S+robot\.toml:\d+: (\S+): (.*; .*)", str(first))
    assert found, caught.value
    # a bus is quiet for each of its sensors
    assert {fault.key for fault in others} <= {"sensor.wrench.max_age_ms"}
    assert found[1] == key
    for word in words:
        assert word in found[2], found[2]


def test_the_same_robot_with_a_little_less_fits(plan: Make) -> None:
    plan(('device = "arm"\ntrigger_us = 0', 'device = "arm"\ntrigger_us = 900'))
    plan(("worst_us = 12000", "worst_us = 32000"))
    plan(("write_us = 100", "write_us = 400"))
    old = 'device = "arm"\ntrigger_us = 0\nmax_age_ms = 10'
    plan(
        (old, old.replace("us = 0", "us = 1700\nevery = 3\nlatency_cycles = 1").replace("10", "20"))
    )
    plan(("worst_us = 500", "worst_us = 6000"))


def test_a_worst_case_after_the_deadline_is_noted_with_what_it_costs(plan: Make) -> None:
    notes = plan(("worst_us = 500", "worst_us = 2100")).notes
    first = next(note for note in notes if note.startswith("sensor joints"))
    assert first == (
        "sensor joints: at its device's worst case of 2100 us it is LATE by up to 900 us; that "
        "cycle's command and the trigger after it would be left out"
    )
    camera = "sensor camera: at its device's worst case of 12000 us it is LATE by up to 2300 us"
    assert camera in plan().notes
    assert not any("joints" in note for note in plan().notes)


def test_rates_of_which_none_divides_the_other_are_noted(plan: Make) -> None:
    age = ("max_age_ms = 10\n\n[sensor.camera]", "max_age_ms = 20\n\n[sensor.camera]")
    notes = {
        every: [
            note
            for note in plan(('"wrist"\ntrigger', f'"wrist"\nevery = {every}\ntrigger'), age).notes
            if "meet" in note
        ]
        for every in (3, 4)
    }
    (note,) = notes[3]
    assert "wrench (every 3) and camera (every 16)" in note
    assert "one cycle of 48 only, each 96 ms" in note
    assert not notes[4]


def test_what_runs_by_itself_is_noted_with_the_time_in_which_it_beats(plan: Make) -> None:
    (note,) = [note for note in plan().notes if "lidar" in note]
    assert "30 Hz" in note
    assert "once in 0.0999 s" in note  # 17 cycles are 34 ms: 2/3 ms off at each sample
    (note,) = [n for n in plan(("interval_us = 33333", "interval_us = 20000")).notes if "lid" in n]
    assert "only as the clocks differ: once in 40 s at 50 ppm" in note
    (note,) = [n for n in plan(("interval_us = 33333", "interval_us = 0")).notes if "lidar" in n]
    assert "states no rate" in note


@given(st.integers(100_000, 10**9), st.integers(10_000, 10**10))
def test_a_beat_is_never_longer_than_the_clocks_allow(period_ns: int, interval_ns: int) -> None:
    beat_s, by_design = feasibility.beat(period_ns, interval_ns)
    short_s = min(period_ns, interval_ns) / 1e9
    assert 2 * short_s * (1 - 1e-9) <= beat_s <= short_s / 50e-6 * (1 + 1e-9)
    if not by_design:
        assert beat_s >= short_s / 50e-6 * (1 - 1e-9)


def test_a_worker_on_the_cycles_own_core_is_noted(plan: Make) -> None:
    own = ('place = "usb:camera"', 'place = "usb:camera"\ncpu = 3')
    assert not any("core" in note for note in plan(own).notes)
    (note,) = [
        n for n in plan(own, ("act_us = 1600", "act_us = 1600\ncpu = 3")).notes if "core" in n
    ]
    assert note.startswith("device camera: its worker has core 3")


# ---------------------------------------------------------------- drawn


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_fits_the_terminal(plan: Make, width: int) -> None:
    assert max(len(line) for line in draw(plan(), width)) <= width


def test_a_slow_sensor_has_its_own_deadline_and_its_workers_home(plan: Make) -> None:
    lines = draw(plan(), 120)
    (sample,) = [line for line in lines if line.startswith("camera") and "sample  " in line]
    assert "read deadline of cycle 5 11200.0" in sample
    assert sample.endswith(" 700.0")
    lane = next(line for line in lines if line.startswith("camera"))
    assert lane.startswith("camera process")
    assert lane.endswith("»")


def test_acquisitions_are_points_in_their_lanes(plan: Make) -> None:
    points = {(p.lane, p.at_ns, p.every) for p in timeline(plan()).points}
    assert points == {("arm", 40_000, 1), ("camera", 4_040_000, 16)}
    lines = draw(plan(), 80)
    assert [line.split()[-1] for line in lines if "◆ acquired " in line] == ["40.0", "4040.0"]


def test_several_cycles_are_drawn_up_to_a_bound_that_is_said(plan: Make) -> None:
    lines = draw(plan(), 120)
    at = lines.index("8 of the 16 cycles after which all repeats: ◆ acquired, ▼ due")
    ruler, lanes = lines[at + 1], lines[at + 2 :]
    assert re.findall(r"╵(\d)", ruler) == list("01234567")
    assert sum(line.count("◆") for line in lanes if line.startswith("arm")) == 8
    assert sum(line.count("◆") for line in lanes if line.startswith("camera")) == 1
    assert len([line for line in lanes if line.startswith("lidar")]) == 1
    (camera,) = [line for line in lanes if line.startswith("camera")]
    assert ruler.index("5") < camera.index("▼") < ruler.index("6")
    four = plan(("every = 16", "every = 8"), ("worst_us = 12000", "worst_us = 9000"))
    assert "8 cycles, after which all repeats: ◆ acquired, ▼ due" in draw(four, 80)


def test_one_cycle_alone_is_not_drawn_twice(plan: Make) -> None:
    robot = plan(
        ("trigger_us = 1500\nevery = 16\nlatency_cycles = 5", "trigger_us = 0"),
        ("takes_us = 9000\nworst_us = 12000", "takes_us = 900\nworst_us = 1200"),
    )
    assert timeline(robot).cycles == 1
    assert not any("repeats" in line for line in draw(robot, 80))


def test_the_report_says_the_home_and_the_times_of_a_device_without_an_exchange(
    plan: Make,
) -> None:
    report = check.make(plan().schedule.path)
    facts = report.facts()
    camera = facts["devices"][2]
    assert (camera["home"], camera["request_ns"], camera["sample_ns"]) == ("process", None, 9000000)
    assert (camera["worst_ns"], camera["address"]) == (12_000_000, "usb:camera")
    sensors = {sensor["name"]: sensor for sensor in facts["sensors"]}
    assert (sensors["camera"]["every"], sensors["camera"]["latency_cycles"]) == (16, 5)
    assert sensors["camera"]["acquired_ns"] == 4_040_000
    assert facts["acquired_spread_ns"] == 4_000_000
    assert facts["repeats_after_cycles"] == 16
    assert (sensors["lidar"]["latched"], sensors["lidar"]["trigger_ns"]) == (True, None)
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(report.render(80))
    text = capture.get()
    assert "4000.0 us apart: joints 40.0, camera 4040.0" in " ".join(text.split())
    (row,) = [line for line in text.splitlines() if "usb:camera" in line]
    assert re.findall(r"[\w:-]+", row) == [
        "camera",
        "process",
        "-",
        "9000",
        "12000",
        "-",
        "usb:camera",
    ]
