"""Faults on virtual time: planned by kind, sensor and cycle, or made by the policy itself.

The rows named in the headings are those of the catalogue of faults. Cycles are 2 ms, the read
deadline is at 1.3 ms, the act at 1.7 ms, and a sample is acquired in the first 0.1 ms: a sensor
that is silent from cycle n on is older than `max_age_ms` = 10 at the latch of cycle n + 4.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import schedule
from inphase.core.core import FAULTS
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Act, Frame, FrameLost
from inphase.frames import store
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from inphase.runtime import summary
from inphase.runtime.words import state_messages

ROOT = Path(__file__).resolve().parent.parent
JOINTS, WRENCH = 0, 1
PERIOD_NS = 2_000_000
PERIOD_S = 0.002
VELOCITY, LOW, HIGH, STEP = 2.0, -2.6, 2.6, 0.2
ACCELERATION = 20.0
HOLD_CYCLES = 10  # max_hold is max(2 cycles, 20 ms)
ACTED = "WRITTEN"

Answer = Callable[[Frame], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's schedule and policy under another name, so that a running demo is left alone: as
    robot.toml without the servos' watchdog, so that a ramp may end by itself, as watched.toml with.
    """
    path = tmp_path_factory.mktemp("virtual")
    shutil.copy(ROOT / "schedules/demo_policy.py", path)
    text = (ROOT / "schedules/demo.toml").read_text()
    text = text.replace('name = "demo"', 'name = "virtual"')
    text = re.sub(r"(?m)^(?:watchdog_ms|overrun_limit) = .*\n", "", text)
    path.joinpath("watched.toml").write_text(
        text.replace("[sensor.joints]", "[sensor.joints]\nfrozen_after = 5")
    )
    without = text.replace("[device.arm]", "[device.arm]\nwatchdog_ms = 0")
    path.joinpath("robot.toml").write_text(without)
    return path


class Sweep:
    """Moves all joints from where the robot is, up to `speed` rad/s at half of the acceleration
    that the limits allow; `answers` are other replies."""

    def __init__(self, speed: float = 0.5) -> None:
        self.speed = speed
        self.answers: dict[int, Answer] = {}
        self.last: Any = None
        self.now = 0.0

    def __call__(self, frame: Frame) -> Any:
        if frame.cycle in self.answers:
            return self.answers[frame.cycle](frame)
        if self.last is None:
            if frame["joints"].sequence < 0:
                return None
            self.last = frame["joints"].value["position"].copy()
            self.now = 0.0
        self.now = min(self.now + ACCELERATION / 2 * PERIOD_S, self.speed)
        self.last = self.last + self.now * PERIOD_S
        return self.last


class Robot:
    """A robot in lock step, with what its frames said."""

    def __init__(self, path: Path, policy: Answer, seed: int = 7) -> None:
        self.lockstep = LockStep(schedule.load(path), call=policy, seed=seed)
        self.core = self.lockstep.core
        self.frames: list[Frame] = []

    def run(self, cycles: int) -> list[Frame]:
        """Run; the frames of these cycles, owned."""
        new = [self.lockstep.step().copy() for _ in range(cycles)]
        self.frames += new
        return new

    def frame(self, cycle: int) -> Frame:
        """The frame of a cycle that was run."""
        return next(frame for frame in self.frames if frame.cycle == cycle)

    def act(self, cycle: int) -> Act:
        """What was done in a cycle; the frame after it says so."""
        frame = next(frame for frame in self.frames if frame.command.cycle == cycle)
        return frame.command["arm"]

    def statuses(self, sensor: str, first: int, last: int) -> list[str]:
        """A sensor's statuses in the cycles first..last."""
        return [self.frame(cycle)[sensor].status for cycle in range(first, last + 1)]

    def did(self, flag: str) -> list[int]:
        """The cycles whose act carries a flag."""
        return [f.command.cycle for f in self.frames if flag in f.command["arm"].flags]

    def counts(self) -> dict[str, int]:
        """Counts of commands in the store."""
        return self.lockstep.follower.reader.counts()

    def reasons(self) -> dict[str, int]:
        """Why commands were missed or refused."""
        return self.lockstep.follower.reader.reasons()


