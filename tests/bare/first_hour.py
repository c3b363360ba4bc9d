"""Plays a person's first hour on bare systems, and counts the commands and the edits.

`python3 tests/bare/first_hour.py`, or `make first-hour`. On a system without a compiler the person
installs the wheel; on one with a compiler the person follows README.md. Three goals have a most of
commands each: the demo runs, an MJCF file of the person's own moves, a serial device of the
person's own is read. See README.md beside this file.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import run as bare

HERE = Path(__file__).resolve().parent
WITHOUT_COMPILER = "python3,python3-venv,ca-certificates"

OWN_MODEL = """<mujoco model="crane">
  <worldbody>
    <light pos="0 0 3"/>
    <body pos="0 0 1">
      <joint name="swing" axis="0 0 1" range="-170 170" damping="1"/>
      <geom type="capsule" fromto="0 0 0 0.6 0 0" size="0.04" mass="3"/>
      <body pos="0.6 0 0">
        <joint name="lift" axis="0 1 0" range="-100 100" damping="1"/>
        <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" mass="1"/>
        <body pos="0.4 0 0">
          <joint name="reach" type="slide" axis="1 0 0" range="0 0.2" damping="5"/>
          <geom type="box" size="0.1 0.02 0.02" mass="0.3"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="swing" joint="swing" kp="80" kv="10"/>
    <motor name="lift" joint="lift" ctrlrange="-40 40"/>
    <general name="reach" joint="reach" ctrlrange="0 255" gainprm="0.2" biastype="affine"
      biasprm="0 -255 -20"/>
  </actuator>
</mujoco>
"""
"""A motor, a position servo and a slide whose control goes from 0 to 255."""

MOSTS = {"the demo runs": 2, "an own MJCF file moves": 4, "an own serial device is read": 6}


@dataclass
class Hour:
    """What one person does in one system; the counts go on from goal to goal."""

    where: Path
    start: str
    """the folder in which every command is typed, from the home"""
    activation: str = ""
    """the environment that is active in the person's terminal"""
    commands: int = 0
    edits: int = 0
    trouble: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The person's, as this machine sees it."""
        return self.where / "home/person"

    def type(self, command: str, meanwhile: str = "true") -> None:
        """Type a command; `meanwhile` is what is on the desk, and not typed."""
        self.commands += 1
        print(f"first hour: $ {command}", flush=True)
        if self.trouble:
            return
        typed = f"{{ {meanwhile} & }}; {self.activation}{command}"
        code = bare.run(self.where, "user", typed, self.start)
        if code:
            self.trouble.append(f"exit code {code}: {command}")

    def edit(self, file: str, *changes: tuple[str, str]) -> None:
        """Change a file in an editor; each place counts."""
        if self.trouble:
            return
        path = self.home / self.start / file
        text = path.read_text()
        for old, new in changes:
            self.edits += 1
            print(f"first hour: {file}: {old.splitlines()[0]} -> {new or 'deleted'}", flush=True)
            if old not in text:
                self.trouble.append(f"{file} has no {old!r}")
            text = text.replace(old, new)
        path.write_text(text)

    def reach(self, goal: str) -> None:
        """A goal's counts, and whether they are few enough."""
        if self.commands > MOSTS[goal]:
            self.trouble.append(f"{goal} after {self.commands} commands, more than {MOSTS[goal]}")
        outcome = self.trouble[0] if self.trouble else "reached"
        print(
            f"first hour: {self.where.name}: {goal}: {self.commands} commands, {self.edits} edits: "
            f"{outcome}",
            flush=True,
        )


def with_the_wheel(hour: Hour) -> None:
    """`pip install` in an environment, as an index would bring it: the wheel is a file here."""
    wheels = list((bare.ROOT / "dist").glob("inphase-*manylinux*.whl"))
    if len(wheels) != 1:
        raise bare.Missing("dist has no wheel: make wheel")
    shutil.copy(wheels[0], hour.home / "desk")
    # Debian wants an environment for pip (PEP 668): part of the machine here, as a conda one is
    bare.run(hour.where, "user", "python3 -m venv --clear ~/env", "desk")
    hour.activation = ". ~/env/bin/activate; "
    hour.type(f"pip install --quiet './{wheels[0].name}[sim]'")
    hour.type("inphase demo --seconds 5")
    hour.reach("the demo runs")
    _move_own_model(hour, "inphase")
    _read_own_device(hour, "inphase")


