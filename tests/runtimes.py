"""A runtime as a process of its own, on the emulated robot, for tests that send it signals."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from inphase.frame import Frame
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names
from peers import BOUND_S, EmulatorProcess, robot_schedule, until
from robots import ARM_LIMITS, FAST_CYCLE

_HEAD = f"""
name = "{{name}}"
{FAST_CYCLE}"""
_TAIL = f"""
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 60
[sensor.wrench]
device = "wrist"
trigger_us = 0
max_age_ms = 60
[actuator.arm]
device = "arm"
feedback = "joints.position"
{ARM_LIMITS}[policy]
call = "sweep.py:Sweep"
"""
SWEEP = '''
"""Swings all joints by 0.4 rad around where they were found, so that they move all the time."""
import math


class Sweep:
    def __init__(self):
        self.start = None

    def __call__(self, frame):
        joints = frame["joints"]
        if "arm" in frame.command._acts and frame.reason != "none":
            self.start = None  # latched: begin again from where the robot is
        if self.start is None:
            if joints.status != "FRESH" or frame.reason != "none":
                return None
            self.start, self.start_ns = joints.value["position"].copy(), frame.due_ns
        swing = 0.4 * math.sin((frame.due_ns - self.start_ns) * 1.5e-9)
        return self.start + swing
'''


LIBC = ctypes.CDLL(None)
CAPBSET_DROP, IPC_LOCK, SYS_NICE = 24, 14, 23  # prctl(2), capabilities(7)


def give_rights_up() -> None:
    """In the child: no real-time priority and no locked memory, as for an ordinary user."""
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    for capability in (IPC_LOCK, SYS_NICE):  # refused to those who have none anyway
        LIBC.prctl(CAPBSET_DROP, capability, 0, 0, 0)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended. An orphan stays a zombie until init takes it away."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Robot:
    """The emulated robot and its schedule, without the servos' watchdog: a ramp may end by itself.

    `folder` is short: it becomes part of socket names.
    """

    def __init__(self, emulator: str = "wire_time = true\n") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inphase-test-")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)
        self.name = self.folder.name.lower()
        self.emulator = self._start_emulator(emulator)
        self.schedule = self.folder / "run.toml"
        self.folder.joinpath("sweep.py").write_text(SWEEP)
        self.write()

    def _start_emulator(self, options: str) -> EmulatorProcess:
        """Start it; another time where somebody took a port that was free a moment ago."""
        for _ in range(2):
            self._devices = robot_schedule(self.folder, options)
            with contextlib.suppress(RuntimeError):
                return EmulatorProcess().start(self._devices)
        self._devices = robot_schedule(self.folder, options)
        return EmulatorProcess().start(self._devices)

    def write(self, *changes: tuple[str, str]) -> Path:
        """Write the runtime's schedule, with each `(old, new)` of `changes` replaced."""
        text = self._devices.read_text()
        text = _HEAD.format(name=self.name) + text[text.index("[device.arm]") :] + _TAIL
        text = text.replace("watchdog_ms = 2_540", "watchdog_ms = 0")
        for old, new in changes:
            assert old in text, f"{old!r} is not in the schedule"
            text = text.replace(old, new)
        self.schedule.write_text(text)
        return self.schedule

    def arm(self, **request: Any) -> dict[str, Any]:
        """Ask the arm's emulator."""
        return self.emulator.control({"device": "arm", **request})

    def wrist(self, **request: Any) -> dict[str, Any]:
        """Ask the force sensor's emulator."""
        return self.emulator.control({"device": "wrist", **request})

    @property
    def speed(self) -> float:
        """The fastest joint's velocity, rad/s."""
        return max(abs(velocity) for velocity in self.arm()["velocity"])

    def segments(self) -> list[str]:
        """What lies in the user's folder under the robot's name."""
        return sorted(path.name for path in store_names.folder().glob(f"{self.name}.*"))

    def run(self, *options: str, **popen: Any) -> "Run":
        """Start `inphase run` on the schedule."""
        return Run(self, ["-m", "inphase", "run", str(self.schedule), "--json", *options], popen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.stop()
        for name in self.segments():
            (store_names.folder() / name).unlink()
        self._folder.cleanup()


class Run:
    """A Python process that runs a robot, which has `folder` and `name`; killed at the end if it
    still lives."""

    def __init__(self, robot: Any, arguments: list[str], popen: dict[str, Any]) -> None:
        self.robot = robot
        self._errors = robot.folder / f"stderr.{os.urandom(4).hex()}"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                **popen,
            )
        self.pid = self.process.pid
        self._follower: StoreFollower | None = None

    @property
    def stderr(self) -> str:
        """What it said so far."""
        return self._errors.read_text()

    @property
    def follower(self) -> StoreFollower:
        """A follower of its store, made when there is one."""
        if self._follower is None:
            until(lambda: self._ended() or store_names.find(self.robot.name) is not None)
            assert not self._ended(), self.stderr
            self._follower = StoreFollower.of_robot(self.robot.name)
        return self._follower

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def frame(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The next frame that is as wanted. TimeoutError where none comes within BOUND_S."""
        found: list[Frame] = []

        def look() -> bool:
            frame = self.follower.next(BOUND_S, newest=False)
            if wanted(frame):
                found.append(frame)
            return bool(found)

        try:
            until(look)
        except (store.Lost, TimeoutError) as error:
            raise AssertionError(f"no such frame: {error}; it said: {self.stderr}") from error
        return found[0]

    def status(self, sensor: str, status: str) -> Frame:
        """The next frame in which a sensor has that status."""
        return self.frame(lambda frame: frame[sensor].status == status)

    def moving(self) -> Self:
        """Wait until the robot moves."""
        self.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        try:
            until(lambda: self.robot.speed > 0.1)
        except TimeoutError as error:
            raise AssertionError(f"it does not move; it said: {self.stderr}") from error
        return self

    def child(self, module: str) -> psutil.Process:
        """The child that runs a module."""
        for child in psutil.Process(self.pid).children():
            if module in child.cmdline():
                return child
        raise LookupError(f"no child runs {module}")

    def children(self) -> list[psutil.Process]:
        """Its children now."""
        return psutil.Process(self.pid).children(recursive=True)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; exit code and summary (empty where it printed none)."""
        out, _ = self.process.communicate(timeout=2 * BOUND_S)
        return self.process.returncode, json.loads(out) if out.strip() else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.close()
        if not self._ended():
            self.process.kill()
        self.process.wait(BOUND_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
