"""A report says what is in its recording: the same numbers, all losses, nothing from outside."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer

import inphase
from inphase.command.report import figures, making, measures, waterfall
from inphase.command.report.making import report
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.frames.record_layout import STATUSES
from inphase.recording import facts
from inphase.recording.lockstep_recorder import run_recorded
from inphase.recording.recording import Recording
from inphase.recording.recovery import recover
from inphase.testing.fault_plan import Fault
from recorded_runs import DEMO, ODD, Foreign, record

CYCLES = 1500
# late and lost samples, a policy that is late at times, grid points that are left out
ROUGH = """
[timing]
sensors.joints = { latency_ms = { normal = [1.0, 0.2], low = 0.3, high = 2.5 }, dropout = 0.002 }
sensors.wrench = { latency_ms = { normal = [0.28, 0.03], low = 0.2, high = 0.4 }, dropout = 0.05 }
policy.inference_ms = { lognormal = [0.1, 0.6], high = 1.0 }
host.wake_late_ms = { lognormal = [0.02, 1.4], high = 5.0 }
"""
BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recording of a run that went badly, and the run's summary."""
    folder = tmp_path_factory.mktemp("rough")
    shutil.copy(DEMO.with_name("demo_policy.py"), folder)
    schedule = folder / "rough.toml"
    schedule.write_text(DEMO.read_text() + ROUGH)
    return folder / "run.mcap", record(schedule, CYCLES, folder / "run.mcap")


@pytest.fixture(scope="module")
def rough_page(rough: tuple[Path, dict[str, Any]]) -> "Page":
    return make(rough[0], rough[0].with_name("rough.html"))


