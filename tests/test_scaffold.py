"""A new driver from the template: it keeps the contract and runs, as it comes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import inphase
from inphase.command.drafts import scaffold
from inphase.errors import ScheduleError
from peers import BOUND_S, ROOT

TEMPLATE = ROOT / "middleware" / "inphase" / "command" / "templates" / "driver"


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=10 * BOUND_S,
        check=False,
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The package of a driver called range_finder."""
    done = run(tmp_path, "inphase", "new", "driver", "range_finder")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "range_finder"
    schedule = folder / "range_finder.toml"
    text = schedule.read_text()
    assert "/tmp/inphase-range_finder/port" in text
    text = text.replace("/tmp/inphase-range_finder/port", f"{tmp_path}/port")
    schedule.write_text(text.replace('name = "range_finder"', f'name = "new-{os.getpid()}"'))
    return folder


@pytest.mark.real
@pytest.mark.long
def test_a_new_drivers_own_test_passes_as_it_comes(made: Path) -> None:
    done = run(made, "pytest", "-q", "-ra", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    skips = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    assert skips and all("RangeFinder has no actuator" in skip for skip in skips), done.stdout


@pytest.mark.real
@pytest.mark.long
def test_a_new_drivers_schedule_runs_in_real_time_and_in_lock_step(made: Path) -> None:
    for options in (("--cycles", "100"), ("--cycles", "100", "--lockstep")):
        done = run(
            made.parent, "inphase", "run", str(made / "range_finder.toml"), "--json", *options
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert result["cycles"] == 100
        assert result["sensors"]["distance"]["status"]["FRESH"] > 0


def test_an_installed_new_driver_is_found_by_its_name(made: Path) -> None:
    # what pip writes of a package's entry points, without its network
    points = tomllib.loads((made / "pyproject.toml").read_text())["project"]["entry-points"]
    info = made / "inphase_range_finder-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: inphase-range_finder\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {call}\n" for name, call in table.items())
            for group, table in points.items()
        )
    )
    listed = run(made.parent, "inphase", "drivers", "--json", PYTHONPATH=str(made))
    offers = {offer["name"]: offer for offer in json.loads(listed.stdout)}
    assert offers["range_finder"]["about"] == "Range finder: `distance` in m."
    assert offers["range_finder"]["package"] == "inphase-range_finder"
    schedule = made / "range_finder.toml"
    schedule.write_text(schedule.read_text().replace("range_finder.py:RangeFinder", "range_finder"))
    done = run(made.parent, "inphase", "check", str(schedule), PYTHONPATH=str(made))
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_new_driver_is_typed_throughout(made: Path) -> None:
    cache = str(ROOT / ".mypy_cache" / "scaffold")
    # an editable install is not seen by mypy; an ordinary one is, by its py.typed
    editable = Path(inphase.__file__).is_relative_to(ROOT / "middleware")
    path = {"MYPYPATH": f"{ROOT}/middleware"} if editable else {}
    done = run(made, "mypy", "--strict", "--cache-dir", cache, ".", **path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Range", "2d", "range-finder", "../x", "class", "json", ""])
def test_a_name_that_no_module_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScheduleError, match="name"):
        scaffold.new_driver(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "finder").mkdir()
    with pytest.raises(ScheduleError, match="exists already"):
        scaffold.new_driver("finder", tmp_path)
    assert not list((tmp_path / "finder").iterdir())


def test_a_simple_driver_is_short_and_the_readme_shows_it_whole() -> None:
    driver = (TEMPLATE / "example.py").read_text()
    assert len(driver.splitlines()) < 40
    assert f"```python\n{driver}```" in (ROOT / "drivers" / "README.md").read_text()
