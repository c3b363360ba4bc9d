"""`inphase new schedule`, `new policy` and `new project`: what they write runs as it comes."""

import json
import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from inphase.command.drafts import policy_draft, project_draft, scaffold, schedule_draft
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.schedule import load
from inphase.world.mujoco.survey import survey
from peers import BOUND_S, ROOT
from robots import demo_schedule
from test_run import inphase

pytest.importorskip("mujoco")

ODD = """<mujoco model="odd ones">
  <compiler angle="radian"/>
  <worldbody>
    <light pos="0 0 2"/>
    <body name="Left Arm/1" pos="0 0 1">
      <joint name="Left Arm/1" axis="0 1 0" range="0.5 2"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="1"/>
      <body pos="0.2 0 0">
        <joint axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.5"/>
        <body pos="0.2 0 0">
          <joint name="drive" type="slide" axis="1 0 0" range="-0.1 0.1"/>
          <geom size="0.03" mass="0.1"/>
          <body pos="0.1 0 0">
            <joint name="loose" axis="0 0 1"/>
            <geom size="0.02" mass="0.05"/>
            <site name="a"/><site name="b"/>
          </body>
        </body>
      </body>
    </body>
    <body name="wheel" pos="0 1 1"><joint name="wheel" axis="0 0 1" damping="0.1"/>
      <geom size="0.1" mass="1"/></body>
    <body name="ball" pos="0 -1 1"><joint name="ball" type="ball"/>
      <geom size="0.1" mass="1"/></body>
    <body name="Cup 7" pos="1 1 0.2"><freejoint/><geom size="0.1" mass="0.1"/></body>
  </worldbody>
  <actuator>
    <motor name="lift" joint="Left Arm/1" ctrlrange="-30 30" gear="2"/>
    <position joint="1" kp="30" kv="2"/>
    <velocity name="spin" joint="wheel" kv="2" ctrlrange="-5 5"/>
    <motor name="second" joint="Left Arm/1"/>
    <muscle name="muscle" joint="loose" lengthrange="-1 1"/>
  </actuator>
  <sensor>
    <framepos name="a1" objtype="site" objname="a"/><framepos name="a2" objtype="site" objname="a"/>
    <framepos name="b1" objtype="site" objname="b"/><framepos name="b2" objtype="site" objname="b"/>
    <gyro name="Gyro X" site="a"/><jointpos joint="drive"/>
  </sensor>
</mujoco>
""".replace('joint="1" kp', 'joint="unnamed" kp').replace(
    '<joint axis="0 1 0"/>', '<joint name="unnamed" axis="0 1 0"/>'
)
URDF = """<robot name="two">
  <link name="world"/>
  <link name="upper"><inertial><origin xyz="0 0 0.15"/><mass value="1"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="fore"><inertial><origin xyz="0 0 0.1"/><mass value="0.5"/>
    <inertia ixx="0.004" iyy="0.004" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="shoulder" type="revolute"><parent link="world"/><child link="upper"/>
    <axis xyz="0 1 0"/><limit lower="-1.5" upper="1.5" effort="40" velocity="2"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="fore"/>
    <axis xyz="0 1 0"/><origin xyz="0 0 0.3"/>
    <limit lower="0.2" upper="2.5" effort="20" velocity="2"/></joint>
</robot>
"""
MANY = "".join(
    f'<body pos="0 {number} 1"><joint name="j{number}" axis="0 1 0" range="-1 1" damping="0.1"/>'
    '<geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.1"/></body>'
    for number in range(24)
)
MANY = (
    f"<mujoco><compiler angle='radian'/><worldbody>{MANY}</worldbody><actuator>"
    + "".join(f'<position name="p{n}" joint="j{n}" kp="5" kv="0.2"/>' for n in range(24))
    + "</actuator></mujoco>"
)


def drafted(folder: Path, file: str, text: str) -> schedule_draft.DraftResult:
    """The schedule of a model, in a folder beside the model's."""
    model = folder / "model" / file
    model.parent.mkdir()
    model.write_text(text)
    return schedule_draft.new_schedule(model, folder / "robot" / "mine.toml")


