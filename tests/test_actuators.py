"""Every actuator of MuJoCo takes commands as `mj_step` alone would move it, or is refused with a
remedy that works.

The world of a schedule is held against the same model that is stepped here by `mj_step`, with
controls that are computed here by hand.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from inphase import schedule
from inphase.emulation import WallWorld
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.schedule.tables import Schedule

MODEL = """<mujoco model="one actuator">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.001"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1" contype="2" conaffinity="2"/>
    <site name="slider" pos="0 0.1 0.6" euler="0 0 0"/>
    <site name="origin" pos="0 0 0.6"/>
    <body name="upper" pos="0 0 0.6">
      <joint name="one" axis="0 1 0" damping="0.6" armature="0.05"/>
      <geom type="capsule" fromto="0 0 0 0.25 0 0" size="0.03" mass="0.5" contype="0"
            conaffinity="0"/>
      <site name="crank" pos="0.05 0.1 0"/>
      <site name="elbow" pos="0.2 0 0"/>
      <body name="fore" pos="0.25 0 0">
        <joint name="two" axis="0 1 0" damping="0.4" armature="0.05"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.025" mass="0.3" contype="0"
              conaffinity="0"/>
        <site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
    <body name="foot" pos="0.5 0.4 0.06">
      <freejoint name="free"/>
      <geom name="foot" size="0.06" mass="0.2" contype="2" conaffinity="2"/>
    </body>
    <body name="wrist" pos="-0.4 0 0.6">
      <joint name="ball" type="ball" damping="0.2" armature="0.02"/>
      <geom size="0.05" mass="0.2" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="both"><joint joint="one" coef="0.5"/><joint joint="two" coef="0.5"/></fixed>
    <spatial name="cord"><site site="origin"/><site site="tip"/></spatial>
  </tendon>
  <actuator>
    {other}
    {actuator}
  </actuator>
  <keyframe><key name="home" qpos="0.4 -0.9  0.5 0.4 0.06 1 0 0 0  1 0 0 0"/></keyframe>
</mujoco>
"""
SCHEDULE = """
name = "one-actuator"
[cycle]
rate_hz = 200
read_deadline_us = 1200
act_us = 2000
realtime = "prefer"
[device.limb]
driver = "simulated"
joints = 1
fields = {{ place = {{ unit = "rad", shape = [2] }}, length = {{ unit = "rad" }} }}
[sensor.joints]
device = "limb"
trigger_us = 0
max_age_ms = 20
[actuator.limb]
device = "limb"
{mode}
[world]
model = "one.xml"
step_us = 1000
keyframe = "home"
[world.sensor.joints.fields]
place = {{ joint_position = ["one", "two"] }}
length = {{ tendon_position = "both" }}
[world.actuator.limb]
actuators = ["a"]
{gains}
"""
MODES = {
    "position": "limits = { position = [-9, 9], velocity = 9, acceleration = 900, step = 5 }",
    "velocity": 'mode = "velocity"\nlimits = { velocity = 9, acceleration = 900 }',
    "effort": 'mode = "effort"\nlimits = { effort = 90, effort_rate = 9000 }',
    "switch": 'mode = "switch"\nlimits = { dwell_ms = 5 }',
}
CYCLES = 160


def written(
    folder: Path, actuator: str, mode: str = "position", gains: str = "", other: str = ""
) -> Schedule:
    """A schedule whose one channel is the model's actuator `a`."""
    (folder / "one.xml").write_text(MODEL.format(actuator=actuator, other=other))
    path = folder / "one.toml"
    path.write_text(SCHEDULE.format(mode=MODES[mode], gains=gains))
    return schedule.load(path)


class Wave:
    """Commands around where the actuator stands, as a function of the cycle alone."""

    def __init__(self, mode: str, start: float) -> None:
        self.mode, self.start = mode, start

    def __call__(self, frame: Frame) -> list[float]:
        """One command; in a switch 0 or 1."""
        swing = float(np.sin(frame.cycle / 15))
        offsets = {"position": self.start, "velocity": 0.0, "effort": 0.0}
        if self.mode == "switch":
            return [float(swing > 0)]
        return [offsets[self.mode] + 0.2 * swing]


