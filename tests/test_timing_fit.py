"""The timing of a recorded run becomes a model, and a run with that model has the same timing."""

import re
import resource
from pathlib import Path

import numpy as np
import pytest

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.errors import RecordingError
from inphase.recording.lockstep_recorder import run_recorded
from inphase.recording.recording import Recording
from inphase.schedule import timing_model
from inphase.schedule.distribution import Distribution
from inphase.schedule.timing_model import TimingModel
from inphase.timing import fitting
from inphase.timing.differences import tallies_of
from inphase.timing.tally import Tally, critical_distance, distance, fewer
from recorded_runs import record
from timed_runs import INJECTED, ROBOT, run, write

CYCLES = 20_000
WITHIN = 0.05


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a recorded run of the injected model, its fit, and a recorded run of that."""
    folder = tmp_path_factory.mktemp("loop")
    first = run(folder, INJECTED, CYCLES, "injected")
    run(folder, fitting.of_recording(first), CYCLES, "fitted", seed=2)
    return folder


def model(folder: Path, name: str) -> TimingModel:
    return timing_model.of_schedule(inphase.load(folder / f"{name}.toml"))


def mean(one: Distribution) -> float:
    return float(np.mean([one.quantile((at + 0.5) / 4000) for at in range(4000)]))


@pytest.mark.parametrize(
    "path",
    [
        "sensors.joints.latency_ms",
        "sensors.wrench.latency_ms",
        "sensors.eye.latency_ms",
        "sensors.imu.latency_ms",
        "policy.inference_ms",
        "host.wake_late_ms",
    ],
)
def test_injected_times_are_recovered(folder: Path, path: str) -> None:
    injected, fitted = (model(folder, name).get(path) for name in ("injected", "fitted"))
    assert injected is not None and fitted is not None
    assert mean(fitted) == pytest.approx(mean(injected), rel=WITHIN)
    for share in (0.05, 0.5, 0.95):
        assert fitted.quantile(share) == pytest.approx(injected.quantile(share), rel=WITHIN)


@pytest.mark.parametrize(
    "path",
    [
        "sensors.wrench.dropout",
        "sensors.eye.freeze",
        "sensors.imu.dropout",
        "sensors.imu.drift_ppm",
        "sensors.imu.phase_ms",
    ],
)
def test_injected_numbers_are_recovered(folder: Path, path: str) -> None:
    injected, fitted = (model(folder, name).number(path) for name in ("injected", "fitted"))
    assert fitted == pytest.approx(injected, rel=WITHIN)


def test_how_long_a_sensor_stands_is_recovered(folder: Path) -> None:
    fitted = model(folder, "fitted").get("sensors.eye.freeze_samples")
    assert fitted is not None
    assert fitted.middle == 4
    assert mean(fitted) == pytest.approx(4, rel=WITHIN)


def test_a_run_with_the_fitted_model_has_the_distributions_of_the_first_run(folder: Path) -> None:
    """By the statistic of Kolmogorov and Smirnov: below what two samples of one distribution exceed
    once in 100 000 pairs."""
    found = []
    for name in ("injected", "fitted"):
        with Recording(folder / f"{name}.mcap") as recording:
            found.append(tallies_of(recording, lambda frames: None))
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 12
    for name, one in found[0].items():
        other = found[1][name]
        apart = distance(one, other)
        assert apart < critical_distance(one.total, other.total), name
        assert apart < 0.02, name


def test_another_model_is_told_from_it(folder: Path, tmp_path: Path) -> None:
    """The statistic sees 30 us more of one latency: the test above can fail."""
    other = INJECTED.replace("normal = [0.5, 0.08]", "normal = [0.53, 0.08]")
    path = run(tmp_path, other, 2000)
    with Recording(folder / "injected.mcap") as one, Recording(path) as two:
        first, second = (tallies_of(recording, lambda frames: None) for recording in (one, two))
    name = "joints trigger to sample"
    limit = critical_distance(first[name].total, second[name].total)
    assert distance(first[name], second[name]) > limit


def test_a_model_has_few_knots(folder: Path) -> None:
    text = (folder / "fitted-timing.toml").read_text()
    assert len(text) < 16_000


def test_what_cannot_be_measured_is_said(folder: Path) -> None:
    text = (folder / "fitted-timing.toml").read_text()
    assert "actuators (arm): no frame says when a command takes effect" in text
    assert "# wrench: " in text and "RECOVERING" in text


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.6), (4.5, 5.5), (1.9, 9.0)])
def test_answers_that_come_too_late_are_measured(tmp_path: Path, low: float, high: float) -> None:
    """The act is at 1.5 ms, the latch at 0.5 ms or later, and a cycle has 2 ms."""
    text = f"policy.inference_ms = {{ uniform = [{low}, {high}] }}\n"
    fitted = fitting.of_recording(run(tmp_path, text, 3000))
    path = write(tmp_path, fitted, "again")
    found = timing_model.of_schedule(inphase.load(path)).get("policy.inference_ms")
    assert found is not None
    assert mean(found) == pytest.approx((low + high) / 2, rel=WITHIN)
    for share in (0.1, 0.5, 0.9):
        assert found.quantile(share) == pytest.approx(low + share * (high - low), rel=WITHIN)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.4), (1.0, 2.6), (4.5, 5.5)])
def test_frames_whose_answer_is_not_known_are_counted_as_censored(
    tmp_path: Path, low: float, high: float
) -> None:
    path = run(tmp_path, f"policy.inference_ms = {{ uniform = [{low}, {high}] }}\n", 1000)
    with Recording(path) as recording:
        frames = recording.frames()
        told = np.unique(frames["answered_cycle"][frames["answered_cycle"] >= 0])
    text = fitting.of_recording(path)

    def number(pattern: str) -> int:
        found = re.search(rf"(\d+) {pattern}", text)
        return int(found[1]) if found else 0

    known = number("answers, each") + number("more were too late")
    assert known + number("frames are censored") == told[-1] - told[0] + 1
    assert bool(number("frames are censored")) == (high > 2)
    if number("more were too late"):
        bounds = re.search(r"between ([\d.]+) and ([\d.]+) ms. So there ([\d.]+)%", text)
        assert bounds is not None
        assert 0 <= float(bounds[1]) < low + 0.5 < float(bounds[2]) <= high + 2.0  # a cycle more


def test_the_drift_of_a_clock_that_stamps_is_recovered(tmp_path: Path) -> None:
    robot = (
        ROBOT
        + """
