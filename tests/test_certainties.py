"""Things that `inphase check` says before anything runs: what cannot be, and what may be wanted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inphase.command import check
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.errors import ScheduleError
from inphase.runtime.summary import exit_code
from inphase.schedule import load
from peers import ROOT
from worlds import MODEL, needs_images, write_world

pytest.importorskip("mujoco", reason="a world needs the package mujoco (extra sim)")

CYCLES = 700
LIMITS = "position = [-2.5, 2.5]"


def refused(path: Path) -> str:
    with pytest.raises(ScheduleError) as caught:
        check.make(path)
    (fault,) = caught.value.faults
    return f"{fault.key}: {fault.message}"


def noted(path: Path, word: str) -> list[str]:
    return [note for note in check.make(path).notes if word in note]


def run(path: Path, command: list[float]) -> dict[str, Any]:
    """The run of a policy that asks for the same in every cycle."""
    with LockStep(load(path), call=lambda frame: command, digest=True) as robot:
        robot.run(CYCLES)
        return sum_up(robot)


# ---- a start outside of the limits ---------------------------------------------------------------


def test_a_start_that_no_command_can_begin_from_is_refused(tmp_path: Path) -> None:
    path = write_world(tmp_path, replace={LIMITS: "position = [-0.3, 2.5]"})
    assert refused(path).startswith(
        "actuator.limb.limits.position: channel 1 starts at -0.9 in the world, outside [-0.3, 2.5] "
        "by more than step = 0.5"
    )
    assert run(path, [0.4, -0.9])["policy"]["reasons"] == {"start": CYCLES}, "it is certain"
    check.make(write_world(tmp_path, replace={LIMITS: "position = [-0.9, 2.5]"}))


def test_a_start_outside_by_less_than_a_step_is_none_of_that(tmp_path: Path) -> None:
    path = write_world(tmp_path, replace={LIMITS: "position = [-0.6, 2.5]"})
    check.make(path)
    assert run(path, [0.4, -0.9])["policy"]["commands"] == CYCLES, "it is brought in"


def test_a_start_that_is_drawn_is_not_certain(tmp_path: Path) -> None:
    path = write_world(
        tmp_path,
        '[randomise]\n"world.joint.two.position" = { uniform = [0.0, 0.5] }\n',
        replace={LIMITS: "position = [-0.3, 2.5]"},
    )
    check.make(path)


# ---- samples that are never in time --------------------------------------------------------------


@pytest.mark.parametrize(
    ("timing", "key"),
    [
        ("sensors.joints.latency_ms = 21", "latency_ms"),
        ("sensors.joints.latency_ms = { uniform = [20.5, 90] }", "latency_ms"),
        ("sensors.joints.latency_ms = 15\nsensors.joints.jitter_ms = 6", "latency_ms"),
        ("sensors.joints.dropout = 1.0", "dropout"),
    ],
)
def test_a_timing_model_that_lets_no_sample_be_in_time_is_refused(
    tmp_path: Path, timing: str, key: str
) -> None:
    path = write_world(tmp_path, f"[timing]\n{timing}\n")
    assert refused(path).startswith(f"timing.sensors.joints.{key}: ")
    with LockStep(load(path), call=lambda frame: None, digest=True) as robot:
        robot.run(CYCLES)
        status = sum_up(robot)["sensors"]["joints"]["status"]
    assert {name for name, n in status.items() if n} <= {"MISSING", "OFFLINE"}, "it is certain"


@pytest.mark.parametrize(
    "timing",
    [
        "sensors.joints.latency_ms = 0.5",
        "sensors.joints.latency_ms = { uniform = [1, 90] }",
        "sensors.joints.dropout = 0.99",
    ],
)
def test_a_timing_model_that_lets_some_be_in_time_is_not_refused(
    tmp_path: Path, timing: str
) -> None:
    check.make(write_world(tmp_path, f"[timing]\n{timing}\n"))


# ---- the model's actuators -----------------------------------------------------------------------


def test_limits_beyond_the_models_control_range_are_noted(tmp_path: Path) -> None:
    model = MODEL.replace('joint="two" kp="40"', 'joint="two" kp="40" ctrlrange="-4 3"')
    path = write_world(tmp_path, model=model)  # its gear is 2: half of that in rad
    (note,) = noted(path, "control range")
    assert note.endswith("in limits.position narrow channel 1 to [-2, 1.5]")
    fitting = {LIMITS: "position = [[-2.5, 2.5], [-2, 1.5]]"}
    assert not noted(write_world(tmp_path, model=model, replace=fitting), "control range")


@pytest.mark.parametrize("name", [pytest.param("arm", marks=needs_images), "press"])
def test_the_limits_of_the_ready_schedules_are_within_the_control_range(name: str) -> None:
    assert not noted(ROOT / "schedules" / f"{name}.toml", "control range")


@pytest.mark.parametrize(("force", "holds"), [(0.5, False), (3.0, True)])
def test_a_force_that_cannot_hold_the_arm_where_it_starts_is_refused(
    tmp_path: Path, force: float, holds: bool
) -> None:
    # the upper arm and the fore arm pull with about 1.7 N m at the first joint
    bound = f'kp="60" kv="4" forcerange="-{force} {force}"'
    path = write_world(tmp_path, model=MODEL.replace('kp="60" kv="4"', bound))
    with LockStep(load(path), call=lambda frame: [0.4, -0.9], digest=False) as robot:
        robot.run(CYCLES)
        place = robot.follower.frame(robot.core.frames - 1)["joints"].value["position"][0]
    assert (abs(place - 0.4) < 0.5) == holds
    if holds:
        check.make(path)
        return
    assert refused(path).startswith(
        "world.actuator.limb.actuators: actuator 'one' of the model cannot hold channel 0 where it "
        "starts: with its whole force (-0.5 to 0.5) it gives way by "
    )


FINGER = """<body name="finger" pos="0.2 0 0">
  <joint name="finger" type="slide" axis="0 1 0" range="0 0.04" damping="1"{0}/>
  <geom size="0.01" mass="0.02"/></body>
  <site name="tip" """


@pytest.mark.parametrize(
    ("attributes", "more", "hangs"),
    [
        ("", "", True),
        (' stiffness="2"', "", False),
        ("", '<equality><joint joint1="finger" joint2="two"/></equality>', False),
        (
            "",
            '<tendon><fixed><joint joint="finger" coef="1"/><joint joint="two" coef="1"/></fixed>'
            "</tendon>",
            False,
        ),
    ],
    ids=["loose", "spring", "equality", "tendon"],
)
def test_a_joint_that_nothing_moves_or_holds_is_noted(
    tmp_path: Path, attributes: str, more: str, hangs: bool
) -> None:
    model = MODEL.replace('<site name="tip" ', FINGER.format(attributes))
    model = model.replace("<actuator>", f"{more}<actuator>")
    model = model.replace("0.5 0.6 0.4 1 0 0 0", "0 0.5 0.6 0.4 1 0 0 0")
    notes = noted(write_world(tmp_path, model=model), "no motor")
    assert len(notes) == hangs
    assert not hangs or notes[0].startswith("no motor moves the joint 'finger' of two.xml: ")


def test_what_is_no_part_of_the_robot_may_be_without_a_motor(tmp_path: Path) -> None:
    door = (
        '<body pos="2 0 0"><joint name="door"/><geom size="0.1" mass="1"/></body><body name="ball"'
    )
    model = MODEL.replace('<body name="ball"', door)
    model = model.replace("0.5 0.6 0.4 1 0 0 0", "0 0.5 0.6 0.4 1 0 0 0")
    assert not noted(write_world(tmp_path, model=model), "no motor")


def test_an_actuator_of_the_robot_that_the_schedule_leaves_out_is_noted(tmp_path: Path) -> None:
    assert not noted(write_world(tmp_path), "no [world"), "its second joint has a drive as well"
    model = MODEL.replace('<site name="tip" ', FINGER.format(""))
    model = model.replace("<actuator>", '<actuator><motor name="grip" joint="finger"/>')
    model = model.replace("0.5 0.6 0.4 1 0 0 0", "0 0.5 0.6 0.4 1 0 0 0")
    path = write_world(tmp_path, model=model)
    (note,) = noted(path, "is in no [world.actuator.NAME]")
    assert note.startswith("the actuator 'grip' of two.xml") and not noted(path, "no motor")


@pytest.mark.real
def test_the_command_says_it_and_ends_with_2(tmp_path: Path) -> None:
    path = write_world(tmp_path, replace={LIMITS: "position = [-0.3, 2.5]"})
    command = [sys.executable, "-m", "inphase", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "by more than step = 0.5" in done.stderr) == (2, True)
    model = MODEL.replace('joint="one" kp="60"', 'joint="one" kp="60" ctrlrange="-2 2"')
    write_world(tmp_path, model=model)
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert any("control range" in note for note in json.loads(found.stdout)["notes"])
    assert exit_code(run(path, [0.4, -0.9])) == 0
