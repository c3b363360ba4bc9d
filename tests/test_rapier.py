"""Rapier as a world: it moves a model as MuJoCo does, and names what it cannot move."""

import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

import inphase
from inphase import schedule as schedules
from inphase.command.drafts import schedule_draft
from inphase.core.world_seam import require
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.plan import plan
from inphase.world.engines import make_world
from inphase.world.rapier.scene import Scene
from worlds import MODEL, world_schedule

rapier3d = pytest.importorskip("rapier3d", reason="a second world: pip install 'inphase[rapier]'")

ROBOT = """<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <option gravity="1.5 0 -9.7" timestep="0.0005" integrator="implicitfast"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 .1" friction=".08"/>
    <body name="a" pos="0 0 .8" quat="0.9 0.1 0.3 0.2">
      <joint name="a" axis="0 0 1" ref="0.2" damping=".3" armature=".05" frictionloss=".3"/>
      <geom type="capsule" fromto="0 0 0 0 0 .2" size=".04" mass="1.5"/>
      <body name="fixed" pos="0 .02 .1" euler="0.3 0 0">
        <geom type="box" size=".03 .02 .05" mass=".4"/>
        <body name="b" pos="0 0 .1">
          <joint name="b" axis="0.3 1 0" pos="0.01 0 .02" damping=".2" armature=".02"
                 range="-1.2 1.2"/>
          <geom type="capsule" fromto="0 0 0 .25 0 0" size=".03" mass="1"/>
          <body name="c" pos=".25 0 0">
            <joint name="c" type="slide" axis="1 0 0" damping="2" stiffness="30" springref="0.02"
                   range="-.1 .1"/>
            <geom type="sphere" size=".04" mass=".3"/>
            <body name="d" pos=".05 0 0">
              <joint name="d" axis="0 1 0" damping=".05" armature=".01"/>
              <geom type="capsule" fromto="0 0 0 0 0 -.2" size=".02" mass=".2"/>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="box" pos="-1 0 .1">
      <freejoint/>
      <geom type="box" size=".1 .1 .1" mass="1" friction=".08"/>
    </body>
  </worldbody>
  <actuator>
    <position name="a" joint="a" kp="100" kv="8" gear="2" forcerange="-6 6"/>
    <velocity name="b" joint="b" kv="30"/>
    <motor name="d" joint="d" gear="3" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""
"""Hinges and a slide, a body that is welded on, gears, a reference, springs, dry friction, drives
of three kinds, and a box that slides on a floor."""

SCHEDULE = """
name = "robot"
[cycle]
rate_hz = 200
read_deadline_us = 3000
act_us = 3500
realtime = "prefer"
[device.all]
driver = "simulated"
[device.all.fields]
place = { unit = "1", shape = [4] }
box = { unit = "m", shape = [3] }
[sensor.all]
device = "all"
trigger_us = 0
max_age_ms = 20
[world]
model = "robot.xml"
[world.sensor.all.fields]
place = { joint_position = ["a", "b", "c", "d"] }
box = { body_position = "box" }

[device.a]
driver = "simulated"
joints = 1
fields = { position = { unit = "rad", shape = [1] } }
[sensor.a]
device = "a"
trigger_us = 0
max_age_ms = 20
[actuator.a]
device = "a"
mode = "position"
limits = { position = [-3, 3], velocity = 6.0, acceleration = 200.0, step = 1.0 }
[world.sensor.a]
joints = ["a"]
[world.actuator.a]
actuators = ["a"]

[device.b]
driver = "simulated"
joints = 1
fields = { position = { unit = "rad", shape = [1] } }
[sensor.b]
device = "b"
trigger_us = 0
max_age_ms = 20
[actuator.b]
device = "b"
mode = "velocity"
limits = { velocity = 6.0, acceleration = 200.0 }
[world.sensor.b]
joints = ["b"]
[world.actuator.b]
actuators = ["b"]

