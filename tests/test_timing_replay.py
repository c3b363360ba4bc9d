"""Lock step follows the timing of a recorded run, in order, cycle by cycle."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import inphase
from inphase.command.cli import cli
from inphase.core.trace import NONE, STOOD, FreeTrace, Trace, TriggeredTrace
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError, ScheduleError
from inphase.frames.record_layout import ABSENT, STATUSES
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.recording.lockstep_recorder import run_recorded
from inphase.recording.recording import Recording
from inphase.testing.fault_plan import Fault
from inphase.timing.contents import compare
from inphase.timing.replayed_timing import ReplayedTiming
from peers import ROOT
from recorded_runs import DEMO, record
from timed_runs import INJECTED, ROBOT, run, write
from worlds import needs_images

CYCLES = 1200
HARD = """
[sensors.joints]
latency_ms = { values = [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 1.3] }
dropout = 0.01
[sensors.wrench]
latency_ms = { normal = [0.6, 0.3], low = 0.2, high = 1.7 }
dropout = 0.03
[policy]
inference_ms = { lognormal = [0.5, 0.7], high = 6.0 }
[host]
wake_late_ms = { lognormal = [0.05, 1.0], high = 4.5 }
"""
NOTHING = "[host]\nwake_late_ms = 0\n"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of a run with every kind of timing."""
    return run(tmp_path_factory.mktemp("replay"), INJECTED, CYCLES)


def follow(folder: Path, model: str, timing: Path, cycles: int, **options: Any) -> dict[str, Any]:
    """A run with the timing of a recording, recorded in `again.mcap`."""
    path = write(folder, model, "again", options.pop("robot", ROBOT))
    made = folder / "again.mcap"
    return lockstep.run(
        inphase.load(path), cycles, record=made, timing=timing, **{"seed": 1} | options
    )


def test_a_run_with_its_own_timing_is_the_same_bit_for_bit(first: Path, tmp_path: Path) -> None:
    """All draws of the timing model are replaced, so the model that drew them may be gone."""
    digests = [
        lockstep.run(inphase.load(first.with_suffix(".toml")), CYCLES, seed=1)["digest"],
        follow(tmp_path, NOTHING, first, CYCLES)["digest"],
    ]
    assert digests[0] == digests[1]
    with Recording(first) as one, Recording(tmp_path / "again.mcap") as other:
        found = compare(one, other, lambda cycles: None)
    assert found.is_same and found.both == CYCLES


@pytest.mark.parametrize(
    "name", ["demo", "rig", *(pytest.param(one, marks=needs_images) for one in ("press", "arm"))]
)
def test_a_ready_schedule_has_its_own_timing_again(name: str, tmp_path: Path) -> None:
    """With worlds, cameras, draws of [randomise], and a policy that is often too late."""
    described = inphase.load(ROOT / "schedules" / f"{name}.toml")
    paths = [tmp_path / "run.mcap", tmp_path / "again.mcap"]
    first = lockstep.run(described, 200, seed=3, record=paths[0])
    again = lockstep.run(described, 200, seed=3, record=paths[1], timing=paths[0])
    assert name == "press" or first["digest"] == again["digest"]
    with Recording(paths[0]) as one, Recording(paths[1]) as other:
        found = compare(one, other, lambda cycles: None)
    # the servos of press measure in the middle of an exchange, whose end is known with a wake
    values = ("joints.", "wrench.", "actuators.arm.requested", "actuators.arm.applied")
    assert not [field for field in found.differ if not field.startswith(values)]
    assert all((one.largest or 0) < 1e-3 for one in found.differ.values())


def test_the_timing_does_not_depend_on_the_seed(first: Path, tmp_path: Path) -> None:
    follow(tmp_path, NOTHING, first, CYCLES, seed=77)
    with Recording(first) as one, Recording(tmp_path / "again.mcap") as other:
        found = compare(one, other, lambda cycles: None)
    assert not found.differ and found.both == CYCLES


def test_what_was_missing_is_missing_there_too(tmp_path: Path) -> None:
    """Also with late samples, skipped cycles and a policy that misses its acts: what the frames do
    not tell moves a few cycles."""
    hard = run(tmp_path, HARD, CYCLES, "hard")
    summary = follow(tmp_path, NOTHING, hard, CYCLES)
    with Recording(hard) as one, Recording(tmp_path / "again.mcap") as other:
        frames = [recording.frames() for recording in (one, other)]
    cycles = [one["cycle"] for one in frames]
    assert summary["skipped"] > 10
    assert np.array_equal(*cycles)
    for name in ("joints", "wrench"):
        status = [one[f"sensors.{name}.status"] for one in frames]
        wrong = [
            np.isin(one, (STATUSES.index("LATE"), STATUSES.index("MISSING"))) for one in status
        ]
        assert wrong[0].sum() > 100
        assert np.count_nonzero(wrong[0] != wrong[1]) < 0.02 * CYCLES, name
    answered = [one["inferred_ns"] != ABSENT for one in frames]
    assert np.count_nonzero(~answered[0]) > 0.2 * CYCLES
    assert np.count_nonzero(answered[0] != answered[1]) < 0.02 * CYCLES