Make = Callable[..., Robot]


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Makes robots that are closed after the test."""
    made: list[Robot] = []

    def build(policy: Answer | None = None, seed: int = 7, schedule: str = "robot.toml") -> Robot:
        made.append(Robot(folder / schedule, policy or Sweep(), seed))
        return made[-1]

    yield build
    for robot in made:
        robot.lockstep.close()


# ---- row 1: silence ------------------------------------------------------------------------


def test_a_silent_sensor_is_late_at_first_and_missing_past_its_max_age(make: Make) -> None:
    robot = make()
    robot.core.fault("silent", JOINTS, 20, 8)
    robot.run(31)
    assert robot.statuses("joints", 19, 27) == ["FRESH", *["LATE"] * 4, *["MISSING"] * 4]
    # the first reply after silence may belong to the trigger before it: it is not trusted yet. Then
    # the line is silent for the servos' worst case, longer than a period, before it is
    assert robot.statuses("joints", 28, 30) == ["RECOVERING", "LATE", "FRESH"]
    assert {robot.frame(cycle)["joints"].reason for cycle in range(20, 28)} == {"silent"}


def test_a_silent_sensor_keeps_its_last_sample_with_a_growing_age(make: Make) -> None:
    robot = make()
    robot.core.fault("silent", JOINTS, 20, 8)
    robot.run(30)
    rows = [robot.frame(cycle)["joints"] for cycle in range(20, 28)]
    assert {row.sequence for row in rows} == {robot.frame(19)["joints"].sequence}
    latched = [robot.frame(cycle).latched_ns for cycle in range(20, 28)]
    acquired = robot.frame(19)["joints"].acquired_ns or 0
    assert [row.age_ns for row in rows] == [at - acquired for at in latched]


def test_feedback_older_than_its_max_age_ramps_the_arm(make: Make) -> None:
    robot = make()
    robot.core.fault("silent", JOINTS, 20, 8)
    robot.run(40)
    assert robot.did("RAMPING") == [24, 25, 26, 27, 28, 29]
    written = [robot.act(cycle) for cycle in range(24, 30) if ACTED in robot.act(cycle).flags]
    assert {act.reason for act in written} == {"feedback"}
    assert ACTED in robot.act(30).flags, "silence does not latch: the arm goes on"
    assert robot.frame(30).reason == "none"


def test_a_ramp_decelerates_to_rest_and_stays_there(make: Make) -> None:
    robot = make(Sweep(1.0))
    robot.core.fault("wrong", JOINTS, 200, 1, 1000)
    robot.run(300)
    assert robot.did("RAMPING") == list(range(200, 299))
    steps = np.array([robot.act(c + 1).applied - robot.act(c).applied for c in range(199, 298)])
    slower = -np.diff(steps, axis=0)
    assert np.all(slower >= -1e-12) and np.all(slower <= ACCELERATION * PERIOD_S**2 + 1e-12)
    assert np.all(steps[25:] == 0), "1 rad/s at 20 rad/s^2 takes 50 ms"


def test_a_ramp_on_a_bus_that_is_often_busy_still_ends_in_its_time(make: Make) -> None:
    robot = make(Sweep(1.0))
    robot.core.fault("silent", JOINTS, 200, 100)
    robot.run(300)
    assert "busy" in {robot.act(cycle).reason for cycle in range(204, 230)}
    rest = robot.act(298).applied
    assert [c for c in range(204, 298) if not np.array_equal(robot.act(c).applied, rest)][-1] < 230
    assert np.all(
        rest - robot.act(203).applied <= 1.0**2 / (2 * ACCELERATION) + VELOCITY * PERIOD_S
    )


def test_a_robot_that_stood_while_its_bus_was_busy_does_not_move_on_in_the_ramp(
    make: Make,
) -> None:
    sweep = Sweep(1.0)
    sweep.answers = dict.fromkeys(range(200, 300), lambda _: None)
    robot = make(sweep)
    robot.core.fault("silent", JOINTS, 200, 100)
    robot.run(300)
    applied = {robot.act(cycle).applied.tobytes() for cycle in range(199, 299)}
    assert len(applied) == 1


def test_a_silent_wrist_does_not_hold_the_arm_up(make: Make) -> None:
    robot = make()
    robot.core.fault("silent", WRENCH, 20, 50)
    robot.run(80)
    assert robot.did("RAMPING") == []
    assert set(robot.statuses("joints", 0, 79)) == {"FRESH"}


def test_a_sensor_that_never_answered_is_missing_and_nothing_moves(make: Make) -> None:
    robot = make()
    robot.core.fault("silent", JOINTS, 0, 50)
    robot.run(50)
    assert set(robot.statuses("joints", 0, 49)) == {"MISSING"}
    assert robot.did(ACTED) == []
    with pytest.raises(LookupError, match="no sample yet"):
        _ = robot.frame(10)["joints"].value


# ---- row 2: late ---------------------------------------------------------------------------


def test_a_delayed_reply_is_not_in_its_own_frame_and_serves_the_next_with_its_age(
    make: Make,
) -> None:
    robot = make()
    robot.core.fault("delayed", JOINTS, 20, 1, 1_200_000)
    robot.run(25)
    own, following = robot.frame(20)["joints"], robot.frame(21)["joints"]
    assert (own.status, own.sequence) == ("LATE", robot.frame(19)["joints"].sequence)
    assert following.sequence > own.sequence
    assert robot.counts()["late_samples"] == 1


def test_a_late_sample_keeps_the_stamps_of_its_own_trigger(make: Make) -> None:
    robot = make()
    for sensor in (JOINTS, WRENCH):
        robot.core.fault("delayed", sensor, 20, 1, 1_500_000)  # comes after the latch of cycle 20
        robot.core.fault("silent", sensor, 21, 2)
    robot.run(25)
    late = robot.frame(21)["joints"]
    assert late.status == "LATE"
    assert late.triggered_ns == robot.frame(20).due_ns
    assert late.age_ns == robot.frame(21).latched_ns - (late.acquired_ns or 0)
    assert (late.age_ns or 0) > PERIOD_NS

    # the middle of trigger and reply is not known when the reply was only found later
    wrench = robot.frame(21)["wrench"]
    assert wrench.status == "LATE"
    assert wrench.triggered_ns == robot.frame(20).due_ns
    assert wrench.acquired_ns is None
    assert wrench.age_ns is None


def test_no_fresh_sample_belongs_to_the_trigger_of_another_cycle(make: Make) -> None:
    seed = 20261123
    draw = random.Random(seed)
    robot = make()
    for cycle in range(5, 400, 3):
        robot.core.fault("delayed", draw.randrange(2), cycle, 1, draw.randrange(3_000_000))
    fresh = 0
    for frame in robot.run(420):
        for sample in frame.samples.values():
            if sample.status == "FRESH":
                fresh += 1
                assert frame.due_ns <= (sample.triggered_ns or 0) <= frame.latched_ns, seed
    assert fresh > 400, seed


def test_a_latched_frame_is_not_changed_by_a_late_reply(make: Make) -> None:
    robot = make()
    robot.core.fault("delayed", JOINTS, 20, 1, 1_200_000)
    robot.run(20)
    frame = robot.lockstep.step()
    before = (bytes(frame.record), frame["joints"].value.tobytes())
    robot.run(3)
    assert (bytes(frame.record), frame["joints"].value.tobytes()) == before
    assert frame.intact


# ---- rows 3 and 4: frozen ------------------------------------------------------------------


def test_a_device_whose_sequence_stands_still_is_frozen(make: Make) -> None:
    robot = make()
    robot.core.fault("frozen", WRENCH, 20, 3)
    robot.run(30)
    assert robot.statuses("wrench", 19, 23) == ["FRESH", "FROZEN", "FROZEN", "FROZEN", "FRESH"]
    assert robot.frame(22)["wrench"].sequence == robot.frame(19)["wrench"].sequence


def test_the_same_bits_again_and_again_are_frozen_and_ramp_the_arm(make: Make) -> None:
    robot = make(schedule="watched.toml")  # frozen_after = 5, and the servos count nothing
    robot.core.fault("frozen", JOINTS, 50, 20)
    robot.run(60)
    assert robot.statuses("joints", 49, 55) == [*["FRESH"] * 5, "FROZEN", "FROZEN"]
    assert robot.did("RAMPING")[0] == 54
    assert robot.act(54).reason == "feedback"


# ---- rows 5, 6, 7: what a sample says ------------------------------------------------------


def test_a_sample_with_nan_is_invalid_and_the_last_good_one_is_named(make: Make) -> None:
    robot = make()
    robot.core.fault("nan", JOINTS, 20, 1, 3)
    robot.run(25)
    bad = robot.frame(20)["joints"]
    assert (bad.status, bad.reason, bad.detail) == ("INVALID", "nan", 3)
    assert bad.sequence == robot.frame(19)["joints"].sequence
    assert np.all(np.isfinite(bad.value["position"]))


def test_one_sample_with_nan_does_not_stop_motion_and_the_third_in_a_row_ramps(
    make: Make,
) -> None:
    robot = make()
    robot.core.fault("nan", JOINTS, 20, 1, 0)
    robot.core.fault("nan", JOINTS, 40, 3, 0)
    robot.run(60)
    assert robot.did("RAMPING") == [42]
    assert robot.act(42).reason == "feedback"


@pytest.mark.parametrize(
    ("argument", "reason"), [(1000, "range"), (1, "rate")], ids=["range", "rate"]
)
def test_feedback_out_of_its_bounds_is_invalid_and_latches_motion(
    make: Make, argument: int, reason: str
) -> None:
    robot = make()
    robot.core.fault("wrong", JOINTS, 20, 1, argument)
    robot.run(60)
    bad = robot.frame(20)["joints"]
    assert (bad.status, bad.reason, bad.detail) == ("INVALID", reason, 0)
    assert bad.sequence == robot.frame(19)["joints"].sequence
    assert robot.frame(21).reason == reason and "LATCHED" in robot.frame(21).flags
    assert robot.did("RAMPING") == list(range(20, 59)), "good samples alone do not release it"


def test_arming_releases_what_a_range_fault_latched(make: Make) -> None:
    sweep = Sweep()
    robot = make(sweep)
    robot.core.fault("wrong", JOINTS, 20, 1, 1000)
    robot.run(200)
    robot.core.arm()
    sweep.last = None  # start from where the robot is
    robot.run(20)
    assert robot.did("RAMPING") == list(range(20, 200))
    assert "LATCHED" not in robot.frame(200).flags
    assert {ACTED} == set(robot.act(218).flags)


def test_arming_does_not_take_a_command_far_from_the_robot(make: Make) -> None:
    robot = make()
    robot.core.fault("wrong", JOINTS, 20, 1, 1000)
    robot.run(200)
    robot.core.arm()
    robot.run(20)  # the policy went on in its own mind
    assert {robot.act(cycle).reason for cycle in range(200, 219)} == {"start"}
    assert all("HOLDING" in robot.act(cycle).flags for cycle in range(200, 219))


def test_a_force_out_of_its_range_is_invalid_and_does_not_latch_motion(make: Make) -> None:
    robot = make()
    robot.core.fault("wrong", WRENCH, 20, 1, 1000)
    robot.run(30)
    bad = robot.frame(20)["wrench"]
    assert (bad.status, bad.reason) == ("INVALID", "range")
    assert robot.did("RAMPING") == []


@pytest.mark.parametrize("reason", ["checksum", "size", "mismatch"])
def test_a_reply_that_is_refused_is_invalid_with_its_reason(make: Make, reason: str) -> None:
    robot = make()
    robot.core.fault("invalid", JOINTS, 20, 1, REASONS.index(reason))
    robot.run(30)
    bad = robot.frame(20)["joints"]
    assert (bad.status, bad.reason) == ("INVALID", reason)
    assert bad.sequence == robot.frame(19)["joints"].sequence
    assert robot.did("RAMPING") == []


# ---- row 8: gone and back ------------------------------------------------------------------


def test_a_device_that_goes_is_offline_and_three_times_recovering_before_it_is_fresh(
    make: Make,
) -> None:
    robot = make()
    robot.core.fault("gone", JOINTS, 20, 5)
    robot.run(40)
    assert robot.statuses("joints", 19, 28) == [
        "FRESH",
        *["OFFLINE"] * 5,
        *["RECOVERING"] * 3,
        "FRESH",
    ]
    assert robot.lockstep.follower.reader.status()["lost_devices"] == 1


def test_an_actuators_device_that_goes_latches_also_where_its_feedback_is_another_devices(
    folder: Path,
) -> None:
    text = folder.joinpath("robot.toml").read_text()
    arm = text[text.index("[device.arm]") : text.index("[device.wrist]")]
    head = arm.replace("arm]", "head]").replace("/arm", "/head")
    neck = '[sensor.neck]\ndevice = "head"\ntrigger_us = 0\nmax_age_ms = 10\n'
    path = folder / "head.toml"
    text = text.replace("[sensor.joints]", f"{head}{neck}[sensor.joints]")
    path.write_text(text.replace('arm]\ndevice = "arm"', 'arm]\ndevice = "head"'))
    robot = Robot(path, Sweep())
    try:
        robot.core.fault("gone", 0, 20, 5)
        robot.run(60)
        assert robot.frame(20)["neck"].status == "OFFLINE"
        assert robot.frame(20)["joints"].status == "FRESH"
        latched = robot.frame(20)
        head_index = list(robot.lockstep.plan.schedule.device).index("head")
        assert (latched.reason, latched.detail, latched.reason_cycle) == ("offline", head_index, 20)
        assert "LATCHED" in robot.frame(59).flags, "it is back, and nothing was armed"
    finally:
        robot.lockstep.close()


def test_a_device_that_came_back_moves_only_after_arming(make: Make) -> None:
    sweep = Sweep()
    robot = make(sweep)
    robot.core.fault("gone", JOINTS, 20, 5)
    robot.run(200)
    assert (robot.frame(199).reason, "LATCHED" in robot.frame(199).flags) == ("offline", True)
    robot.core.enable(0, True)
    robot.core.arm()
    sweep.last = None
    before = robot.frame(199)["joints"].value["position"].copy()
    robot.run(100)
    assert "LATCHED" not in robot.frame(200).flags
    assert np.all(robot.frame(299)["joints"].value["position"] > before + 0.05)


def test_while_a_device_is_gone_nothing_is_written_to_it(make: Make) -> None:
    robot = make()
    robot.core.fault("gone", JOINTS, 20, 5)
    robot.run(40)
    assert not set(robot.did(ACTED)) & set(range(20, 25))


# ---- row 11: the wall clock is set ---------------------------------------------------------


@pytest.mark.parametrize("step_ns", [3_600_000_000_000, -3_600_000_000_000, 1_000_001, -1_000_001])
def test_a_wall_clock_that_is_set_is_told_and_changes_nothing_else(
    make: Make, step_ns: int
) -> None:
    robot, plain = make(), make()
    robot.core.fault("clock_step", 0, 20, 5, step_ns)
    robot.run(40)
    plain.run(40)
    stepped = [frame.cycle for frame in robot.frames if "CLOCK_STEP" in frame.flags]
    assert stepped == [20, 25], "when it is set, and when it is set back"
    for frame, other in zip(robot.frames, plain.frames, strict=True):
        assert (frame.cycle, frame.due_ns, frame.skipped) == (other.cycle, other.due_ns, 0)
        assert set(frame.flags) - {"CLOCK_STEP"} == set(other.flags)
        assert frame["joints"].status == other["joints"].status == "FRESH"
        assert frame["joints"].received_ns == other["joints"].received_ns
        assert frame.command["arm"].flags == other.command["arm"].flags


def test_a_wall_clock_that_is_slewed_is_not_told(make: Make) -> None:
    robot = make()
    robot.core.fault("clock_step", 0, 0, 40, 7_000_000)
    robot.core.fault("clock_step", 0, 40, 20, 8_000_000)
    robot.run(60)
    assert not any("CLOCK_STEP" in frame.flags for frame in robot.frames)


# ---- rows 12 and 13: late wakes ------------------------------------------------------------


@pytest.mark.parametrize("late_cycles", [1, 2, 7])
def test_a_wake_that_is_cycles_late_skips_them_and_keeps_the_phase(
    make: Make, late_cycles: int
) -> None:
    robot = make()
    robot.core.fault("wake", 0, 20, 1, late_cycles * PERIOD_NS + 300_000)
    frames = robot.run(30)
    after = frames[20]
    assert after.cycle == 20 + late_cycles + 1
    assert after.skipped == late_cycles + 1
    assert "SKIPPED" in after.flags
    assert [f.cycle for f in frames] == [*range(20), *range(after.cycle, after.cycle + 10)]
    assert {f.due_ns - f.cycle * PERIOD_NS for f in frames} == {0}
    assert robot.lockstep.follower.reader.status()["skipped"] == late_cycles + 1


def test_a_wake_that_is_late_within_the_cycle_skips_nothing(make: Make) -> None:
    robot = make()
    robot.core.fault("wake", 0, 20, 1, 400_000)
    frames = robot.run(30)
    assert [f.cycle for f in frames] == list(range(30))
    assert frames[20].woke_ns - frames[20].due_ns == 400_000
    assert set(robot.statuses("joints", 0, 29)) == {"FRESH"}


def test_a_wake_after_the_read_deadline_triggers_nothing_and_says_so(make: Make) -> None:
    robot = make()
    robot.core.fault("wake", 0, 20, 1, 1_500_000)
    robot.run(30)
    late = robot.frame(20)
    assert late.triggered_ns is None
    assert (late["joints"].status, late["wrench"].status) == ("LATE", "LATE")
    assert robot.statuses("joints", 21, 29) == ["FRESH"] * 9


def test_a_suspension_is_marked_and_latches_motion_until_arming(make: Make) -> None:
    sweep = Sweep()
    robot = make(sweep)
    robot.core.fault("wake", 0, 20, 1, 5_200_000_000)
    frames = robot.run(200)
    after = frames[20]
    assert after.cycle == 2621
    assert {"RESUMED", "SKIPPED", "LATCHED"} <= set(after.flags)
    assert (after.reason, after.skipped) == ("resumed", 2601)
    assert "RESUMED" not in frames[21].flags
    assert {f.command["arm"].reason for f in frames[21:]} == {"resumed"}
    assert all("RAMPING" in f.command["arm"].flags for f in frames[21:])
    robot.core.arm()
    sweep.last = None
    robot.run(5)
    assert robot.frames[-1].reason == "none"
    assert ACTED in robot.frames[-1].command["arm"].flags


def test_a_suspended_machine_is_noticed_though_its_clock_stood_still(make: Make) -> None:
    robot = make(Sweep())
    robot.core.fault("suspended", 0, 20, 1, 500_000)  # what slewing may come to, and more
    robot.core.fault("suspended", 0, 50, 1, 1_100_000)
    frames = robot.run(100)
    assert [frame.cycle for frame in frames if "RESUMED" in frame.flags] == [51]
    assert {frame.skipped for frame in frames} == {0}
    assert [frame.reason for frame in frames] == ["none"] * 51 + ["resumed"] * 49
    assert robot.did("RAMPING")[0] == 50, "in the act of the very cycle, before anything is written"


def test_a_suspension_is_noticed_where_nothing_acts(folder: Path) -> None:
    path = folder / "sensors.toml"
    text = (folder / "robot.toml").read_text()
    path.write_text(text[: text.index("[actuator")])
    with LockStep(schedule.load(path)) as robot:
        robot.core.fault("suspended", 0, 20, 1, 10_000_000)
        frames = [robot.step().copy() for _ in range(40)]
    assert [frame.cycle for frame in frames if "RESUMED" in frame.flags] == [20]


def test_grid_points_that_late_wakes_leave_out_are_a_trend(make: Make) -> None:
    robot = make(Sweep(1.0))
    for k in range(250):
        robot.core.fault("wake", 0, 20 + 3 * k, 1, int(1.4 * PERIOD_NS))
    with pytest.raises(store.Lost, match="overrun"):
        robot.run(1000)
    status = robot.lockstep.follower.reader.status()
    assert status["skipped"] > 50 and status["overruns"] > 20


def test_late_wakes_that_are_rare_are_no_trend(make: Make) -> None:
    robot = make(Sweep(1.0))
    for k in range(100):
        robot.core.fault("wake", 0, 20 + 5 * k, 1, int(1.4 * PERIOD_NS))
    robot.run(400)
    assert robot.frames[-1].reason == "none"


def test_a_trend_of_overruns_ramps_and_stops_the_robot(make: Make) -> None:
    robot = make(Sweep(1.0))
    robot.core.fault("wake", 0, 20, 100_000, 5 * PERIOD_NS)
    with pytest.raises(store.Lost, match="overrun"):
        for _ in range(1000):
            robot.run(1)
    stopping = [frame for frame in robot.frames if "STOPPING" in frame.flags]
    assert {frame.reason for frame in stopping} == {"overrun"}
    assert {frame.reason for frame in robot.frames[: -len(stopping)]} == {"none"}
    assert all("OVERRUN" in frame.flags for frame in stopping)
    assert robot.lockstep.run(10) == 0
    result = lockstep.sum_up(robot.lockstep)
    assert result["stopped"]["reason"] == "overrun"
    # the wakes were too late for the ramp to be seen to its end
    assert (result["state"], summary.exit_code(result)) == ("uncontrolled", 8)
    assert summary.exit_code(result | {"state": "stopped"}) == 6


def test_a_run_without_a_policy_ends_when_the_core_stops(folder: Path) -> None:
    path = folder / "no_policy.toml"
    text = (folder / "robot.toml").read_text()
    path.write_text(text[: text.index("[policy]")])
    with LockStep(schedule.load(path)) as robot:
        robot.core.fault("wake", 0, 20, 100_000, 5 * PERIOD_NS)
        assert 50 < robot.run(1000) < 1000
        assert lockstep.sum_up(robot)["stopped"]["reason"] == "overrun"


def test_a_hiccup_of_overruns_is_forgiven(make: Make) -> None:
    robot = make()
    for start in range(20, 2000, 500):
        robot.core.fault("wake", 0, start, 40, 5 * PERIOD_NS)
    robot.run(1000)
    status = robot.lockstep.follower.reader.status()
    assert status["overruns"] >= 3
    assert robot.frames[-1].reason == "none"


# ---- rows 21 and 22: readers ---------------------------------------------------------------


def test_a_view_that_was_held_too_long_says_that_it_is_not_intact(make: Make) -> None:
    robot = make()
    robot.run(5)
    frame = robot.lockstep.step()
    assert frame["joints"].value["position"].shape == (6,)
    assert frame.intact
    robot.run(200)
    assert not frame.intact
    with pytest.raises(FrameLost, match="sample 5 of joints was recycled"):
        frame.copy()


def test_a_reader_that_was_too_slow_is_told_how_many_frames_it_lost(make: Make) -> None:
    robot = make()
    robot.run(1)
    follower = StoreFollower(robot.core.segment.path)
    robot.run(1000)
    first = follower.next(timeout_s=1.0)
    assert first.lost == first.cycle - 1 > 800
    assert follower.next(timeout_s=1.0).lost == 0
    follower.close()


ENDLESS = """
import sys
import inphase
from inphase.episodes.lockstep import LockStep