def moved(schedule: Path, seconds: float = 2.0) -> dict[str, float]:
    """How far each actuator's applied commands went, in SI, and that none was refused."""
    described = load(schedule)
    cycles = round(seconds * 1e9 / described.cycle.period_ns)
    ways: dict[str, list[Any]] = {}
    with LockStep(described, seed=1, digest=False) as robot:
        for frame in robot.frames(cycles):
            for name in described.actuator:
                act = frame.command[name]
                if frame.cycle > 5:
                    assert "WRITTEN" in act.flags and "INVALID" not in act.flags, frame.cycle
                    ways.setdefault(name, []).append(act.applied.copy())
    return {
        name: min(max(column) - min(column) for column in zip(*way, strict=True))
        for name, way in ways.items()
    }


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=10 * BOUND_S,
        check=False,
    )


# ---- schedules of models -------------------------------------------------------------------------


def test_a_schedule_of_a_model_runs_and_moves_every_joint(tmp_path: Path) -> None:
    made = schedule_draft.new_schedule(ROOT / "schedules" / "arm.xml", tmp_path / "my-arm.toml")
    assert (made.left_out, made.trouble) == ([], "")
    assert [path.name for path in made.files] == [
        "my-arm.toml", "my_arm_policy.py", "test_my_arm_policy.py", "conftest.py",
    ]  # fmt: skip
    assert moved(made.files[0])["motors"] > 0.15
    described = load(made.files[0])
    assert described.world is not None
    assert described.world.keyframe == "home"
    low, high = described.actuator["motors"].limits.position[1]  # type: ignore[index, misc]
    assert (low, high) == (-2.0, 2.0), "as in the model"


def test_an_odd_model_has_all_its_parts_and_a_reason_for_each_that_is_left_out(
    tmp_path: Path,
) -> None:
    made = drafted(tmp_path, "odd.xml", ODD)
    described = load(made.files[0])
    left_out = dict(made.left_out)
    assert set(left_out) >= {"actuator second", "actuator muscle"}
    assert "another actuator already" in left_out["actuator second"]
    text = made.files[0].read_text()
    assert all(f"#   {part}: " in text for part in left_out)
    modes = {actuator.mode for actuator in described.actuator.values()}
    assert modes == {"position", "velocity"}, "motors have gains"
    assert "kp = " in text and "guess" in text
    assert {"instruments", "objects"} <= set(described.sensor)
    assert "cup_7_position" in text and "framepos = { unit" in text and "gyro_x" in text
    assert described.world is not None
    assert 0.5 < described.world.pose["Left Arm/1"] < 2, "the model starts outside of its range"
    assert all(way > 0 for way in moved(made.files[0]).values())


def test_more_joints_than_a_device_has_are_two_devices(tmp_path: Path) -> None:
    made = drafted(tmp_path, "many.xml", MANY)
    described = load(made.files[0])
    counts = [described.device[name].options["joints"] for name in ("motors", "motors_2")]
    assert counts == [20, 4]
    assert min(moved(made.files[0]).values()) > 0.1


def test_a_urdf_file_gets_motors_within_its_efforts(tmp_path: Path) -> None:
    made = drafted(tmp_path, "two.urdf", URDF)
    assert made.files[1].name == "mine_with_motors.xml"
    found = survey(made.files[1])
    assert [(motor.name, motor.effort) for motor in found.motors] == [
        ("shoulder", 40),
        ("elbow", 20),
    ]
    assert moved(made.files[0])["motors"] > 0.15


@pytest.mark.parametrize(
    ("other", "velocity", "guess"),
    [("2", 2.0, False), ("3.5", [2.0, 3.5], False), ("0", [2.0, 1.0], True)],
)
def test_a_urdf_files_speeds_are_the_limits(
    tmp_path: Path, other: str, velocity: object, guess: bool
) -> None:
    head, tail = URDF.split('effort="20" velocity="2"')
    made = drafted(tmp_path, "two.urdf", f'{head}effort="20" velocity="{other}"{tail}')
    assert load(made.files[0]).actuator["motors"].limits.velocity == velocity
    (line, before) = next(
        (line, before)
        for before, line in pairwise(made.files[0].read_text().splitlines())
        if line.startswith("velocity = ") and "unit" not in line
    )
    assert ("guess" in before + line) is guess


