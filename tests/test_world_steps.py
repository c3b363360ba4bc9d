"""At nominal timing a world in lock step is the simulator's own loop, bit for bit.

The loop beside it steps a second copy of the model with the simulator's own functions, and computes
its commands from its own state: one different bit anywhere and the two drift apart.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame

mujoco = pytest.importorskip("mujoco", reason="a world needs the package mujoco (extra sim)")

CYCLES = 400
INTEGRATORS = ("Euler", "implicit", "implicitfast", "RK4")
HOME = np.array([0.3, 0.5, -0.8])

# a damped three-joint arm; a ball lies on the floor under its tool, or not
MODEL = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{step}" integrator="{integrator}"/>
  <default>
    <joint damping="0.8" armature="0.05" frictionloss="0.02" range="-2 2"/>
    <geom contype="0" conaffinity="0"/>
    <position kp="150" dampratio="1"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1" contype="1" conaffinity="1"/>
    <body name="a" pos="0 0 0.5">
      <joint name="a" axis="0 0 1"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.04" mass="2"/>
      <body name="b" pos="0.2 0 0">
        <joint name="b" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1.5"/>
        <body name="c" pos="0.3 0 0">
          <joint name="c" axis="0 1 0"/>
          <geom type="capsule" fromto="0 0 0 0.25 0 0" size="0.03" mass="1"/>
          <site name="tool" pos="0.25 0 0"/>
        </body>
      </body>
    </body>
    {ball}
  </worldbody>
  <actuator>
    <position name="a" joint="a"/>
    <position name="b" joint="b"/>
    <position name="c" joint="c"/>
  </actuator>
  <sensor>
    <framepos name="place" objtype="site" objname="tool"/>
    <force name="force" site="tool"/>
  </sensor>
  <keyframe>
    <key name="home" qpos="0.3 0.5 -0.8{ball_qpos}" ctrl="0.3 0.5 -0.8"/>
  </keyframe>
</mujoco>
"""
BALL = """<body name="ball" pos="0.5 0 0.06"><freejoint/>
      <geom type="sphere" size="0.05" mass="0.2" contype="1" conaffinity="1"/></body>"""

SCHEDULE = """
name = "steps"

[cycle]
rate_hz = 1000
read_deadline_us = 300
act_us = {act_us}
realtime = "prefer"

[device.arm]
driver = "simulated"
joints = 3

[device.arm.fields]
position = {{ shape = [3] }}
velocity = {{ shape = [3] }}
place = {{ shape = [3] }}
force = {{ shape = [3] }}

[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10

[actuator.arm]
device = "arm"
feedback = "joints.position"
limits = {{ position = [-2, 2], velocity = 2000, acceleration = 1e9, step = 4 }}

[world]
model = "arm.xml"
keyframe = "home"

[world.sensor.joints]
joints = ["a", "b", "c"]
{derived}

[world.actuator.arm]
actuators = ["a", "b", "c"]

[timing]
actuators.arm.delay_ms = 0.1
"""
DERIVED = 'fields = { place = { sensor = "place" }, force = { sensor = "force" } }'

Values = NDArray[np.float64]


def law(position: Values, velocity: Values) -> Values:
    """A command that the whole state moves."""
    wanted: Values = HOME + 0.4 * np.sin(3 * position[::-1]) - 0.05 * velocity
    return wanted


class Seen:
    """The policy, and what it saw."""

    def __init__(self) -> None:
        self.rows: list[Values] = []

    def __call__(self, frame: Frame) -> Values:
        sample = frame["joints"]
        assert sample.status == "FRESH"
        value = sample.value
        self.rows.append(np.concatenate([value[name] for name in value.dtype.names or ()]))
        return law(value["position"], value["velocity"])


