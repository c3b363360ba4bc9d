"""The states of a robot: every transition of the page, and that there is no other."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inphase import schedule
from inphase._core import lib
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.frames import record_layout, store, wire
from inphase.frames.message import Form
from inphase.frames.record_layout import REASONS

PAGE = Path(__file__).resolve().parent.parent / "middleware" / "STATES.md"


def transitions_of_the_page() -> set[tuple[str, str]]:
    """(from, to) of the page's table."""
    states = "|".join(record_layout.STATES)
    return set(re.findall(rf"^\| ({states}) \| ({states}) \| ", PAGE.read_text(), re.MULTILINE))


def test_the_page_has_the_transitions_that_the_core_has_and_no_other() -> None:
    told = transitions_of_the_page()
    assert len(told) > 10
    for (one, name), (two, other) in itertools.product(enumerate(record_layout.STATES), repeat=2):
        assert bool(lib.inphase_state_may(one, two)) == ((name, other) in told), (name, other)


def test_a_state_that_does_not_exist_leads_nowhere() -> None:
    past = lib.INPHASE_STATES
    for state in range(past):
        assert not lib.inphase_state_may(state, past)
        assert not lib.inphase_state_may(past, state)


def test_states_have_the_names_that_the_header_gives_them() -> None:
    assert len(record_layout.STATES) == lib.INPHASE_STATES
    for number, name in enumerate(record_layout.STATES):
        assert getattr(lib, f"INPHASE_STATE_{name.upper()}") == number


# ---- every transition, on virtual time -----------------------------------------------------

PERIOD_S = 0.002
DEMO = Path(__file__).resolve().parent.parent / "schedules" / "demo.toml"
JOINTS = 0


class Slow:
    """Moves all joints by 0.1 rad/s from where they are found; silent in the cycles `silent`."""

    def __init__(self) -> None:
        self.silent: range = range(0)
        self.goal: Any = None

    def __call__(self, frame: Frame) -> Any:
        if frame.reason != "none" or frame["joints"].sequence < 0:
            self.goal = None
            return None
        if frame.cycle in self.silent:
            return None
        if self.goal is None:
            self.goal = frame["joints"].value["position"].copy()
        self.goal = self.goal + 0.1 * PERIOD_S
        return self.goal


class Walk:
    """A robot in lock step, and the states that its frames went through."""

    def __init__(self, robot: LockStep, policy: Slow) -> None:
        self.robot, self.policy = robot, policy
        self.states: list[str] = []
        self.frames: list[Frame] = []

    def go(self, cycles: int) -> None:
        for _ in range(cycles):
            try:
                frame = self.robot.step().copy()
            except store.Lost:
                break
            self.frames.append(frame)
            if self.states[-1:] != [frame.state]:
                self.states.append(frame.state)

    @property
    def status(self) -> dict[str, int]:
        return self.robot.follower.reader.status()


@pytest.fixture
def walk() -> Iterator[Walk]:
    """The demo's robot, that moves slowly."""
    policy = Slow()
    with LockStep(schedule.load(DEMO), call=policy, seed=5) as robot:
        yield Walk(robot, policy)


def stop(walk: Walk) -> None:
    walk.robot.core.stop(REASONS.index("request"))


def test_a_robot_is_armed_in_its_first_frame_and_runs_with_its_first_command(walk: Walk) -> None:
    walk.go(50)
    assert walk.states == ["armed", "running"]
    assert walk.frames[-1].reason_cycle is None


def test_without_feedback_it_stays_opened_and_says_what_it_waits_for(walk: Walk) -> None:
    walk.robot.core.fault("silent", JOINTS, 0, 20)
    walk.go(20)
    assert walk.states == ["opened"]
    assert REASONS[walk.status["refusal"]] == "feedback"
    assert not any("WRITTEN" in f.command["arm"].flags for f in walk.frames)
    walk.go(30)
    assert walk.states == ["opened", "armed", "running"]


def test_silence_ramps_and_what_comes_back_runs_on(walk: Walk) -> None:
    walk.policy.silent = range(50, 90)
    walk.go(150)
    assert walk.states == ["armed", "running", "ramping", "running"]


def test_feedback_that_is_gone_before_any_command_ramps_and_is_armed_again(walk: Walk) -> None:
    walk.policy.silent = range(60)
    walk.robot.core.fault("silent", JOINTS, 20, 12)
    walk.go(55)
    assert walk.states == ["armed", "ramping", "armed"]


def test_a_fault_leads_through_the_ramp_and_arming_alone_leads_on(walk: Walk) -> None:
    walk.robot.core.fault("invalid", JOINTS, 50, 1, REASONS.index("device"))
    walk.go(400)
    assert walk.states == ["armed", "running", "ramping", "faulted"]
    last = walk.frames[-1]
    assert (last.reason, last.reason_cycle) == ("device", 50)
    assert {"LATCHED", "STOPPED", "RAMPING"} <= set(last.flags)
    walk.robot.core.arm()
    walk.go(30)
    assert walk.states[-3:] == ["faulted", "armed", "running"]
    assert walk.frames[-1].reason == "none"


def test_a_fault_before_arming_is_latched_and_nothing_is_written(walk: Walk) -> None:
    walk.robot.core.fault("invalid", JOINTS, 0, 1, REASONS.index("device"))
    walk.go(20)
    assert walk.states == ["faulted"]
    assert not any("WRITTEN" in f.command["arm"].flags for f in walk.frames)


