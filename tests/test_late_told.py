"""Late moments and whose fault they were, where a person looks: recording, report, live view."""

import contextlib
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import inphase
from inphase.command.live.counted import CountedByCore
from inphase.core.late_moment import LATE, LateMoment
from inphase.episodes.lockstep import LockStep
from inphase.frames.record_layout import CAUSES
from inphase.frames.store_follower import StoreFollower
from inphase.plan import plan as planning
from inphase.recording.recorder import Recorder
from inphase.recording.recording import Recording
from inphase.runtime.attribution.decision import Decision
from inphase.runtime.attribution.evidence import Evidence, Thread
from inphase.runtime.attribution.moments import Moment, Moments
from inphase.runtime.attribution.rows import late_row
from inphase.runtime.words import late_words
from inphase.testing.fault_plan import Fault
from recorded_runs import DEMO, Foreign
from runtimes import Robot
from test_report import make

CYCLES, STEP, AT, LATE_NS = 400, 25, 213, 5_000_000
HOG = Thread(4711, 4711, "stress-ng", "other", 95)
PREEMPTED = Decision("other process", "preempted", HOG)
SILENT = Decision("ours", "device")
WRENCH = 1


def row_of(cycle: int, phase: str, found: Decision, number: int, *, sensor: int = -1) -> np.void:
    """Of the late moment of that number, all of which have one cause."""
    moment = Moment(cycle, phase, 0, LATE_NS, sensor, 36 if sensor >= 0 else -1)
    counts = [number + 1 if cause == found.cause else 0 for cause in CAUSES]
    return late_row(moment, found, Evidence(late_ns=LATE_NS, held_ns=7), counts)


def record(path: Path, rows: list[np.void]) -> None:
    """A run in lock step that woke late, whose supervisor tells these moments after its end."""
    schedule = inphase.load(DEMO)
    with LockStep(schedule, seed=1) as robot:
        Fault("wake", "", first=210, argument=LATE_NS).plan(robot)
        follower = StoreFollower(robot.follower.reader.path, from_first=True)
        recorder = Recorder(follower, path, schedule, print, reader=follower.reader, first=0)
        for _ in range(CYCLES // STEP):
            robot.run(STEP)
            recorder.run(lambda: True, lambda: None)
        for row in rows:
            robot.core.late(row.tobytes())
        recorder.close({})
        follower.close()


def test_a_recording_has_each_late_moment_with_its_cause_and_the_thief(tmp_path: Path) -> None:
    rows = [row_of(AT, "wake", PREEMPTED, 0), row_of(300, "act", PREEMPTED, 1)]
    record(tmp_path / "run.mcap", rows)
    wake, act = Foreign(tmp_path / "run.mcap").of["/late"]
    assert (wake.cycle, act.cycle) == (AT, 300)
    assert CAUSES[wake.cause] == "other process" and wake.thief.rstrip(b"\0") == b"stress-ng"
    assert wake.held_ns == 7 and not wake.HasField("ran_ns")  # nobody counted it
    with Recording(tmp_path / "run.mcap") as recording:
        assert recording.late().tobytes() == b"".join(row.tobytes() for row in rows)
        newest = LateMoment.of(recording.late()[-1])
    assert newest.causes["other process"] == 2 and newest.process == 4711


def test_a_report_says_whose_fault_the_worst_cycle_was(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", [row_of(AT, "wake", PREEMPTED, 0)])
    page = make(tmp_path / "run.mcap", tmp_path / "page.html")
    rows = [[text for text, _ in row] for row in page.tables["worst"] if row]
    (told,) = [row[3] for row in rows if row[0] == str(AT)]
    assert "Other process: stress-ng (process 4711) had the core." in told
    assert "Late moments by cause: other process 1" in page.text


def test_the_live_view_has_the_counts_and_the_newest_one() -> None:
    with LockStep(inphase.load(DEMO)) as robot:
        robot.run(2)
        counted, layout = CountedByCore(robot.follower.reader), robot.follower.layout
        assert counted.late(layout) == ""
        robot.core.late(row_of(AT, "read", SILENT, 4, sensor=WRENCH).tobytes())
        said = counted.late(layout)
    assert said.startswith(f"late: ours 5; cycle {AT}: Ours: 36 bytes of its reply were missing")


def test_only_the_newest_late_moments_are_kept() -> None:
    with LockStep(inphase.load(DEMO)) as robot:
        robot.run(1)
        reader = robot.follower.reader
        with pytest.raises(IndexError):
            reader.late(0)
        for number in range(300):
            robot.core.late(row_of(number, "wake", PREEMPTED, number).tobytes())
        assert reader.lates() == 300 and reader.late(300 - 257) is None
        kept = reader.late(299)
    assert kept is not None and int(np.frombuffer(kept, LATE)[0]["cycle"]) == 299


# ---- of frames ---------------------------------------------------------------------------------


def moments_of(robot: LockStep, cycles: int) -> list[Moment]:
    """Those of all frames of so many cycles."""
    moments, found = Moments(robot.plan), []
    follower = StoreFollower(robot.follower.reader.path, from_first=True)
    for _ in range(cycles // STEP):
        robot.run(STEP)
        with contextlib.suppress(TimeoutError):
            while True:
                follower.next(0.0)
                found += moments.of(follower.reader.record[:])
    follower.close()
    return found


def test_a_late_wake_is_a_moment_of_its_frame() -> None:
    with LockStep(inphase.load(DEMO), seed=1) as robot:
        Fault("wake", "", first=210, argument=LATE_NS).plan(robot)
        found = moments_of(robot, 250)
    (wake,) = [one for one in found if one.phase == "wake"]
    # it goes on at the first grid point behind, by which it began so late
    assert (wake.cycle, wake.late_ns) == (AT, 3 * robot.plan.schedule.cycle.period_ns)


def test_a_silent_device_is_a_moment_with_the_bytes_that_were_missing() -> None:
    schedule = inphase.load(DEMO)
    plan = planning.make(schedule)
    with LockStep(schedule, seed=1) as robot:
        Fault("silent", "wrench", first=100).plan(robot)
        found = moments_of(robot, 125)
    (silent,) = [one for one in found if one.phase == "read" and one.cycle == 100]
    assert (silent.sensor, silent.missing_bytes) == (WRENCH, 36)
    late = LateMoment.of(row_of(100, "read", SILENT, 0, sensor=WRENCH))
    said = late_words.of_kind(late_words.names_of(plan), late_words.LateTold(late, 1))
    assert said == (
        "sensor wrench had no whole sample in time in 1 cycle (cycle 100). Ours: 36 bytes of its "
        "reply were missing from device wrist (udp:127.0.0.1:49152) at the read deadline, and the "
        "cycle thread was in time. Try: `inphase probe SCHEDULE wrench` measures how long it "
        "takes; give [cycle] a later read_deadline_us"
    )


# ---- a run -------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.long
def test_a_run_that_was_stopped_by_a_signal_says_so() -> None:
    with Robot() as robot:
        path = robot.folder / "run.mcap"
        with robot.run("--cycles", "300", "--record", str(path)) as run:
            run.moving()
            run.signal(signal.SIGSTOP)
            time.sleep(0.1)
            run.signal(signal.SIGCONT)
            _, summary = run.end()
        with Recording(path) as recording:
            told = [LateMoment.of(row) for row in recording.late()]
    assert ("other process", "stopped") in {(one.cause, one.why) for one in told}
    causes = summary["late"]["causes"]
    assert causes == told[-1].causes and causes["other process"] > 0
    assert 0 < summary["late"]["sentinel_share"] < 1