class Page(HTMLParser):
    """The tables of a page, by id, as rows of (text, exact number or None), and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.source = path.read_text()
        self.tables: dict[str, list[list[tuple[str, int | None]]]] = {}
        self.pictures = 0
        self._rows: list[list[tuple[str, int | None]]] = []
        self.text = ""
        self._within = ""
        self.feed(self.source)
        moments = re.search(r'id="moments">(.*?)</script>', self.source, re.DOTALL)
        assert moments
        self.moments = json.loads(moments[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        found = dict(attrs)
        if tag == "table":
            self._rows = self.tables[str(found["id"])] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag == "td":
            self._rows[-1].append(("", None))
        elif tag == "span" and "data-ns" in found:
            self._rows[-1][-1] = ("", int(str(found["data-ns"])))
        self.pictures += tag == "figure"

    def handle_endtag(self, tag: str) -> None:
        self._within = ""
        if tag == "table":
            self._rows = []

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            return
        self.text += data
        if self._rows and self._rows[-1]:
            text, number = self._rows[-1][-1]
            self._rows[-1][-1] = (text + data, number)

    def rows(self, table: str) -> dict[str, list[tuple[str, int | None]]]:
        """By their first cell."""
        return {row[0][0]: row[1:] for row in self.tables[table] if row}


def make(recording: Path, page: Path) -> Page:
    report(recording, page, None, lambda done, total: None)
    return Page(page)


def values(foreign: Foreign) -> dict[str, list[int]]:
    """All times of a run, by the rules of RECORDING.md, from messages that protobuf has read."""
    frames = foreign.of["/frame"]
    period = int(foreign.metadata["inphase.run"]["period_ns"])
    by_cycle = {frame.number: frame for frame in frames}
    by_cycle = {frame_cycle(frame): frame for frame in by_cycle.values()}
    names = ("wake", "skew", "latch to command", "inference", "act")
    found: dict[str, list[int]] = {name: [] for name in names}
    before: Any = None
    for frame in frames:
        cycle = frame_cycle(frame)
        found["wake"].append(frame.woke_ns - frame.due_ns + frame.skipped * period)
        if frame.HasField("skew_ns"):
            found["skew"].append(frame.skew_ns)
        for field, _ in frame.sensors.ListFields():
            row = getattr(frame.sensors, field.name)
            old = None if before is None else getattr(before.sensors, field.name)
            is_new = old is None or old.sequence != row.sequence
            took = found.setdefault(f"trigger to sample {field.name}", [])
            if is_new and row.HasField("triggered_ns") and row.HasField("received_ns"):
                took.append(row.received_ns - row.triggered_ns)
            ages = found.setdefault(f"age {field.name}", [])
            if row.HasField("age_ns"):
                ages.append(row.age_ns)
        acted = by_cycle.get(frame.acted_cycle) if frame.HasField("acted_cycle") else None
        is_old = before is not None and before.inferred_ns == frame.inferred_ns
        if frame.HasField("inferred_ns") and acted is not None and not is_old:
            found["latch to command"].append(frame.inferred_ns - acted.latched_ns)
        if frame.HasField("inference_ns") and not is_old:
            found["inference"].append(frame.inference_ns)
        if frame.HasField("acted_ns"):
            due = frame.due_ns - (cycle - frame.acted_cycle) * period
            found["act"].append(frame.acted_ns - due - 1_700_000)
        before = frame
    return found


def frame_cycle(frame: Any) -> int:
    return int(frame.cycle)


# ---- the numbers -------------------------------------------------------------------------------


def test_every_time_on_the_page_is_that_of_all_frames(
    rough: tuple[Path, dict[str, Any]], rough_page: Page
) -> None:
    expected = values(Foreign(rough[0]))
    rows = rough_page.rows("quantiles")
    assert rows.keys() == expected.keys()
    for name, numbers in expected.items():
        ordered = sorted(numbers)
        ranks = [
            max(0, int(np.ceil(share * len(ordered))) - 1) for share in (0.5, 0.9, 0.99, 0.999)
        ]
        assert int(rows[name][0][0]) == len(ordered) > 0, name
        assert [ns for _, ns in rows[name][1:7]] == [
            ordered[0],
            *(ordered[rank] for rank in ranks),
            ordered[-1],
        ], name
    assert max(expected["wake"]) > 2_000_000  # grid points were left out


def test_statuses_and_acts_are_counted_as_the_run_counted_them(
    rough: tuple[Path, dict[str, Any]], rough_page: Page
) -> None:
    summary = rough[1]
    for name, cells in rough_page.rows("statuses").items():
        shown = dict(zip(STATUSES, (int(text) for text, _ in cells[1:]), strict=True))
        counted = {status: summary["sensors"][name]["status"].get(status, 0) for status in STATUSES}
        assert shown == counted
        assert shown["LATE"] + shown["MISSING"] > 0
    frames = Foreign(rough[0]).of["/frame"]
    acts = [frame.actuators.arm for frame in frames if frame.HasField("acted_cycle")]
    differing = Counter(
        channel
        for act in acts
        for channel, (wanted, given) in enumerate(zip(act.requested, act.applied, strict=True))
        if abs(wanted - given) > 0
    )
    for channel in range(6):
        cells = rough_page.rows("commands")[f"arm[{channel}]"]
        apart = max(
            abs(a.requested[channel] - a.applied[channel])
            for a in acts
            if a.requested[channel] == a.requested[channel]
        )
        assert int(cells[1][0]) == differing[channel] > 0
        assert cells[2][0] == f"{apart:.6g} rad"


def test_the_length_of_a_stretch_changes_nothing(
    rough: tuple[Path, dict[str, Any]],
    rough_page: Page,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures, "_STRETCH", 7)
    assert make(rough[0], tmp_path / "page.html").source == rough_page.source


@pytest.mark.parametrize(
    "numbers", [[0], [0, 1], [-5, 3_000_000], [1001], [380_000, 390_000, 10**12]]
)
def test_a_distribution_has_a_bin_for_each_number(numbers: list[int]) -> None:
    edges = figures.bins(min(numbers), max(numbers))
    assert (np.diff(edges) > 0).all()
    assert np.histogram(numbers, edges)[0].sum() == len(numbers)


# ---- words -------------------------------------------------------------------------------------


def test_a_bad_run_is_told_before_anything_else(rough_page: Page) -> None:
    verdict = rough_page.text.index("not good, with")
    assert verdict < rough_page.text.index("Worst cycles")
    for sensor in ("joints (device arm)", "wrench (device wrist)"):
        assert f"Sensor {sensor} was FRESH in" in rough_page.text
    assert "The machine was too busy: it left out" in rough_page.text
    assert "of the acts had no command (" in rough_page.text


def test_a_good_run_is_called_good(tmp_path: Path) -> None:
    record(DEMO, 300, tmp_path / "run.mcap")
    page = make(tmp_path / "run.mcap", tmp_path / "page.html")
    assert "good: 300 cycles ran" in page.text
    assert "Nothing is missing in this file (COMPLETE)" in page.text


def test_the_worst_cycles_are_those_that_lost_most(
    rough: tuple[Path, dict[str, Any]], rough_page: Page
) -> None:
    frames = Foreign(rough[0]).of["/frame"]
    wakes = {frame_cycle(f): f.woke_ns - f.due_ns + f.skipped * 2_000_000 for f in frames}
    shown = [(int(row[0][0]), row) for row in rough_page.tables["worst"] if row]
    latest = max(wakes, key=lambda cycle: wakes[cycle])
    listed = dict(shown)
    assert latest in listed
    assert listed[latest][2][0] in ("wake", "overrun")
    assert "left out just before" in listed[latest][3][0]
    waits = [row for _, row in shown if row[2][0] == "read"]
    assert waits and all("without a good sample: " in row[3][0] for row in waits)


def test_faults_that_were_planned_are_found_with_their_phase_and_device(tmp_path: Path) -> None:
    schedule = inphase.load(DEMO)
    with LockStep(schedule, seed=1) as robot:
        Fault("wake", "", first=100, argument=5_000_000).plan(robot)
        Fault("delayed", "wrench", first=200, argument=1_500_000).plan(robot)
        Fault("gone", "joints", first=300, cycles=50).plan(robot)
        run_recorded(robot.follower, robot.run, 500, tmp_path / "run.mcap", schedule)
    page = make(tmp_path / "run.mcap", tmp_path / "page.html")
    worst = [[text for text, _ in row] for row in page.tables["worst"] if row]
    # 5 ms of 2 ms cycles: points 100, 101 and 102 are left out
    assert worst[0][:3] == ["103", "6 ms", "wake"]
    assert "The frame does not say why." in worst[0][3]
    assert "This recording does not say when another program had the processor" in page.text
    late = next(row for row in worst if row[0] == "200")
    assert late[2] == "read"
    assert "the trigger of wrench (device wrist) without a good sample: LATE" in late[3]
    assert re.search(r"Motion was latched in \d+ frames; from cycle 30\d on: .*offline", page.text)
    assert re.search(r"Sensor joints \(device arm\) was FRESH in .*OFFLINE 50", page.text)
    assert "Try: plug it in and power it" in page.text


def test_a_sensor_that_never_spoke_and_images_are_reported(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(ODD)
    record(tmp_path / "odd.toml", 60, tmp_path / "run.mcap")
    page = make(tmp_path / "run.mcap", tmp_path / "page.html")
    assert page.rows("quantiles")["age mute"][0][0] == "0"
    assert "Sensor mute (device mute) was FRESH in 0 %" in page.text
    assert "This robot has no actuator." in page.text


# ---- single cycles -----------------------------------------------------------------------------


def moments(page: Page) -> list[dict[str, float]]:
    columns = page.moments["columns"]
    numbers = np.frombuffer(b64decode(page.moments["data"]), "<f8").reshape(-1, len(columns))
    return [dict(zip(columns, row, strict=True)) for row in numbers.tolist()]


def test_the_picture_of_cycles_has_the_moments_of_every_frame(
    rough: tuple[Path, dict[str, Any]], rough_page: Page
) -> None:
    frames = Foreign(rough[0]).of["/frame"]
    rows = moments(rough_page)
    assert len(rows) == len(frames)
    following = [*frames[1:], None]
    for row, frame, after in zip(rows, frames, following, strict=True):
        assert row["cycle"] == frame_cycle(frame)
        assert row["woke"] == frame.woke_ns - frame.due_ns
        assert row["latched"] == frame.latched_ns - frame.due_ns
        assert row["joints.status"] == frame.sensors.joints.status
        joints = frame.sensors.joints
        if joints.HasField("received_ns"):
            assert row["joints.received"] == joints.received_ns - frame.due_ns
        else:
            assert np.isnan(row["joints.received"])
        is_told = after is not None and after.acted_cycle == row["cycle"]
        if is_told and after is not None and after.HasField("acted_ns"):
            assert row["acted"] == after.acted_ns - frame.due_ns
        else:
            assert np.isnan(row["acted"])


def test_a_long_run_has_its_worst_cycles_with_their_neighbours(
    rough: tuple[Path, dict[str, Any]],
    rough_page: Page,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waterfall, "_BYTES_MAX", 1000)
    page = make(rough[0], tmp_path / "page.html")
    few, every = moments(page), {row["cycle"]: row for row in moments(rough_page)}
    cycles = [row["cycle"] for row in few]
    assert cycles == sorted(set(cycles))
    assert len(few) < len(every)
    assert {cycle for cycle, _ in page.moments["worst"]} <= set(cycles)
    same = [np.array_equal([*row.values()], [*every[row["cycle"]].values()], equal_nan=True)
            for row in few if row["cycle"] + 1 in cycles]  # fmt: skip
    assert same and all(same)


# ---- the file ----------------------------------------------------------------------------------


def test_a_page_names_nothing_outside(rough_page: Page) -> None:
    source = re.sub(r'"data": "[^"]*"', "", rough_page.source)
    assert "default-src 'none'" in source
    assert not re.findall(r"https?:|//[a-z]|@import|url\((?!#)", source)
    for target in re.findall(r'\b(?:src|href)="([^"]*)"', source):
        assert target.startswith(("#", "data:")), target


def test_pictures_are_written_as_pngs_too(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(ODD)
    record(tmp_path / "odd.toml", 50, tmp_path / "run.mcap")
    folder = tmp_path / "pictures"
    for _ in range(2):  # the second time they are replaced
        report(tmp_path / "run.mcap", tmp_path / "page.html", folder, lambda done, total: None)
    found = sorted(folder.iterdir())
    assert len(found) == Page(tmp_path / "page.html").pictures >= 8
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)
    found[0].write_bytes(b"\x89PNG of somebody")
    page = (tmp_path / "page.html").stat().st_mtime_ns
    with pytest.raises(RecordingError, match="is no report; give another name"):
        report(tmp_path / "run.mcap", tmp_path / "page.html", folder, lambda done, total: None)
    assert found[0].read_bytes() == b"\x89PNG of somebody"
    assert (tmp_path / "page.html").stat().st_mtime_ns == page


def test_only_a_report_is_replaced(rough: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>mine</html>")
    with pytest.raises(RecordingError, match="is no report; give another name"):
        make(rough[0], page)
    assert page.read_text() == "<html>mine</html>"
    with pytest.raises(RecordingError, match="is no report"):
        make(rough[0], rough[0])
    with pytest.raises(RecordingError, match="make it"):
        make(rough[0], tmp_path / "nowhere" / "page.html")
    page.unlink()
    first = make(rough[0], page).source
    assert make(rough[0], page).source == first
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


# ---- bad input ---------------------------------------------------------------------------------


def nothing(path: Path, good: bytes) -> None:
    path.write_bytes(b"")


def text(path: Path, good: bytes) -> None:
    path.write_text("cycle,late\n1,2\n" * 100)


def foreign(path: Path, good: bytes) -> None:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2", library="theirs")
        writer.finish()


def newer(path: Path, good: bytes) -> None:
    old = b"\x06\0\0\0format\x01\0\0\0" + str(facts.FORMAT).encode()
    assert good.count(old) > 0
    path.write_bytes(good.replace(old, old[:-1] + b"7"))


def cut_early(path: Path, good: bytes) -> None:
    path.write_bytes(good[:300])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing, "is no recording"),
        (text, "does not begin as an MCAP file does"),
        (foreign, "profile 'ros2', and no recording of inphase"),
        (newer, f"has format 7, this version reads {facts.FORMAT}"),
        (cut_early, "cut before the first frame"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_in_words(
    spoil: Any, words: str, rough: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "run.mcap"
    spoil(path, rough[0].read_bytes())
    with pytest.raises(RecordingError, match=re.escape(words)) as told:
        make(path, tmp_path / "page.html")
    assert told.value.exit_code == 12
    assert [one.name for one in tmp_path.iterdir()] == ["run.mcap"]


def test_a_recording_without_a_frame_is_refused(
    rough: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with Recording(rough[0]) as recording:
        first = int(recording._frames[0])
    (tmp_path / "run.mcap").write_bytes(rough[0].read_bytes()[:first])
    with pytest.raises(RecordingError, match="has no frame, so there is nothing to report"):
        make(tmp_path / "run.mcap", tmp_path / "page.html")


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "inphase", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_cut_file_is_reported_as_far_as_it_goes(
    rough: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole = rough[0].read_bytes()
    cut = tmp_path / "run.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    found = command(cut)
    assert found.returncode == 12, found.stderr
    assert "missing: The file was cut: it has no end." in found.stderr
    assert found.stdout.splitlines()[-1] == str(tmp_path / "run.report.html")
    page = Page(tmp_path / "run.report.html")
    with Recording(cut) as recording:
        assert int(page.rows("quantiles")["wake"][0][0]) == len(recording) > 0
    assert page.text.index("The file was cut") < page.text.index("Worst cycles")
    page.path.write_text("mine")
    refused = command(cut)
    assert (refused.returncode, page.path.read_text()) == (12, "mine")


def test_a_recovered_file_tells_what_was_lost(
    rough: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole = rough[0].read_bytes()
    (tmp_path / "run.mcap").write_bytes(whole[: len(whole) // 2])
    lost = recover(tmp_path / "run.mcap", tmp_path / "made.mcap")
    assert lost is not None and lost.lost
    page = make(tmp_path / "made.mcap", tmp_path / "page.html")
    assert "Missing in this file (INCOMPLETE)" in page.text
    assert "The file was made by inphase recover, of run.mcap" in page.text
    for text in lost.lost:
        assert text[1:] in page.text


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    rough: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    found = command(rough[0], "--output", tmp_path / "page.html")
    assert found.returncode == 0, found.stderr
    assert f"{CYCLES} of {CYCLES} frames" in found.stderr.splitlines()
    assert found.stdout.startswith("not good, with")


def test_without_matplotlib_the_remedy_is_told(
    rough: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = making.util.find_spec
    monkeypatch.setattr(
        making.util, "find_spec", lambda name: None if name == "matplotlib" else real(name)
    )
    with pytest.raises(RecordingError, match=r"pip install 'inphase\[plot\]'"):
        make(rough[0], tmp_path / "page.html")


# ---- a browser ---------------------------------------------------------------------------------


def shown(page: Path, folder: Path, clicks: str = "") -> str:
    """The page as a browser has it after its script, and after clicks on these ids."""
    assert BROWSER is not None
    copy = folder / "page.html"
    script = "".join(f'document.getElementById("{one}").click();' for one in clicks.split())
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         f"file://{copy}#700"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr  # an error of the script, or something that was refused
    return done.stdout


def told(dom: str) -> str:
    found = re.search(r'id="told">([^<]*)<', dom)
    assert found
    return found[1]


@pytest.mark.real
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt install chromium-headless-shell")
@pytest.mark.long
def test_a_browser_shows_the_cycle_that_is_asked_for(rough_page: Page, tmp_path: Path) -> None:
    dom = shown(rough_page.path, tmp_path)
    assert told(dom).startswith("cycle 700: ")
    drawn = dom[dom.index('id="waterfall"') :]
    for row in ("wake", "read", "joints (arm)", "wrench (wrist)", "policy", "act"):
        assert f">{row}</span>" in drawn
    assert drawn.count('class="bar"') >= 4


@pytest.mark.real
@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt install chromium-headless-shell")
def test_a_browser_steps_through_the_cycles(rough_page: Page, tmp_path: Path) -> None:
    cycles = [row["cycle"] for row in moments(rough_page)]
    after = int(cycles[cycles.index(700) + 2])
    assert told(shown(rough_page.path, tmp_path, "after after")).startswith(f"cycle {after}: ")
    worst = rough_page.moments["worst"]
    second = told(shown(rough_page.path, tmp_path, "better better"))
    assert 700 not in [cycle for cycle, _ in worst]  # so the first click shows the worst one
    assert second.startswith(f"cycle {worst[1][0]}: ")
    assert worst[1][1] in second
