"""The arm's schedule in its simulated world in real time, patient enough for a loaded machine."""

import re
import socket
import tempfile
from pathlib import Path
from typing import Any, Self

from inphase.host import store_names
from peers import ROOT, free_port
from runtimes import Run

ARM = ROOT / "schedules" / "arm.toml"
JOINTS = '["pan", "lift", "elbow", "roll", "pitch", "yaw"]'
# a device that nothing but the world knows: what the others are held against
_TRUTH = f"""
[device.truth]
driver = "simulated"
latency_us = 500
[device.truth.fields]
position = {{ unit = "rad", shape = [6] }}
velocity = {{ unit = "rad/s", shape = [6] }}
force = {{ unit = "N", shape = [3] }}
[sensor.truth]
device = "truth"
trigger_us = 0
max_age_ms = 60
[world.sensor.truth.fields]
position = {{ joint_position = {JOINTS} }}
velocity = {{ joint_velocity = {JOINTS} }}
force = {{ sensor = "force" }}
"""
_PATIENT = (
    ("rate_hz = 500", "rate_hz = 100\nresumed_after_ms = 20000\noverrun_limit = 1000000"),
    ("read_deadline_us = 1300", "read_deadline_us = 6000"),
    ("act_us = 1500", "act_us = 7000"),
    ("[device.arm]", "[device.arm]\nwatchdog_ms = 2_540"),
    ("width = 320\nheight = 240", "width = 64\nheight = 48"),
    ("every = 20", "every = 10"),
    ("max_age_ms = 10\n", "max_age_ms = 60\n"),
    ("max_age_ms = 200", "max_age_ms = 2000"),
)


class Simulation:
    """The arm's schedule in a folder of its own, with `(old, new)` of `changes` replaced and
    without the tables that `without` names. `more` is put behind.
    """

    def __init__(
        self, *changes: tuple[str, str], without: tuple[str, ...] = (), more: str = _TRUTH
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inphase-sim-")
        self.folder = Path(self._folder.name)
        self.name = self.folder.name.lower()
        self.schedule = self.folder / "arm.toml"
        text = ARM.read_text()
        ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        mine = (
            ('name = "arm"', f'name = "{self.name}"'),
            ("/tmp/inphase-arm/arm", f"{self.folder}/port"),
            ("49172", str(ports[0])),
            ("config_port = 8108 ", f"config_port = {ports[1]} "),
            ('"arm.xml"', f'"{ARM.parent}/arm.xml"'),
            ('"demo_policy.py:', f'"{ARM.parent}/demo_policy.py:'),
        )
        for name in without:
            text = re.sub(rf"(?ms)^\[{re.escape(name)}\].*?(?=^\[)", "", text)
        for old, new in (*mine, *_PATIENT, *changes):
            assert old in text or without, f"{old!r} is not in the schedule"
            text = text.replace(old, new)
        self.schedule.write_text(text + more)

    def segments(self) -> list[str]:
        """What lies in the user's folder under the robot's name."""
        return sorted(path.name for path in store_names.folder().glob(f"{self.name}.*"))

    def run(self, *options: str, **popen: Any) -> Run:
        """Start `inphase run --simulate` on the schedule."""
        arguments = ["-m", "inphase", "run", "--simulate", str(self.schedule), "--json", *options]
        return Run(self, arguments, popen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.segments():
            (store_names.folder() / name).unlink()
        self._folder.cleanup()
