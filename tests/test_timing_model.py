"""The timing model: what is drawn, and that lock step keeps the real machine's rules with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inphase._core import ffi, lib
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.schedule import distribution, timing_model
from inphase.schedule.distribution import Distribution, Histogram, Shape
from worlds import Swing, world_schedule

PERIOD_NS, ACT_NS = 2_000_000, 1_500_000
SHAPES = [
    Shape(uniform=(0.2, 0.7)),
    Shape(normal=(30.0, 2.0), low=24.0, high=37.0),
    Shape(lognormal=(0.15, 0.4), high=2.5),
    Shape(exponential=2.0, low=0.1, high=20.0),
    Shape(values=[3.0, 1.0, 2.0, 2.0]),
    Shape(histogram=Histogram(edges=[0.0, 1.0, 2.0, 5.0], counts=[10.0, 0.0, 3.0])),
    Shape(quantiles=[(0, 0.1), (0.5, 0.2), (0.5, 0.4), (0.99, 1.0), (1, 3.0)]),
]


def drawn(made: Distribution, count: int) -> list[float]:
    """Draws, as the core makes them."""
    return [made.quantile(lib.inphase_draw(5, i, 0, 0)) for i in range(count)]


def in_c(made: Distribution, probability: float) -> float:
    """The quantile that C gives."""
    keep = [ffi.new("double[]", list(v)) for v in (made.probabilities, made.values)]
    fields = {"knots": len(made.values), "probability": keep[0], "value": keep[1]}
    return float(
        lib.inphase_quantile(ffi.new("struct inphase_distribution *", fields), probability)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:24])
@given(probability=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_python_and_c_have_the_same_quantiles(shape: Shape, probability: float) -> None:
    made = distribution.make(shape)
    assert in_c(made, probability) == made.quantile(probability)


def test_draws_are_of_the_distribution() -> None:
    from statistics import NormalDist, fmean

    normal = drawn(distribution.make(SHAPES[1]), 4000)
    assert fmean(normal) == pytest.approx(30.0, abs=0.15)
    assert np.std(normal) == pytest.approx(2.0, abs=0.15)
    assert np.quantile(normal, 0.9) == pytest.approx(NormalDist(30, 2).inv_cdf(0.9), abs=0.2)
    lognormal = drawn(distribution.make(SHAPES[2]), 4000)
    assert np.median(lognormal) == pytest.approx(0.15, rel=0.05)
    assert np.std(np.log(lognormal)) == pytest.approx(0.4, rel=0.05)
    exponential = drawn(distribution.make(SHAPES[3]), 4000)
    assert fmean(exponential) == pytest.approx(2.0, rel=0.08)
    values = drawn(distribution.make(SHAPES[4]), 4000)
    assert {v: values.count(v) // 400 for v in set(values)} == pytest.approx(
        {1.0: 2.5, 2.0: 5, 3.0: 2.5}, abs=1
    )
    binned = drawn(distribution.make(SHAPES[5]), 4000)
    assert not any(1 < v < 2 for v in binned)
    assert sum(v <= 1 for v in binned) / 4000 == pytest.approx(10 / 13, abs=0.03)


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (Shape(), "exactly one kind"),
        (Shape(uniform=(0, 1), exponential=1.0, high=2), "exactly one kind"),
        (Shape(uniform=(2, 1)), "runs backwards"),
        (Shape(normal=(1, 1)), "no bound; give low and high"),
        (Shape(normal=(1, 1), low=0), "no bound; give high"),
        (Shape(normal=(1, -1), low=0, high=1), "below 0"),
        (Shape(lognormal=(0, 1), high=1), "median above 0"),
        (Shape(exponential=1), "no bound; give high"),
        (Shape(exponential=float("inf"), high=2), "not finite"),
        (Shape(uniform=(0, 1), low=3, high=2), "swap them"),
        (Shape(histogram=Histogram(edges=[0, 1], counts=[1, 1])), "one edge more"),
        (Shape(histogram=Histogram(edges=[0, 0], counts=[1])), "do not ascend"),
        (Shape(histogram=Histogram(edges=[0, 1], counts=[0])), "counts sum up to 0"),
        (Shape(quantiles=[(0.1, 1), (1, 2)]), "values at 0 and at 1"),
        (Shape(quantiles=[(0, 1), (0.5, 3), (1, 2)]), "quantiles descend"),
    ],
)
def test_what_is_no_distribution_is_refused_with_what_to_do(shape: Shape, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        distribution.make(shape)


# ---- in a schedule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timing", "where", "what"),
    [
        ("sensors.joints.latency_ms = -0.1", r"timing\.sensors\.joints\.latency_ms", "can be -0.1"),
        ("sensors.joints.latency_ms = { uniform = [-1, 1] }",
         r"timing\.sensors\.joints\.latency_ms", "can be -1"),
        ("sensors.joints.latency_ms = { normal = [1, 1], low = 0 }",
         r"timing\.sensors\.joints\.latency_ms", "no bound"),
        ("sensors.joints.latency_ms = inf", r"timing\.sensors\.joints\.latency_ms", "not finite"),
        ("sensors.joints.latency_ms = 1e9", r"timing\.sensors\.joints\.latency_ms", "can be 1e"),
        ("sensors.joint.latency_ms = 1", r"timing\.sensors\.joint", "has: joints, tip"),
        ("sensors.joints.dropout = 1.5", r"timing\.sensors\.joints\.dropout", "1"),
        ("sensors.joints.latency_us = 1", r"timing\.sensors\.joints\.latency_us", "unknown key"),
        ("policy.inference_ms = -1", r"timing\.policy\.inference_ms", "can be -1"),
        ("actuators.limb.delay_ms = 500", r"timing\.actuators\.limb\.delay_ms", "60 cycles"),
        ("host.wake_late_ms = -1", r"timing\.host\.wake_late_ms", "can be -1"),
        ('file = "none.toml"', r"schedule", "cannot be read"),
    ],
)  # fmt: skip
def test_a_timing_model_that_cannot_be_is_refused(
    tmp_path: Path, timing: str, where: str, what: str
) -> None:
    from inphase.plan import plan

    with pytest.raises(ScheduleError, match=rf"toml(:\d+)?: {where}: .*{what}"):
        plan.make(world_schedule(tmp_path, f"[timing]\n{timing}\n"))


def test_a_timing_model_may_be_a_file_and_its_errors_name_it(tmp_path: Path) -> None:
    file = tmp_path / "robot.toml"
    file.write_text("[sensors.joints]\nlatency_ms = 0.4\n")
    described = world_schedule(tmp_path, '[timing]\nfile = "robot.toml"\n')
    model = timing_model.of_schedule(described)
    assert model.ns("sensors.joints.latency_ms") == distribution.constant(400_000.0)
    file.write_text("[sensors.joints]\nlatency_ms = -0.4\n")
    with pytest.raises(ScheduleError, match=r"robot\.toml:2: sensors\.joints\.latency_ms: can be"):
        timing_model.of_schedule(described)


# ---- what lock step makes of it ------------------------------------------------------------------


def run(described: Any, cycles: int, call: Any = None) -> list[Frame]:
    """Owned frames of the policy's turns."""
    with LockStep(described, call=call or Swing(), seed=3, digest=False) as robot:
        frames = []
        while robot.cycles < cycles:
            frames.append(robot.step().copy())
        return frames


