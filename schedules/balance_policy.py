"""The policy of schedules/balance.toml and its task: the pole up, the cart in the middle."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

Array = NDArray[np.float64]

FALLEN_RAD = 0.4
END_M = 0.9
HIDDEN = 32
INPUTS = 5
SCALE = np.array([1.0, 0.5, 5.0, 0.5, 0.5])
"""of the inputs: where the cart is, its velocity, the pole's angle, its rate, the command before"""


def state(frame: Frame) -> tuple[float, float, float, float]:
    """Cart [m, m/s] and pole [rad, rad/s], as they were measured."""
    cart, pole = frame["cart"].value, frame["pole"].value
    values = cart["position"], cart["velocity"], pole["position"], pole["velocity"]
    return tuple(float(value[0]) for value in values)  # type: ignore[return-value]


def is_known(frame: Frame) -> bool:
    """True once both have given a sample."""
    return frame["cart"].sequence >= 0 and frame["pole"].sequence >= 0


def reward(frame: Frame) -> float:
    """1 for a pole that stands in the middle, less elsewhere."""
    if not is_known(frame):
        return 0.0
    place, _, angle, _ = state(frame)
    return 1.0 - (angle / FALLEN_RAD) ** 2 - 0.5 * (place / END_M) ** 2


def fallen(frame: Frame) -> bool:
    """The pole is down, or the cart is at an end."""
    if not is_known(frame):
        return False
    place, _, angle, _ = state(frame)
    return abs(angle) > FALLEN_RAD or abs(place) > END_M


def initial(seed: int) -> dict[str, Array]:
    """Weights to begin with: of two layers of tanh, of the mean, of the value, and the spread."""
    draw = np.random.default_rng(seed).normal
    return {
        "w1": draw(0, INPUTS**-0.5, (INPUTS, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": draw(0, HIDDEN**-0.5, (HIDDEN, HIDDEN)),
        "b2": np.zeros(HIDDEN),
        "mean_w": draw(0, 0.01, (HIDDEN, 1)),
        "mean_b": np.zeros(1),
        "value_w": draw(0, 0.01, (HIDDEN, 1)),
        "value_b": np.zeros(1),
        "log_spread": np.array([-1.0]),
    }


class Balance:
    """A small network that commands the cart's velocity; NumPy alone.

    With `explores` among its weights it draws its commands, and keeps what it saw and did.
    """

    def __init__(self) -> None:
        self.weights = initial(0)
        self._draw: Any = None
        self.inputs: list[Array] = []
        self.actions: list[float] = []
        self.cycles: list[int] = []

    def load_weights(self, weights: dict[str, Array]) -> None:
        """As `initial` makes them, and what is drawn from."""
        self.weights = weights

    def reset(self) -> None:
        """An episode begins."""
        self.inputs, self.actions, self.cycles = [], [], []
        self._before, self._draw = 0.0, None

    def __call__(self, frame: Frame) -> Array:
        """The cart's velocity [m/s]."""
        w = self.weights
        seen = np.array([*state(frame), self._before]) * SCALE
        hidden = np.tanh(np.tanh(seen @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])
        action = float((hidden @ w["mean_w"] + w["mean_b"])[0])
        if "explores" in w:
            if self._draw is None:  # of this episode: by the angle in its first frame
                self._draw = np.random.default_rng(
                    [int(w["explores"]), *seen.view(np.uint64).tolist()]
                )
            action += float(self._draw.normal() * np.exp(w["log_spread"][0]))
            self.inputs.append(seen)
            self.actions.append(action)
            self.cycles.append(frame.cycle)
        self._before = min(2.0, max(-2.0, action))
        return np.array([self._before])
