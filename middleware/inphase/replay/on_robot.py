"""The commands of a recording on a robot, through its limiter, until it is stopped."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inphase.episodes.runner import Runner
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.replay.recorded_commands import RecordedCommands
from inphase.runtime.requests.keyboard import Keys
from inphase.schedule import Schedule

_LOOK_S = 0.05
_STOP_KEYS = b" eE"


@dataclass
class RobotReplay:
    """The outcome."""

    played_ns: int = 0
    """of the recorded commands"""
    acts: int = 0
    """cycles with a command of the track"""
    limited: int = 0
    """cycles of these in which the limiter changed it"""
    stopped: str = ""
    """why it ended before the last command; empty: it did not"""
    summary: dict[str, Any] = field(default_factory=dict)
    """of the run, as `inphase run --json` prints it"""


def play_on_robot(
    described: Schedule,
    commands: RecordedCommands,
    *,
    simulate: bool,
    watch: Callable[[int], None] = lambda played_ns: None,
) -> RobotReplay:
    """Run the robot with these commands, to the last one, a fault, or ^C, which ramps it.

    In a terminal, space and e are the emergency stop. watch: is told how much is played. Raises
    what `Runner` raises.
    """
    found = RobotReplay()
    runner = Runner(described, policy=commands, simulate=simulate)
    with contextlib.suppress(store.Lost), Keys() as keys, runner as robot:
        try:
            while not (found.stopped or commands.is_over):
                if keys.fd >= 0 and _stops(keys.fd):
                    robot.estop()
                with contextlib.suppress(TimeoutError):
                    _take(found, robot.next(_LOOK_S))
                found.played_ns = commands.played_ns
                watch(found.played_ns)
        except KeyboardInterrupt:
            found.stopped = "^C"
    found.summary = runner.summary or {}
    if not (found.stopped or commands.is_over):
        found.stopped = "the run ended"
    return found


def _stops(fd: int) -> bool:
    """True if a key that stops was pressed."""
    with contextlib.suppress(BlockingIOError):
        return any(key in _STOP_KEYS for key in os.read(fd, 64))
    return False


def _take(found: RobotReplay, frame: Frame) -> None:
    """Look at a frame of the run."""
    if frame.reason != "none":
        found.stopped = f"{frame.reason} in cycle {frame.cycle}"
    if any("WRITTEN" in act.flags and "HOLDING" not in act.flags for act in frame.command):
        found.acts += 1
        found.limited += any("LIMITED" in act.flags for act in frame.command)
