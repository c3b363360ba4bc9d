"""The motion that commands make, as a controller polices it: one of them for each state.

Where one is missing, the last acceleration is carried on; after 20 in a row the motion is aborted,
and so it is by a command that is too far, too fast, too quick or too rough.
Source: Franka Robotics, "Franka Control Interface" documentation, requirements.
"""

from collections import deque
from collections.abc import Sequence

from .messages import JOINTS, START_POSE_INVALID, TOO_QUICK, TOO_ROUGH, UNANSWERED, VELOCITY_LIMITS
from .robot_model import LINKS

CYCLE_S = 1e-3
LOST_MOST = 20
_ACCELERATION_MAX, _JERK_MAX = 10.0, 5000.0
_NEAR_START = 0.1  # rad, of the first command


class Motion:
    """A motion of all joints, from rest at a position."""

    def __init__(self, position: Sequence[float]) -> None:
        self.position = list(position)
        self.velocity = [0.0] * JOINTS
        self.acceleration = [0.0] * JOINTS
        self.lost = 0
        """states in a row without an answer, once there was one"""
        self.lost_most = 0
        self.lost_in_all = 0
        self._answers: deque[bool] = deque(maxlen=100)
        self._goal: tuple[float, ...] | None = None
        self._has_begun = False

    @property
    def success_rate(self) -> float:
        """Of the last 100 states: the part that was answered."""
        return sum(self._answers) / len(self._answers) if self._answers else 0.0

    def take(self, goal: Sequence[float]) -> None:
        """The answer to the newest state."""
        self._goal = tuple(goal)

    def advance(self) -> int | None:
        """End a cycle, by its answer or without one; the error that aborts the motion."""
        goal, self._goal = self._goal, None
        if goal is not None:
            return self._follow(goal)
        if not self._has_begun:
            return None
        self._answers.append(False)
        self.lost += 1
        self.lost_in_all += 1
        self.lost_most = max(self.lost, self.lost_most)
        if self.lost >= LOST_MOST:
            return UNANSWERED
        self.carry_on(1)
        return None

    def carry_on(self, cycles: int) -> None:
        """Go on at the last acceleration."""
        for joint in range(JOINTS):
            for _ in range(cycles):
                self.velocity[joint] += self.acceleration[joint] * CYCLE_S
                self.position[joint] += self.velocity[joint] * CYCLE_S

    def _follow(self, goal: tuple[float, ...]) -> int | None:
        if not self._has_begun:
            if any(abs(to - at) > _NEAR_START for to, at in zip(goal, self.position, strict=True)):
                return START_POSE_INVALID
            self._has_begun = True
        self._answers.append(True)
        self.lost = 0
        for joint, to in enumerate(goal):
            velocity = (to - self.position[joint]) / CYCLE_S
            acceleration = (velocity - self.velocity[joint]) / CYCLE_S
            jerk = (acceleration - self.acceleration[joint]) / CYCLE_S
            if not abs(acceleration) <= _ACCELERATION_MAX:
                return TOO_QUICK
            if not abs(jerk) <= _JERK_MAX:
                return TOO_ROUGH
            if not abs(velocity) <= LINKS[joint].velocity:
                return VELOCITY_LIMITS
            self.position[joint] = to
            self.velocity[joint] = velocity
            self.acceleration[joint] = acceleration
        return None
