"""Measuring a device: what is counted, what is shown, and what is suggested."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.command import probe as probing
from inphase.errors import ScheduleError
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names
from inphase.plan import plan as planning
from inphase.schedule import load
from peers import BOUND_S, ROOT, EmulatorProcess, free_port, until
from robots import demo_schedule
from test_run import inphase
from test_workers import Device

times = st.lists(st.integers(0, 10**10), min_size=1, max_size=300)


# ---- distributions ---------------------------------------------------------------------------


@given(times)
def test_a_histogram_counts_every_value_once_in_bins_without_gaps(values: list[int]) -> None:
    bins = probing.histogram(values)
    assert sum(item["count"] for item in bins) == len(values)
    assert bins[0]["from_ns"] == min(values) and bins[-1]["to_ns"] > max(values)
    assert [item["to_ns"] for item in bins[:-1]] == [item["from_ns"] for item in bins[1:]]
    assert len(bins) <= 25


@given(times)
def test_a_quantile_is_a_value_that_was_seen_and_not_exceeded_by_more_than_its_part(
    values: list[int],
) -> None:
    found = probing.quantiles(values)
    assert found["count"] == len(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        assert found[name] in values
        assert sum(value > found[name] for value in values) <= (1 - part) * len(values) + 1e-9


def test_no_sample_at_all_is_no_distribution_and_no_suggestion() -> None:
    assert probing.histogram([]) == []
    assert probing.quantiles([])["count"] == 0


# ---- what is suggested -----------------------------------------------------------------------


def measured(arrivals: list[int], **changes: Any) -> dict[str, Any]:
    """What a probe of the demo's wrench says, with these arrivals (its trigger is at 0)."""
    return {
        "sensor": "wrench",
        "latched": False,
        "period_ns": 2_000_000,
        "every": 1,
        "due": len(arrivals),
        "arrival_ns": probing.quantiles(arrivals),
        "trigger_to_sample_ns": probing.quantiles(arrivals),
        "interval_ns": probing.quantiles([2_000_000] * 10),
        "acquired": "model",
        "acquired_after_ns": probing.quantiles([50_000]),
        "stated_min": {"key": "reply_min_ns", "in_force": 10_000},
    } | changes


def test_a_deadline_is_the_largest_arrival_and_a_quarter_or_100_us(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))
    for arrivals, wanted_us in (([300_000, 200_000], 400), ([800_000, 200_000], 1000)):
        found = probing.suggest(schedule, measured(arrivals))
        assert (found["read_deadline_us"], found["latency_cycles"]) == (wanted_us, 0)
    # 0.4 ms less 0.05 ms when it is latched, and two lost triggers of 2 ms
    found = probing.suggest(schedule, measured([300_000]))
    assert found["max_age_ms"] == 4.4


def test_one_straggler_in_a_thousand_does_not_make_the_deadline(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))
    found = probing.suggest(schedule, measured([300_000] * 1999 + [1_900_000]))
    assert found["read_deadline_us"] == 400
    assert "p99.9" in found["rules"][0]


def test_a_sample_behind_the_act_offset_belongs_to_a_later_frame(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))  # reads until 1300 us, acts at 1700 us, every 2000 us
    for arrival_us, latency_cycles in ((1_600, 1), (2_500, 1), (2_700, 2)):
        found = probing.suggest(schedule, measured([arrival_us * 1000]))
        assert (found["latency_cycles"], found["read_deadline_us"]) == (latency_cycles, 1300)
        assert any(f"every = {latency_cycles + 1}" in rule for rule in found["rules"])


def test_samples_that_no_deadline_covers_are_said(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))
    found = probing.suggest(schedule, measured([300_000] * 90, due=100))
    assert any(rule.startswith("10 of 100 came after") for rule in found["rules"])


@given(times, st.integers(0, 10**6))
def test_the_earliest_time_that_is_suggested_refuses_no_sample_that_was_measured(
    arrivals: list[int], stated_ns: int
) -> None:
    in_force_ns = min(stated_ns, *arrivals)  # what came sooner was dropped
    stated = {"key": "latency_min_ns", "in_force": in_force_ns}
    found, rule = probing._suggest_earliest(measured(arrivals, stated_min=stated))
    assert in_force_ns <= found["latency_min_ns"] <= min(arrivals)
    assert found["latency_min_ns"] <= max(in_force_ns, min(arrivals) / 2)
    assert rule.startswith("latency_min_ns: ")


