"""A demonstrator by script, in place of a person: it pushes the puck to the mark with the tip.

The tip follows a dipole field around the puck (Igarashi, Kamiyama and Inami, "A Dipole Field for
Object Delivery by Pushing on a Flat Surface", 2010): behind the puck the field leads to the mark,
elsewhere around the puck until the tip is behind it.
"""

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

Array = NDArray[np.float64]
LINK_M = 0.25  # both links
TOUCH_M = 0.035 + 0.012  # from the puck's middle to the tip's
SPEED_M_S = 0.15
SHAKE_RAD_S = 0.15
RESTS_M = 0.008


def tip(joints: Array) -> Array:
    """Where the tip is over the table [m], of shoulder and elbow [rad]."""
    shoulder, both = joints[0], joints[0] + joints[1]
    return LINK_M * np.array([np.cos(shoulder) + np.cos(both), np.sin(shoulder) + np.sin(both)])


def jacobian(joints: Array) -> Array:
    """Of `tip`, [m/rad]."""
    shoulder, both = joints[0], joints[0] + joints[1]
    outer = LINK_M * np.array([-np.sin(both), np.cos(both)])
    inner = LINK_M * np.array([-np.sin(shoulder), np.cos(shoulder)])
    return np.stack([inner + outer, outer], axis=1)


def wanted(at: Array, puck: Array, mark: Array) -> Array:
    """The velocity of a tip that is at a place [m/s]."""
    way, off = mark - puck, at - puck
    left, apart = float(np.hypot(*way)), float(np.hypot(*off))
    ahead = way / max(left, 1e-6)
    # the tip's place as seen from the puck, with the mark straight ahead
    x, y = off @ ahead / apart, (ahead[0] * off[1] - ahead[1] * off[0]) / apart
    field = np.array([x * x - y * y, 2 * x * y])  # cosine and sine of twice the angle
    if x > -0.8:  # beside the puck or before it: do not touch
        field += np.array([x, y]) * np.clip((TOUCH_M + 0.025 - apart) / 0.02, 0.0, 2.0)
    field = np.array([field @ [ahead[0], -ahead[1]], field @ [ahead[1], ahead[0]]])
    field /= max(float(np.hypot(*field)), 1e-6)
    behind = -0.08 * ahead - off  # from afar go straight there
    far = np.clip((apart - 0.09) / 0.04, 0.0, 1.0)
    field += far * (behind / max(float(np.hypot(*behind)), 1e-6) - field)
    reach = float(np.hypot(*at))  # neither folded nor stretched
    field += (
        at
        / reach
        * (np.clip((0.2 - reach) / 0.03, 0.0, 2.0) - np.clip((reach - 0.44) / 0.02, 0.0, 2.0))
    )
    speed = SPEED_M_S * (1.0 if x > -0.8 else np.clip(left / 0.05, 0.3, 1.0))
    if left < RESTS_M:
        return np.zeros(2)
    return speed * field / max(float(np.hypot(*field)), 1e-6)


class Demonstrator:
    """Positions of the joints [rad]. A hand that shakes shows also how to come back."""

    def __init__(self, shakes: bool = True) -> None:
        self._shakes = shakes
        self.reset()

    def reset(self) -> None:
        """A new episode."""
        self._goal: Array | None = None
        self._shake = np.zeros(2)
        self._due_ns = 0
        self._random = np.random.default_rng(0)

    def __call__(self, frame: Frame) -> Array:
        """Where the joints are to go next."""
        joints, scene = frame["joints"].value["position"], frame["scene"].value
        if self._goal is None:
            self._goal, self._due_ns = joints.copy(), frame.due_ns
            self._random = np.random.default_rng(joints.view(np.uint64).tolist())
        seconds, self._due_ns = (frame.due_ns - self._due_ns) / 1e9, frame.due_ns
        velocity = wanted(tip(joints), scene["puck"], scene["mark"])
        rates = np.linalg.solve(jacobian(joints), velocity)
        if self._shakes:
            self._shake += 0.2 * (SHAKE_RAD_S * self._random.standard_normal(2) - self._shake)
        self._goal = np.clip(
            self._goal + seconds * (rates + self._shake), joints - 0.1, joints + 0.1
        )
        return self._goal