@dataclass(frozen=True)
class Kind:
    """An actuator, and by hand: its control of a command, and how it begins."""

    xml: str
    mode: str
    control: Callable[[float], float]
    begins: tuple[Callable[[float], float], Callable[[float], float]]
    """control and activation before the first command, of the actuator's length"""
    start: float = 0.0
    """the command at which it stands"""
    gains: str = ""


def same(value: float) -> float:
    """A command that is the control."""
    return value


def none(_: float) -> float:
    """A control or an activation of 0."""
    return 0.0


HELD = (same, same)
LOOSE = (none, none)
GENERAL = 'name="a" joint="one"'
SPRING = 'gainprm="20" biastype="affine" biasprm="0 -20 -1"'
ACROSS, UP = 0.25 * np.cos(0.4) + 0.2 * np.cos(-0.5), -0.25 * np.sin(0.4) - 0.2 * np.sin(-0.5)
CORD = float(np.hypot(ACROSS, UP))
KINDS = {
    "motor": Kind('<motor name="a" joint="one" gear="3"/>', "effort", lambda u: u / 3, LOOSE),
    "motor of a switch": Kind('<motor name="a" joint="one"/>', "switch", same, LOOSE),
    "position": Kind(
        '<position name="a" joint="one" kp="20" kv="1"/>', "position", same, HELD, 0.4
    ),
    "position with a gear": Kind(
        '<position name="a" joint="one" kp="5" kv="1" gear="-2"/>', "position", lambda u: -2 * u,
        HELD, 0.4,
    ),
    "position with a filter": Kind(
        '<position name="a" joint="one" kp="20" kv="1" timeconst="0.1"/>', "position", same, HELD,
        0.4,
    ),
    "position with a force range": Kind(
        '<position name="a" joint="one" kp="90" kv="1" forcerange="-2 2"/>', "position", same, HELD,
        0.4,
    ),
    "position with a delay": Kind(
        '<position name="a" joint="one" kp="20" kv="1" delay="0.003" nsample="8"/>', "position",
        same, HELD, 0.4,
    ),
    "position in the parent's frame": Kind(
        '<position name="a" jointinparent="one" kp="20" kv="1"/>', "position", same, HELD, 0.4
    ),
    "position of a fixed tendon": Kind(
        '<position name="a" tendon="both" kp="20" kv="1"/>', "position", same, HELD, -0.25
    ),
    "position of a spatial tendon": Kind(
        '<position name="a" tendon="cord" kp="200" kv="5"/>', "position", same, HELD, CORD
    ),
    "position of a site": Kind(
        '<position name="a" site="tip" refsite="origin" kp="200" kv="5" gear="1 0 0 0 0 0"/>',
        "position", same, HELD, ACROSS,
    ),
    "position of a site with a filter": Kind(
        '<position name="a" site="tip" refsite="origin" kp="200" kv="5" gear="0 0 1 0 0 0" '
        'timeconst="0.05"/>',
        "position", same, HELD, UP,
    ),
    "position of a ball joint": Kind(
        '<position name="a" joint="ball" kp="2" kv="0.1" gear="0 1 0 0 0 0"/>', "position", same,
        HELD,
    ),
    "position of a slider": Kind(
        '<position name="a" cranksite="crank" slidersite="slider" cranklength="0.3" kp="200" '
        'kv="5"/>',
        "position", same, HELD, -0.316,
    ),
    "0 to 255": Kind(
        f'<general {GENERAL} ctrlrange="-512 512" gainprm="0.125" biastype="affine" '
        'biasprm="0 -16 -1"/>',
        "position", lambda u: 128 * u, (lambda at: 128 * at, none), 0.4,
    ),
    "a bias that does not vanish": Kind(
        f'<general {GENERAL} gainprm="8" biastype="affine" biasprm="4 -16 -1"/>', "position",
        lambda u: 2 * u - 0.5, (lambda at: 2 * at - 0.5, none), 0.4,
    ),
    "a gain below 0": Kind(
        f'<general {GENERAL} gainprm="-8" biastype="affine" biasprm="0 -16 -1"/>', "position",
        lambda u: -2 * u, (lambda at: -2 * at, none), 0.4,
    ),
    "a filter by Euler": Kind(
        f'<general {GENERAL} dyntype="filter" dynprm="0.1" {SPRING}/>', "position", same, HELD, 0.4
    ),
    "a filter that is early": Kind(
        f'<general {GENERAL} dyntype="filterexact" dynprm="0.1" actearly="true" {SPRING}/>',
        "position", same, HELD, 0.4,
    ),
    "a gain that is affine by name": Kind(
        f'<general {GENERAL} gaintype="affine" {SPRING}/>', "position", same, HELD, 0.4
    ),
    "velocity": Kind('<velocity name="a" joint="one" kv="8"/>', "velocity", same, LOOSE),
    "velocity of a site without another": Kind(
        '<velocity name="a" site="tip" kv="8" gear="0 0 0 0 2 0"/>', "velocity", lambda u: 2 * u,
        LOOSE,
    ),
    "velocity with a scale": Kind(
        f'<general {GENERAL} gainprm="2" biastype="affine" biasprm="0 0 -8"/>', "velocity",
        lambda u: 4 * u, LOOSE,
    ),
    "intvelocity": Kind(
        '<intvelocity name="a" joint="one" kp="20" kv="1" actrange="-9 9"/>', "velocity", same,
        (none, same),
    ),
    "intvelocity with a gear and a scale": Kind(
        f'<general {GENERAL} dyntype="integrator" gainprm="8" biastype="affine" biasprm="4 -16 -1" '
        'actrange="-9 9" gear="2"/>',
        "velocity", lambda u: 4 * u, (none, lambda at: 2 * at - 0.5),
    ),
    "cylinder": Kind(
        '<cylinder name="a" joint="one" area="4" timeconst="0.05"/>', "effort", lambda u: u / 4,
        LOOSE,
    ),
    "a motor that is filtered": Kind(
        f'<general {GENERAL} dyntype="filterexact" dynprm="0.05" gainprm="2"/>', "effort",
        lambda u: u / 2, LOOSE,
    ),
    "an effort with a bias": Kind(
        f'<general {GENERAL} gainprm="2" biastype="affine" biasprm="0.5 0 0"/>', "effort",
        lambda u: u / 2 - 0.25, (lambda _: -0.25, none),
    ),
    "thrust of a site": Kind(
        '<motor name="a" site="tip" gear="0 0 4 0 0 -0.02"/>', "effort", lambda u: u / 4, LOOSE
    ),
    "effort of a tendon": Kind(
        '<motor name="a" tendon="cord" gear="2"/>', "effort", lambda u: u / 2, LOOSE
    ),
    "effort of a ball joint": Kind(
        '<motor name="a" joint="ball" gear="0 0 3 0 0 0"/>', "effort", lambda u: u / 3, LOOSE
    ),
    "adhesion": Kind(
        '<adhesion name="a" body="foot" ctrlrange="0 1" gain="4"/>', "switch", same, LOOSE
    ),
    "adhesion by its force": Kind(
        '<adhesion name="a" body="foot" ctrlrange="0 1" gain="4"/>', "effort", lambda u: u / 4,
        LOOSE,
    ),
    "damper": Kind(
        '<damper name="a" joint="one" kv="4" ctrlrange="0 1"/>', "switch", same, LOOSE
    ),
    "muscle": Kind(
        '<muscle name="a" joint="one" lengthrange="-2 2" ctrlrange="0 1"/>', "switch", same, LOOSE
    ),
    "a motor with gains": Kind(
        '<motor name="a" joint="one" gear="2" ctrlrange="-1 1"/>', "position", lambda u: 2 * u,
        (same, none), 0.4, "kp = 20\nkd = 1",
    ),
    "a gripper with other gains": Kind(
        f'<general {GENERAL} ctrlrange="-512 512" gainprm="0.125" biastype="affine" '
        'biasprm="0 -16 -1" forcerange="-3 3"/>',
        "position", same, (same, none), 0.4, "kp = 20\nkd = 1",
    ),
}  # fmt: skip


