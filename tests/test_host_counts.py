"""What the host does to the cycle thread: counted, recorded, and named by the report as a cause."""

import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inphase
from inphase.command.report.host_times import HostTimes
from inphase.episodes.lockstep import LockStep
from inphase.frames.store_follower import StoreFollower
from inphase.recording.recorder import Recorder
from inphase.recording.recording import Recording
from inphase.runtime.attribution.host_counts import of_thread
from inphase.testing.fault_plan import Fault
from peers import until
from recorded_runs import DEMO, Foreign
from runtimes import Robot
from test_report import Page, make

PERIOD_NS = 2_000_000
NOTHING = dict.fromkeys(("page_faults", "preemptions", "waited_ns", "stolen_ns"), 0)
STRETCHES, STEP = 16, 25
"""cycles from one look of the supervisor to the next"""


# ---- counting ----------------------------------------------------------------------------------


@pytest.mark.real
def test_a_thread_that_shares_its_processor_waits_for_it_and_loses_it() -> None:
    found: list[int] = []
    is_over = threading.Event()

    def work() -> None:
        os.sched_setaffinity(threading.get_native_id(), {processor})
        found.append(threading.get_native_id())
        while not is_over.is_set():
            sum(range(1000))

    processor = min(os.sched_getaffinity(0))
    thread = threading.Thread(target=work)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(busy.pid, {processor})
        thread.start()
        until(lambda: bool(found))
        before = of_thread(found[0])
        assert before is not None

        def lost() -> bool:
            now = of_thread(found[0])
            assert now is not None and before is not None
            assert now["began_ns"] <= now["ended_ns"]
            return all(now[name] > before[name] for name in ("preemptions", "waited_ns"))

        until(lost)
    finally:
        is_over.set()
        busy.kill()
        busy.wait()
        thread.join()
    assert of_thread(found[0]) is None


@pytest.mark.real
def test_memory_that_is_touched_first_is_a_page_fault() -> None:
    thread = threading.get_native_id()
    before = of_thread(thread)
    memory = bytearray(16 << 20)
    now = of_thread(thread)
    assert before is not None and now is not None
    assert now["page_faults"] > before["page_faults"]
    assert len(memory) == 16 << 20


# ---- the recording -----------------------------------------------------------------------------


def record_with(path: Path, counts: dict[int, dict[str, int]], *faults: Fault) -> None:
    """A run in lock step, of which a supervisor counts every 25 cycles. counts: what came in which
    of these stretches."""
    schedule = inphase.load(DEMO)
    total = dict(NOTHING)
    with LockStep(schedule, seed=1) as robot:
        for fault in faults:
            fault.plan(robot)
        follower = StoreFollower(robot.follower.reader.path, from_first=True)
        recorder = Recorder(follower, path, schedule, print, reader=follower.reader, first=0)
        for stretch in range(STRETCHES):
            robot.run(STEP)
            for name, count in counts.get(stretch, {}).items():
                total[name] = count if count < 0 else total[name] + count
            now_ns = robot.follower.peek(robot.core.frames - 1).latched_ns
            robot.core.host({"began_ns": now_ns, "ended_ns": now_ns + 1000, **total})
            recorder.run(lambda: True, lambda: None)
        recorder.close({})
        follower.close()


def test_a_foreign_reader_finds_stretches_without_a_gap_and_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    came = {"page_faults": 3, "preemptions": 2, "waited_ns": 4_000_000, "stolen_ns": 10_000_000}
    record_with(path, {8: came})
    found = Foreign(path).of["/host"]
    assert len(found) == STRETCHES - 1
    assert all(one.until_ns > two.from_ns > one.from_ns for one, two in pairwise(found))
    told = [one for one in found if one.page_faults]
    assert len(told) == 1
    assert {name: getattr(told[0], name) for name in came} == came
    assert told[0].from_ns < 200 * PERIOD_NS < 224 * PERIOD_NS < told[0].until_ns
    with Recording(path) as recording:
        rows = recording.host()
    assert [tuple(row) for row in rows.tolist()] == [
        tuple(getattr(one, name) for name in rows.dtype.names) for one in found
    ]


