"""`inphase check` of recordings, and `inphase diff`: what is kept, what is broken, what differs."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from inphase.command.cli import cli
from inphase.errors import RecordingError, ScheduleError
from inphase.recording import facts
from peers import ROOT
from recorded_runs import DEMO, ODD, record
from timed_runs import INJECTED, ROBOT, run, write

BROKEN = """
[sensors.wrench]
dropout = 0.03
[sensors.joints]
latency_ms = { values = [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 1.3] }
[policy]
inference_ms = { values = [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 1.9] }
[host]
wake_late_ms = { quantiles = [[0, 0], [0.99, 0.02], [1, 2.5]] }
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mcap"
    record(DEMO, 300, path)
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("broken"), BROKEN, 1000)


def inphase(*words: Any) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def as_json(*words: Any) -> tuple[int, dict[str, Any]]:
    result = inphase(*words, "--json")
    return result.exit_code, json.loads(result.stdout)


def promise(found: dict[str, Any], what: str, of: str = "") -> dict[str, Any]:
    (one,) = [one for one in found["promises"] if (one["what"], one["of"]) == (what, of)]
    return dict(one)


# ---- check -------------------------------------------------------------------------------------


def test_a_good_run_keeps_what_its_schedule_promises(demo: Path) -> None:
    code, found = as_json("check", demo, DEMO)
    assert (code, found["kept"], found["frames"], found["state"]) == (0, True, 300, "COMPLETE")
    assert all(one["kept"] and not one["broken"] for one in found["promises"])
    assert promise(found, "fresh", "joints")["count"] == 300
    assert promise(found, "age", "wrench")["limit_us"] == 10_000
    assert 0 < promise(found, "skew")["worst_us"] < promise(found, "skew")["limit_us"]
    assert promise(found, "command")["count"] == 299


def test_a_bad_run_breaks_each_promise_that_its_timing_breaks(broken: Path) -> None:
    from inphase.recording.recording import Recording

    code, found = as_json("check", broken, broken.with_suffix(".toml"))
    assert (code, found["kept"]) == (13, False)
    with Recording(broken) as recording:
        frames = recording.frames()
    fresh = promise(found, "fresh", "wrench")
    statuses = frames["sensors.wrench.status"]
    assert fresh["broken"] == int((statuses != 0).sum()) > 20
    assert fresh["first_broken"] == int(frames["cycle"][statuses != 0][0])
    assert promise(found, "fresh", "joints")["broken"] > 50
    grid = promise(found, "on the grid")
    assert grid["broken"] == int(frames["skipped"].sum()) > 0
    assert grid["count"] == 1000 + grid["broken"] - 0
    wake = promise(found, "wake")
    assert wake["worst_us"] == pytest.approx((frames["woke_ns"] - frames["due_ns"]).max() / 1000)
    assert not promise(found, "command")["kept"]
    assert promise(found, "in the file")["kept"]


def test_a_promise_may_be_broken_in_some_frames(broken: Path) -> None:
    _, strict = as_json("check", broken)
    code, mild = as_json("check", broken, "--percent", 60, "--slack-us", 3000)
    assert (code, mild["kept"]) == (0, True)
    assert promise(mild, "wake")["broken"] < promise(strict, "wake")["broken"]


def test_the_table_names_promises_limits_and_units(demo: Path, broken: Path) -> None:
    good, bad = inphase("check", demo), inphase("check", broken)
    assert (good.exit_code, bad.exit_code) == (0, 13)
    assert "fresh joints" in good.stdout and "limit [us]" in good.stdout
    assert "broken" not in good.stdout.replace("broken│", "").replace("broken┃", "")


def test_gaps_of_a_free_running_sensor_are_found(tmp_path: Path) -> None:
    text = "[sensors.imu]\nlatency_ms = 0.2\ndropout = 0.05\n"
    path = run(tmp_path, text, 400)
    code, found = as_json("check", path, path.with_suffix(".toml"))
    gap = promise(found, "gap", "imu")
    assert code == 13 and not gap["kept"]
    assert gap["limit_us"] == pytest.approx(1.5 * 2500)
    assert gap["worst_us"] >= 2 * 2500
    assert 5 < gap["broken"] < 40 and gap["count"] == pytest.approx(400 * 0.8 * 0.95, abs=20)


def test_frames_that_the_file_lacks_break_a_promise_whatever_is_allowed(
    demo: Path, tmp_path: Path
) -> None:
    from inphase.recording.recovery import recover

    cut = tmp_path / "cut.mcap"
    cut.write_bytes(demo.read_bytes()[:60_000])
    recover(cut, tmp_path / "whole.mcap")
    for path in (cut, tmp_path / "whole.mcap"):
        code, found = as_json("check", path, DEMO)
        assert found["state"] in ("CUT", "INCOMPLETE")
        assert 0 < found["frames"] < 300
        assert code == 13 and not promise(found, "in the file")["kept"]