[device.far]
driver = "timed:Timed"
place = "far"
request_us = 10
takes_us = 200
acquire_us = 100
ticks = true
[sensor.far]
device = "far"
trigger_us = 0
max_age_ms = 20
"""
    )
    text = "[sensors.far]\ndrift_ppm = 200\nlatency_ms = { uniform = [0.15, 0.3] }\n"
    path = tmp_path / "far.mcap"
    record(write(tmp_path, text, "far", robot), 4000, path)
    again = write(tmp_path, fitting.of_recording(path), "again", robot)
    found = timing_model.of_schedule(inphase.load(again))
    assert found.number("sensors.far.drift_ppm") == pytest.approx(200, rel=WITHIN)


def test_a_sensor_that_never_speaks_has_no_latency(tmp_path: Path) -> None:
    text = "[sensors.wrench]\ndropout = 1.0\n"
    fitted = fitting.of_recording(run(tmp_path, text, 200))
    assert "without a sample its latency is not known" in fitted
    path = write(tmp_path, fitted, "again")
    assert timing_model.of_schedule(inphase.load(path)).number("sensors.wrench.dropout") == 1.0


def test_a_device_that_starts_late_has_dropped_nothing(tmp_path: Path) -> None:
    path = tmp_path / "late.mcap"
    described = inphase.load(write(tmp_path, "", "late"))
    with LockStep(described, seed=1) as robot:
        robot.core.fault("silent", 1, 0, 40)
        run_recorded(robot.follower, robot.run, 400, path, described)
    fitted = fitting.of_recording(path)
    assert "wrench: 359 samples of 360 triggers" in fitted
    again = timing_model.of_schedule(inphase.load(write(tmp_path, fitted, "again")))
    assert again.number("sensors.wrench.dropout") == 0


def test_samples_after_their_frame_count_in_the_middle_of_when_they_came(tmp_path: Path) -> None:
    """They are overtaken by the next sample: a gap in the sequence numbers is all that is left."""
    text = "[sensors.wrench]\nlatency_ms = { values = [0.3, 0.3, 0.3, 1.1] }\n"
    fitted = fitting.of_recording(run(tmp_path, text, 400))
    path = write(tmp_path, fitted, "again")
    found = timing_model.of_schedule(inphase.load(path)).get("sensors.wrench.latency_ms")
    assert found is not None
    assert "came after their frame and 1 to 2 ms after the trigger" in fitted
    assert found.quantile(0.5) == pytest.approx(0.3)
    assert found.high == pytest.approx(1.5)
    assert timing_model.of_schedule(inphase.load(path)).number("sensors.wrench.dropout") == 0


def test_a_full_folder_of_temporary_files_is_told(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RecordingError, match=r"no room for 160000 bytes in .*set TMPDIR"):
            fitting.of_recording(folder / "injected.mcap")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- tallies -----------------------------------------------------------------------------------


def test_a_tally_keeps_what_is_always_the_same() -> None:
    tally = Tally()
    tally.add(np.full(1000, 123_456_789))
    curve = fewer(tally.curve(), tally.total)
    assert curve.is_constant and curve.values[0] == 123_456_789
    assert tally.moments() == (123_456_789.0, 0.0)


def test_a_tally_of_any_durations_has_their_quantiles() -> None:
    rng = np.random.default_rng(5)
    values = (10 ** rng.uniform(4, 12, 50_000)).astype(np.int64)
    tally = Tally()
    for part in np.array_split(values, 7):
        tally.add(part)
    assert tally.total == len(values)
    exact = np.sort(values)
    for share in (0.001, 0.1, 0.5, 0.9, 0.999, 1.0):
        rank = max(0, int(np.ceil(share * len(values))) - 1)
        assert tally.quantile(share) == pytest.approx(exact[rank], rel=2e-3, abs=1)
    curve = fewer(tally.curve(), tally.total)
    assert len(curve.values) <= 512
    back = np.interp(exact, curve.values, curve.probabilities)
    assert np.abs(back - (np.arange(len(exact)) + 0.5) / len(exact)).max() < 0.003