def test_gains_of_motors_hold_the_weight(tmp_path: Path) -> None:
    made = drafted(tmp_path, "odd.xml", ODD)
    described = load(made.files[0])
    with LockStep(described, seed=1, digest=False) as robot:
        for frame in robot.frames(150):
            measured = float(frame["joints"].value["position"][0])
        asked = float(frame.command["motors"].applied[0])
    assert math.isclose(measured, asked, abs_tol=0.1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<mujoco><worldbody/></mujoco>", "no hinge and no slide"),
        ("<mujoco><joint/></mujoco>", "does not load"),
    ],
)
def test_a_model_without_a_robot_is_told(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ScheduleError, match=what):
        drafted(tmp_path, "none.xml", text)
    assert not list(tmp_path.glob("robot/*.toml"))


OVERLAPPING = """<mujoco><worldbody>
  <body name="palm"><geom size="0.3"/>
    <body name="finger" pos="0 0 0.1">
      <joint name="knuckle" type="slide" axis="0 0 1" limited="true" range="0 0.02"/>
      <geom size="0.3" mass="0.1"/></body></body>
  </worldbody>
  <actuator><position name="pull" joint="knuckle" kp="20" kv="1" ctrllimited="true"
    ctrlrange="0 0.02"/></actuator></mujoco>"""


def test_bodies_that_push_a_joint_out_of_its_range_are_told_and_the_remedy_works(
    tmp_path: Path,
) -> None:
    made = drafted(tmp_path, "grip.xml", OVERLAPPING)
    assert "out of its range: sensor slides" in made.trouble
    assert "palm and finger by 499.6 mm" in made.trouble
    remedy = re.search("<contact>.*</contact>", made.trouble)
    assert remedy is not None
    again = tmp_path / "again"
    again.mkdir()
    mended = OVERLAPPING.replace("<actuator>", f"{remedy[0]}<actuator>")
    assert drafted(again, "grip.xml", mended).trouble == ""


