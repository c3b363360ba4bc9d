"""Command modes in lock step: a robot that is told velocities, efforts or a switch's state."""

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase.episodes.clients.client import LockStepClient
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.frames import record_layout, store
from inphase.frames.record_layout import REASONS
from inphase.plan import plan
from inphase.schedule import load

ROBOT = """\
name = "modes"
[cycle]
rate_hz = 500
read_deadline_us = 1300
act_us = 1700
[device.arm]
driver = "simulated"
joints = 2
safe = {safe}
[device.arm.fields.position]
unit = "rad"
shape = [2]
[device.arm.fields.velocity]
unit = "rad/s"
shape = [2]
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10
[actuator.arm]
device = "arm"
mode = "{mode}"
{keys}
[actuator.arm.limits]
"""
PERIOD_S = 0.002
VELOCITY = {"velocity": "2.0", "acceleration": "20.0", "jerk": "2000.0"}
BOUNDED = {**VELOCITY, "position": "[-0.5, 0.5]"}
EFFORT = {"effort": "3.0", "effort_rate": "100.0"}
WATCHED = {**EFFORT, "velocity": "1.0", "position": "[-0.5, 0.5]"}
SWITCH = {"dwell_ms": "10"}
SEES = 'feedback = "joints.position"\nfeedback_velocity = "joints.velocity"'


