"""The latency gate: what is slower is said, what is the same passes, and else it stays open."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase.errors import RecordingError
from inphase.gate import comparison, measurement
from inphase.gate.comparison import BaselineComparison, compare, judge
from inphase.gate.measurement import Measurement, Round, exact
from inphase.schedule import load
from runtimes import Robot
from test_run import demo_schedule

LIMIT = 0.1
EXACT = {
    "digest": "1",
    "missed": 0,
    "refused": 0,
    "statuses": {"joints": {"FRESH": 2000, "LATE": 0}},
    "skew_us": {"p50": 10.0, "p99": 12.0, "max": 20.0},
}
MACHINE = {"processor": "x", "cores": "2", "kernel": "6", "libc": "glibc 2", "python": "3.11"}


@dataclass(frozen=True)
class Weather:
    """How a made-up machine is: how slow, and how much that changes from round to round."""

    pace: float = 1.0
    spread: float = 0.02


def made(
    factor: float = 1.0, weather: Weather = Weather(), seed: int = 1, **facts: Any
) -> Measurement:
    """A measurement whose figure takes `factor` times 50 us on a machine in that weather."""
    draws = np.random.default_rng(seed)
    rounds = []
    for _ in range(facts.pop("rounds", 10)):
        pace = weather.pace * draws.normal(1, 0.2)
        noise = draws.normal(1, weather.spread)
        bare = dict.fromkeys(measurement.QUANTILES, 20 * pace)
        figure = dict.fromkeys(measurement.QUANTILES, 50 * pace * factor * noise)
        rounds.append(
            Round(bare=[bare, bare], figures={"wake": figure}, cycles=9, skipped=0, stolen_ms=0.0)
        )
    known: dict[str, Any] = {
        "format": measurement.FORMAT,
        "schedule_hash": "a",
        "robot": "demo",
        "period_us": 2000.0,
        "version": "1",
        "machine": MACHINE,
        "is_realtime": True,
        "seconds": 2.0,
        "rounds": rounds,
        "exact": EXACT,
    }
    return Measurement(**(known | facts))


def verdicts(found: BaselineComparison) -> set[str]:
    return {one.verdict for one in found.compared}


def test_a_fifth_more_is_slower_and_the_same_passes_whatever_the_weather() -> None:
    for seed in range(20):
        slow = Weather(pace=1.5)
        assert verdicts(compare(made(), made(1.2, slow, 100 + seed), LIMIT)) == {"slower"}
        found = compare(made(), made(1.0, slow, 200 + seed), LIMIT)
        assert verdicts(found) == {"the same"} and not found.is_slower and not found.is_undecided
        assert verdicts(compare(made(), made(0.5, slow, 300 + seed), LIMIT)) == {"faster"}


def test_too_much_noise_is_undecided_and_not_guessed() -> None:
    wild = Weather(spread=0.3)
    found = [compare(made(1.0, wild, n), made(1.1, wild, 50 + n), LIMIT) for n in range(20)]
    undecided = [one for one in found if one.is_undecided]
    assert len(undecided) > 15
    assert all(verdicts(one) == {"undecided"} and not one.is_slower for one in undecided)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.11, 1.3, "slower"),
        (1.09, 1.3, "undecided"),
        (0.95, 1.09, "the same"),
        (0.7, 0.89, "faster"),
        (0.7, 0.91, "the same"),
    ],
)
def test_the_verdict_is_by_where_the_ratio_lies(low: float, high: float, verdict: str) -> None:
    assert judge(low, high, LIMIT) == verdict


def test_what_is_not_alike_is_said_and_not_compared() -> None:
    other = compare(made(), made(schedule_hash="b"), LIMIT)
    assert not other.compared and other.is_undecided and "another schedule" in other.notes[0]
    machine = compare(made(), made(2.0, machine={**MACHINE, "processor": "y"}), LIMIT)
    assert not machine.compared and "another machine (processor)" in machine.notes[0]
    assert machine.is_undecided and not machine.changes  # what is exact is the same
    rights = compare(made(), made(is_realtime=False), LIMIT)
    assert "real-time rights" in rights.notes[0]
    few = compare(made(rounds=3), made(), LIMIT)
    assert not few.compared and "--runs 10" in few.notes[0]
    said = compare(made(), made(machine={**MACHINE, "python": "3.12"}), LIMIT)
    assert said.compared and said.notes == ["python was 3.11 and is 3.12"]


def test_what_is_exact_is_held_to_the_last_cycle() -> None:
    worse = {**EXACT, "missed": 1, "statuses": {"joints": {"FRESH": 1999, "LATE": 1}}}
    found = compare(made(), made(exact=worse), LIMIT)
    assert found.is_slower and len(found.changes) == 2
    assert "joints was FRESH in 2000 cycles and is in 1999" in found.changes[1]
    skewed = {**EXACT, "skew_us": {**EXACT["skew_us"], "p99": 12.5}}  # type: ignore[dict-item]
    assert compare(made(), made(exact=skewed), LIMIT).is_slower
    assert not compare(made(exact=worse), made(), LIMIT).is_slower
    text = comparison.markdown(found)
    assert text.startswith("| figure |") and "- on virtual time missed was 0 and is 1\n" in text


def test_a_schedule_has_the_same_exact_numbers_each_time(tmp_path: Path) -> None:
    described = load(demo_schedule(tmp_path))
    first, second = exact(described), exact(described)
    assert first == second and first is not None
    assert sum(first["statuses"]["joints"].values()) == measurement.EXACT_CYCLES


def test_a_baseline_is_read_as_it_was_written_and_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    made().save(path)
    assert Measurement.read(path) == made()
    for text in (b"", b"{}", b"[1]", path.read_bytes()[:-20]):
        path.write_bytes(text)
        with pytest.raises(RecordingError, match="is no baseline"):
            Measurement.read(path)


@pytest.mark.real
def test_the_command_measures_a_robot_in_turns_and_compares(tmp_path: Path) -> None:
    with Robot() as robot:
        base, table = tmp_path / "base.json", tmp_path / "table.md"

        def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-m", "inphase", "bench", str(robot.schedule)]
            return subprocess.run(
                [*command, "--runs", "1", "--seconds", "0.2", *arguments],
                capture_output=True,
                text=True,
                check=False,
            )

        done = run("--json", str(base))
        assert done.returncode == 0, done.stderr
        found = Measurement.read(base)
        assert found.robot == robot.name and len(found.rounds) == 1
        (one,) = found.rounds
        assert {"wake lateness", "latch to subscriber", "joints: trigger to sample"} <= set(
            one.figures
        )
        assert one.cycles + one.skipped >= 10 and all(bare["p50"] > 0 for bare in one.bare)
        compared = run("--compare", str(base), "--markdown", str(table))
        assert compared.returncode == 17, compared.stdout
        assert "fewer than 4 rounds tell nothing" in table.read_text()
        assert run("--markdown", str(table)).returncode == 2