def alone(kind: Kind, described: Schedule) -> tuple[Any, Any, int]:
    """The model by itself at its start, and the number of its actuator."""
    assert described.world is not None
    model = mujoco.MjModel.from_xml_path(str(described.path.parent / described.world.model))
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_ACTUATOR, "a")
    if kind.gains:  # by hand, what kp = 20 and kd = 1 make of it
        gear, gain = model.actuator_gear[number][0], model.actuator_gainprm[number][0]
        if model.actuator_biastype[number] == mujoco.mjtBias.mjBIAS_NONE:
            model.actuator_forcerange[number] = gain * model.actuator_ctrlrange[number]
            model.actuator_forcelimited[number] = 1
        model.actuator_ctrllimited[number] = 0
        model.actuator_biastype[number] = mujoco.mjtBias.mjBIAS_AFFINE
        model.actuator_gainprm[number][0] = 20 / gear**2
        model.actuator_biasprm[number][:3] = 0, -20 / gear**2, -1 / gear**2
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    control, activation = kind.begins
    length = float(data.actuator_length[number])
    data.ctrl[number] = control(length)
    if model.actuator_actadr[number] >= 0:
        data.act[model.actuator_actadr[number]] = activation(length)
    if model.actuator_history[number][0]:
        held = np.full(model.actuator_history[number][0], control(length))
        mujoco.mj_initCtrlHistory(model, data, number, None, held)
    mujoco.mj_forward(model, data)
    return model, data, number