def text(mode: str, limits: dict[str, str], keys: str = "", safe: float = 0.0) -> str:
    """A schedule."""
    head = ROBOT.format(mode=mode, keys=keys, safe=safe)
    return head + "".join(f"{key} = {value}\n" for key, value in limits.items())


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a schedule."""

    def written(*given: Any, **more: Any) -> Path:
        path = tmp_path / "modes.toml"
        path.write_text(text(*given, **more))
        return path

    return written


def run(path: Path, policy: Callable[[Frame], Any], cycles: int, seed: int = 1) -> list[Frame]:
    """Frames of a run in lock step, from the first act on."""
    with LockStep(load(path), call=policy, seed=seed) as robot:
        return [robot.step().copy() for _ in range(cycles)][2:]


def applied(frames: list[Frame]) -> Any:
    """What went to the joints, one row per cycle."""
    return np.array([frame.command["arm"].applied for frame in frames])


def eased(frame: Frame, to: float) -> list[float]:
    """From 0 to a value within 0.4 s."""
    return [to * min(1.0, frame.cycle / 200)] * 2


# ---- velocity --------------------------------------------------------------------------------


def test_a_velocity_is_applied_as_it_is_and_the_joint_has_it(write: Write) -> None:
    frames = run(write("velocity", VELOCITY), lambda frame: eased(frame, 1.5), 1000)
    assert np.all(applied(frames)[300:] == 1.5)
    assert frames[-1]["joints"].value["velocity"] == pytest.approx([1.5, 1.5], abs=0.01)
    assert not any("LIMITED" in frame.command["arm"].flags for frame in frames)


def test_a_first_velocity_that_is_more_than_one_step_of_acceleration_is_refused(
    write: Write,
) -> None:
    frames = run(write("velocity", VELOCITY), lambda frame: [1.0, 0.0], 20)
    acts = [frame.command["arm"] for frame in frames]
    assert all(act.reason == "start" and "HOLDING" in act.flags for act in acts)
    assert np.all(applied(frames) == 0)


def test_a_velocity_whose_commands_end_is_held_and_then_ramps_to_none(write: Write) -> None:
    def policy(frame: Frame) -> Any:
        return eased(frame, 1.0) if frame.cycle < 500 else None

    frames = run(write("velocity", VELOCITY), policy, 700)
    flags = [frame.command["arm"].flags for frame in frames]
    assert sum("REPEATED" in f for f in flags) == 10  # 20 ms
    ramp = applied(frames)[:, 0][[i for i, f in enumerate(flags) if "RAMPING" in f]]
    assert ramp[0] < 1.0 and ramp[-1] == 0 and np.all(np.diff(ramp) <= 0)
    assert np.all(np.abs(np.diff(ramp)) <= 20.0 * PERIOD_S * (1 + 1e-7))
    assert frames[-1]["joints"].value["velocity"] == pytest.approx([0, 0], abs=0.01)


def test_a_joint_that_is_told_velocities_comes_to_rest_inside_of_its_range(write: Write) -> None:
    path = write("velocity", BOUNDED, SEES)
    frames = run(
        path, lambda frame: [2.0 * min(1, frame.cycle / 100), -1.0 * (frame.cycle > 1)], 800
    )
    places = np.array([frame["joints"].value["position"] for frame in frames])
    # the simulated joint lags behind what it is told by 1 / 60 s
    assert places.max() < 0.5 + 0.04 and places.min() > -0.5 - 0.04
    assert places[-1] == pytest.approx([0.5, 0.0], abs=0.04) or places[-1][0] > 0.45
    assert applied(frames)[-1] == pytest.approx([0, 0], abs=1e-3)


def test_a_joint_whose_place_is_not_known_ramps(write: Write) -> None:
    path = write("velocity", BOUNDED, SEES)
    with LockStep(load(path), call=lambda frame: eased(frame, 0.5), seed=1) as robot:
        robot.run(250)
        robot.core.fault("silent", 0, 250, 100)
        frames = [robot.step().copy() for _ in range(60)]
    acts = [frame.command["arm"] for frame in frames]
    assert acts[-1].reason == "feedback" and "RAMPING" in acts[-1].flags
    assert np.all(acts[-1].applied == 0)


SPEED = 'feedback = "joints.velocity"'


def ends(robot: LockStep) -> list[Frame]:
    """The frames from a stop to the end."""
    frames: list[Frame] = []
    robot.core.stop(REASONS.index("request"))
    with contextlib.suppress(store.Lost):
        while True:
            frames.append(robot.step().copy())
    return frames


@pytest.mark.parametrize(("mode", "limits"), [("velocity", VELOCITY), ("effort", EFFORT)])
def test_a_joint_that_turns_on_by_its_velocity_is_uncontrolled_at_the_end(
    write: Write, mode: str, limits: dict[str, str]
) -> None:
    path = write(mode, limits, SPEED)
    with LockStep(load(path), call=lambda frame: eased(frame, 0.05), seed=1) as robot:
        robot.run(300)
        robot.core.fault("wrong", 0, 300, 5000, 1)  # it turns at 1 rad/s, whatever it is told
        frames = ends(robot)
        assert not any(f.state in ("faulted", "stopped") or "STOPPED" in f.flags for f in frames)
        assert np.all(frames[-1].command["arm"].applied == 0)
        assert robot.follower.reader.status()["state"] == record_layout.STATES.index("uncontrolled")


@pytest.mark.parametrize(("mode", "limits"), [("velocity", VELOCITY), ("effort", EFFORT)])
def test_a_joint_that_is_at_rest_by_its_velocity_is_stopped(
    write: Write, mode: str, limits: dict[str, str]
) -> None:
    path = write(mode, limits, SPEED + "\nrest_speed = 0.1")
    with LockStep(load(path), call=lambda frame: eased(frame, 0.05), seed=1) as robot:
        robot.run(300)
        frames = ends(robot)
    assert frames[-1].state == "stopped"
    end = frames[-1].command["arm"].applied
    still = [
        np.max(np.abs(f["joints"].value["velocity"])) <= 0.1
        and np.array_equal(f.command["arm"].applied, end)
        for f in frames
    ]
    assert all(still[-51:]) and len(frames) - still.index(True) <= 53, "0.1 s of samples, not more"


# ---- effort ----------------------------------------------------------------------------------


def test_an_effort_is_applied_as_it_is_and_the_joint_accelerates(write: Write) -> None:
    frames = run(write("effort", EFFORT), lambda frame: eased(frame, 0.05), 600)
    assert np.all(applied(frames)[300:] == 0.05)
    assert np.all(frames[-1]["joints"].value["velocity"] > 0.5)


def test_an_effort_changes_no_faster_than_its_rate_and_ends_at_its_safe_value(
    write: Write,
) -> None:
    def policy(frame: Frame) -> Any:
        if frame.cycle < 3:
            return [0.4, 0.4]
        return [3.0, -3.0] if frame.cycle < 300 else None

    frames = run(write("effort", EFFORT, safe=0.4), policy, 500)
    efforts = applied(frames)
    assert np.all(efforts[0] == 0.4)
    assert np.max(np.abs(np.diff(efforts, axis=0))) <= 100.0 * PERIOD_S * (1 + 1e-9)
    assert efforts[:, 0].max() == 3.0 and efforts[:, 1].min() == -3.0
    assert np.all(efforts[-1] == 0.4)


def test_a_joint_that_is_too_fast_or_too_far_is_pushed_no_further(write: Write) -> None:
    path = write("effort", WATCHED, SEES)
    frames = run(path, lambda frame: eased(frame, 0.5), 1000)
    speeds = np.array([frame["joints"].value["velocity"] for frame in frames])
    places = np.array([frame["joints"].value["position"] for frame in frames])
    efforts = applied(frames)
    assert speeds.max() < 1.1
    far = np.flatnonzero(places[:-1, 0] > 0.5)
    assert len(far) > 10
    # the act of a frame is the one before its samples
    after = np.array([efforts[i + 1, 0] <= max(0.0, efforts[i, 0] - 0.19) for i in far])
    assert after.all()


# ---- switch ----------------------------------------------------------------------------------


def test_a_switch_follows_no_faster_than_it_may_and_ends_in_its_state(write: Write) -> None:
    def policy(frame: Frame) -> Any:
        return [frame.cycle % 2, 1.0] if frame.cycle < 100 else None

    frames = run(write("switch", SWITCH), policy, 300)
    states = applied(frames)
    assert set(np.unique(states)) == {0.0, 1.0}
    changes = np.flatnonzero(np.diff(states[:, 0]))
    assert len(changes) > 5 and np.diff(changes).min() >= 5  # 10 ms
    assert np.all(states[50:90, 1] == 1) and np.all(states[-1] == 0)


# ---- all -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "limits"),
    [("velocity", BOUNDED), ("effort", WATCHED), ("switch", SWITCH)],
    ids=["velocity", "effort", "switch"],
)
def test_the_same_seed_gives_the_same_bytes_whatever_is_asked_for(
    write: Write, mode: str, limits: dict[str, str]
) -> None:
    path, digests = write(mode, limits, SEES), []
    for _ in range(2):
        draw = np.random.default_rng(7)

        def policy(frame: Frame, draw: Any = draw) -> Any:
            asked = draw.uniform(-4, 4, 2) * min(1.0, frame.cycle / 500)
            return np.where(draw.uniform(size=2) < 0.01, math.nan, asked)

        with LockStep(load(path), call=policy, seed=3) as robot:
            robot.run(2000)
            digests.append(robot.digest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("mode", "limits", "safe"),
    [("velocity", VELOCITY, 0.0), ("effort", EFFORT, 0.3), ("switch", SWITCH, 1.0)],
)
def test_an_episode_begins_at_rest_wherever_the_joints_are(
    write: Write, mode: str, limits: dict[str, str], safe: float
) -> None:
    path = write(mode, limits, SEES, safe)
    path.write_text(path.read_text().replace("joints = 2", "joints = 2\nstart_position = 0.03", 1))
    client = LockStepClient(load(path))
    frame = client.begin(1, 0, None)
    assert frame["joints"].value["position"] == pytest.approx([0.03] * 2, abs=0.02)
    assert np.all(frame.command["arm"].applied == safe)
    client.close()


# ---- what a schedule says ----------------------------------------------------------------------

BAD = {
    "velocity without acceleration": (
        ("velocity", {"velocity": "1.0"}),
        "limits.acceleration",
        "no limits, no motion: .*; add acceleration =",
    ),
    "velocity with a step": (
        ("velocity", {**VELOCITY, "step": "0.1"}),
        "limits.step",
        "no limit of a velocity mode; remove step",
    ),
    "a range that nothing measures": (
        ("velocity", BOUNDED),
        "limits.position",
        "names no field for it; add feedback =",
    ),
    "effort without a rate": (("effort", {"effort": "1.0"}), "limits.effort_rate", "; add effort_"),
    "a rate that is too slow": (
        ("effort", {"effort": "1.0", "effort_rate": "1.0"}),
        "limits.effort_rate",
        "may take 2 s .*; raise effort_rate",
    ),
    "a velocity that nothing measures": (
        ("effort", {**EFFORT, "velocity": "1.0"}, 'feedback = "joints.position"'),
        "limits.velocity",
        "; add feedback_velocity",
    ),
    "a velocity beside no feedback": (
        ("effort", EFFORT, 'feedback_velocity = "joints.velocity"'),
        "feedback_velocity",
        "there is none; add feedback =",
    ),
    "a safe value beyond the range": (
        ("effort", EFFORT, "", 4.0),
        "limits.effort",
        "less than the 4 .*; give 4.0 or more",
    ),
    "a switch without a dwell": (("switch", {}), "limits.dwell_ms", "; add dwell_ms"),
    "a switch with a velocity": (
        ("switch", {**SWITCH, "velocity": "1.0"}),
        "limits.velocity",
        "remove velocity",
    ),
    "an effort in position mode that nothing measures": (
        (
            "position",
            {
                "position": "[-1, 1]",
                "velocity": "1.0",
                "acceleration": "10.0",
                "step": "0.1",
                "effort": "1.0",
            },
            SEES,
        ),
        "limits.effort",
        "; add feedback_effort",
    ),
    "a velocity that measures positions": (
        (
            "position",
            {"position": "[-1, 1]", "velocity": "1.0", "acceleration": "10.0", "step": "0.1"},
            SPEED,
        ),
        "feedback",
        "in 'rad/s', and position mode needs a position .*; name a field in rad",
    ),
    "a range of what is no position": (
        ("velocity", BOUNDED, SPEED),
        "limits.position",
        r"\[-0.5, 0.5\] limits positions, .* 'joints.velocity' is in 'rad/s'; name a field in rad",
    ),
    "a position that measures velocities": (
        (
            "effort",
            {**EFFORT, "velocity": "1.0"},
            'feedback = "joints.position"\nfeedback_velocity = "joints.position"',
        ),
        "feedback_velocity",
        "in 'rad', which is no velocity; name a field in rad/s",
    ),
    "a velocity that measures efforts": (
        ("effort", EFFORT, SPEED + '\nfeedback_effort = "joints.velocity"'),
        "feedback_effort",
        "in 'rad/s', which is no effort; name a field with the effort",
    ),
    "a mode that is none": (("torque", EFFORT), "mode", "give .*effort"),
}


@pytest.mark.parametrize("name", BAD)
def test_limits_that_do_not_fit_their_mode_are_refused(write: Write, name: str) -> None:
    given, key, words = BAD[name]
    with pytest.raises(ScheduleError) as caught:
        plan.make(load(write(*given)))
    assert re.search(rf"modes\.toml:\d+: actuator\.arm\.{re.escape(key)}: ", str(caught.value))
    assert re.search(words, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("unit", ["A", "1", "rad/s^2", "rpm"])
def test_a_feedback_that_does_not_show_rest_is_refused(write: Write, unit: str) -> None:
    path = write("velocity", VELOCITY, SPEED)
    path.write_text(path.read_text().replace('"rad/s"', f'"{unit}"'))
    with pytest.raises(ScheduleError, match=r"arm\.feedback: .* neither a position .* feedback$"):
        plan.make(load(path))


@pytest.mark.parametrize(
    ("field", "kind"), [("joints.position", "position"), ("joints.velocity", "velocity")]
)
def test_a_feedback_is_what_its_unit_says(write: Write, field: str, kind: str) -> None:
    made = plan.make(load(write("switch", SWITCH, f'feedback = "{field}"')))
    assert made.actuators[0].feedback_kind == kind


def test_a_switch_may_have_a_feedback_that_says_nothing_of_motion(write: Write) -> None:
    path = write("switch", SWITCH, SPEED)
    path.write_text(path.read_text().replace('"rad/s"', '"Pa"'))
    with LockStep(load(path), call=lambda frame: [1.0, 1.0], seed=1) as robot:
        assert robot.plan.actuators[0].feedback_kind == "other"
        robot.run(100)
        assert ends(robot)[-1].state == "stopped"


def test_a_mode_that_a_driver_has_not_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "modes.toml"
    given = text("switch", SWITCH)
    device = given[given.index("driver =") : given.index("[sensor.joints]")]
    path.write_text(given.replace(device, 'driver = "dynamixel"\nport = "/tmp/x"\nids = [1, 2]\n'))
    with pytest.raises(
        ScheduleError, match=r"arm\.mode: 'switch' is no mode of device 'arm'; give"
    ):
        plan.make(load(path))


def test_units_and_modes_are_in_the_description(write: Write) -> None:
    made = plan.make(load(write("velocity", VELOCITY)))
    assert made.actuators[0].spec.unit == "rad/s"
    assert made.actuators[0].limits[0].range == (-2.0, 2.0)


# ---- on_miss = "coast" -----------------------------------------------------------------------

COAST = 'on_miss = "coast"\nmax_hold_ms = 20'
PLACE = {"velocity": "2.0", "acceleration": "20.0", "step": "0.5", "position": "[-2.0, 2.0]"}
LAST = 100  # the first cycle without a command; 20 ms are 10 cycles


def missed(path: Path, policy: Callable[[Frame], Any], cycles: range) -> tuple[Any, list[Any]]:
    """What was applied from the last command before these cycles on, which go without, and the
    flags of their acts."""
    frames = run(path, lambda f: None if f.cycle in cycles else policy(f), cycles[-1] + 30)
    acts = [f.command["arm"] for f in frames if f.command.cycle >= cycles[0] - 1]
    return np.array([act.applied[0] for act in acts]), [act.flags for act in acts[1:]]


def walk(speed: float) -> Callable[[Frame], Any]:
    """Positions that grow steadily, from where the joints are at first."""
    return lambda frame: [speed * PERIOD_S * frame.cycle] * 2


def test_a_position_that_is_not_commanded_coasts_to_rest_within_its_hold(write: Write) -> None:
    path = write("position", PLACE, 'feedback = "joints.position"\n' + COAST)
    places, flags = missed(path, walk(0.2), range(LAST, LAST + 30))
    steps = np.diff(places)[:30] / PERIOD_S
    assert steps[:10] == pytest.approx([0.2 * (10 - i) / 10 for i in range(1, 11)], abs=1e-9)
    assert np.all(steps[10:29] == 0)
    assert [set(f) >= {"COASTING", "WRITTEN"} for f in flags[:10]] == [True] * 10
    assert not any("COASTING" in f or "REPEATED" in f for f in flags[10:])


def test_one_missed_command_hardly_brakes_a_joint_that_coasts(write: Write) -> None:
    path = write("position", PLACE, 'feedback = "joints.position"\n' + COAST)
    places, _ = missed(path, walk(0.2), range(LAST, LAST + 1))
    repeated = write("position", PLACE, 'feedback = "joints.position"')
    others, _ = missed(repeated, walk(0.2), range(LAST, LAST + 1))
    assert np.diff(places)[0] / PERIOD_S == pytest.approx(0.18, abs=1e-9)
    assert np.diff(others)[0] / PERIOD_S == pytest.approx(0.16, abs=1e-9)


@pytest.mark.parametrize("jerk", [None, "2000.0"])
def test_what_is_too_fast_to_coast_ramps_within_its_limits_and_never_comes_back(
    write: Write, jerk: str | None
) -> None:
    limits = PLACE | ({"jerk": jerk} if jerk else {})
    path = write("position", limits, 'feedback = "joints.position"\n' + COAST)
    ease = [0.0]

    def policy(frame: Frame) -> Any:
        ease.append(ease[-1] + min(1.0, frame.cycle / 80) * 1.0 * PERIOD_S)
        return [ease[-1]] * 2

    places, flags = missed(path, policy, range(LAST, LAST + 60))
    speeds = np.diff(places)[:60] / PERIOD_S
    assert speeds[0] > 0.9 and speeds[-1] == 0 and np.all(speeds >= 0)
    assert np.all(np.diff(speeds) <= 0)
    assert np.all(-np.diff(speeds) / PERIOD_S <= 20.0 * (1 + 1e-6))
    assert all("COASTING" in f for f in flags[:10]) and "RAMPING" in flags[10]


def test_what_is_too_fast_to_coast_brakes_as_quickly_as_the_ramp(write: Write) -> None:
    speeds = []
    for keys in (COAST, "max_hold_ms = 0.001"):
        path = write(
            "position", PLACE | {"jerk": "2000.0"}, 'feedback = "joints.position"\n' + keys
        )
        place = [0.0]

        def policy(frame: Frame, place: list[float] = place) -> Any:
            place[0] += min(1.0, frame.cycle / 80) * PERIOD_S
            return place * 2

        places, flags = missed(path, policy, range(LAST, LAST + 60))
        assert ("COASTING" in flags[0]) == (keys == COAST)
        speeds.append(np.diff(places)[:40])
    assert np.array_equal(*speeds)


@pytest.mark.parametrize(
    ("mode", "limits", "value"),
    [("velocity", VELOCITY | {"jerk": "1e5"}, 0.2), ("effort", EFFORT, 1.0)],
)
def test_a_velocity_and_an_effort_are_let_go_of_evenly(
    write: Write, mode: str, limits: dict[str, str], value: float
) -> None:
    path = write(mode, limits, COAST)
    values, _ = missed(path, lambda f: [value * min(1.0, f.cycle / 50)] * 2, range(LAST, LAST + 30))
    even = [value * (10 - i) / 10 for i in range(11)]
    assert values[:11] == pytest.approx(even, abs=1e-9)
    assert np.all(values[11:29] == 0)


def test_a_tool_that_coasts_stays_in_its_workspace(write: Write) -> None:
    # two joints about z: the tool is 0.5 m away, at their angles' sum
    joint = "{ axis = [0, 0, 1], translation = [0, 0, 0] }"
    last, coasted, braked = 2 * 0.2 * PERIOD_S * (LAST - 1), 0.0036, 0.002
    wall = 0.5 * math.sin(last + (coasted + braked) / 2)
    path = write("position", PLACE, 'feedback = "joints.position"\n' + COAST)
    with path.open("a") as file:
        file.write(
            f"[actuator.arm.workspace]\nlow = [-1, -1, -1]\nhigh = [1, {wall}, 1]\n"
            f"tool = [0.5, 0, 0]\njoints = [{joint}, {joint}]\n"
        )
    places, flags = missed(path, walk(0.2), range(LAST, LAST + 30))
    tool = 0.5 * np.sin(2 * places)
    assert "COASTING" in flags[0] and "LIMITED" not in flags[0]
    assert np.all(tool <= wall + 1e-12)
    assert places[29] > places[0] and np.all(np.diff(places)[15:29] == 0)


def test_a_switch_does_not_coast(write: Write) -> None:
    path = write("switch", SWITCH, COAST)
    with pytest.raises(ScheduleError, match=r'arm\.on_miss: a switch has no motion.*"repeat"'):
        load(path)


def test_a_switch_has_no_handover(write: Write) -> None:
    path = write("switch", SWITCH, "handover_ms = 100\n")
    with pytest.raises(ScheduleError, match=r"arm\.handover_ms: a switch .*; remove handover_ms"):
        load(path)