[device.d]
driver = "simulated"
joints = 1
fields = { position = { unit = "rad", shape = [1] } }
[sensor.d]
device = "d"
trigger_us = 0
max_age_ms = 20
[actuator.d]
device = "d"
mode = "effort"
limits = { effort = 5.0, effort_rate = 1000.0 }
[world.sensor.d]
joints = ["d"]
[world.actuator.d]
actuators = ["d"]
"""
RAPIER = {"[world]\n": '[world]\nengine = "rapier"\n'}
DEEP = {**RAPIER, 'force = { sensor = "force" }\n': ""}


def targets(frame: Frame) -> dict[str, list[float]]:
    """Commands of three modes, by the cycle alone."""
    at = frame.cycle / 200
    return {
        "a": [0.2 + 0.8 * math.sin(3 * at)],
        "b": [1.5 * math.cos(4 * at)],
        "d": [0.6 * math.sin(9 * at)],
    }


def moved(folder: Path, engine: str) -> tuple[Any, Any]:
    """Places of the joints and of the box, a row per cycle."""
    folder.joinpath("robot.xml").write_text(ROBOT)
    path = folder / f"{engine}.toml"
    path.write_text(SCHEDULE.replace("[world]\n", f'[world]\nengine = "{engine}"\n'))
    with LockStep(schedules.load(path), call=targets, digest=False) as robot:
        samples = [frame["all"].value.copy() for frame in robot.frames(200)]
    places, boxes = ([one[name] for one in samples] for name in ("place", "box"))
    return np.array(places), np.array(boxes)


def test_a_robot_of_many_kinds_of_joints_moves_as_in_mujoco(tmp_path: Path) -> None:
    """Far less apart than it moves. What differs is the softness of the slide's range."""
    (known, slid), (places, boxes) = (moved(tmp_path, one) for one in ("mujoco", "rapier"))
    assert (np.ptp(known, axis=0) > [0.7, 0.5, 0.05, 1.0]).all(), "it hardly moves"
    assert (np.abs(places - known).max(axis=0) < [0.003, 0.003, 0.01, 0.02]).all()
    assert slid[-1, 0] > -0.9, "the box does not slide"
    assert np.abs(boxes - slid).max() < 0.1 * (slid[-1, 0] + 1)


def test_its_state_is_the_same_after_each_reset(tmp_path: Path) -> None:
    """A world is made anew for an episode, and the step that told its first rate is undone."""
    made = make_world(plan.make(world_schedule(tmp_path, replace=DEEP)))
    first = made.data.qpos.tobytes(), made.data.qvel.tobytes(), made.data.qacc.tobytes()
    made.begin({"world.joint.one.position": [1.0]})
    assert made.data.qpos[0] == 1.0
    made.begin({})
    assert (made.data.qpos.tobytes(), made.data.qvel.tobytes(), made.data.qacc.tobytes()) == first
    assert made.data.qacc[4] == pytest.approx(-9.81, rel=1e-3), "the ball begins to fall"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("<freejoint/>", '<joint name="socket" type="ball"/>', "joint 'socket' is a ball"),
        ('size="0.05" mass', 'type="ellipsoid" size="0.1 0.1 0.2" mass', "geom 'ball' is a ellips"),
        ('size="0.05" mass', 'size="0.05" condim="6" mass', "geom 'ball' has condim 6"),
        (
            'joint="two"/>',
            'joint="two" delay="0.01" nsample="40"/>',
            "actuator 'motor' has a delay",
        ),
        ('kp="60" kv="4"', 'kp="60" kv="4" timeconst="0.1"', "actuator 'one' is neither"),
        ('kp="60" kv="4"', 'kp="60" kv="4" forcerange="-1 2"', "actuator 'one' has a forcerange"),
        (
            "<actuator>",
            '<equality><joint joint1="one" joint2="two"/></equality><actuator>',
            "is ac",
        ),
        ('timestep="0.0005"', 'timestep="0.0005" density="1.2"', "air or water"),
        ("</actuator>", '<velocity name="also" joint="one" kv="1"/></actuator>', "of one joint"),
    ],
)
def test_a_part_that_it_cannot_move_is_refused_by_name(
    tmp_path: Path, old: str, new: str, what: str
) -> None:
    assert old in MODEL
    model = MODEL.replace(old, new, 1)
    described = world_schedule(tmp_path, model=model, replace={**DEEP, 'keyframe = "home"\n': ""})
    model_path = tmp_path / "two.xml"
    model_path.write_text(model[: model.index("<keyframe>")] + "</mujoco>")
    with pytest.raises(ScheduleError, match=what) as refused:
        LockStep(described)
    assert "world.engine" in str(refused.value)


def test_a_gravity_that_single_precision_makes_nothing_of_is_refused(tmp_path: Path) -> None:
    """Rapier alone would let everything float: see findings/rapier_cuts_speeds.sh."""
    draw = '[randomise]\n"world.option.gravity" = [0.0, 0.0, -1e30]\n'
    with pytest.raises(ScheduleError, match=r"gravity is .* give less"):
        LockStep(world_schedule(tmp_path, draw, replace=DEEP))


