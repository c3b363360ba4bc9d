"""Command modes in a MuJoCo world: velocity actuators, motors, and motors that are made drives."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from worlds import MODEL, world_schedule

ONE, TWO = (
    '<position name="one" joint="one" kp="60" kv="4"/>',
    ('<position name="two" joint="two" kp="40" kv="3" gear="2"/>'),
)
VELOCITIES = MODEL.replace(ONE, '<velocity name="one" joint="one" kv="15"/>').replace(
    TWO, '<velocity name="two" joint="two" kv="2" gear="2"/>'
)
MOTORS = MODEL.replace(ONE, '<motor name="one" joint="one" gear="3"/>').replace(
    TWO, '<motor name="two" joint="two" gear="2"/>'
)
POSITIONS = "limits = { position = [-2.5, 2.5], velocity = 4.0, acceleration = 40.0, step = 0.5 }"
VELOCITY = 'mode = "velocity"\nlimits = { velocity = 4.0, acceleration = 40.0 }'
EFFORT = 'mode = "effort"\nlimits = { effort = 20.0, effort_rate = 400.0 }'
ACTUATORS = 'actuators = ["one", "two"]'


def run(folder: Path, model: str, limits: str, policy: Any, drive: str = ACTUATORS) -> Any:
    """Frames of 800 cycles, and the world's controls, velocities and efforts after each."""
    described = world_schedule(folder, replace={POSITIONS: limits, ACTUATORS: drive}, model=model)
    frames, seen = [], []
    with LockStep(described, call=policy, digest=False) as robot:
        for _ in range(800):
            frames.append(robot.step().copy())
            world: Any = robot.world
            mujoco.mj_forward(world.model, world.data)
            data = world.data
            seen.append([*data.ctrl[:2], *data.qvel[:2], *data.qfrc_actuator[:2]])
    return frames, np.array(seen)


def turning(frame: Frame) -> list[float]:
    """Velocities that grow within 0.2 s."""
    part = min(1.0, frame.cycle / 100)
    return [0.6 * part, -0.4 * part]


def test_velocity_actuators_take_velocities_through_their_gear(tmp_path: Path) -> None:
    frames, seen = run(tmp_path, VELOCITIES, VELOCITY, turning)
    assert np.all(seen[0, :2] == 0)
    assert seen[-1, :2] == pytest.approx([0.6, -0.8])  # a gear of 2
    speeds, efforts = seen[-1, 2:4], seen[-1, 4:]
    assert efforts == pytest.approx(np.array([15, 8]) * (np.array([0.6, -0.4]) - speeds), abs=1e-9)
    assert frames[-1].command["limb"].applied == pytest.approx([0.6, -0.4])


def test_motors_with_damping_alone_take_velocities(tmp_path: Path) -> None:
    drive = ACTUATORS + "\nkd = [15.0, 8.0]"
    frames, seen = run(tmp_path, MOTORS, VELOCITY, turning, drive)
    speeds, efforts = seen[-1, 2:4], seen[-1, 4:]
    expected = np.array([15.0, 8.0]) * (np.array([0.6, -0.4]) - speeds)
    assert efforts == pytest.approx(expected, abs=1e-9)
    assert frames[-1].command["limb"].applied == pytest.approx([0.6, -0.4])


def test_motors_take_efforts_and_exert_them_on_the_joint(tmp_path: Path) -> None:
    def holding(frame: Frame) -> list[float]:
        part = min(1.0, frame.cycle / 100)
        return [-2.0 * part, -0.5 * part]

    _, seen = run(tmp_path, MOTORS, EFFORT, holding)
    assert np.all(seen[0, 4:] == 0)
    assert seen[-1, 4:] == pytest.approx([-2.0, -0.5])
    assert seen[-1, :2] == pytest.approx([-2.0 / 3, -0.25])  # gears of 3 and 2


BAD = {
    "positions for velocities": (
        (MODEL, VELOCITY, ACTUATORS),
        r"actuators: .*takes no command of velocity mode; give kd",
    ),
    "positions for efforts": (
        (MODEL, EFFORT, ACTUATORS),
        r"actuators: .*takes no command of effort mode; .*make it <motor",
    ),
    "motors for positions": (
        (MOTORS, POSITIONS, ACTUATORS),
        r"actuators: .*takes no command of position mode",
    ),
    "a drive for efforts": (
        (MOTORS, EFFORT, ACTUATORS + "\nkp = 3.0"),
        r"kp: .*makes no drive of effort mode",
    ),
    "a spring for velocities": (
        (MOTORS, VELOCITY, ACTUATORS + "\nkp = 3.0"),
        r"kp: .*remove kp, and give kd",
    ),
    "no gain": ((MOTORS, VELOCITY, ACTUATORS + "\nkd = 0.0"), r"kd: .*give a number above 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_actuator_of_another_kind_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (model, limits, drive), words = BAD[name]
    described = world_schedule(tmp_path, replace={POSITIONS: limits, ACTUATORS: drive}, model=model)
    with pytest.raises(ScheduleError, match=rf"two\.toml:\d+: world\.actuator\.limb\.{words}"):
        LockStep(described, digest=False)