def test_refused_samples_and_a_device_that_was_gone_are_missing_and_said(tmp_path: Path) -> None:
    schedule = inphase.load(DEMO)
    with LockStep(schedule, seed=1) as robot:
        Fault("nan", "wrench", first=100, cycles=10).plan(robot)
        Fault("gone", "wrench", first=200, cycles=50).plan(robot)
        run_recorded(robot.follower, robot.run, 400, tmp_path / "run.mcap", schedule)
    with Recording(tmp_path / "run.mcap") as recording:
        found = Counter(frame["wrench"].status for frame in recording)
    assert found["INVALID"] == 10 and found["OFFLINE"] > 40
    timing = ReplayedTiming(tmp_path / "run.mcap", planning.make(schedule), 400)
    assert timing.remarks == [
        f"wrench was INVALID in 10 and OFFLINE in {found['OFFLINE']} cycles of "
        f"{tmp_path / 'run.mcap'}: there it gives no sample here, and is LATE, then MISSING"
    ]
    summary = lockstep.run(schedule, 400, timing=tmp_path / "run.mcap")
    assert set(timing.remarks) <= set(summary["events"])
    counts = summary["sensors"]["wrench"]["status"]
    assert {status for status, count in counts.items() if count} == {
        "FRESH", "LATE", "MISSING", "RECOVERING"
    }  # fmt: skip


def test_a_wait_that_the_recorded_run_did_not_have_ends_at_the_deadline(
    first: Path, tmp_path: Path
) -> None:
    """A planned fault keeps a reply back that came in the recording."""
    described = inphase.load(write(tmp_path, NOTHING, "again"))
    plan = planning.make(described)
    timing = ReplayedTiming(first, plan, 100)
    with LockStep(described, seed=1, plan=plan, timing=timing) as robot:
        robot.core.fault("silent", 1, 40, 5)
        status = [frame["wrench"].status for frame in robot.frames(60)]
    assert status[40:45] == ["LATE"] * 5


def test_a_timing_that_is_used_up_begins_again_and_says_so(first: Path, tmp_path: Path) -> None:
    summary = follow(tmp_path, NOTHING, first, 2 * CYCLES + 100)
    assert summary["timing"] == {"recording": str(first), "cycles": CYCLES, "again": 2}
    assert f"{CYCLES} cycles: it was used up and began again 2 times" in " ".join(summary["events"])
    with Recording(tmp_path / "again.mcap") as recording:
        frames = recording.frames()
    # the second round without its first cycles, which saw samples of the round before
    took = frames["sensors.wrench.received_ns"] - frames["sensors.wrench.triggered_ns"]
    rounds = [took[start + 20 : start + CYCLES] for start in (0, CYCLES)]
    status = frames["sensors.wrench.status"]
    is_fresh = [
        status[start + 20 : start + CYCLES] == STATUSES.index("FRESH") for start in (0, CYCLES)
    ]
    assert np.array_equal(is_fresh[0], is_fresh[1])
    assert np.array_equal(rounds[0][is_fresh[0]], rounds[1][is_fresh[1]])


def test_a_shorter_run_takes_the_first_cycles(first: Path, tmp_path: Path) -> None:
    summary = follow(tmp_path, NOTHING, first, 50)
    assert summary["timing"]["again"] == 0
    with Recording(first) as one, Recording(tmp_path / "again.mcap") as other:
        found = compare(one, other, lambda cycles: None)
    assert found.both == 50 and not found.differ


