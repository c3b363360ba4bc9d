"""The verdict on a run is never better than the run."""

from pathlib import Path
from typing import Any

import pytest

import inphase
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.frames.record_layout import CAUSES
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.runtime.words import verdict
from peers import ROOT
from robots import demo_schedule

Made = tuple[Plan, dict[str, Any]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A plan, and the summary of a run of it."""
    schedule = inphase.load(demo_schedule(tmp_path))
    with LockStep(schedule) as robot:
        robot.run(50)
        return planning.make(schedule), sum_up(robot)


def test_all_is_all(made: Made) -> None:
    plan, result = made
    (text,) = verdict.of(plan, result, [])
    assert text.startswith("good: all 50 cycles ran; 100 % of the commands were in time; ")
    assert text.endswith("every sensor was FRESH in each frame")


def test_one_in_a_million_is_not_all(made: Made) -> None:
    plan, result = made
    result["policy"]["commands"], result["policy"]["missed"] = 999_999, 1
    result["sensors"]["joints"]["status"] = {"FRESH": 999_999, "LATE": 1}
    (text,) = verdict.of(plan, result, [])
    assert "99.99 % of the commands were in time" in text
    assert text.endswith("FRESH in at least 99.99 % of its frames")


def test_cycles_that_were_left_out_are_told_also_by_a_good_verdict(made: Made) -> None:
    plan, result = made
    result["skipped"] = 2
    (text,) = verdict.of(plan, result, [])
    assert text.startswith("good: 50 cycles ran, 2 were left out; ")


def on_the_wall_clock(result: dict[str, Any], cycles: int = 10_000) -> dict[str, Any]:
    """A run of so many cycles in which nothing went wrong."""
    result.pop("digest")
    status = dict.fromkeys(result["sensors"]["joints"]["status"], 0)
    for sensor in result["sensors"].values():
        sensor["status"] = status | {"FRESH": cycles}
    counts = {"commands": cycles, "missed": 0, "invalid": 0, "reasons": {}}
    return result | {
        "cycles": cycles,
        "policy": result["policy"] | counts,
        "wake_late_ns": quantiles(20_000),
        "latch_to_command_ns": quantiles(200_000),
        "inference_ns": quantiles(100_000),
        "realtime": result["realtime"] | {"granted": True},
        "late": {"thread": dict.fromkeys(CAUSES, 0)},
    }


def quantiles(value: int) -> dict[str, int]:
    return dict.fromkeys(("count", "min", "p50", "p90", "p99", "p999", "max"), value)


def missing(result: dict[str, Any], count: int, reason: str = "silent") -> dict[str, Any]:
    """So many cycles of it had no command."""
    policy = result["policy"] | {
        "commands": result["cycles"] - count,
        "missed": count,
        "reasons": {reason: count},
    }
    return result | {"policy": policy}


def test_a_policy_that_is_too_slow_is_told_with_its_time_and_the_keys(made: Made) -> None:
    plan, result = made
    slow = missing(on_the_wall_clock(result), 5_700) | {"inference_ns": quantiles(10_100_000)}
    overall, text = verdict.of(plan, slow, [])
    assert overall == "not good, with one thing to look at:"
    assert text.startswith("57 % of the cycles had no command (silent 5700): ")
    assert "policy takes 10.1 ms (median), and its command is due 0.4 ms after its frame" in text
    assert "[policy] every = 7, latency_cycles = 7" in text


def test_a_quick_policy_that_waited_for_a_core_is_not_blamed(made: Made) -> None:
    plan, result = made
    waited = missing(on_the_wall_clock(result), 300) | {"latch_to_command_ns": quantiles(350_000)}
    overall, text = verdict.of(plan, waited, [])
    assert overall == "fair, with one thing to look at:"
    assert "the policy itself takes 0.1 ms" in text and "0.35 ms after the frame" in text
    assert "it waited for a core. Try: close other programs" in text
    assert "or latency_cycles = 1 (" in text, "one more than the schedule has"
    assert "quicker" not in text


def test_a_busy_machine_and_a_late_sensor_are_told_with_figures_and_what_to_try(made: Made) -> None:
    plan, result = made
    busy = on_the_wall_clock(result) | {"skipped": 300, "wake_late_ns": quantiles(9_800_000)}
    busy["realtime"]["granted"] = False
    busy["sensors"]["wrench"]["status"] |= {"FRESH": 9_580, "LATE": 420}
    overall, machine, sensor = verdict.of(plan, busy, [])
    assert overall == "not good, with 2 things to look at:"
    assert (
        "300 cycles were left out" in machine and "up to 9.8 ms late, for cycles of 2 ms" in machine
    )
    assert "`inphase check SCHEDULE` prints how" in machine
    assert sensor.startswith("sensor wrench was FRESH in 95.8 % of its frames (LATE 420): a sample")
    assert "may take 1.3 ms. Try: `inphase explain LATE`" in sensor


def test_the_machine_is_not_blamed_for_what_is_ours(made: Made) -> None:
    plan, result = made
    left_out = on_the_wall_clock(result) | {"skipped": 300}
    causes = left_out["late"]["thread"]
    causes["ours"], causes["kernel"] = 60, 60
    _, machine = verdict.of(plan, left_out, [])
    assert machine.startswith("the machine was too busy: 300 cycles were left out")
    assert "(late by cause: kernel 60, ours 60)" in machine
    causes["ours"] = 61
    _, machine = verdict.of(plan, left_out, [])
    assert machine.startswith("this run needs more of the machine than it has: 300 cycles")
    assert "close other programs" not in machine and "lower rate_hz" in machine


def test_a_sensor_that_is_held_between_its_samples_is_not_late(made: Made) -> None:
    plan, result = made
    slow = on_the_wall_clock(result)
    slow["sensors"]["wrench"]["status"] |= {"FRESH": 2_500, "HELD": 7_500}
    (text,) = verdict.of(plan, slow, [])
    assert text.startswith("good: all 10000 cycles ran, each within 0.02 ms of its time; ")


def test_a_sensor_is_neither_late_nor_unfresh_before_its_first_sample_is_due() -> None:
    with LockStep(inphase.load(ROOT / "schedules" / "rig.toml")) as robot:
        robot.run(100)
        result = sum_up(robot)
    counts = {name: one["status"]["MISSING"] for name, one in result["sensors"].items()}
    assert counts == {"joints": 0, "wrench": 0, "angles": 1, "image": 3}  # latency_cycles
    assert result["worst"] == []
    assert result["verdict"] == [
        "good: all 100 cycles ran; 99 % of the commands were in time; every sensor was FRESH in "
        "each frame in which it was due"
    ]


def test_a_shortfall_and_a_latch_are_never_good(made: Made) -> None:
    plan, result = made
    latched = on_the_wall_clock(result) | {"latched": "offline"}
    shortfall = "sensor wrench was never FRESH (LATE 10000): ..."
    assert verdict.of(plan, latched, [shortfall]) == [
        "not good, with 2 things to look at:",
        shortfall,
        "motion is latched (offline): `inphase explain offline`",
    ]


def test_a_command_that_was_missing_has_no_remedy_of_samples(tmp_path: Path) -> None:
    schedule = inphase.load(demo_schedule(tmp_path))
    with LockStep(schedule, call=lambda frame: None) as robot:
        robot.run(600)
        text = " ".join(sum_up(robot)["verdict"])
    assert "it returned None" in text
    assert "of a sample" not in text and "cable" not in text


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        ({"state": "CUT"}, "was cut. Try: `inphase recover run.mcap`"),
        ({"state": "INCOMPLETE", "missed_frames": 7}, "lacks 7 frames"),
        ({"state": "INCOMPLETE", "missed_frames": 0}, "lacks messages"),
    ],
)
def test_a_recording_in_which_something_is_missing_is_never_good(
    made: Made, recording: dict[str, Any], words: str
) -> None:
    plan, result = made
    whole = {"path": "run.mcap", "state": "COMPLETE"}
    assert verdict.of(plan, result | {"recording": whole}, [])[0].startswith("good")
    said = verdict.of(plan, result | {"recording": whole | recording}, [])
    assert said[0].startswith("not good") and words in said[1]