def test_another_schedule_is_refused_with_the_first_key_that_differs(
    demo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    text = DEMO.read_text()
    other.write_text(text.replace("rate_hz = 500", "rate_hz = 250", 1))
    assert other.read_text() != text
    result = inphase("check", demo, other)
    assert isinstance(result.exception, ScheduleError)
    assert "another schedule" in str(result.exception)
    assert "cycle.rate_hz: 500 and 250" in str(result.exception)


@pytest.mark.parametrize("words", [("check",), ("fit",), ("diff", None)])
def test_what_is_no_recording_is_told_as_such(
    demo: Path, tmp_path: Path, words: tuple[Any, ...]
) -> None:
    from mcap.writer import Writer

    foreign, empty, newer, text = (tmp_path / f"{name}.mcap" for name in "abcd")
    with foreign.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "rosbag2")
        writer.finish()
    empty.write_bytes(b"")
    newer.write_bytes(
        demo.read_bytes().replace(
            b"format\x01\x00\x00\x00%d" % facts.FORMAT, b"format\x01\x00\x00\x009"
        )
    )
    text.write_text("name = 'demo'\n")
    expected = {
        foreign: "profile 'ros2', and no recording of inphase",
        empty: "is no recording: it is empty",
        newer: f"has format 9, this version reads {facts.FORMAT}",
        text: "is no recording: it does not begin as an MCAP file does",
        tmp_path / "absent.mcap": "cannot be read: No such file",
    }
    for path, message in expected.items():
        given = [demo if word is None else word for word in words]
        result = inphase(*given, path)
        assert isinstance(result.exception, RecordingError), (path, result.exception)
        assert message in str(result.exception)
        assert result.exception.exit_code == 12


def test_a_file_that_is_cut_anywhere_is_judged_or_refused(demo: Path, tmp_path: Path) -> None:
    data, path = demo.read_bytes(), tmp_path / "cut.mcap"
    judged = 0
    for size in range(1, len(data), len(data) // 40):
        path.write_bytes(data[:size])
        for words in (("check", path, DEMO), ("fit", path), ("diff", demo, path)):
            result = inphase(*words)
            if isinstance(result.exception, SystemExit) or result.exception is None:
                # of a cut behind the last frame the content is the same
                assert result.exit_code in ((0,) if words[0] == "fit" else (0, 13))
                assert words[0] != "check" or result.exit_code == 13
                judged += 1
            else:
                assert isinstance(result.exception, RecordingError), result.exception
    assert judged > 60


def test_a_recording_without_a_frame_is_told_as_such(demo: Path, tmp_path: Path) -> None:
    from mcap.reader import make_reader

    with demo.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    path = tmp_path / "none.mcap"
    path.write_bytes(demo.read_bytes()[: summary.chunk_indexes[0].chunk_start_offset])
    for words in (("check", path), ("fit", path)):
        result = inphase(*words)
        assert isinstance(result.exception, RecordingError), result.output
        assert "no frame" in str(result.exception)
    assert as_json("diff", demo, path)[0] == 13


def test_a_driver_beside_the_schedule_wants_the_schedule(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from inphase_drivers.simulated import Device as Own\n")
    text = ROBOT.replace('driver = "simulated"', 'driver = "own.py:Own"', 1)
    schedule = write(tmp_path, "", "own", text)
    path = tmp_path / "own.mcap"
    record(schedule, 60, path)
    assert as_json("check", path, schedule)[0] == 0
    result = inphase("check", path)
    assert isinstance(result.exception, ScheduleError)
    assert f"give the schedule too: inphase check {path} SCHEDULE" in str(result.exception)


def test_check_still_takes_a_schedule(tmp_path: Path) -> None:
    result = inphase("check", DEMO, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["robot"] == "demo"
    assert inphase("check", DEMO, DEMO).exit_code == 2
    assert "no recording" in inphase("check", DEMO, "--percent", "1").output


# ---- diff --------------------------------------------------------------------------------------


def test_runs_of_one_seed_are_equal_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(ODD)
    for name in ("one", "two"):
        record(tmp_path / "odd.toml", 60, tmp_path / f"{name}.mcap")
    code, found = as_json("diff", tmp_path / "one.mcap", tmp_path / "two.mcap")
    assert (code, found["equal"], found["content"]["same"]) == (0, True, True)
    assert (found["content"]["both"], found["content"]["samples"]) == (60, 60 + 15)
    assert not any(one["is_other"] for one in found["timing"])
    text = inphase("diff", tmp_path / "one.mcap", tmp_path / "two.mcap").stdout
    assert "equal, bit for bit: 60 frames and 75 samples" in text


def test_a_value_that_differs_is_named_with_its_cycle_and_unit(tmp_path: Path, demo: Path) -> None:
    record(DEMO, 200, tmp_path / "other.mcap", seed=2)
    code, found = as_json("diff", demo, tmp_path / "other.mcap")
    assert (code, found["equal"], found["schedule"]["same"]) == (13, False, True)
    content = found["content"]
    assert (content["both"], content["only"], content["first_only"]) == (200, [100, 0], [200, None])
    (position,) = [one for one in content["differ"] if one["field"] == "joints.position"]
    assert (position["cycles"], position["first"], position["unit"]) == (200, 0, "rad")
    assert 0 < position["largest"] < 1
    assert inphase("diff", demo, tmp_path / "other.mcap").exit_code == 13


def test_schedules_that_differ_are_told_key_by_key(tmp_path: Path, broken: Path) -> None:
    other = run(tmp_path, INJECTED, 300, "other")
    code, found = as_json("diff", broken, other)
    assert code == 13 and not found["schedule"]["same"]
    (change,) = found["schedule"]["differ"]
    assert change["key"] == "timing.file"
    wrench = next(one for one in found["timing"] if one["name"] == "wrench trigger to sample")
    assert wrench["is_other"] and wrench["distance"] > 0.3


def test_recordings_of_different_robots_can_be_compared(tmp_path: Path, demo: Path) -> None:
    path = tmp_path / "press.mcap"
    record(ROOT / "schedules" / "rig.toml", 50, path)
    code, found = as_json("diff", demo, path)
    assert code == 13
    assert {"robot", "frames"} <= {one["key"] for one in found["facts"]}