with LockStep(inphase.load(sys.argv[1])) as robot:
    robot.run(3)
    print(robot.core.segment.path, flush=True)
    sys.stdin.read()
"""


@pytest.mark.real
def test_a_dead_writer_is_told_to_a_reader_that_never_waits() -> None:
    demo = str(ROOT / "schedules" / "demo.toml")
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, demo], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        follower = StoreFollower(process.stdout.readline().decode().strip(), from_first=True)
        assert [follower.next(0.0).cycle for _ in range(3)] == [0, 1, 2]
        for every in (None, 2):
            with pytest.raises(TimeoutError):
                follower.next(0.0, every=every)
        process.kill()
        process.wait()
        for every in (None, 2):
            with pytest.raises(store.Lost):
                follower.next(0.0, every=every)
        follower.close()


# ---- row 16: page faults -------------------------------------------------------------------


def test_page_faults_of_the_cycle_thread_mark_the_next_frame_once(make: Make) -> None:
    robot = make()
    robot.run(5)
    robot.core.host({"page_faults": 3})
    marked = ["PAGE_FAULTS" in frame.flags for frame in robot.run(3)]
    assert marked == [True, False, False]


# ---- rows 17, 18, 19: the policy -----------------------------------------------------------


def _raise(_: Frame) -> Any:
    raise ValueError("the policy has a bug")


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "raises": (_raise, "raised"),
    "returns nothing": (lambda _: None, "silent"),
    "returns nan": (lambda _: np.full(6, np.nan), "nan"),
    "returns one infinity": (lambda _: [0.0, 0.0, 0.0, 0.0, 0.0, -np.inf], "nan"),
    "returns too few": (lambda _: np.zeros(5), "shape"),
    "returns too many": (lambda _: np.zeros(7), "shape"),
    "returns a matrix": (lambda _: np.zeros((6, 1)), "shape"),
    "returns a number": (lambda _: 0.0, "shape"),
    "returns text": (lambda _: "forward", "shape"),
    "returns complex numbers": (lambda _: np.zeros(6, complex), "shape"),
    "returns a dict of another arm": (lambda _: {"leg": np.zeros(6)}, "shape"),
    "returns a ragged list": (lambda _: [[0.0], [0.0, 1.0]], "shape"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_is_named_and_the_last_command_is_repeated(make: Make, name: str) -> None:
    answer, reason = BAD_ANSWERS[name]
    sweep = Sweep(0.03)  # slow enough to stand at once
    sweep.answers[20] = answer
    robot = make(sweep)
    robot.run(30)
    act = robot.act(20)
    assert (act.reason, "REPEATED" in act.flags) == (reason, True)
    np.testing.assert_array_equal(act.applied, robot.act(19).applied)
    assert robot.reasons() == {reason: 1}
    expected = ("missed", "invalid") if reason == "silent" else ("invalid", "missed")
    assert [robot.counts()[key] for key in expected] == [1, 0]
    assert ("MISSED" in act.flags, "INVALID" in act.flags) == (
        reason == "silent",
        reason != "silent",
    )


def test_a_policy_may_answer_with_a_dict_by_actuator(make: Make) -> None:
    sweep = Sweep()
    robot = make(lambda frame: {"arm": sweep(frame)})
    robot.run(30)
    assert robot.counts()["commands"] == 30
    assert robot.did("REPEATED") == []


def test_every_cycle_may_be_the_one_in_which_the_policy_raises(make: Make) -> None:
    for cycle in range(12):
        sweep = Sweep()
        sweep.answers[cycle] = _raise
        robot = make(sweep)
        robot.run(16)
        assert robot.act(cycle).reason == "raised"
        assert "REPEATED" in robot.act(cycle).flags or "HOLDING" in robot.act(cycle).flags
        assert robot.counts()["commands"] == 15


@pytest.mark.parametrize("name", ["raises", "returns nothing", "returns too few"])
def test_the_last_command_is_repeated_for_max_hold_and_then_ramped(make: Make, name: str) -> None:
    answer, reason = BAD_ANSWERS[name]
    sweep = Sweep()
    sweep.answers = dict.fromkeys(range(50, 100), answer)
    robot = make(sweep)
    robot.run(101)
    # max_hold counts from the act of the last valid command, in cycle 49
    assert robot.did("REPEATED") == list(range(50, 50 + HOLD_CYCLES))
    assert robot.did("RAMPING") == list(range(50 + HOLD_CYCLES, 100))
    assert {robot.act(cycle).reason for cycle in range(50, 100)} == {reason}
    assert robot.counts()["repeated"] == HOLD_CYCLES
    assert robot.counts()["ramped"] == 50 - HOLD_CYCLES
    assert robot.reasons() == {reason: 50}


def test_the_third_nan_in_a_row_is_ramped(make: Make) -> None:
    sweep = Sweep()
    sweep.answers = dict.fromkeys(range(50, 60), BAD_ANSWERS["returns nan"][0])
    robot = make(sweep)
    robot.run(70)
    assert robot.did("REPEATED") == [50, 51]
    assert robot.did("RAMPING") == list(range(52, 60))


def test_no_command_of_a_policy_that_answers_anything_breaks_a_limit(make: Make) -> None:
    seed = 4711
    draw = random.Random(seed)
    special = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -0.0, 3.0, -3.0]

    def hostile(frame: Frame) -> Any:
        if frame.cycle < 3:
            return frame["joints"].value["position"]
        kind = draw.randrange(4)
        if kind == 0:
            return [draw.choice(special) for _ in range(6)]
        if kind == 1:
            return [draw.uniform(-4, 4)] * 6
        return [frame["joints"].value["position"][i] + draw.uniform(-1, 1) for i in range(6)]

    robot = make(hostile)
    robot.run(3000)
    reach = VELOCITY * PERIOD_S + 1e-12
    limited = 0
    for before, after in zip(robot.frames[3:], robot.frames[4:], strict=False):
        act = after.command["arm"]
        assert np.all(np.isfinite(act.applied)), seed
        assert np.all((act.applied >= LOW) & (act.applied <= HIGH)), seed
        assert np.all(np.abs(act.applied - before.command["arm"].applied) <= reach), seed
        measured = before["joints"].value["position"]
        assert np.all(np.abs(act.applied - measured) <= STEP + reach), seed
        limited += "LIMITED" in act.flags
        if "LIMITED" in act.flags:
            assert not np.array_equal(act.applied, act.requested), seed
    assert limited > 100, seed
    assert robot.counts()["limited"] == len(robot.did("LIMITED")) + (
        "LIMITED" in _last_act(robot).flags
    )


def _last_act(robot: Robot) -> Act:
    """The act of the newest frame's own cycle, which only the next frame carries."""
    return robot.run(1)[0].command["arm"]