class Bare:
    """The simulator's own loop; a command is in effect after so many of a cycle's steps."""

    def __init__(self, path: Path, steps: int, before: int, derived: bool) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(path))
        self.data = mujoco.MjData(self.model)
        mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        mujoco.mj_forward(self.model, self.data)
        self.steps, self.before, self.derived = steps, before, derived

    def rows(self, cycles: int) -> list[Values]:
        """What its sensors see at the start of each cycle."""
        rows = []
        for _ in range(cycles):
            rows.append(self.row())
            command = law(self.data.qpos[:3].copy(), self.data.qvel[:3].copy())
            for step in range(self.steps):
                if step == self.before:
                    self.data.ctrl[:] = command
                mujoco.mj_step(self.model, self.data)
            if self.before == self.steps:
                self.data.ctrl[:] = command
        return rows

    def row(self) -> Values:
        """The sensors now."""
        if self.derived:
            mujoco.mj_forward(self.model, self.data)
        sensors = self.data.sensordata if self.derived else np.zeros(6)
        return np.concatenate([self.data.qpos[:3], self.data.qvel[:3], sensors])


Make = Callable[..., tuple[Path, Path]]


@pytest.fixture
def files(tmp_path: Path) -> Make:
    """Writes a schedule and its model."""

    def make(
        integrator: str, *, ball: bool = False, derived: bool = False, middle: bool = False
    ) -> tuple[Path, Path]:
        model, schedule = tmp_path / "arm.xml", tmp_path / "steps.toml"
        model.write_text(
            MODEL.format(
                integrator=integrator,
                step="0.00025" if middle else "0.001",
                ball=BALL if ball else "",
                ball_qpos=" 0.5 0 0.06 1 0 0 0" if ball else "",
            )
        )
        schedule.write_text(
            SCHEDULE.format(act_us=400 if middle else 900, derived=DERIVED if derived else "")
        )
        return schedule, model

    return make


def ours(path: Path, cycles: int, run: Callable[[LockStep, int], Any] = LockStep.run) -> Seen:
    """A run in lock step."""
    seen = Seen()
    with LockStep(schedules.load(path), call=seen, digest=False) as robot:
        run(robot, cycles)
    return seen


def assert_equal(ours: list[Values], theirs: list[Values]) -> None:
    assert np.ptp(np.array(theirs)[:, :3], axis=0).min() > 0.05, "it moves"
    for cycle, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        assert left.tobytes() == right.tobytes(), f"cycle {cycle}: {left - right}"


@pytest.mark.parametrize("ball", [False, True], ids=["free", "contacts"])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_joints_are_those_of_a_bare_loop(files: Make, integrator: str, ball: bool) -> None:
    schedule, model = files(integrator, ball=ball)
    theirs = Bare(model, steps=1, before=1, derived=False)
    assert_equal(ours(schedule, CYCLES).rows, theirs.rows(CYCLES))


@pytest.mark.parametrize("ball", [False, True], ids=["free", "contacts"])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_derived_sensors_are_those_of_a_bare_loop_with_forward_passes(
    files: Make, integrator: str, ball: bool
) -> None:
    schedule, model = files(integrator, ball=ball, derived=True)
    theirs = Bare(model, steps=1, before=1, derived=True)
    assert_equal(ours(schedule, CYCLES).rows, theirs.rows(CYCLES))


@pytest.mark.parametrize("derived", [False, True], ids=["joints", "derived"])
def test_a_command_takes_effect_between_the_steps_of_a_cycle(files: Make, derived: bool) -> None:
    schedule, model = files("implicitfast", ball=True, derived=derived, middle=True)
    theirs = Bare(model, steps=4, before=2, derived=derived)
    assert_equal(ours(schedule, CYCLES).rows, theirs.rows(CYCLES))


def test_one_step_at_a_time_is_the_same_run(files: Make) -> None:
    def by_steps(robot: LockStep, cycles: int) -> None:
        for _ in range(cycles):
            robot.step()

    def by_answers(robot: LockStep, cycles: int) -> None:
        for _ in range(cycles):
            robot.answer(seen_by_answers(robot.next()))

    schedule, _ = files("implicitfast", derived=True)
    whole, stepped = ours(schedule, CYCLES), ours(schedule, CYCLES, by_steps)
    seen_by_answers = Seen()
    ours(schedule, CYCLES, by_answers)
    for other in (stepped, seen_by_answers):
        assert [row.tobytes() for row in other.rows] == [row.tobytes() for row in whole.rows]
