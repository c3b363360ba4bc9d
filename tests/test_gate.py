"""The latency gate: what is slower is said, what is the same passes, and else it stays open."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from inphase.command.pictures import bench_picture
from inphase.errors import RecordingError
from inphase.frames.record_layout import CAUSES
from inphase.gate import comparison, count_comparison, measurement
from inphase.gate.comparison import BaselineComparison, compare, judge
from inphase.gate.counts import CycleCounts, PartCounts, count
from inphase.gate.measurement import Measurement, Round, RoundLateness, exact
from inphase.gate.power import power
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
COUNTS = CycleCounts(
    made_by={"processor": "x", "libc": "glibc 2", "python": "3.11", "inphase": "1"},
    cycles=4,
    parts={
        "cycle": PartCounts(10_000.0, 9000.0, 0.0, 0.0, 1000.0),
        "policy": PartCounts(20_000.0, 4000.0, 0.0, 2.0, 500.0),
    },
    faults=0.0,
)
OTHER = {"processor": "x", "libc": "glibc 2", "python": "3.12", "inphase": "2"}
MACHINE = {"processor": "x", "cores": "2", "kernel": "6", "libc": "glibc 2", "python": "3.11"}


@dataclass(frozen=True)
class Weather:
    """How a made-up machine is: how slow, and how much that changes from round to round."""

    pace: float = 1.0
    spread: float = 0.02


def late(ours: int = 0, kernel: int = 0) -> RoundLateness:
    """Of a run of 1000 cycles."""
    causes = dict.fromkeys(CAUSES, 0) | {"ours": ours, "kernel": kernel}
    said = ["the act was late in 9 cycles (up to 0.5 ms, cycle 7). Ours: the cycle thread itself"]
    return RoundLateness(cycles=1000, causes=causes, said=said if ours else [])


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
            Round(
                bare=[bare, bare],
                figures={"wake": figure},
                cycles=9,
                skipped=0,
                stolen_ms=0.0,
                late=late(),
            )
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
        "counts": COUNTS,
        "uncounted": "",
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
    rights = compare(made(), made(2.0, is_realtime=False), LIMIT)
    assert "real-time rights" in rights.notes[0] and rights.is_undecided
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
    text = comparison.markdown(found, made())
    assert (
        text.startswith("**demo: slower than the baseline**\n\n| time |")
        and "- on virtual time missed was 0 and is 1\n" in text
    )


def counted(part: str = "cycle", **numbers: float) -> Measurement:
    """One whose only new numbers are these of a part."""
    parts = {**COUNTS.parts, part: replace(COUNTS.parts[part], **numbers)}
    return made(rounds=0, counts=replace(COUNTS, parts=parts))


def grown(now: Measurement) -> list[str]:
    found = compare(made(rounds=0), now, LIMIT)
    assert found.is_slower == bool(found.changes) and not found.is_undecided
    return [pair.name for pair in found.counted if pair.has_grown]


def test_counts_are_held_to_a_fiftieth_and_calls_to_the_last_one() -> None:
    assert grown(counted()) == []
    assert grown(counted(instructions=10_190.0, own=9170.0, copied=1010.0)) == []
    assert grown(counted(instructions=10_210.0)) == ["cycle: instructions"]
    assert grown(counted(own=9190.0)) == ["cycle: instructions of the C core"]
    assert grown(counted(copied=1030.0)) == ["cycle: copied bytes"]
    assert grown(counted(calls=0.25)) == ["cycle: system calls"]
    assert grown(counted(allocations=0.25)) == ["cycle: allocations"]
    assert grown(counted("policy", allocations=2.25)) == []
    assert grown(counted("policy", allocations=3.0)) == ["policy: allocations"]
    assert grown(made(rounds=0, counts=replace(COUNTS, faults=0.5))) == ["cycle: page faults"]
    assert grown(counted(instructions=5000.0)) == []
    (text,) = compare(made(rounds=0), counted(calls=1.0), LIMIT).changes
    assert text == "cycle: system calls, per cycle, were 0 and are 1"


def test_instructions_of_another_machine_are_not_compared_and_system_calls_are() -> None:
    other = replace(counted(instructions=20_000.0, calls=1.0).counts, made_by=OTHER)
    found = compare(made(rounds=0), made(rounds=0, counts=other), LIMIT)
    assert {pair.kind for pair in found.counted} == {"calls", "allocations", "faults"}
    assert {pair.part for pair in found.counted} == {"cycle"}
    assert "python 3.11, now 3.12" in found.notes[0] and "inphase was 1 and is 2" in found.notes[1]
    assert [pair.kind for pair in found.counted if pair.has_grown] == ["calls"]
    fewer = compare(made(rounds=0), made(rounds=0, counts=replace(COUNTS, cycles=8)), LIMIT)
    assert not fewer.counted and "4 cycles were counted and 8 are now" in fewer.notes[0]


def test_power_says_what_the_rounds_can_tell_and_calls_the_same_no_slower() -> None:
    calm = power(made(weather=Weather(spread=0.01)), LIMIT)
    assert calm.any_slower[0.0] == 0 and calm.any_slower[0.2] == 100
    (median, _) = calm.seen
    assert (median.figure, median.quantile) == ("wake", "p50") and median.of[0.05] == 0
    wild = power(made(weather=Weather(spread=0.3)), LIMIT)
    assert wild.any_slower[0.0] <= 5 and wild.any_slower[0.2] < 50
    assert list(wild.any_slower.values()) == sorted(wild.any_slower.values())


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_comparison_is_drawn_with_each_figure_in_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"one.{kind}"
    bench_picture.refuse(path)
    found = compare(made(), replace(made(1.5), counts=counted(calls=1.0).counts), LIMIT)
    bench_picture.draw(found, "demo", LIMIT, path)
    if kind == "png":
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
        return
    empty = tmp_path / "empty.svg"
    bench_picture.draw(compare(made(), made(schedule_hash="b"), LIMIT), "demo", LIMIT, empty)
    drawn = [len(re.findall("<path", one.read_text())) for one in (path, empty)]
    assert drawn[0] > drawn[1]


def test_a_picture_that_could_not_be_made_is_refused_before_a_measurement(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"ends in \.png or \.svg"):
        bench_picture.refuse(tmp_path / "one.gif")


def test_what_could_not_be_counted_is_said_and_judged_by_nobody() -> None:
    why = "no instructions are counted: it ended"
    found = compare(made(), made(counts=None, uncounted=why), LIMIT)
    assert not found.counted and found.notes[0] == f"now: {why}"
    alone = compare(
        made(rounds=0, exact=None), made(rounds=0, exact=None, counts=None, uncounted=why), LIMIT
    )
    assert alone.is_undecided


def test_a_disturbed_run_is_undecided_with_the_reason() -> None:
    slow = made(1.5)
    stolen = [replace(one, stolen_ms=200.0, skipped=1) for one in slow.rounds]
    found = compare(made(), replace(slow, rounds=stolen), LIMIT)
    assert found.is_undecided and verdicts(found) == {"undecided"}
    assert "too disturbed to judge: in 10 of 10 rounds the host took 2000 ms" in found.notes[0]
    assert compare(made(), replace(slow, rounds=stolen[:5] + slow.rounds[5:]), LIMIT).is_slower


def lateness(ours: list[int], kernel: int = 0) -> Measurement:
    """A measurement with so many late moments in its rounds, the others without."""
    quiet = made()
    counts = [*ours, *[0] * (len(quiet.rounds) - len(ours))]
    rounds = [
        replace(one, late=late(count, kernel))
        for one, count in zip(quiet.rounds, counts, strict=True)
    ]
    return replace(quiet, rounds=rounds)


def test_late_moments_that_are_ours_fail_and_those_of_others_are_told() -> None:
    found = compare(made(), lateness([9] * 7), LIMIT)
    assert found.is_slower and [pair.verdict for pair in found.late] == ["more"]
    assert found.changes == [
        "late moments that are ours were 0 in a thousand cycles and are 6.3: the act was late in 9 "
        "cycles (up to 0.5 ms, cycle 7). Ours: the cycle thread itself"
    ]
    table = comparison.markdown(found, made())
    assert "| ours | 0 | 6.3 | more |" in table and "slower than the baseline" in table

    told = compare(made(), lateness([], kernel=50), LIMIT)
    assert [(pair.cause, pair.verdict) for pair in told.late] == [("kernel", "told")]
    assert not told.is_slower and not told.is_undecided

    busier = compare(made(), lateness([9] * 7, kernel=50), LIMIT)
    assert busier.is_undecided and {p.verdict for p in busier.late} == {"undecided", "told"}
    same = compare(lateness([9] * 7, kernel=50), lateness([8] * 7, kernel=50), LIMIT)
    assert not same.is_slower and not same.is_undecided


@pytest.mark.parametrize("ours", [[500], [1] * 9, [0]], ids=["a burst", "one each", "none"])
def test_a_burst_or_a_late_moment_here_and_there_proves_nothing(ours: list[int]) -> None:
    found = compare(made(), lateness(ours), LIMIT)
    assert not found.is_slower and not found.is_undecided


@pytest.mark.real
@pytest.mark.long
def test_a_schedule_has_the_same_counts_each_time(tmp_path: Path) -> None:
    described = load(demo_schedule(tmp_path))
    (first, why), (second, _) = count(described), count(described)
    if first is None and "not supported" in why:
        pytest.skip(why)
    assert first is not None and second is not None, why
    assert set(first.parts) == {"cycle", "policy", "subscriber", "gateway"}
    core, again = first.parts["cycle"], second.parts["cycle"]
    assert core.own > 1000 and (core.own, core.copied) == (again.own, again.copied)
    assert core.instructions == pytest.approx(again.instructions, rel=0.005)
    assert (core.calls, core.allocations, first.faults) == (0, 0, 0)
    pairs, notes = count_comparison.compare(first, second)
    assert [pair for pair in pairs if pair.has_grown] == [] and notes == []


@pytest.mark.real
@pytest.mark.long
def test_a_policy_that_traps_make_slow_has_the_same_counts(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(re.sub(r'call = "[^"]*"', 'call = "slow.py:policy"', path.read_text()))
    counts = []
    for seconds in (0.0, 0.6):  # in the turns that are counted
        (tmp_path / "slow.py").write_text(
            "import time\ncalls = 0\ndef policy(frame):\n    global calls\n    calls += 1\n"
            f"    time.sleep({seconds} if calls > 322 else 0)\n"
            "    return frame['joints'].value['position'].copy()\n"
        )
        counted, why = count(load(path))
        assert counted is not None, why
        counts.append(counted.parts["policy"].instructions)
    assert counts[1] == pytest.approx(counts[0], rel=0.01)


@pytest.mark.real
def test_a_policy_that_is_no_program_is_told_by_its_last_words(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    text = path.read_text()
    (tmp_path / "broken.py").write_text("def policy(frame):\n    raise SystemExit(3)\n1 / 0\n")
    path.write_text(re.sub(r'call = "[^"]*"', 'call = "broken.py:policy"', text))
    counted, why = count(load(path))
    assert counted is None and why.startswith("no instructions are counted: ") and "broken" in why


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
@pytest.mark.long
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