def test_no_file_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "arm_policy.py").write_text("mine")
    with pytest.raises(ScheduleError, match=r"arm_policy.py exists already.*--output"):
        schedule_draft.new_schedule(ROOT / "schedules" / "arm.xml", tmp_path / "arm.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["arm_policy.py"]


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    output = tmp_path / "odd.toml"
    model = tmp_path / "odd.xml"
    model.write_text(ODD)
    done = inphase("new", "schedule", "--world", str(model), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(output)
    assert "left out: actuator muscle: " in done.stderr
    assert f"next: inphase run --simulate {output}" in done.stderr
    assert inphase("check", str(output)).returncode == 0


def test_a_schedule_of_a_model_is_an_environment(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    made = drafted(tmp_path, "many.xml", MANY)
    env = gymnasium.make("inphase.gym:inphase/Schedule-v0", schedule=str(made.files[0]))
    observation, _ = env.reset(seed=1)
    for _ in range(20):
        action = {
            "motors": observation["joints"]["position"],
            "motors_2": observation["joints_2"]["position"],
        }
        observation, _, terminated, truncated, _ = env.step(action)
        assert not terminated and not truncated
    env.close()


@pytest.mark.real
@pytest.mark.long
def test_a_schedule_of_a_model_runs_in_real_time(tmp_path: Path) -> None:
    made = drafted(tmp_path, "two.urdf", URDF)
    text = made.files[0].read_text()
    patient = "[cycle]\nresumed_after_ms = 20000\noverrun_limit = 1000000"
    text = text.replace("[cycle]", patient).replace('"mine"', f'"mine-{os.getpid()}"')
    made.files[0].write_text(text)
    done = inphase("run", "--simulate", "--json", "--cycles", "100", str(made.files[0]))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cycles"] == 100 and result["policy"]["commands"] > 0


# ---- policies and projects -----------------------------------------------------------------------


def test_a_policys_test_passes_as_it_comes_and_the_schedule_names_it(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(path.read_text().partition("[policy]")[0])
    made = policy_draft.new_policy("reach", tmp_path, None)
    assert [file.name for file in made] == [
        "reach.py", "test_reach.py", "conftest.py", "robot.toml",
    ]  # fmt: skip
    assert load(path).policy.call == "reach.py:Reach"  # type: ignore[union-attr]
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_schedule_that_has_a_policy_keeps_it(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    before = path.read_text()
    policy_draft.new_policy("reach", tmp_path, path)
    assert path.read_text() == before


def test_a_policy_that_stands_still_fails_the_test(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    policy_draft.new_policy("reach", tmp_path, path)
    policy = tmp_path / "reach.py"
    policy.write_text(policy.read_text().replace("SWAY_MAX = 0.2", "SWAY_MAX = 0.0"))
    assert pytest_in(tmp_path).returncode == 1


def test_a_policy_without_a_schedule_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"found none; name it: --schedule FILE"):
        policy_draft.new_policy("reach", tmp_path, None)
    demo_schedule(tmp_path).rename(tmp_path / "one.toml")
    demo_schedule(tmp_path).rename(tmp_path / "two.toml")
    with pytest.raises(ScheduleError, match=r"found one.toml, two.toml"):
        policy_draft.new_policy("reach", tmp_path, None)


def assert_comments_are_in_one_column(page: Path, count: int) -> None:
    columns = [line.index(" # ") for line in page.read_text().splitlines() if " # " in line]
    assert len(columns) == count and len(set(columns)) == 1


@pytest.mark.parametrize("name", ["ir", "a_driver_with_a_long_name"])
def test_the_comments_of_a_drivers_page_are_in_one_column(tmp_path: Path, name: str) -> None:
    made = scaffold.new_driver(name, tmp_path)
    assert_comments_are_in_one_column(made / "README.md", 5)


@pytest.mark.parametrize("model", [None, ROOT / "tests" / "planned.toml", "urdf"])
def test_a_project_passes_its_own_test(tmp_path: Path, model: Path | str | None) -> None:
    if model == "urdf":
        source = tmp_path / "source" / "two.urdf"
        source.parent.mkdir()
        source.write_text(URDF)
        model = source
    elif model is not None:
        with pytest.raises(ScheduleError, match="does not load"):
            project_draft.new_project("wrong", tmp_path, Path(model))
        assert not (tmp_path / "wrong").exists(), "the corrected command is the same one"
        return
    name = "bot" if model is None else "two"
    project_draft.new_project(name, tmp_path, model)
    project = tmp_path / name
    assert {path.name for path in project.iterdir()} >= {
        ".github", "README.md", f"{name}.toml", "requirements.txt", f"test_{name}_policy.py",
    }  # fmt: skip
    assert "python -m pytest" in (project / ".github/workflows/test.yml").read_text()
    assert_comments_are_in_one_column(project / "README.md", 3)
    done = pytest_in(project)
    assert done.returncode == 0, done.stdout


def test_a_project_is_made_beside_its_model(tmp_path: Path) -> None:
    model = tmp_path / "two.urdf"
    model.write_text(URDF)
    schedule_draft.new_schedule(model, tmp_path / "two_of_before.toml")
    (tmp_path / "conftest.py").write_text("pytest_plugins = []\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "hand.stl").write_text("solid")
    project_draft.new_project("two", tmp_path, model)
    copied = {path.name for path in (tmp_path / "two" / "model").rglob("*")}
    assert copied == {"two.urdf", "two_of_before_with_motors.xml", "meshes", "hand.stl"}
    done = pytest_in(tmp_path / "two")
    assert done.returncode == 0, done.stdout


def test_a_folder_that_is_no_models_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "two.urdf"
    model.write_text(URDF)
    monkeypatch.setattr(project_draft, "_MOST_BYTES", 100)
    with pytest.raises(ScheduleError, match=r"more than 1 GiB.*folder of its own"):
        project_draft.new_project("large", tmp_path, model)
    assert not (tmp_path / "large").exists()


@pytest.mark.long
def test_a_projects_files_are_typed(tmp_path: Path) -> None:
    project_draft.new_project("typed", tmp_path, None)
    cache = str(ROOT / ".mypy_cache" / "drafts")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "typed/typed_policy.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT / "middleware")},
        capture_output=True,
        text=True,
        timeout=10 * BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_joint_that_damping_locks_gets_no_motor(tmp_path: Path) -> None:
    base = '<joint name="base" type="slide" axis="1 0 0" damping="1e11"/>'
    text = f"""<mujoco><compiler angle="radian"/><option gravity="0 0 0"/><worldbody>
      <body>{base}<geom size="0.1" mass="5"/>
        <body><joint name="arm" axis="0 0 1" damping="1" range="-1 1" limited="true"/>
          <geom size="0.05" pos="0.2 0 0" mass="0.5"/></body></body>
    </worldbody></mujoco>"""
    made = drafted(tmp_path, "fixed.xml", text)
    assert [motor.name for motor in survey(made.files[1]).motors] == ["arm"]
    assert moved(made.files[0])["motors"] > 0.05