def test_the_earliest_time_is_half_of_the_quickest_sample_where_no_more_is_stated(
    tmp_path: Path,
) -> None:
    schedule = load(demo_schedule(tmp_path))
    found = probing.suggest(schedule, measured([300_000, 201_900]))
    assert found["driver"] == {"reply_min_ns": 100_000}
    assert "half of the quickest of 2 samples (201.9 us); 10.0 us is in force" in found["rules"][-1]
    found = probing.suggest(schedule, measured([18_000, 30_000]))
    assert found["driver"] == {"reply_min_ns": 10_000}
    assert "10.0 us is in force, stated or the time of the bytes" in found["rules"][-1]


def test_a_latched_sensor_is_given_an_age_of_three_intervals(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))
    behind = probing.quantiles([-700_000])
    found = probing.suggest(
        schedule, measured([], latched=True, acquired_after_ns=behind, arrival_ns={"count": 0})
    )
    assert (found["read_deadline_us"], found["driver"]) == (None, None)
    assert found["max_age_ms"] == 6.7


# ---- real devices ----------------------------------------------------------------------------


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Path]:
    """The demo's schedule at 100 Hz, with the emulator in a process."""
    path = demo_schedule(tmp_path)
    path.write_text(
        path.read_text()
        .replace("rate_hz = 500", "rate_hz = 100")
        .replace("_deadline_us = 1300", "_deadline_us = 6000")
        .replace("act_us = 1700", "act_us = 8000")
        .replace("max_age_ms = 10", "max_age_ms = 100")
    )
    with EmulatorProcess("--no-wire-time").start(path):
        yield path


def assert_counts_agree(result: dict[str, Any]) -> None:
    count = result["trigger_to_sample_ns"]["count"]
    assert 0 < count <= result["samples"]
    assert sum(item["count"] for item in result["histogram"]) == count
    assert result["jitter_ns"]["count"] == result["arrival_ns"]["count"] == count
    assert result["lost"] == max(0, result["due"] - result["samples"])


@pytest.mark.real
@pytest.mark.parametrize("sensor", ["joints", "wrench"])
def test_a_probe_counts_every_sample_and_its_suggestion_can_be_used(
    robot: Path, sensor: str
) -> None:
    result = probing.probe(load(robot), sensor, 150)
    assert (result["sensor"], result["home"], result["every"]) == (sensor, "cycle", 1)
    assert result["cycles"] == 150
    assert sum(result["status"].values()) == result["due"] == 150
    assert_counts_agree(result)
    assert result["acquired"] == "model" and result["clock"] is None
    in_force_ns = result["stated_min"]["in_force"]
    suggested_ns = result["suggested"]["driver"]["reply_min_ns"]
    assert 0 < in_force_ns <= suggested_ns <= result["trigger_to_sample_ns"]["min"]
    suggested = result["suggested"]
    latency_cycles, deadline_us = suggested["latency_cycles"], suggested["read_deadline_us"]
    due_ns = latency_cycles * result["period_ns"] + deadline_us * 1000
    assert due_ns >= result["arrival_ns"]["p99"]
    text = robot.read_text().replace("_deadline_us = 6000", f"_deadline_us = {deadline_us}")
    head, table = text.split(f"[sensor.{sensor}]")
    keys = f"every = {latency_cycles + 1}\nlatency_cycles = {latency_cycles}\n"
    table = table.replace("max_age_ms = 100", f"max_age_ms = {suggested['max_age_ms']}", 1)
    robot.write_text(f"{head}[sensor.{sensor}]\n{keys}{table}")
    planning.make(load(robot))


