"""A space mouse: its reports beside pyspacemouse, its silence, and the arm that it steers."""

import fcntl
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import load
from inphase.driver import DeviceError
from inphase.episodes.lockstep import LockStep
from inphase.follow import Steer
from inphase.testing.fault_plan import Fault
from inphase_drivers.spacemouse import SpaceMouse, SpaceMouseOptions
from test_follow import PERIOD_S, SO101, commands

FULL = 350
ASIDE = """
from dataclasses import replace
from inphase.driver import TwinChannel
from inphase_drivers.spacemouse import SpaceMouse

class Aside(SpaceMouse):
    '''Its cap is held aside.'''

    def sensor(self):
        twin = (TwinChannel(base=0.5),) + (TwinChannel(),) * 6
        return replace(super().sensor(), twin=twin)
"""
MOUSE = """
[device.mouse]
driver = "aside.py:Aside"
port = "/dev/hidraw0"

[sensor.mouse]
device = "mouse"
max_age_ms = 100

[actuator.arm]
"""


class Cap:
    """The mouse's end of a pipe: each write is a report."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hidraw"
        os.mkfifo(self.path)
        self.driver = SpaceMouse("mouse", SpaceMouseOptions(port=str(self.path)))
        self.driver.open()
        self._fd = os.open(self.path, os.O_WRONLY)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_DIRECT)  # no two of them become one
        fields = self.driver.sensor().fields
        self.sample = np.zeros((), [(f.name, f.dtype, f.shape) for f in fields])

    def says(self, report: bytes) -> None:
        os.write(self._fd, report)

    def read(self, timeout_ns: int = 1_000_000_000) -> Any:
        """Raises as the driver does."""
        return self.driver.read(self.sample, timeout_ns)

    def hangs_up(self) -> None:
        os.close(self._fd)


class Heard:
    """What pyspacemouse reads in place of a HID library."""

    def __init__(self) -> None:
        self.report = b""

    def read(self, size: int) -> bytes:
        return self.report[:size]


def reports(rng: random.Random, joined: bool) -> bytes:
    axes = b"".join(rng.randint(-FULL, FULL).to_bytes(2, "little", signed=True) for _ in range(6))
    if joined:
        return b"\x01" + axes
    return bytes([rng.choice([1, 2])]) + axes[:6]


@pytest.mark.parametrize("model", ["SpaceNavigator", "SpaceMouseEnterprise", "SpaceMouseCompact"])
def test_reports_mean_what_they_mean_to_pyspacemouse(tmp_path: Path, model: str) -> None:
    loader = pytest.importorskip("pyspacemouse.loader", reason="pip install 'inphase[dev]'")
    from pyspacemouse.device import SpaceMouseDevice

    info = loader.get_device_specs()[model]
    heard, cap = Heard(), Cap(tmp_path)
    peer = SpaceMouseDevice(info, heard)
    signs = {name: spec.scale for name, spec in info.mappings.items()}
    rng = random.Random(7)
    for _ in range(100):
        heard.report = reports(rng, joined=info.mappings["pitch"].channel == 1)
        cap.says(heard.report)
        reading, state = cap.read(), peer.read()
        assert reading.acquired_ns is None and reading.received_ns is not None
        for field, names in (("translation", "x y z"), ("rotation", "pitch roll yaw")):
            theirs = [getattr(state, name) * signs[name] for name in names.split()]
            assert cap.sample[field].tolist() == pytest.approx(theirs)
    button = info.button_specs[0]
    heard.report = bytes([3]) + bytes(
        (1 << button.bit) if k == button.byte else 0 for k in range(1, 6)
    )
    cap.says(heard.report)
    cap.read()
    assert peer.read().buttons[0] == 1
    assert int(cap.sample["buttons"]) == 1 << (button.bit + 8 * (button.byte - 1))
    cap.driver.close()
    cap.hangs_up()


def test_a_mouse_that_says_nothing_gives_no_sample_and_one_that_is_gone_is_named(
    tmp_path: Path,
) -> None:
    cap = Cap(tmp_path)
    cap.says(b"\x17\x50")  # a battery's report
    with pytest.raises(TimeoutError):
        cap.read(1_000_000)
    cap.says(b"\x01" + bytes(6))
    cap.says(b"\x01" + bytes(6))
    assert cap.driver.flush() == 2
    cap.hangs_up()
    with pytest.raises(DeviceError, match=r"hidraw is gone: .*check the cable"):
        cap.read()
    cap.driver.close()
    nowhere = SpaceMouse("mouse", SpaceMouseOptions(port=str(tmp_path / "none")))
    with pytest.raises(DeviceError, match=r"cannot be opened: .*plugged in"):
        nowhere.open()


def steered(folder: Path, rates: str) -> LockStep:
    (folder / "aside.py").write_text(ASIDE)
    text = SO101.replace("/tmp/inphase-so101", str(folder)).replace("[actuator.arm]\n", MOUSE, 1)
    head, _, tail = text.partition('call = "inphase.follow:Follow"\n')
    args = f"args = {{ rates = {rates}, speed = 0.4 }}\n"
    tail = tail.partition("\n")[2]
    path = folder / "steered.toml"
    path.write_text(f'{head}call = "inphase.follow:Steer"\n{args}{tail}')
    return LockStep(load(path))


def test_the_arm_begins_where_it_is_goes_at_the_rate_and_rests_in_a_silence(
    tmp_path: Path,
) -> None:
    rates = '["mouse.translation.0", "", "", "", "", ""]'
    with steered(tmp_path, rates) as robot:
        Fault("silent", "mouse", 200, 100).plan(robot)
        places, flags = commands(robot, 400)
    known = np.flatnonzero(np.isfinite(places))
    steps = np.diff(places)
    assert places[known[0]] == pytest.approx(0.0, abs=2e-3)
    assert np.nanmax(np.abs(steps)) <= 0.5 * 0.4 * PERIOD_S + 1e-9
    assert steps[100:150] == pytest.approx(0.5 * 0.4 * PERIOD_S)
    assert np.ptp(places[260:290]) == 0
    assert any("COASTING" in one for one in flags[200:260])
    assert steps[380:] == pytest.approx(0.5 * 0.4 * PERIOD_S)


def test_after_rates_of_zero_the_arm_holds_through_a_silence(tmp_path: Path) -> None:
    rates = '["mouse.translation.1", "", "", "", "", ""]'
    with steered(tmp_path, rates) as robot:
        Fault("silent", "mouse", 100, 100).plan(robot)
        places, flags = commands(robot, 200)
    assert np.ptp(places[np.isfinite(places)]) == 0
    assert not any("COASTING" in one for one in flags[20:])


@pytest.mark.parametrize("rates", [["mouse"], ["mouse..x"], ["mouse.translation.x"]])
def test_a_rate_that_names_nothing_is_refused(rates: list[str]) -> None:
    with pytest.raises(ValueError, match="rates has"):
        Steer(rates)