def test_latencies_are_those_that_the_seed_draws(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.joints.latency_ms = { uniform = [0.2, 0.9] }\n"
    for frame in run(world_schedule(tmp_path, timing), 50):
        sample = frame["joints"]
        draw = lib.inphase_draw(3, frame.cycle, 0, lib.INPHASE_DRAW_LATENCY)
        assert sample.received_ns is not None and sample.triggered_ns is not None
        assert sample.received_ns - sample.triggered_ns == int(0.2e6 + (0.9e6 - 0.2e6) * draw)


def test_draws_of_one_device_do_not_depend_on_another(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.tip = { latency_ms = { uniform = [0.2, 0.6] } }\n"
    more = "sensors.joints = { latency_ms = { uniform = [0.1, 0.9] }, dropout = 0.1 }\n"
    both = [run(world_schedule(tmp_path, text), 80) for text in (timing, timing + more)]
    received = [[f["tip"].received_ns for f in frames] for frames in both]
    assert received[0] == received[1]


def test_a_sensor_behind_the_deadline_is_late_and_then_missing(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.joints.latency_ms = 1.3\n"  # the deadline is at 1.2 ms
    frames = run(world_schedule(tmp_path, timing), 40)
    assert {f["joints"].status for f in frames[2:]} <= {"LATE", "MISSING", "RECOVERING"}
    assert not any(f["joints"].status == "FRESH" for f in frames)


def test_dropped_samples_are_those_that_the_seed_draws(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.tip.dropout = 0.2\n"
    frames = run(world_schedule(tmp_path, timing), 300)
    dropped = [lib.inphase_draw(3, f.cycle, 1, lib.INPHASE_DRAW_DROPOUT) < 0.2 for f in frames]
    late = [f["tip"].status in ("LATE", "MISSING") for f in frames]
    assert late == dropped and 30 < sum(late) < 90


def test_a_device_that_freezes_gives_the_same_sample_and_number(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.tip = { freeze = 0.02, freeze_samples = 5 }\n"
    frames = run(world_schedule(tmp_path, timing), 300)
    frozen = [f["tip"].status == "FROZEN" for f in frames]
    runs = "".join("F" if one else "." for one in frozen).strip(".").replace(".", " ").split()
    assert len(runs) >= 2 and all(len(one) % 5 == 0 for one in runs)


def test_a_clock_that_drifts_moves_a_free_running_sensor(tmp_path: Path) -> None:
    free = """
[device.imu]
driver = "simulated"
rate_hz = 1000
latency_us = 100
fields = { place = { unit = "m", shape = [3] } }
[sensor.imu]
device = "imu"
max_age_ms = 20
[world.sensor.imu.fields]
place = { sensor = "tip" }
[timing]
sensors.imu = { drift_ppm = 20000, phase_ms = 0.3 }
"""
    frames = run(world_schedule(tmp_path, free), 200)
    stamps = [f["imu"].acquired_ns for f in frames if f["imu"].status == "FRESH"]
    assert len(stamps) >= 199
    for stamp in stamps:
        assert stamp is not None
        number = round((stamp - 300_000) / (1e6 / 1.02))
        assert stamp == 300_000 + int(number * 1e6 / 1.02)


def test_a_clock_that_drifts_is_mapped_and_its_drift_is_told(tmp_path: Path) -> None:
    clocked = """
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
[timing]
sensors.far = { drift_ppm = 200, latency_ms = { uniform = [0.15, 0.3] } }
"""
    with LockStep(world_schedule(tmp_path, clocked), digest=False) as robot:
        worst_ns = 0
        for cycle in range(4000):
            sample = robot.step()["far"]
            if cycle > 2000:
                truth_ns = (sample.triggered_ns or 0) + 100_000
                assert sample.acquired_ns is not None and sample.uncertainty_ns > 0
                worst_ns = max(worst_ns, abs(sample.acquired_ns - truth_ns))
                assert abs(sample.acquired_ns - truth_ns) <= sample.uncertainty_ns
        clock = robot.follower.reader.clock(2)
    assert clock is not None and worst_ns > 0, "the device's clock says when"
    assert abs(clock["drift_ppb"] - 200_000) <= clock["drift_error_ppb"]


# ---- the policy as a server ----------------------------------------------------------------------


def hold(frame: Frame) -> Any:
    """Stay where the joints are: a command that may come first at any time."""
    return frame["joints"].value["position"].copy()


class Server:
    """The rule of the real policy process, written down once more: a loop that takes the newest
    frame that it has not had, as soon as it is free."""

    def __init__(self, latched: list[int], inference_ns: list[int]) -> None:
        self.taken: list[int] = []
        self.in_time: list[bool] = []
        free_ns, last = 0, -1
        while True:
            newest = max((n for n, at in enumerate(latched) if at <= free_ns), default=-1)
            if newest <= last:  # wait for the next one
                newest = last + 1
                if newest >= len(latched):
                    return
                free_ns = max(free_ns, latched[newest])
            self.taken.append(newest)
            free_ns += inference_ns[newest]
            self.in_time.append(free_ns <= newest * PERIOD_NS + ACT_NS)
            last = newest


@pytest.mark.parametrize(
    "inference",
    ["0.3", "1.6", "2.2", "5.0", "{ uniform = [0.1, 4.0] }", "{ values = [0.2, 0.9, 7.5] }"],
)
def test_a_slow_policy_takes_the_frames_and_misses_the_acts_of_the_real_one(
    tmp_path: Path, inference: str
) -> None:
    described = world_schedule(tmp_path, f"[timing]\npolicy.inference_ms = {inference}\n")
    cycles = 400
    entry = timing_model.of_schedule(described).ns("policy.inference_ms")
    assert entry is not None
    inference_ns = [
        int(entry.quantile(lib.inphase_draw(3, cycle, lib.INPHASE_DRAW_POLICY, 0)))
        for cycle in range(cycles + 20)
    ]
    frames = run(described, cycles, hold)
    latched = {f.cycle: f.latched_ns for f in frames}
    usual = next(at - cycle * PERIOD_NS for cycle, at in latched.items())
    assert all(at - cycle * PERIOD_NS == usual for cycle, at in latched.items())
    real = Server([n * PERIOD_NS + usual for n in range(cycles + 20)], inference_ns)
    taken = [f.cycle for f in frames]
    assert taken == real.taken[: len(taken)]

    with LockStep(described, call=hold, seed=3, digest=False) as robot:
        robot.run(cycles)
        counts = robot.follower.reader.counts()
    answered = sum(
        good for cycle, good in zip(real.taken, real.in_time, strict=True) if cycle < cycles
    )
    assert counts["commands"] == answered
    assert counts["missed"] == cycles - answered


def test_a_policy_that_misses_its_act_is_repeated_and_then_ramped(tmp_path: Path) -> None:
    """on_miss acts as on the robot: the last command for max_hold, then the ramp."""
    timing = "[timing]\npolicy.inference_ms = { values = [0.1, 0.1, 0.1, 30.0] }\n"
    described = world_schedule(tmp_path, timing)
    with LockStep(described, call=hold, seed=3, digest=False) as robot:
        robot.run(600)
        counts = robot.follower.reader.counts()
        histogram = robot.follower.reader.quantiles(4)
    assert counts["repeated"] > 50 and counts["ramped"] > 20
    assert counts["commands"] + counts["missed"] == 600
    assert histogram["max"] < 1_500_000, "what came after its act was no command"


def test_what_is_late_is_so_in_every_run_and_in_a_process_of_its_own(tmp_path: Path) -> None:
    timing = """
[timing]
sensors.joints = { latency_ms = { normal = [0.9, 0.3], low = 0.2, high = 1.9 }, dropout = 0.01 }
policy.inference_ms = { lognormal = [0.5, 0.7], high = 6.0 }
host.wake_late_ms = { lognormal = [0.05, 1.0], high = 2.5 }
actuators.limb.delay_ms = { uniform = [0.0, 4.0] }
[policy]
call = "worlds.py:Swing"
"""
    described = world_schedule(tmp_path, timing)
    (tmp_path / "worlds.py").write_text(Path(__file__).with_name("worlds.py").read_text())
    digests = []
    for isolate in (False, False, True):
        with LockStep(described, seed=9, isolate=isolate) as robot:
            robot.run(300)
            digests.append(robot.digest())
    assert len(set(digests)) == 1