def test_a_count_that_the_kernel_does_not_tell_is_absent_and_not_0(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    record_with(path, {0: {"waited_ns": -1, "stolen_ns": -1}})
    found = Foreign(path).of["/host"]
    assert not any(one.HasField("waited_ns") or one.HasField("stolen_ns") for one in found)
    assert all(one.HasField("preemptions") for one in found)
    with Recording(path) as recording:
        assert set(recording.host()["stolen_ns"].tolist()) == {-1}


@pytest.mark.real
def test_a_run_on_the_wall_clock_has_the_counts_of_its_cycle_thread(tmp_path: Path) -> None:
    with Robot() as robot:
        path = robot.folder / "run.mcap"
        with robot.run("--cycles", "400", "--record", str(path)) as run:
            _, summary = run.end()
        with Recording(path) as recording:
            rows, last = recording.host(), recording[-1]
        assert len(rows) >= 2
        assert (rows["from_ns"][1:] < rows["until_ns"][:-1]).all()  # no moment is left out
        assert (rows["until_ns"] > rows["from_ns"]).all()
        assert rows["from_ns"][-1] < last.latched_ns
        assert int(rows["page_faults"].sum()) <= summary["page_faults"]
        for name in ("page_faults", "preemptions", "waited_ns", "stolen_ns"):
            assert (rows[name] >= 0).all(), name


# ---- the report --------------------------------------------------------------------------------

MAY_EXPLAIN = {
    "page_faults": (2, "Page fault: the cycle thread had 2 in the"),
    "waited_ns": (4_500_000, "the cycle thread was ready for 4.5 ms without a processor"),
    "stolen_ns": (20_000_000, "the host took 20 ms of the processors"),
}


def worst(page: Page) -> dict[str, str]:
    """The cause of each cycle in the table."""
    rows = [[text for text, _ in row] for row in page.tables["worst"] if row]
    return {row[0]: row[3] for row in rows}


LATE = Fault("wake", "", first=210, argument=5_000_000)
LATE_CYCLE = "213"
"""the first grid point after 5 ms"""


@pytest.mark.long
@pytest.mark.parametrize("name", MAY_EXPLAIN)
def test_the_worst_cycle_has_what_came_around_it_as_its_cause(name: str, tmp_path: Path) -> None:
    count, words = MAY_EXPLAIN[name]
    record_with(tmp_path / "run.mcap", {8: {name: count}}, LATE)
    page = make(tmp_path / "run.mcap", tmp_path / "page.html")
    told = worst(page)[LATE_CYCLE]
    assert words in told
    assert "the frame does not say why" not in told.lower()
    named = ("Page fault: ", "Preemption: ", "Stolen time: ")
    assert sum(kind in told for kind in named) == 1
    assert "are counted about every 50 ms" in page.text


@pytest.mark.long
@pytest.mark.parametrize(
    "counts",
    [
        {6: {"page_faults": 5, "waited_ns": 9_000_000, "stolen_ns": 10_000_000}},
        {8: {"waited_ns": 100_000, "preemptions": 1}},
    ],
    ids=["elsewhere", "too short"],
)
def test_what_cannot_be_the_cause_is_not_named(
    counts: dict[int, dict[str, int]], tmp_path: Path
) -> None:
    record_with(tmp_path / "run.mcap", counts, LATE)
    told = worst(make(tmp_path / "run.mcap", tmp_path / "page.html"))[LATE_CYCLE]
    assert "No page fault, preemption or stolen time that may explain it was counted" in told


def rows(*stretches: tuple[int, int, int]) -> HostTimes:
    names = ("from_ns", "until_ns", *NOTHING)
    dtype = [(name, "<i8") for name in names]
    full = [(first, until, faults, 0, 0, 0) for first, until, faults in stretches]
    return HostTimes(np.array(full, dtype))


def of_both(found: Any) -> tuple[int, int]:
    return (found.lasted_ns, found.page_faults)


def test_a_moment_is_covered_by_all_stretches_that_touch_it() -> None:
    times = rows((0, 11, 1), (10, 21, 2), (20, 31, 4))
    assert of_both(times.around(3, 5)) == (11, 1)
    assert of_both(times.around(3, 15)) == (21, 3)
    assert of_both(times.around(15, 15)) == (11, 2)


def test_a_moment_that_is_covered_in_part_is_unknown() -> None:
    times = rows((0, 11, 1), (10, 21, 2), (30, 41, 4))
    assert times.around(15, 25) is None
    assert times.around(15, 35) is None
    assert times.around(35, 45) is None
    assert rows().around(1, 2) is None