def test_it_runs_in_lock_step_alone(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"world\.engine.*lock step.*engine = .mujoco."):
        require(world_schedule(tmp_path, replace=DEEP))


URDF = """<robot name="two">
  <link name="base"/>
  <link name="arm"><inertial><origin xyz="0.1 0 0"/><mass value="0.5"/>
    <inertia ixx="0.001" iyy="0.002" izz="0.002" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="one" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 1 0"/>
    <origin xyz="0 0 0.5"/><limit lower="-1" upper="1" effort="20" velocity="3"/></joint>
</robot>
"""


def test_a_urdf_file_is_a_world_of_either(tmp_path: Path) -> None:
    """The schedule of `inphase new schedule --world`, with one key more."""
    model = tmp_path / "two.urdf"
    model.write_text(URDF)
    path = schedule_draft.new_schedule(model, tmp_path / "two.toml").files[0]
    text = path.read_text()
    ends = []
    for engine in ("mujoco", "rapier"):
        path.write_text(text.replace("[world]\n", f'[world]\nengine = "{engine}"\n'))
        with LockStep(schedules.load(path), digest=False) as robot:
            robot.run(200)
            assert robot.world is not None
            ends.append(robot.world.data.qpos[0])  # type: ignore[attr-defined]
    assert ends[0] == pytest.approx(ends[1], rel=0.05) and abs(ends[0]) > 1e-3


def test_episodes_in_threads_are_the_same_bytes(tmp_path: Path) -> None:
    """Its steps are Python's, and C's threads call them."""
    draw = '[randomise]\n"world.body.fore.mass" = { uniform = [0.1, 0.6] }\n'
    described = world_schedule(tmp_path, draw, replace=DEEP)
    commands = np.linspace([0.4, -0.9], [0.7, -0.6], 40)
    alone, many = (
        inphase.rollout(described, commands, 4, seed=5, cycles=40, workers=workers)
        for workers in (1, 2)
    )
    assert not any(one.error for one in alone)
    assert len({one.digest for one in alone}) == 4
    assert [one.digest for one in many] == [one.digest for one in alone]


BOXES = """<mujoco><worldbody><geom name="floor" type="plane" size="2 2 .1"/>
  <body name="low" pos="0 0 .1"><freejoint/><geom type="box" size=".1 .1 .1" mass="1"/></body>
  <body name="high" pos="0 0 .5"><freejoint/><geom type="box" size=".1 .1 .1" mass="1"/></body>
</worldbody>{more}</mujoco>"""


@pytest.mark.parametrize(
    ("more", "height"),
    [("", 0.3), ('<contact><exclude body1="low" body2="high"/></contact>', 0.1)],
)
def test_bodies_stand_on_each_other_unless_the_model_excludes_it(more: str, height: float) -> None:
    model = mujoco.MjModel.from_xml_string(BOXES.format(more=more))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    scene = Scene(rapier3d, mujoco, model, data)
    for _ in range(400):
        scene.step()
    assert (data.qpos[2], data.qpos[9]) == pytest.approx((0.1, height), abs=2e-3)


SEVERAL = """<mujoco><compiler angle="radian"/>
  <option timestep="0.0005" integrator="implicitfast"/>
  <worldbody><body pos="0 0 1">
    <joint type="slide" axis="1 0 0" damping="1"/>
    <joint type="slide" axis="0 0 1" stiffness="80" damping="3"/>
    <joint axis="0 1 0" pos="0 0 .1" damping=".05"/>
    <geom type="capsule" fromto="0 0 0 .2 0 -.2" size=".03" mass="1"/>
    <body pos=".2 0 -.2">
      <joint axis="1 0 0" damping=".02" pos="0 .02 0"/><joint axis="0 0.5 1" damping=".02"/>
      <geom type="capsule" fromto="0 0 0 .2 .1 0" size=".02" mass=".4"/>
    </body>
  </body></worldbody>
</mujoco>"""


def test_bodies_of_several_joints_move_as_in_mujoco() -> None:
    model = mujoco.MjModel.from_xml_string(SEVERAL)
    ours, known = mujoco.MjData(model), mujoco.MjData(model)
    for data in (ours, known):
        data.qpos[:] = start = [0.1, 0.05, 0.3, 0.4, -0.2]
        mujoco.mj_forward(model, data)
    scene = Scene(rapier3d, mujoco, model, ours)
    for _ in range(800):
        scene.step()
        mujoco.mj_step(model, known)
    assert (np.abs(known.qpos - start) > 0.01).all()
    np.testing.assert_allclose(ours.qpos, known.qpos, atol=3e-3)