# ---- row 39: the first command -------------------------------------------------------------


def test_a_first_command_too_far_from_the_robot_is_refused_with_the_joint(make: Make) -> None:
    def jump(frame: Frame) -> Any:
        far = frame["joints"].value["position"].copy()
        far[2] += 0.8
        return far

    robot = make(jump)
    robot.run(30)
    act = robot.act(20)
    assert (act.reason, "HOLDING" in act.flags, "INVALID" in act.flags) == ("start", True, True)
    assert robot.reasons() == {"start": 30}
    assert robot.counts()["commands"] == 0
    start = robot.frame(0)["joints"].value["position"]
    assert np.all(np.abs(robot.frame(29)["joints"].value["position"] - start) < 0.004)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_joint_far_outside_of_its_range_is_not_driven_in(folder: Path, sign: int) -> None:
    text = folder.joinpath("robot.toml").read_text()
    low, high = sorted((sign * 1.0, sign * 2.0))
    text = re.sub(r"\nposition = \[.*\]", f"\nposition = [{low}, {high}]", text)
    path = folder / "outside.toml"
    path.write_text(text)
    robot = Robot(path, lambda frame: frame["joints"].value["position"].copy())
    try:
        robot.run(100)
        start = robot.frame(0)["joints"].value["position"]
        assert {robot.act(cycle).reason for cycle in range(5, 99)} == {"start"}
        assert all("HOLDING" in robot.act(cycle).flags for cycle in range(5, 99))
        assert np.all(np.abs(robot.frame(99)["joints"].value["position"] - start) < 0.004)
        said = state_messages.outside(robot.lockstep.plan, robot.frame(99))
        assert f"its joint {robot.act(98).detail} stands at" in said
        assert f"range of {low:g} to {high:g}" in said and "limits.position" in said
    finally:
        robot.lockstep.close()


