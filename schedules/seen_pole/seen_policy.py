"""A policy that sees the pole: two pictures and the cart's motion in, the cart's velocity out."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from inphase.frame import Frame

Array = NDArray[Any]

SIDE = 64
"""pixels of a picture"""
HIDDEN, SEEN = 32, 16
SCALE = np.array([1.0, 0.5, 0.5])
"""of the inputs: where the cart is, its velocity, the command before"""
FIRST, SECOND = (8, 2, 8, 8), (16, 8, 5, 5)
"""kernels: channels out and in, rows, columns"""
STRIDES = 4, 2
FLAT = 16 * 6 * 6
"""numbers of the pictures behind both"""


def initial(seed: int) -> dict[str, Array]:
    """Weights to begin with: of two convolutions, what follows from them, and as `Balance` has."""
    draw = np.random.default_rng(seed).normal
    inputs = len(SCALE) + SEEN

    def layer(*shape: int, size: int) -> Array:
        return np.asarray(draw(0, size**-0.5, shape), np.float32)

    return {
        "first": layer(*FIRST, size=FIRST[1] * 64),
        "first_b": np.zeros(8, np.float32),
        "second": layer(*SECOND, size=SECOND[1] * 25),
        "second_b": np.zeros(16, np.float32),
        "seen": layer(FLAT, SEEN, size=FLAT),
        "w1": layer(inputs, HIDDEN, size=inputs),
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": layer(HIDDEN, HIDDEN, size=HIDDEN),
        "b2": np.zeros(HIDDEN, np.float32),
        "mean_w": layer(HIDDEN, 1, size=HIDDEN) * 0.05,
        "mean_b": np.zeros(1, np.float32),
        "value_w": layer(HIDDEN, 1, size=HIDDEN) * 0.05,
        "value_b": np.zeros(1, np.float32),
        "log_spread": np.array([-1.0], np.float32),
    }


def grey(pixels: Array) -> Array:
    """A picture's mean of colours: (SIDE, SIDE) uint8."""
    return np.asarray(pixels.mean(-1), np.uint8)


def look(w: dict[str, Array], pictures: Array) -> Array:
    """The numbers that a pair of pictures (2, SIDE, SIDE) leads to: (SEEN,)."""
    image = pictures.astype(np.float32) / 255
    for name, stride in zip(("first", "second"), STRIDES, strict=True):
        rows, columns = w[name].shape[2:]
        windows = sliding_window_view(image, (rows, columns), axis=(1, 2))[:, ::stride, ::stride]
        found = np.tensordot(w[name], windows, axes=((1, 2, 3), (0, 3, 4)))
        image = np.maximum(found + w[f"{name}_b"][:, None, None], 0)
    return np.asarray(np.tanh(image.reshape(-1) @ w["seen"]))


class Seen:
    """Commands the cart's velocity by what it sees; NumPy alone.

    With `explores` among its weights it draws its commands, and keeps what it saw and did.
    """

    def __init__(self) -> None:
        self.weights = initial(0)
        self.reset()

    def load_weights(self, weights: dict[str, Array]) -> None:
        """As `initial` makes them, and what is drawn from."""
        self.weights = weights

    def reset(self) -> None:
        """An episode begins."""
        self.inputs: list[Array] = []
        self.pixels: list[Array] = []
        self.actions: list[float] = []
        self.cycles: list[int] = []
        self._before, self._last, self._draw = 0.0, None, None

    def __call__(self, frame: Frame) -> Array:
        """The cart's velocity [m/s]."""
        w, cart, now = self.weights, frame["cart"].value, grey(frame["image"].value["pixels"])
        pair = np.stack([now if self._last is None else self._last, now])
        own = np.array([cart["position"][0], cart["velocity"][0], self._before]) * SCALE
        hidden = np.tanh(np.concatenate([own, look(w, pair)]) @ w["w1"] + w["b1"])
        hidden = np.tanh(hidden @ w["w2"] + w["b2"])
        action = float((hidden @ w["mean_w"] + w["mean_b"])[0])
        if "explores" in w:
            action += self._drawn(now) * float(np.exp(w["log_spread"][0]))
            self.inputs.append(own)
            self.pixels.append(now)
            self.actions.append(action)
            self.cycles.append(frame.cycle)
        self._last, self._before = now, min(2.0, max(-2.0, action))
        return np.array([self._before])

    def _drawn(self, first: Array) -> float:
        if self._draw is None:  # of this episode: by its first picture
            seen = np.frombuffer(first.tobytes(), np.uint64)
            self._draw = np.random.default_rng([int(self.weights["explores"]), *seen.tolist()])
        return float(self._draw.normal())
