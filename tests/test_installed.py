"""Drivers by the names that packages give them."""

import json
from pathlib import Path

import pytest

from inphase.devices.driver_names import Installed, installed_drivers, resolve_driver
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from inphase.schedule import load
from inphase_drivers.ati import NetFT
from inphase_drivers.dynamixel import Servos
from peers import ROOT
from robots import demo_schedule
from test_run import inphase

OURS = [offer for offer in installed_drivers() if offer.package == "inphase"]


def test_our_drivers_have_names() -> None:
    assert {"dynamixel", "netft"} <= {offer.name for offer in installed_drivers()}
    assert resolve_driver("dynamixel", Path()) is Servos
    assert resolve_driver("netft", Path()) is NetFT


@pytest.mark.parametrize("offer", OURS, ids=lambda offer: offer.name)
def test_each_of_our_drivers_says_what_it_is_and_the_readme_names_it(offer: Installed) -> None:
    assert offer.about()
    readme = (ROOT / "drivers" / "README.md").read_text()
    assert f"| `{offer.name}`, `{offer.call}` |" in readme


def test_a_schedule_may_use_a_name(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(path.read_text().replace("inphase_drivers.dynamixel:Servos", "dynamixel"))
    assert isinstance(planning.make(load(path)).drivers["arm"], Servos)


def test_an_unknown_name_is_refused_with_file_line_and_the_names_there_are(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(path.read_text().replace("inphase_drivers.dynamixel:Servos", "dynamixle"))
    with pytest.raises(ScheduleError, match=r"\.toml:\d+: device.arm.driver.*dynamixel, feetech, "):
        planning.make(load(path))


def test_a_name_that_two_packages_give_is_refused_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\n")
        (info / "entry_points.txt").write_text(f"[inphase.drivers]\nlidar = {package}:Lidar\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [offer.package for offer in installed_drivers() if offer.name == "lidar"] == [
        "one",
        "two",
    ]
    with pytest.raises(ScheduleError, match="one:Lidar and as two:Lidar"):
        resolve_driver("lidar", Path())


def test_the_command_lists_them_with_what_they_are() -> None:
    done = inphase("drivers", "--json")
    offers = {offer["name"]: offer for offer in json.loads(done.stdout)}
    assert offers["dynamixel"]["about"].startswith("Servos on one bus")
    assert "dynamixel" in inphase("drivers").stdout