@pytest.mark.parametrize("how", ["opened", "armed", "running", "ramping", "faulted"])
def test_a_stop_leads_from_every_state_through_the_ramp_to_the_end(walk: Walk, how: str) -> None:
    walk.policy.silent = {"armed": range(60), "ramping": range(20, 60)}.get(how, range(0))
    if how == "opened":
        walk.robot.core.fault("silent", JOINTS, 0, 100)
    if how == "faulted":
        walk.robot.core.estop()
    cycles = 100 if how == "faulted" else 40
    walk.go(cycles)
    assert walk.states[-1] == how
    stop(walk)
    walk.go(100)
    assert walk.states[-2:] == ["ramping", "stopped"]
    last = walk.frames[-1]
    assert (last.reason, last.reason_cycle) == ("request", cycles)
    assert {"STOPPING", "STOPPED"} <= set(last.flags)
    assert record_layout.STATES[walk.status["state"]] == "stopped"
    assert not any("STOPPED" in f.flags for f in walk.frames[cycles:-1]) or how == "faulted"


def test_nothing_arms_what_runs_ramps_or_has_stopped(walk: Walk) -> None:
    walk.go(30)
    before = walk.status["epoch"]
    walk.robot.core.arm()
    walk.go(10)
    assert (walk.status["epoch"], walk.states[-1]) == (before, "running")
    walk.policy.silent = range(40, 70)
    walk.go(25)
    walk.robot.core.arm()
    walk.go(3)
    assert (walk.status["epoch"], walk.states[-1]) == (before, "ramping")
    stop(walk)
    walk.robot.core.arm()
    walk.go(100)
    assert walk.states[-1] == "stopped"
    assert walk.robot.run(5) == 0


def test_a_request_to_arm_waits_for_the_cause_to_go_and_can_be_taken_back(walk: Walk) -> None:
    walk.robot.core.fault("invalid", JOINTS, 50, 600, REASONS.index("device"))
    walk.go(100)
    walk.robot.core.arm()
    walk.go(20)
    assert (walk.states[-1], REASONS[walk.status["refusal"]]) == ("uncontrolled", "feedback")
    walk.robot.core.disarm()
    walk.go(600)
    assert walk.states[-1] == "uncontrolled", "its watchdog has it: it is not read any more"
    walk.robot.core.arm()
    walk.go(100)
    assert walk.states[-2:] == ["armed", "running"]


def test_an_actuator_that_is_not_enabled_keeps_all_from_being_armed(walk: Walk) -> None:
    walk.robot.core.enable(0, False)
    walk.go(20)
    assert (walk.states, REASONS[walk.status["refusal"]]) == (["opened"], "offline")
    walk.robot.core.enable(0, True)
    walk.policy.goal = None  # from where the robot is
    walk.go(20)
    assert walk.states == ["opened", "armed", "running"]


def test_one_that_observes_stays_opened() -> None:
    with LockStep(schedule.load(DEMO), call=Slow(), observe=True) as robot:
        assert {robot.step().state for _ in range(30)} == {"opened"}


# ---- row 39: the first command -------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    offsets=st.lists(
        st.one_of(st.floats(-0.02, 0.02), st.floats(allow_nan=False)), min_size=6, max_size=6
    )
)
def test_a_first_command_is_taken_exactly_where_it_is_within_one_step(offsets: list[float]) -> None:
    step = 2.0 * PERIOD_S  # the demo's velocity limit
    asked: list[Any] = []

    def policy(frame: Frame) -> Any:
        asked.append(frame["joints"].value["position"].copy())
        return asked[-1] + offsets

    with LockStep(schedule.load(DEMO), call=policy, seed=5, digest=False) as robot:
        robot.step()
        act = robot.step().command["arm"]
    requested = asked[0] + offsets
    if not np.all(np.isfinite(requested)):
        assert act.reason == "nan"
    elif np.all(np.abs(requested - asked[0]) <= step):
        assert act.reason != "start" and "HOLDING" not in act.flags
    else:
        assert act.reason == "start" and {"HOLDING", "INVALID"} <= set(act.flags)
        np.testing.assert_array_equal(act.applied, asked[0])


# ---- row 45: limits -------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["position", "velocity", "acceleration", "step"])
def test_every_limit_that_is_altered_changes_the_hash_in_every_header(
    tmp_path: Path, key: str
) -> None:
    text = DEMO.read_text()
    at = text.index(f"{key} = ", text.index("[actuator.arm.limits]"))
    path = tmp_path / "demo.toml"
    path.write_text(text[:at] + text[at:].replace("2", "1", 1))
    (tmp_path / "demo_policy.py").write_text((DEMO.parent / "demo_policy.py").read_text())
    hashes = set()
    for one in (DEMO, path):
        with LockStep(schedule.load(one), digest=False) as robot:
            robot.step()
            layout = robot.follower.layout
            form = Form(layout, wire.places([d.itemsize for d in layout.dtypes]))
            record = robot.step().record
            header = form.write_header(record, 0, 0, bytes(len(layout.sensors)))
            hashes.add(msgpack.unpackb(header)[1])
            assert msgpack.unpackb(header)[1] == schedule.load(one).hash
    assert len(hashes) == 2
