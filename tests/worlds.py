"""A small world for tests: two joints, a light that falls, sensors of every stage, a camera."""

from pathlib import Path

import pytest

from inphase import schedule
from inphase.schedule.tables import Schedule
from inphase.world.mujoco import package as mujoco_package

WHY_NO_IMAGES = mujoco_package.why_no_images()
needs_images = pytest.mark.skipif(WHY_NO_IMAGES is not None, reason=str(WHY_NO_IMAGES))

MODEL = """<mujoco model="two">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.0005"/>
  <worldbody>
    <light name="sun" pos="0 0 3"/>
    <camera name="side" pos="0 -1.5 0.4" xyaxes="1 0 0 0 0 1"/>
    <geom name="floor" type="plane" size="2 2 0.1" rgba="0.3 0.5 0.3 1"/>
    <body name="upper" pos="0 0 0.6">
      <joint name="one" axis="0 1 0" damping="0.4" armature="0.01" range="-3 3"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0.25 0 0" size="0.03" mass="0.5"/>
      <body name="fore" pos="0.25 0 0">
        <joint name="two" axis="0 1 0" damping="0.2" armature="0.01" range="-3 3"/>
        <geom name="fore" type="capsule" fromto="0 0 0 0.2 0 0" size="0.025" mass="0.3"
              rgba="0.8 0.2 0.2 1"/>
        <site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
    <body name="ball" pos="0.5 0.6 0.4">
      <freejoint/>
      <geom name="ball" size="0.05" mass="0.2"/>
    </body>
  </worldbody>
  <actuator>
    <position name="one" joint="one" kp="60" kv="4"/>
    <position name="two" joint="two" kp="40" kv="3" gear="2"/>
    <motor name="motor" joint="two"/>
  </actuator>
  <sensor>
    <framepos name="tip" objtype="site" objname="tip"/>
    <force name="force" site="tip"/>
    <accelerometer name="acceleration" site="tip"/>
  </sensor>
  <keyframe>
    <key name="home" qpos="0.4 -0.9  0.5 0.6 0.4 1 0 0 0"/>
  </keyframe>
</mujoco>
"""

SCHEDULE = """
name = "two"
[cycle]
rate_hz = 500
read_deadline_us = 1200
act_us = 1500
realtime = "prefer"

[device.limb]
driver = "simulated"
joints = 2
start_position = [0.4, -0.9]
latency_us = 300
[device.limb.fields]
position = { unit = "rad", shape = [2] }
velocity = { unit = "rad/s", shape = [2] }

[device.tip]
driver = "simulated"
acquire_us = 200
latency_us = 400
[device.tip.fields]
place = { unit = "m", shape = [3] }
force = { unit = "N", shape = [3] }

[sensor.joints]
device = "limb"
trigger_us = 0
max_age_ms = 20

[sensor.tip]
device = "tip"
trigger_us = 500
max_age_ms = 20

[actuator.limb]
device = "limb"
feedback = "joints.position"
limits = { position = [-2.5, 2.5], velocity = 4.0, acceleration = 40.0, step = 0.5 }

[world]
model = "two.xml"
step_us = 500
keyframe = "home"
[world.sensor.joints]
joints = ["one", "two"]
[world.sensor.tip.fields]
place = { sensor = "tip" }
force = { sensor = "force" }
[world.actuator.limb]
actuators = ["one", "two"]
"""

CAMERA = """
[device.eye]
driver = "simulated"
latency_us = 3000
acquire_us = 1000
fields = { image = { dtype = "|u1", shape = [48, 64, 3] } }
[sensor.eye]
device = "eye"
trigger_us = 0
every = 5
latency_cycles = 2
max_age_ms = 60
[world.sensor.eye]
camera = "side"
"""


def write_world(
    folder: Path, *more: str, replace: dict[str, str] | None = None, model: str = MODEL
) -> Path:
    """Write schedule and model into `folder`; the schedule's path.

    more: tables that are added. replace: texts of the schedule and what stands for them.
    """
    text = SCHEDULE + "".join(more)
    for old, new in (replace or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    folder.joinpath("two.xml").write_text(model)
    path = folder / "two.toml"
    path.write_text(text)
    return path


def world_schedule(
    folder: Path, *more: str, replace: dict[str, str] | None = None, model: str = MODEL
) -> Schedule:
    """The same, loaded."""
    return schedule.load(write_world(folder, *more, replace=replace, model=model))


class Swing:
    """A policy that moves both joints from where they are: a function of the cycle alone."""

    def __call__(self, frame: object) -> list[float]:
        """Targets in rad."""
        cycle = frame.cycle  # type: ignore[attr-defined]
        return [0.4 + 0.001 * (cycle % 400), -0.9 - 0.0015 * (cycle % 300)]