def test_a_recording_that_begins_later_begins_with_a_cycle_of_all_triggers(tmp_path: Path) -> None:
    """Here the sensor eye is triggered in every fifth cycle."""
    cycles = 3000
    path, later = run(tmp_path, INJECTED, cycles), tmp_path / "later.mcap"
    plan = planning.make(inphase.load(path.with_suffix(".toml")))
    frames = _without_first(path, later)
    assert 0 < frames < cycles
    start = -(-(cycles - frames) // 5) * 5
    found, whole = (ReplayedTiming(one, plan, 10_000) for one in (later, path))
    assert found.cycles == (cycles - start) // 5 * 5
    for name in ("wake_late", "inference", "act_late"):
        series = getattr(whole.trace(plan), name)[start : start + found.cycles]
        assert np.array_equal(getattr(found.trace(plan), name)[10:-10], series[10:-10]), name


def _without_first(path: Path, output: Path) -> int:
    """A recording without its first chunk; how many frames are left."""
    from mcap.reader import make_reader

    from inphase.recording.recovery import recover

    data = path.read_bytes()
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    chunks = summary.chunk_indexes
    cut = output.with_suffix(".cut.mcap")
    second = chunks[1].chunk_start_offset
    cut.write_bytes(data[: chunks[0].chunk_start_offset] + data[second : len(data) - 100])
    recover(cut, output)
    with Recording(output) as recording:
        return len(recording)


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("rate_hz = 500", "rate_hz = 400", r"cycle\.rate_hz: a cycle of 2500000 ns"),
        ("every = 5", "every = 10", r"sensor\.eye\.every: every is 10 here and 5"),
        (
            "trigger_us = 200",
            "trigger_us = 300",
            r"sensor\.wrench\.trigger_us: trigger_ns is 300000",
        ),
        ("latency_cycles = 3", "latency_cycles = 4", r"sensor\.eye\.latency_cycles"),
        ("[sensor.wrench]", "[sensor.force]", r"sensor: joints, force, eye, imu"),
    ],
)
def test_a_schedule_of_another_rhythm_is_refused_with_its_key(
    first: Path, tmp_path: Path, before: str, after: str, key: str
) -> None:
    assert before in ROBOT
    with pytest.raises(ScheduleError, match=key):
        follow(tmp_path, NOTHING, first, 10, robot=ROBOT.replace(before, after))
    assert not (tmp_path / "again.mcap").exists()


def test_a_recording_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "no.mcap").write_bytes(b"no")
    with pytest.raises(RecordingError, match="no recording"):
        follow(tmp_path, NOTHING, tmp_path / "no.mcap", 10)
    assert not (tmp_path / "again.mcap").exists()


def test_the_command_takes_it_in_lock_step_alone(tmp_path: Path) -> None:
    path = tmp_path / "demo.mcap"
    record(DEMO, 60, path)
    words = ["run", str(DEMO), "--cycles", "60", "--timing", str(path), "--json"]
    assert "--timing is for --lockstep" in CliRunner().invoke(cli, words).output
    result = CliRunner().invoke(cli, [*words, "--lockstep", "--seed", "1"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["timing"]["cycles"]) == (0, 60)
    plain = lockstep.run(inphase.load(DEMO), 60, seed=1)
    assert found["digest"] == plain["digest"]


def test_a_recording_whose_schedule_names_a_model_beside_it_can_be_replayed(
    first: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That file is not where the schedule of the recording is written to."""
    monkeypatch.chdir(first.parent)
    result = CliRunner().invoke(cli, ["replay", str(first), "--policy", "hold.py:hold"])
    assert result.exit_code == 0, result.output
    assert "no value differs" in result.stdout


class Given:
    """Any times, in place of a recording's."""

    path = Path("given.mcap")

    def __init__(self, seed: int, cycles: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._cycles = cycles

    def _times(self, most_ns: int, *others: int) -> Any:
        """Mostly 0, at times up to that, or one of the others."""
        drawn = self._rng.integers(0, most_ns + 1, self._cycles)
        found = np.where(self._rng.random(self._cycles) < 0.5, 0, drawn)
        for other in others:
            found[self._rng.random(self._cycles) < 0.1] = other
        return found.astype(np.int64)

    def trace(self, plan: Plan) -> Trace:
        sensors: list[TriggeredTrace | FreeTrace] = []
        for sensor in plan.sensors:
            if sensor.schedule.free_running:
                acquired = np.sort(self._rng.integers(0, self._cycles * 2_000_000, self._cycles))
                sensors.append(FreeTrace(acquired, acquired + self._times(3_000_000)))
            else:
                took = self._times(7_000_000, NONE, STOOD)
                sensors.append(TriggeredTrace(took, self._times(3_000_000)))
        early, late = self._times(1_000_000), self._times(9_000_000)
        latched, inference = self._times(3_000_000), self._times(9_000_000, NONE)
        return Trace(self._cycles, late, latched, early, inference, tuple(sensors))


@pytest.mark.parametrize("seed", range(12))
def test_time_goes_on_whatever_the_times_are(tmp_path: Path, seed: int) -> None:
    described = inphase.load(write(tmp_path, NOTHING, "again"))
    plan = planning.make(described)
    given: Any = Given(seed, 40)
    with LockStep(described, plan=plan, timing=given, digest=False) as robot:
        before = -1
        for frame in robot.frames(90):
            assert frame.latched_ns >= frame.woke_ns >= frame.due_ns > before
            before = frame.due_ns
        assert robot.cycles == 90