@pytest.mark.real
def test_a_probe_leaves_the_others_and_every_actuator_alone(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    with EmulatorProcess("--no-wire-time").start(path) as emulator:
        probing.probe(load(path), "wrench", 50)
        arm = emulator.control({"device": "arm", "status": True})
        assert arm["counters"]["requests"] == 0
        probing.probe(load(path), "joints", 50)
        arm = emulator.control({"device": "arm", "status": True})
        assert (arm["counters"]["writes"], arm["torque"]) == (0, [0] * 6)


@pytest.mark.real
def test_the_command_prints_a_picture_or_json_alone(robot: Path) -> None:
    done = inphase("probe", str(robot), "wrench", "--cycles", "100")
    assert done.returncode == 0, done.stderr
    words = ("trigger to", "median", "p99.9", "█", "suggested", "read_deadline_us = ")
    for word in (*words, "reply_min_ns=", "# in the driver"):
        assert word in done.stdout
    done = inphase("probe", str(robot), "wrench", "--cycles", "100", "--json")
    assert json.loads(done.stdout)["suggested"]["rules"]


@pytest.mark.real
def test_an_interrupted_probe_sums_up_what_it_has(robot: Path) -> None:
    command = ["-m", "inphase", "probe", str(robot), "wrench", "--seconds", "1000", "--json"]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE) as process:
        name = f"probe-{load(robot).name}"
        until(lambda: store_names.find(name) is not None)

        def runs() -> bool:
            follower = StoreFollower.of_robot(name)
            try:
                return follower.next(BOUND_S).cycle > 20
            finally:
                follower.close()

        until(runs)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        result = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert result["samples"] > 0
    assert_counts_agree(result)


def test_an_unknown_sensor_is_refused_with_those_there_are(tmp_path: Path) -> None:
    schedule = load(demo_schedule(tmp_path))
    with pytest.raises(ScheduleError, match=r"no sensor 'wrist'; it has: joints, wrench"):
        probing.probe(schedule, "wrist", 10)


@pytest.mark.real
def test_a_device_with_a_clock_in_a_worker_has_its_drift_measured(
    tmp_path: Path,
) -> None:
    port = free_port(socket.SOCK_DGRAM)
    path = tmp_path / "robot.toml"
    path.write_text(
        f"""
name = "t{os.getpid()}"
[cycle]
rate_hz = 50
read_deadline_us = 12000
act_us = 14000
realtime = "prefer"
[device.counter]
driver = "counter.py:Counter"
port = {port}
clock = true
[sensor.count]
device = "counter"
trigger_us = 1000
max_age_ms = 200
"""
    )
    (tmp_path / "counter.py").write_text((ROOT / "tests" / "counter.py").read_text())
    device = Device(port)
    try:
        result = probing.probe(load(path), "count", 100)
    finally:
        device.close()
    assert result["home"] == "process"
    assert result["stated_min"] == {"key": "latency_min_ns", "in_force": 0}
    quickest_ns = result["trigger_to_sample_ns"]["min"]
    assert result["suggested"]["driver"]["latency_min_ns"] <= quickest_ns / 2
    assert_counts_agree(result)
    assert result["acquired"] == "clock"
    clock = result["clock"]
    assert clock["exchanges"] > 50
    # its clock is the host's, 5 s ahead: what is measured of its rate is within its own bound
    assert abs(clock["drift_ppb"]) < 10**9 * clock["uncertainty_ns"] / 10**8


@pytest.mark.real
def test_a_camera_that_runs_by_itself_is_looked_at_every_millisecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypylon", reason="pypylon is not installed")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    path = tmp_path / "eye.toml"
    path.write_text(
        f"""
name = "eye{os.getpid()}"
[cycle]
rate_hz = 20
read_deadline_us = 30000
act_us = 35000
realtime = "prefer"
[device.eye]
driver = "pylon"
serial = "0815-0000"
width = 64
height = 48
exposure_us = 500.0
trigger = "off"
rate_hz = 30
[sensor.eye]
device = "eye"
max_age_ms = 500
"""
    )
    result = probing.probe(load(path), "eye", 40)
    assert (result["latched"], result["period_ns"], result["cycles"]) == (True, 1_000_000, 2000)
    assert (result["due"], result["lost"], result["trigger_to_sample_ns"]["count"]) == (0, 0, 0)
    assert result["samples"] > 10
    count = result["interval_ns"]["count"]
    assert sum(item["count"] for item in result["histogram"]) == count > 0
    assert result["suggested"]["read_deadline_us"] is None
    assert result["suggested"]["max_age_ms"] * 1e6 >= 3 * result["interval_ns"]["p50"]
