"""Joint dynamics behind the emulated servos: second order, one joint at a time."""

import math
from enum import IntEnum

STEP_NS = 250_000
START_RAD = (0.15, -0.6, 0.9, -0.2, 0.7, -0.3)  # not zero, so that a jump at start is seen
VELOCITY_MAX = 4.8  # [rad/s], 46 rev/min: XM430-W350 without load at 12 V
ACCELERATION_MAX = 80.0  # [rad/s^2]
_STIFFNESS = 60.0**2  # [1/s^2]: critically damped at 60 rad/s, with _DAMPING
_DAMPING = 2 * 60.0  # [1/s]
_FRICTION = 8.0  # [1/s]: what stops a joint without torque
_AMPERE_PER_ACCELERATION = 0.008
_AMPERE_PER_VELOCITY = 0.05
_AMPERE_GRAVITY = 0.25
_ACCELERATION_PER_AMPERE = 1 / _AMPERE_PER_ACCELERATION


class Drive(IntEnum):
    """The quantity that a joint follows."""

    OFF = 0
    POSITION = 1
    VELOCITY = 2
    CURRENT = 3


class Joints:
    """`count` joints that follow their goals on a time line of nanoseconds.

    `goal` is [rad], [rad/s] or [A], as `drive` says. Positions are [rad], velocities [rad/s],
    accelerations [rad/s^2], currents [A]. The lists are written by the servos (goal, drive,
    caps) and by `advance` (the rest).
    """

    def __init__(self, count: int, start_ns: int = 0) -> None:
        self.time_ns = start_ns
        self.position = [START_RAD[index % len(START_RAD)] for index in range(count)]
        self.velocity = [0.0] * count
        self.acceleration = [0.0] * count
        self.current = [0.0] * count
        self.goal = list(self.position)
        self.drive = [Drive.OFF] * count
        self.velocity_max = [VELOCITY_MAX] * count
        self.acceleration_max = [ACCELERATION_MAX] * count

    def advance(self, to_ns: int) -> None:
        """Integrate up to `to_ns` in whole steps of 250 us; an earlier time changes nothing."""
        steps = (to_ns - self.time_ns) // STEP_NS
        if steps <= 0:
            return
        self.time_ns += steps * STEP_NS
        for joint in range(len(self.position)):
            self._advance_joint(joint, steps)

    def jump(self, joint: int, position: float) -> None:
        """Put a joint at `position` [rad] at rest, as a hand would with the torque off."""
        self.position[joint] = position
        self.velocity[joint] = 0.0

    def _advance_joint(self, joint: int, steps: int) -> None:
        step_s = STEP_NS * 1e-9
        drive, goal = self.drive[joint], self.goal[joint]
        position, velocity = self.position[joint], self.velocity[joint]
        acceleration = 0.0
        v_max, a_max = self.velocity_max[joint], self.acceleration_max[joint]
        for _ in range(steps):
            # at rest: nothing more happens in the steps that are left
            if drive is Drive.POSITION:
                error = goal - position
                if -1e-7 < error < 1e-7 and -1e-5 < velocity < 1e-5:
                    position, velocity, acceleration = goal, 0.0, 0.0
                    break
                acceleration = _STIFFNESS * error - _DAMPING * velocity
            elif drive is Drive.VELOCITY:
                acceleration = _DAMPING * (goal - velocity)
            elif drive is Drive.CURRENT:
                acceleration = _ACCELERATION_PER_AMPERE * goal - _FRICTION * velocity
            elif -1e-4 < velocity < 1e-4:
                velocity, acceleration = 0.0, 0.0
                break
            else:
                acceleration = -_FRICTION * velocity

            # semi-implicit Euler inside the caps
            acceleration = min(max(acceleration, -a_max), a_max)
            velocity = min(max(velocity + acceleration * step_s, -v_max), v_max)
            position += velocity * step_s

        self.position[joint], self.velocity[joint] = position, velocity
        self.acceleration[joint] = acceleration
        self.current[joint] = (
            0.0
            if drive is Drive.OFF
            else _AMPERE_PER_ACCELERATION * acceleration
            + _AMPERE_PER_VELOCITY * velocity
            + _AMPERE_GRAVITY * math.sin(position)
        )


class HandJoints(Joints):
    """Joints that a hand swings around where they start, as long as their torque is off."""

    def __init__(self, count: int, start_ns: int, amplitude: float, seconds: float) -> None:
        """`amplitude` is [rad], and `seconds` one swing there and back."""
        super().__init__(count, start_ns)
        self._middle = list(self.position)
        self._amplitude = amplitude
        self._rad_s = 2 * math.pi / seconds
        self._start_ns = start_ns

    def advance(self, to_ns: int) -> None:
        """Move joints without torque by hand, and the others by their motors."""
        super().advance(to_ns)
        angle = (self.time_ns - self._start_ns) * 1e-9 * self._rad_s
        for joint, drive in enumerate(self.drive):
            if drive is Drive.OFF:
                swing = 0.5 - 0.5 * math.cos(angle)
                self.position[joint] = self._middle[joint] + self._amplitude * swing
                self.velocity[joint] = 0.5 * self._amplitude * self._rad_s * math.sin(angle)