def test_a_first_command_within_one_velocity_step_is_taken(make: Make) -> None:
    robot = make(lambda frame: frame["joints"].value["position"] + 0.9 * VELOCITY * PERIOD_S)
    robot.run(3)
    assert robot.act(0).flags == (ACTED, "LIMITED"), "it is approached as quickly as it may be"
    start = robot.frame(0)["joints"].value["position"]
    np.testing.assert_allclose(robot.act(0).applied - start, ACCELERATION * PERIOD_S**2)


def test_until_a_policy_commands_the_arm_is_held_where_it_was_found(make: Make) -> None:
    robot = make(lambda _: None)
    robot.run(200)
    assert robot.did("HOLDING") == list(range(199))
    applied = {robot.act(cycle).applied.tobytes() for cycle in range(199)}
    assert len(applied) == 1


# ---- row 40: a drive reports a fault ---------------------------------------------------------

ARM, LEG = 0, 1  # sensors of planned.toml: each has an actuator, and another device


@pytest.fixture
def limbs() -> Iterator[LockStep]:
    """A robot of two actuators on two devices, both of which move at 1 rad/s."""

    def policy(frame: Frame) -> Any:
        if "start" not in goals and frame.cycle >= 5:
            goals["start"] = {name: frame[name].value["x"].copy() for name in ("arm", "leg")}
            goals["cycle"] = frame.cycle
        if "start" not in goals:
            return None
        moved = (frame.cycle - goals["cycle"]) * PERIOD_S
        return {name: start + moved for name, start in goals["start"].items()}

    goals: dict[str, Any] = {}
    described = schedule.load(Path(__file__).with_name("planned.toml"))
    with LockStep(described, call=policy, seed=7) as robot:
        yield robot