def with_the_readme(hour: Hour) -> None:
    """`git clone`, then make."""
    source = hour.where / "srv/inphase.git"
    for path in (source, hour.home / "inphase"):
        shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", bare.ROOT, source], check=True)
    _give(source)
    hour.start = "."
    hour.type("git clone --quiet /srv/inphase.git inphase")
    hour.start = "inphase"
    hour.type("make demo")
    hour.reach("the demo runs")
    _move_own_model(hour, ".venv/bin/inphase")
    _read_own_device(hour, ".venv/bin/inphase")


def _give(path: Path) -> None:
    """Make a folder the person's own."""
    owner = str(bare.PEOPLE["user"].uid)
    subprocess.run(["chown", "--recursive", f"{owner}:{owner}", path], check=True)


def _move_own_model(hour: Hour, inphase: str) -> None:
    (hour.home / hour.start / "crane.xml").write_text(OWN_MODEL)
    hour.type(f"{inphase} new schedule --world crane.xml")
    hour.type(f"{inphase} run --simulate crane.toml --seconds 5")
    hour.reach("an own MJCF file moves")


def _read_own_device(hour: Hour, inphase: str) -> None:
    hour.type(f"{inphase} new driver thermometer")
    hour.edit(
        "thermometer/thermometer.py",
        (r'request=b"\x55\xaa\x01"', r'request=b"\x02\x54"'),
        (r'start=b"\xaa\x55"', r'start=b"\x54\x2e"'),
        ("type=Raw.U16, channel=0, scale=0.001", "type=Raw.I16, channel=0, scale=0.01"),
        ("reply_min_ns=1_500_000", "reply_min_ns=10_000"),
        ('driver.Field("distance", "m")', 'driver.Field("temperature", "degC")'),
    )  # fmt: skip
    hour.edit(
        "thermometer/thermometer.toml",
        ('[emulator]\nmodule = "thermometer_emulator"\n', ""),
        ("/tmp/inphase-thermometer/port", "/tmp/thermometer"),
        ("range = { distance = [0.0, 8.0] }", "range = { temperature = [-40, 125] }"),
    )
    shutil.copy(HERE / "thermometer.py", hour.home)
    hour.type(
        f"{inphase} probe thermometer/thermometer.toml distance --seconds 3",
        "python3 ~/thermometer.py",
    )
    hour.reach("an own serial device is read")


WAYS: dict[str, tuple[str, Callable[[Hour], None]]] = {
    "wheel": (WITHOUT_COMPILER, with_the_wheel),
    "readme": (bare.PACKAGES, with_the_readme),
}


def play(name: str, way: str) -> bool:
    """One system, one way; True if every goal was reached."""
    packages, steps = WAYS[way]
    where = bare.system(name, packages)
    hour = Hour(where, "desk")
    desk, cache = hour.home / "desk", hour.home / ".cache"
    shutil.rmtree(desk, ignore_errors=True)
    for path in (desk, cache):
        path.mkdir(exist_ok=True)
        _give(path)
    steps(hour)
    return not hour.trouble


def main() -> int:
    """The command line; the exit code is 1 when a goal was missed, 77 when a system cannot be
    made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", action="append", choices=bare.SYSTEMS, help="default: all")
    parser.add_argument("--way", action="append", choices=WAYS, help="default: both")
    options = parser.parse_args()
    if os.geteuid():
        print("first hour: run it as root: it makes systems and enters them", file=sys.stderr)
        return 77
    reached = []
    try:
        for name in options.system or bare.SYSTEMS:
            reached += [play(name, way) for way in options.way or WAYS]
    except bare.Missing as missing:
        print(f"first hour: {missing}", file=sys.stderr)
        return 77
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
