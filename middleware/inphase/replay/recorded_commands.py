"""The commands of a recording as a policy: eased in to the first of them, then as they were."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inphase.episodes.clients.first_turn import place
from inphase.errors import RecordingError
from inphase.frames.frame import Frame
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.recording.recording import Recording

_STRETCH = 8192
_SHARE = 0.5
"""of the limits: so fast the way to the first command is"""
# a way of minimum jerk of length 1 in time 1 has these largest velocity and acceleration
_VELOCITY, _ACCELERATION = 1.875, 10 / math.sqrt(3)

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class CommandTrack:
    """The applied commands of a recording, from its first cycle with a command to its last."""

    cycles: NDArray[np.int64]
    """those whose act is in the file, ascending"""
    applied: Values
    """by actuator: (cycles, channels), in SI"""
    period_ns: int
    left_out: int
    """cycles in between whose act is not in the file"""

    @classmethod
    def of(cls, recording: Recording, first_cycle: int = 0) -> "CommandTrack":
        """first_cycle: leave out what was before. Raises RecordingError for a file without a
        command."""
        cycles, asked = [], []
        applied: dict[str, list[NDArray[np.float64]]] = {
            name: [] for name, _, _ in recording.layout.actuators
        }
        before = -1
        for frames in recording.stretches(_STRETCH):
            is_new = np.diff(frames["acted_cycle"], prepend=before) > 0
            before = max(before, int(frames["acted_cycle"][-1]))
            acts = frames[is_new]
            is_told = np.ones(len(acts), bool)
            is_asked = np.zeros(len(acts), bool)
            for name in applied:
                at = f"actuators.{name}."
                is_told &= np.isfinite(acts[f"{at}applied"]).all(axis=1)
                is_asked |= np.isfinite(acts[f"{at}requested"]).any(axis=1)
            is_told &= acts["acted_cycle"] >= first_cycle
            cycles.append(acts["acted_cycle"][is_told])
            asked.append(is_asked[is_told])
            for name, parts in applied.items():
                parts.append(acts[f"actuators.{name}.applied"][is_told])
        wanted = np.flatnonzero(np.concatenate(asked)) if asked else np.empty(0, np.int64)
        if not applied or not len(wanted):
            since = f" from cycle {first_cycle} on" if first_cycle else ""
            raise RecordingError(f"{recording.path} has no command of a policy{since}")
        of_track = slice(int(wanted[0]), int(wanted[-1]) + 1)
        all_cycles = np.concatenate(cycles)[of_track]
        values = {name: np.concatenate(parts)[of_track] for name, parts in applied.items()}
        left_out = int(all_cycles[-1] - all_cycles[0]) + 1 - len(all_cycles)
        return cls(all_cycles, values, recording.layout.period_ns, left_out)

    @property
    def duration_ns(self) -> int:
        """From the first command to the last."""
        return int(self.cycles[-1] - self.cycles[0]) * self.period_ns

    def at(self, time_ns: int, *, steps: frozenset[str]) -> Values:
        """The commands so long after the first one; between two acts on the line between them, of
        the actuators in `steps` the one before."""
        cycle = self.cycles[0] + min(time_ns, self.duration_ns) / self.period_ns
        before = int(np.searchsorted(self.cycles, cycle, side="right")) - 1
        after = min(before + 1, len(self.cycles) - 1)
        apart = int(self.cycles[after] - self.cycles[before])
        share = (cycle - self.cycles[before]) / apart if apart else 0.0
        return {
            name: values[before]
            if name in steps or share == 0
            else values[before] * (1 - share) + values[after] * share
            for name, values in self.applied.items()
        }


class RecordedCommands:
    """A policy: from the robot's place to the first command at half of the limits, then the track.

    At its end it holds the last command, and `is_over`. speed: so many times as fast as it was, at
    most 1. Raises RecordingError for a robot with other actuators than the recording's.
    """

    def __init__(
        self, recording: Recording, plan: Plan, *, speed: float = 1.0, first_cycle: int = 0
    ) -> None:
        assert 0 < speed <= 1, f"speed {speed}: at most 1, as fast as it was"
        self._plan, self._speed = plan, speed
        recorded = {name: channels for name, channels, _ in recording.layout.actuators}
        here = {one.name: one.spec.channels for one in plan.actuators}
        modes = {one["name"]: one["mode"] for one in recording.description["actuators"]}
        if recorded != here or any(one.schedule.mode != modes[one.name] for one in plan.actuators):
            raise RecordingError(
                f"{recording.path} has the actuators {_text(recorded, modes)}, and "
                f"{plan.schedule.path} has {_text(here, _modes(plan))}: give the schedule of the "
                f"recorded robot"
            )
        self.track = CommandTrack.of(recording, first_cycle)
        self._steps = frozenset(a.name for a in plan.actuators if a.schedule.mode == "switch")
        policy = plan.schedule.policy
        self._rows = 1 if policy is None else policy.chunk
        self._row_ns = plan.schedule.cycle.period_ns * (1 if policy is None else policy.spacing)
        self._start: Values = {}
        self._start_ns = 0
        self._ease_ns = 0
        self.played_ns = 0
        """of the track, by the newest frame; 0 on the way to its start"""

    @property
    def is_over(self) -> bool:
        """The last command was given."""
        return self.played_ns >= self.track.duration_ns

    def __call__(self, frame: Frame) -> Values | None:
        """The command to a frame, by actuator; None: the place of the robot is not known yet."""
        if not self._start and not self._begin(frame):
            return None
        since_ns = frame.due_ns - self._start_ns - self._ease_ns
        self.played_ns = min(round(max(0, since_ns) * self._speed), self.track.duration_ns)
        rows = [self._at(since_ns + row * self._row_ns) for row in range(self._rows)]
        if self._rows == 1:
            return rows[0]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _at(self, time_ns: int) -> Values:
        goal = self.track.at(round(max(0, time_ns) * self._speed), steps=self._steps)
        if time_ns >= 0:
            return goal
        share = 1 + time_ns / self._ease_ns
        eased = share**3 * (10 - 15 * share + 6 * share**2)
        return {
            name: self._start[name] if name in self._steps
            else self._start[name] + (goal[name] - self._start[name]) * eased
            for name in goal
        }  # fmt: skip

    def _begin(self, frame: Frame) -> bool:
        """Note where the robot is, and how long the way to the first command takes."""
        here = {one.name: place(frame, one) for one in self._plan.actuators}
        known = {name: at for name, at in here.items() if at is not None}
        if len(known) < len(here) or not all(np.isfinite(at).all() for at in known.values()):
            return False
        first = self.track.at(0, steps=self._steps)
        ways = [_way_s(one, known[one.name], first[one.name]) for one in self._plan.actuators]
        self._start, self._start_ns = known, frame.due_ns
        period_ns = self._plan.schedule.cycle.period_ns  # the track begins on the grid
        self._ease_ns = math.ceil(max(ways) * 1e9 / period_ns) * period_ns
        return True


def _way_s(actuator: ActuatorPlan, here: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
    """How long a way is to take: at a share of the limits' velocity and acceleration. An actuator
    that takes no positions goes there as fast as the limiter lets it."""
    if actuator.schedule.mode != "position":
        return 0.0
    longest = 0.0
    for limits, apart in zip(actuator.limits, np.abs(goal - here).tolist(), strict=True):
        longest = max(longest, _VELOCITY * apart / (_SHARE * limits.velocity))
        if limits.acceleration:
            longest = max(
                longest, math.sqrt(_ACCELERATION * apart / (_SHARE * limits.acceleration))
            )
    return longest


def _modes(plan: Plan) -> dict[str, str]:
    return {one.name: one.schedule.mode for one in plan.actuators}


def _text(channels: dict[str, int], modes: dict[str, str]) -> str:
    found = [f"{name} ({count}, {modes[name]})" for name, count in channels.items()]
    return ", ".join(found) or "none"