def _acts(robot: LockStep, cycles: int) -> dict[int, Frame]:
    """Run; by cycle the frame that says what was done in it."""
    frames = [robot.step().copy() for _ in range(cycles)]
    return {frame.command.cycle: frame for frame in frames}


@pytest.mark.parametrize(("faulty", "other"), [("arm", "leg"), ("leg", "arm")])
def test_a_drive_in_fault_ramps_every_axis_until_arming(
    limbs: LockStep, faulty: str, other: str
) -> None:
    device = REASONS.index("device")
    limbs.core.fault("invalid", ARM if faulty == "arm" else LEG, 150, 2, device)
    acts = _acts(limbs, 400)
    first = next(frame.cycle for frame in acts.values() if frame.reason == "device")
    assert 150 <= first <= 152
    for name in (faulty, other):
        ramp = [acts[cycle].command[name] for cycle in range(first, 398)]
        assert all("RAMPING" in act.flags for act in ramp), "good samples do not release it"
        assert {act.reason for act in ramp} == {"device"}
        steps = np.diff([act.applied for act in ramp], axis=0)
        assert np.all(np.abs(np.diff(steps, axis=0)) <= ACCELERATION * PERIOD_S**2 + 1e-9)
        assert np.all(steps[30:] == 0) and np.any(steps[:5] > 0)
    assert {frame.reason for frame in acts.values() if frame.cycle >= first} == {"device"}
    assert "LATCHED" in acts[398].flags


