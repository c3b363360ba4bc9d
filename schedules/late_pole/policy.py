"""A linear policy that sees what most learned policies see: numbers, and none of their stamps."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

Array = NDArray[np.float64]
WEIGHTS = Path(__file__).with_name("weights.json")
LOOKS = 4  # angles, the newest first
ACTS = 3  # commands, the newest first
SIZE = LOOKS + 2 + ACTS
SPEED_M_S = 2.5
_ANGLE_RAD, _POSITION_M, _VELOCITY_M_S = 0.1, 0.5, 0.5  # what counts as 1


class Balance:
    """The cart's velocity [m/s]: a weight for each of the last angles, the cart's position and
    velocity, and its own last commands.

    `trained` names the weights in weights.json; `weights` are given in their place.
    """

    def __init__(self, trained: str = "fitted", weights: list[float] | None = None) -> None:
        found = json.loads(WEIGHTS.read_text())[trained] if weights is None else weights
        self.weights = np.array(found, np.float64)
        self.reset()

    def reset(self) -> None:
        """Forget what was seen and done."""
        self._angles = np.zeros(LOOKS)
        self._acts = np.zeros(ACTS)
        self._is_new = True

    def __call__(self, frame: Frame) -> Array | None:
        """One velocity; None where a number is none."""
        pole, cart = frame["pole"], frame["cart"]
        angle = float(pole.value["angle"]) / _ANGLE_RAD
        seen = np.array(
            [cart.value["position"][0] / _POSITION_M, cart.value["velocity"][0] / _VELOCITY_M_S]
        )
        if not (np.isfinite(angle) and np.isfinite(seen).all()):
            return None
        if self._is_new:
            self._is_new = False
            self._angles[:] = angle
        self._angles = np.concatenate([[angle], self._angles[:-1]])
        observed = np.concatenate([self._angles, seen, self._acts])
        act = float(np.clip(observed @ self.weights, -1.0, 1.0))
        self._acts = np.concatenate([[act], self._acts[:-1]])
        return np.array([act * SPEED_M_S])
