"""The schedules that come along: they are listed, copied with all that they need, and run."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from inphase.command import ready_schedules
from inphase.command.ready_schedules import ReadySchedule
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from inphase.schedule import load
from peers import BOUND_S, ROOT, open_folder
from robots import demo_schedule
from test_run import inphase

READY = ready_schedules.all_schedules()
OF_DRIVER = {"canopen": "can", "pylon": "pylon"}


def wanted_extras(schedule: ReadySchedule) -> set[str]:
    """The extras that its tables ask for."""
    tables = tomllib.loads(schedule.path.read_text())
    extras = {"sim"} if "world" in tables else set()
    extras |= {"onnx"} if "model" in tables.get("policy", {}) else set()
    if "world" not in tables:  # where stand-ins answer for devices
        drivers = " ".join(device["driver"] for device in tables["device"].values())
        extras |= {extra for name, extra in OF_DRIVER.items() if name in drivers}
    return extras


def test_the_wheel_has_the_folder_of_the_repository() -> None:
    lists = (ROOT / "native" / "CMakeLists.txt").read_text()
    assert "install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/../schedules DESTINATION inphase" in lists
    assert {one.path.parent for one in READY} == {ROOT / "schedules"}


def test_an_installed_package_looks_inside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_schedules, "_PACKAGE", tmp_path)
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "mine.toml").write_text("# Mine. More.\nname = 'mine'\n")
    assert [(one.name, one.about) for one in ready_schedules.all_schedules()] == [("mine", "Mine")]


@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_its_head_names_the_extras_that_it_wants(ready: ReadySchedule) -> None:
    assert set(ready.extras) == wanted_extras(ready)
    assert ready.missing_extras() == [] or "pylon" in ready.extras


@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_a_copy_has_all_that_it_needs(ready: ReadySchedule, tmp_path: Path) -> None:
    copies = ready.copy(tmp_path / "new")
    assert {copy.name for copy in copies} == {path.name for path in (tmp_path / "new").iterdir()}
    described = load(copies[0])
    planning.make(described)
    policy = described.policy
    assert policy is not None
    place = policy.name.partition(":")[0]
    assert place.startswith("inphase.") or (copies[0].parent / place).is_file()
    if described.world is not None:
        mujoco = pytest.importorskip("mujoco")
        mujoco.MjModel.from_xml_path(str(copies[0].parent / described.world.model))


def test_a_copy_writes_over_nothing(tmp_path: Path) -> None:
    demo = ready_schedules.find("demo")
    (tmp_path / "demo_policy.py").write_text("mine")
    with pytest.raises(ScheduleError, match=r"demo_policy.py exists already; .*--output"):
        demo.copy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo_policy.py"]
    demo.copy(tmp_path / "demo")


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    done = inphase("demo", "dmeo")
    assert (done.returncode, done.stdout) == (2, "")
    there = "arm, arm_gripper, balance, demo, franka, press, rig, so101, tracked, ur"
    assert f"no ready schedule 'dmeo'; there are {there}" in done.stderr


def test_all_extras_that_are_missing_are_named_in_one_command() -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(('mujoco', 'onnxruntime')))"
    code = f"{hide}; from inphase.command.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "press"],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 2
    assert "install it: pip install 'inphase[onnx,sim]'" in done.stderr


def test_they_are_listed_with_what_they_are() -> None:
    listed = {one["name"]: one for one in json.loads(inphase("schedules", "--json").stdout)}
    everyone = {
        "arm",
        "arm_gripper",
        "balance",
        "demo",
        "franka",
        "press",
        "rig",
        "so101",
        "tracked",
        "ur",
    }
    assert set(listed) == everyone
    assert listed["press"]["extras"] == ["onnx", "sim"]
    assert {"press.xml", "arm.xml", "press.onnx"} <= set(listed["press"]["files"])
    assert "Six servos" in inphase("schedules").stdout


@pytest.mark.real
def test_the_demo_runs_to_its_end() -> None:
    with open_folder("demo-") as folder:
        demo_schedule(folder, emulator=True).rename(folder / "demo.toml")
        code = (
            "import pathlib; from inphase.command import cli, ready_schedules; "
            f"ready_schedules.folder = lambda: pathlib.Path({str(folder)!r}); cli.main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "demo", "--seconds", "0.5"],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    assert "250 cycles" in done.stdout, done.stderr
    assert "inphase schedules --copy demo" in done.stderr