@pytest.mark.parametrize("name", KINDS)
def test_an_actuator_moves_as_mj_step_alone_moves_it(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    described = written(tmp_path, kind.xml, kind.mode, kind.gains)
    with LockStep(described, call=Wave(kind.mode, kind.start), digest=False) as robot:
        frames = [robot.step().copy() for _ in range(CYCLES)]
    model, data, number = alone(kind, described)
    commanded, moved = 0, 0.0
    start = data.qpos.copy()
    for before, frame in zip([None, *frames], frames, strict=False):
        if before is not None:  # 2 ms of the cycle before, its command, and 3 ms
            act = frame.command["limb"]
            mujoco.mj_step(model, data, 2)
            if "WRITTEN" in act.flags and "HOLDING" not in act.flags:
                data.ctrl[number] = kind.control(float(act.applied[0]))
                commanded += 1
            mujoco.mj_step(model, data, 3)
        np.testing.assert_allclose(
            frame["joints"].value["place"], data.qpos[:2], rtol=0, atol=1e-12, err_msg=str(frame)
        )
        moved = max(moved, float(np.abs(data.qpos - start).max()))
    assert commanded > CYCLES - 10
    assert moved > 1e-3, "something moves"


@pytest.mark.parametrize("name", KINDS)
def test_an_actuator_moves_alike_in_real_time(tmp_path: Path, name: str) -> None:
    """The world of --simulate, whose time the test makes."""
    kind = KINDS[name]
    described = written(tmp_path, kind.xml, kind.mode, kind.gains)
    with contextlib.closing(WallWorld(described.path)) as world:
        world.begin([])
        model, data, number = alone(kind, described)
        now_ns = world.start_ns
        for cycle in range(40):
            command = kind.start + 0.01 * cycle if kind.mode != "switch" else float(cycle > 20)
            world.command(0, [command], now_ns)
            now_ns += 5_000_000
            world.advance(now_ns)
            data.ctrl[number] = kind.control(command)
            mujoco.mj_step(model, data, 5)
            ours = world.world.data.qpos
            np.testing.assert_allclose(ours, data.qpos, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["position with a filter", "intvelocity", "0 to 255"])
def test_a_drive_that_was_off_holds_where_it_is_switched_on(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    described = written(tmp_path, kind.xml, kind.mode)
    with contextlib.closing(WallWorld(described.path)) as world:
        world.begin([])
        data, now_ns = world.world.data, world.start_ns
        world.switch(0, [0], on=False)
        for _ in range(300):
            now_ns += 1_000_000
            world.advance(now_ns)
        assert data.qpos[0] > 0.5, "it falls"
        data.qvel[:] = 0
        world.switch(0, [0], on=True)
        fallen = float(data.qpos[0])
        mujoco.mj_forward(world.world.model, data)
        assert data.actuator_force[0] == pytest.approx(0, abs=1e-9), "it begins with no force"
        for _ in range(1000):
            now_ns += 1_000_000
            world.advance(now_ns)
        sag = 2.5 / 16  # N m, and N m/rad
        assert abs(data.qpos[0] - fallen) < sag


def test_controls_are_found_behind_an_actuator_that_has_several(tmp_path: Path) -> None:
    """An orientation has three."""
    turns = '<orientation name="turns" joint="ball" kp="2" kv="1"/>'
    described = written(tmp_path, '<position name="a" joint="one" kp="20" kv="1"/>', other=turns)

    def rising(frame: Frame) -> list[float]:
        return [min(0.6, 0.4 + 0.01 * frame.cycle)]

    with LockStep(described, call=rising, digest=False) as robot:
        frames = [robot.step().copy() for _ in range(200)]
        world: Any = robot.world
        assert world.data.ctrl[:3].tolist() == [0, 0, 0]
        assert world.data.ctrl[3] == pytest.approx(0.6)
    assert abs(frames[-1]["joints"].value["place"][0] - 0.6) < 0.2


def test_a_knob_of_a_drives_stiffness_keeps_the_meaning_of_its_control(tmp_path: Path) -> None:
    described = written(tmp_path, KINDS["0 to 255"].xml)
    knobs = {"world.actuator.a.kp": 32.0}
    with LockStep(described, call=lambda _: None, randomise=knobs, digest=False) as robot:
        world: Any = robot.world
        assert world.model.actuator_gainprm[0][0] == 0.25
        assert world.model.actuator_biasprm[0][:2].tolist() == [0, -32]
        assert world.data.ctrl[0] == pytest.approx(128 * 0.4)
        paths = world.knobs.paths()
    assert "world.actuator.a.kv" in paths
    described = written(tmp_path, KINDS["motor"].xml, "effort")
    with LockStep(described, call=lambda _: None, digest=False) as robot:
        world = robot.world
        assert not [path for path in world.knobs.paths() if path.endswith((".kp", ".kv"))]


# ---- what is refused, and what its advice leads to -----------------------------------------------

MADE = {
    "position": '<position name="a" joint="one" kp="20"/>',
    "velocity": '<velocity name="a" joint="one" kv="8"/>',
    "effort": '<motor name="a" joint="one"/>',
    "switch": '<adhesion name="a" body="foot" gain="1" ctrlrange="0 1"/>',
}
MUSCLE = '<muscle name="a" joint="one" lengthrange="-2 2"/>'
INTEGRATED = '<intvelocity name="a" joint="one" kp="20" actrange="-9 9"/>'
FILTERED = f'<general {GENERAL} dyntype="filter" dynprm="0.1"/>'
REFUSED: dict[str, tuple[str, str, str, str]] = {
    "a motor for positions": ('<motor name="a" joint="one"/>', "position", "", "; give kp and kd"),
    "a motor for velocities": ('<motor name="a" joint="one"/>', "velocity", "", "; give kd here"),
    "a position for velocities": (MADE["position"], "velocity", "", "; give kd here"),
    "a position for efforts": (MADE["position"], "effort", "", 'give mode = "position"'),
    "a velocity for positions": (MADE["velocity"], "position", "", "; give kp and kd"),
    "a damper for positions": (
        '<damper name="a" joint="one" kv="4" ctrlrange="0 1"/>', "position", "",
        "control scales a damping",
    ),
    "a muscle for positions": (MUSCLE, "position", "", "is a muscle"),
    "a muscle for efforts": (MUSCLE, "effort", "", "is a muscle"),
    "an integrator for positions": (INTEGRATED, "position", "", "integrates its control"),
    "an integrator for efforts": (INTEGRATED, "effort", "", 'give mode = "velocity"'),
    "an integrator with a gain": (INTEGRATED, "velocity", "kd = 3", "; remove kd, and make it"),
    "a filtered motor with gains": (FILTERED, "position", "kp = 9", "; remove kp, and make it"),
    "a filtered motor for positions": (FILTERED, "position", "", 'give mode = "effort"'),
    "a site without another": (
        '<motor name="a" site="tip" gear="1 0 0 0 0 0"/>', "position", "", "(site) has no length",
    ),
    "adhesion for velocities": (MADE["switch"], "velocity", "", 'give mode = "effort"'),
    "adhesion with gains": (MADE["switch"], "velocity", "kd = 3", "(body) has no length"),
    "a free joint": (
        '<motor name="a" joint="free" gear="0 0 1 0 0 0"/>', "position", "", "has no length",
    ),
    "a gear of 0": ('<motor name="a" joint="one" gear="0"/>', "effort", "", "its gear is 0"),
    "a gain of 0": (f'<general {GENERAL} gainprm="0"/>', "effort", "", "its gain is 0"),
    "a user's": (f'<general {GENERAL} gaintype="user"/>', "effort", "", "of type user"),
    "a user's dynamics": (
        f'<general {GENERAL} dyntype="user" actdim="1"/>', "effort", "", "of type user",
    ),
    "a controller": ('<pid name="a" joint="one" kp="9"/>', "position", "", "type pid"),
    "a DC motor": (
        '<dcmotor name="a" joint="one" motorconst="0.05" resistance="2"/>', "effort", "",
        "type dcmotor",
    ),
    "a short memory": (
        '<position name="a" joint="one" kp="20" delay="0.003" nsample="3"/>', "position", "",
        "keeps 3 controls for its delay of 3 ms",
    ),
    "a disabled group": (
        '<motor name="a" joint="one" group="3"/>', "effort", "", "; remove 3 of <option",
    ),
    "no actuation": (
        '<motor name="a" joint="one"/>', "effort", "", "; remove <flag actuation",
    ),
}  # fmt: skip
OPTIONS = {
    "a disabled group": '<option timestep="0.001" actuatorgroupdisable="3"/>',
    "no actuation": '<option timestep="0.001"><flag actuation="disable"/></option>',
}


def write_model(folder: Path, actuator: str, option: str) -> None:
    """The model with an actuator and an option."""
    model = MODEL.format(actuator=actuator, other="")
    (folder / "one.xml").write_text(model.replace('<option timestep="0.001"/>', option))


def advised(remedy: str, actuator: str, mode: str, gains: str) -> tuple[str, str, str]:
    """Actuator, mode and gains once a remedy was applied, as a person reads it."""
    if found := re.fullmatch(r"give (kp and kd|kd) here", remedy):
        return actuator, mode, "kd = 2" if found[1] == "kd" else "kp = 20\nkd = 2"
    if found := re.fullmatch(r'give mode = "(\w+)" in \[actuator\.limb\]', remedy):
        return actuator, found[1], ""
    if found := re.fullmatch(r'give it (nsample="\d+") in one\.xml', remedy):
        return re.sub(r'nsample="\d+"', found[1], actuator), mode, gains
    if re.fullmatch(
        r"remove its delay there and give actuators\.limb\.\S+ = 3 in .timing.", remedy
    ):
        return re.sub(r' delay="\S+" nsample="\d+"', "", actuator), mode, gains
    if re.fullmatch(r"remove .* from one\.xml", remedy):
        return actuator, mode, gains
    assert re.fullmatch(r"(remove k[pd]( and kd)?, and )?make it .* in one\.xml", remedy), remedy
    return MADE[mode], mode, ""


@pytest.mark.parametrize("name", REFUSED)
def test_every_advice_of_a_refused_actuator_makes_one_that_runs(tmp_path: Path, name: str) -> None:
    actuator, mode, gains, words = REFUSED[name]
    described = written(tmp_path, actuator, mode, gains)
    write_model(tmp_path, actuator, OPTIONS.get(name, '<option timestep="0.001"/>'))
    with pytest.raises(ScheduleError) as refused:
        LockStep(described, digest=False)
    text = str(refused.value)
    assert words in text, text
    for remedy in text.rpartition("; ")[2].split(", or "):
        described = written(tmp_path, *advised(remedy, actuator, mode, gains))
        with LockStep(described, call=lambda _: None, digest=False) as robot:
            assert robot.run(10) == 10


@pytest.mark.parametrize("what", ["delay", "interval"])
def test_a_sensor_of_the_model_with_a_delay_of_its_own_is_refused(
    tmp_path: Path, what: str
) -> None:
    given = {"delay": 'delay="0.002" nsample="4"', "interval": 'interval="0.002"'}[what]
    described = written(tmp_path, MADE["position"])
    path = described.path
    path.write_text(path.read_text().replace('tendon_position = "both"', 'sensor = "s"'))
    model = (tmp_path / "one.xml").read_text()
    for more in (given, ""):
        sensor = f'<sensor><jointpos name="s" joint="one" {more}/></sensor><keyframe>'
        (tmp_path / "one.xml").write_text(model.replace("<keyframe>", sensor))
        if more:
            with pytest.raises(ScheduleError, match=rf"length: .*remove {what} from it"):
                LockStep(schedule.load(path), digest=False)
            continue
        with LockStep(schedule.load(path), call=lambda _: None, digest=False) as robot:
            assert robot.step()["joints"].value["length"] == pytest.approx(0.4, abs=1e-3)