def test_a_limb_that_is_gone_ramps_the_others_and_nothing_is_written_to_it(
    limbs: LockStep,
) -> None:
    limbs.core.fault("gone", LEG, 150, 20)
    acts = _acts(limbs, 300)
    gone = next(frame.cycle for frame in acts.values() if frame["leg"].status == "OFFLINE")
    assert gone in {150, 151}
    for cycle in range(gone, 298):
        arm, leg = acts[cycle].command["arm"], acts[cycle].command["leg"]
        assert "RAMPING" in arm.flags and arm.reason == "offline"
        assert cycle >= 170 or ACTED not in leg.flags
    assert acts[250].command["arm"].flags == (ACTED, "RAMPING")


# ---- row 41: the watchdog's feed -------------------------------------------------------------

FEEDS: dict[str, tuple[str, int] | Answer] = {
    "feedback silent": ("silent", 0),
    "feedback late": ("delayed", 5_000_000),
    "feedback frozen": ("frozen", 0),
    "feedback refused": ("invalid", REASONS.index("checksum")),
    "feedback of a drive in fault": ("invalid", REASONS.index("device")),
    "feedback nan": ("nan", 0),
    "feedback out of range": ("wrong", 1000),
    "policy silent": lambda _: None,
    "policy raising": _raise,
    "policy nan": lambda _: np.full(6, np.nan),
    "policy of another shape": lambda _: np.zeros(5),
}


@pytest.mark.parametrize("name", FEEDS)
def test_whatever_input_stands_still_the_feed_stops_after_the_ramp_until_arming(
    make: Make, name: str
) -> None:
    feed = FEEDS[name]
    sweep = Sweep(0.5)
    robot = make(sweep, schedule="watched.toml")
    if isinstance(feed, tuple):
        robot.core.fault(feed[0], JOINTS, 50, 660, feed[1])
    else:
        sweep.answers = dict.fromkeys(range(50, 710), feed)
    robot.run(900)
    starved = robot.did("STARVED")
    assert starved == list(range(starved[0], 899)), "although the input came back in cycle 710"
    assert 550 < starved[0] < 710
    assert robot.did("RAMPING")[0] <= starved[0]
    assert max(robot.did(ACTED)) < starved[0]
    assert (robot.frame(899).reason, "LATCHED" in robot.frame(899).flags) in {
        (reason, True) for reason in ("watchdog", "range", "device")
    }

    # the servos' watchdog is fed by reads too: none was asked for after that
    last = max(f["joints"].triggered_ns or 0 for f in robot.frames)
    assert last <= robot.frame(starved[0]).due_ns
    assert robot.frame(899)["joints"].status == "MISSING"
    assert robot.frame(899)["wrench"].status == "FRESH", "another bus is read on"
    robot.core.arm()
    robot.run(70)  # it is read again, and measured to be at rest
    sweep.last = None
    robot.run(30)
    assert robot.frame(999).reason == "none"
    assert robot.frame(999)["joints"].status == "FRESH"
    assert robot.act(998).flags == (ACTED,)


def test_a_hiccup_that_is_repeated_does_not_stop_the_feed(make: Make) -> None:
    sweep = Sweep()
    sweep.answers = dict.fromkeys(range(50, 50 + HOLD_CYCLES), lambda _: None)
    robot = make(sweep, schedule="watched.toml")
    robot.core.fault("silent", JOINTS, 100, 3)
    robot.run(150)
    assert (robot.did("STARVED"), robot.frame(149).reason) == ([], "none")


# ---- row 45: limits ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["position", "velocity", "acceleration", "step"])
def test_a_schedule_without_one_of_the_limits_is_refused(folder: Path, key: str) -> None:
    lines = (folder / "robot.toml").read_text().splitlines()
    at = lines.index("[actuator.arm.limits]")
    kept = [line for i, line in enumerate(lines) if i < at or not line.startswith(f"{key} =")]
    path = folder / f"without_{key}.toml"
    path.write_text("\n".join(kept))
    with pytest.raises(ScheduleError, match=rf"without_{key}\.toml:\d+: .*limits.*{key}"):
        schedule.load(path)


def test_the_schedule_hash_changes_with_its_limits(folder: Path) -> None:
    text = (folder / "robot.toml").read_text()
    path = folder / "faster.toml"
    path.write_text(text.replace("velocity = 2.0", "velocity = 2.5"))
    assert schedule.load(path).hash != schedule.load(folder / "robot.toml").hash


# ---- a fault replays -----------------------------------------------------------------------


def _faulty_digest(path: Path, seed: int, fault_seed: int) -> str:
    draw = random.Random(fault_seed)
    with LockStep(schedule.load(path), seed=seed) as robot:
        for kind in sorted(FAULTS):
            for _ in range(3):
                argument = {
                    "delayed": 1_200_000,
                    "invalid": REASONS.index("checksum"),
                    "nan": 2,
                    "wrong": 1000,
                    "wake": 4_700_000,
                    "clock_step": 5_000_000,
                }.get(kind, 0)
                robot.core.fault(
                    kind, draw.randrange(2), draw.randrange(10, 900), draw.randrange(1, 9), argument
                )
        robot.run(1000)
        return robot.digest()


@pytest.mark.parametrize("fault_seed", [1, 2, 3])
def test_the_same_faults_and_seed_give_the_same_bytes(folder: Path, fault_seed: int) -> None:
    path = folder / "robot.toml"
    digest = _faulty_digest(path, 7, fault_seed)
    assert _faulty_digest(path, 7, fault_seed) == digest
    assert _faulty_digest(path, 8, fault_seed) != digest
    assert _faulty_digest(path, 7, fault_seed + 100) != digest


def test_an_isolated_policy_gives_the_same_digest(folder: Path) -> None:
    digests = set()
    for isolate in (False, True):
        with LockStep(schedule.load(folder / "robot.toml"), seed=7, isolate=isolate) as robot:
            robot.core.fault("silent", JOINTS, 100, 20)
            robot.run(500)
            digests.add(robot.digest())
    assert len(digests) == 1


def test_a_digest_is_the_same_on_every_core(folder: Path) -> None:
    arguments = ["run", "--lockstep", str(folder / "robot.toml")]
    arguments += ["--cycles", "2000", "--seed", "7", "--json"]
    digests = set()
    for cpu in sorted(os.sched_getaffinity(0))[:4]:
        done = subprocess.run(
            ["taskset", "-c", str(cpu), sys.executable, "-m", "inphase", *arguments],
            stdout=subprocess.PIPE,
            check=True,
        )
        digests.add(json.loads(done.stdout)["digest"])
    assert len(digests) == 1


def test_a_fault_that_is_not_on_virtual_time_cannot_be_planned(make: Make) -> None:
    robot = make()
    with pytest.raises(KeyError):
        robot.core.fault("unplugged", JOINTS, 0, 1)
