"""Frames of reference and clocks of two trajectories, brought together.

An estimate E and a truth T are of one rigid motion, and both are poses of a body in a frame. The
frames of reference differ by X, the points and axes on the body by Y: T = X E Y. The estimate's
stamps may be late by a lag: the lag with the least error is looked for, since every other one is
wrong by the motion in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError

Floats = NDArray[np.float64]
Frames = Literal["none", "se3", "hand-eye"]
FRAMES: tuple[Frames, ...] = ("none", "se3", "hand-eye")

_ENOUGH = 10
_FLAT = 1e-3  # of the largest singular value: below it a direction is not seen in the motion
_LOOKED_AT = 400  # poses, for the lag
_COARSE, _ROUNDS, _FINE = 81, 12, 5


@dataclass(frozen=True)
class Trajectory:
    """Poses of a body: times (n) in ns, positions (n, 3) in m, quaternions (n, 4) as w, x, y, z.

    turns: None where only positions are known.
    """

    times_ns: NDArray[np.int64]
    positions: Floats
    turns: Floats | None

    def __len__(self) -> int:
        return len(self.times_ns)

    def at(self, times_ns: Floats) -> "Trajectory":
        """In between, on lines and arcs; only times within it."""
        index = np.clip(np.searchsorted(self.times_ns, times_ns) - 1, 0, len(self) - 2)
        start, end = self.times_ns[index], self.times_ns[index + 1]
        part = ((times_ns - start) / (end - start))[:, None]
        positions = self.positions[index] * (1 - part) + self.positions[index + 1] * part
        turns = None
        if self.turns is not None:
            turns = _between(self.turns[index], self.turns[index + 1], part)
        return Trajectory(np.asarray(times_ns).astype(np.int64), positions, turns)


class FrameFit(NamedTuple):
    """X and Y, which bring an estimate to the truth: E becomes X E Y."""

    turn: Floats
    """X's rotation, (3, 3)"""
    shift: Floats
    """X's translation, (3)"""
    body_turn: Floats
    """Y's rotation"""
    body_shift: Floats
    """Y's translation"""

    def positions(self, estimate: Trajectory) -> Floats:
        """Of the estimate, in the truth's frame of reference."""
        lever = np.zeros(3)
        if self.body_shift.any() and estimate.turns is not None:
            lever = matrices(estimate.turns) @ self.body_shift
        moved: Floats = (estimate.positions + lever) @ self.turn.T + self.shift
        return moved

    def rotations(self, estimate: Trajectory) -> Floats | None:
        """Of the estimate, (n, 3, 3); None where it has none."""
        if estimate.turns is None:
            return None
        turned: Floats = self.turn @ matrices(estimate.turns) @ self.body_turn
        return turned


class Score(NamedTuple):
    """The errors of an estimate after its alignment."""

    lag_ns: float
    """by how much the estimate's stamps are later than the truth's"""
    alignment: FrameFit
    truth: Trajectory
    """the truth at the instants of the estimate"""
    positions: Floats
    """of the estimate, aligned"""
    errors_m: Floats
    errors_rad: Floats | None

    @property
    def rmse_m(self) -> float:
        """Root of the mean square of the position's error."""
        return float(np.sqrt((self.errors_m**2).mean()))


def score(estimate: Trajectory, truth: Trajectory, frames: Frames, lag_most_ns: float) -> Score:
    """Compare them. lag_most_ns: the largest lag that is looked at; 0: none is.

    Raises RecordingError where they have too little in common, or the motion does not show what the
    alignment needs.
    """
    if min(len(estimate), len(truth)) < _ENOUGH:
        raise RecordingError(
            f"an estimate of {len(estimate)} poses and a truth of {len(truth)}: {_ENOUGH} of each "
            f"are needed; record for longer, or look why they are not FRESH"
        )

    every = -(-len(estimate) // _LOOKED_AT)
    turns = None if estimate.turns is None else estimate.turns[::every]
    some = Trajectory(estimate.times_ns[::every], estimate.positions[::every], turns)

    def cost(lag_ns: float) -> float:
        return _scored(some, truth, frames, lag_ns).rmse_m

    lag_ns = _least(cost, lag_most_ns) if lag_most_ns > 0 else 0.0
    return _scored(estimate, truth, frames, lag_ns)


def _least(cost: Callable[[float], float], most: float) -> float:
    """Where the cost is least: on a grid, then closer and closer around its best point."""
    low, high, count = -most, most, _COARSE
    best = 0.0
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, count)
        best = float(grid[int(np.argmin([cost(float(lag)) for lag in grid]))])
        step = (high - low) / (count - 1)
        low, high, count = best - step, best + step, _FINE
    return best


def _scored(estimate: Trajectory, truth: Trajectory, frames: Frames, lag_ns: float) -> Score:
    times = estimate.times_ns - lag_ns
    inside = (times >= truth.times_ns[0]) & (times <= truth.times_ns[-1])
    if inside.sum() < _ENOUGH:
        raise RecordingError(
            f"{inside.sum()} poses of the estimate lie within the truth's time, {_ENOUGH} are "
            f"needed; record both for longer, or give a smaller --max-lag"
        )
    turns = None if estimate.turns is None else estimate.turns[inside]
    seen = Trajectory(estimate.times_ns[inside], estimate.positions[inside], turns)
    true = truth.at(times[inside])
    found = _align(seen, true, frames)
    positions = found.positions(seen)
    rotations, angles = found.rotations(seen), None
    if rotations is not None and true.turns is not None:
        angles = _angles(rotations, matrices(true.turns))
    errors = np.linalg.norm(positions - true.positions, axis=1)
    return Score(lag_ns, found, true, positions, errors, angles)


# ---- frames of reference ---------------------------------------------------------------------


def _align(estimate: Trajectory, truth: Trajectory, frames: Frames) -> FrameFit:
    same, nothing = np.eye(3), np.zeros(3)
    if frames == "none":
        return FrameFit(same, nothing, same, nothing)
    if frames == "hand-eye":
        return _hand_eye(estimate, truth)
    turn, shift = _rigid(estimate.positions, truth.positions)
    return FrameFit(turn, shift, same, nothing)


def _rigid(here: Floats, there: Floats) -> tuple[Floats, Floats]:
    """Rotation and translation with the least squares (Umeyama 1991, without scale)."""
    middle_here, middle_there = here.mean(axis=0), there.mean(axis=0)
    u, sizes, vt = np.linalg.svd((there - middle_there).T @ (here - middle_here))
    if sizes[1] < _FLAT * sizes[0] or not sizes[0]:
        raise RecordingError(
            "the motion lies on a line, or is none: it does not show how the frames of reference "
            "are turned; record a motion in a plane or in space, or give --frames none"
        )
    sign = np.sign(np.linalg.det(u @ vt))
    turn = u @ np.diag([1.0, 1.0, sign]) @ vt
    return turn, middle_there - turn @ middle_here


def _hand_eye(estimate: Trajectory, truth: Trajectory) -> FrameFit:
    """X and Y of T = X E Y: rotations from a null space, then translations by least squares."""
    if estimate.turns is None or truth.turns is None:
        raise RecordingError(
            "hand-eye needs orientations of both; give --frames se3, or an estimate with them"
        )
    here, there = matrices(estimate.turns), matrices(truth.turns)
    # T Ry' - Rx E = 0: nine equations a pose, in the rows of Ry' and Rx one behind the other
    same = np.eye(3)
    left = np.einsum("nac,bd->nabcd", there, same).reshape(-1, 9, 9)
    right = np.einsum("ac,ndb->nabcd", same, here).reshape(-1, 9, 9)
    rows = np.concatenate([left, -right], axis=2)
    square = np.einsum("nij,nik->jk", rows, rows) / len(rows)
    sizes, vectors = np.linalg.eigh(square)
    if sizes[1] < _FLAT * sizes[-1]:
        raise RecordingError(
            "the motion turns about one axis alone: it does not show where the tracker's body is "
            "on the estimate's; record turns about two axes, or give --frames se3"
        )
    back, turn = (_nearest_turn(vectors[9 * i : 9 * i + 9, 0].reshape(3, 3)) for i in (0, 1))
    known = truth.positions - estimate.positions @ turn.T
    lever = turn @ here
    system = np.concatenate([np.tile(np.eye(3), (len(here), 1)), lever.reshape(-1, 3)], axis=1)
    solved = np.linalg.lstsq(system, known.reshape(-1), rcond=None)[0]
    return FrameFit(turn, solved[:3], back.T, solved[3:])


def _nearest_turn(matrix: Floats) -> Floats:
    """The rotation that is nearest to a multiple of one."""
    matrix = matrix * np.sign(np.linalg.det(matrix))
    u, _, vt = np.linalg.svd(matrix)
    nearest: Floats = u @ vt
    return nearest


# ---- turns -----------------------------------------------------------------------------------


def matrices(turns: Floats) -> Floats:
    """Rotations (n, 3, 3) of quaternions (n, 4) as w, x, y, z."""
    w, x, y, z = (turns / np.linalg.norm(turns, axis=1, keepdims=True)).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def _between(first: Floats, second: Floats, part: Floats) -> Floats:
    """On the shortest arc at constant speed."""
    dot = (first * second).sum(axis=1, keepdims=True)
    second = np.where(dot < 0, -second, second)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    left = np.where(near, 1 - part, np.sin((1 - part) * angle) / safe)
    right = np.where(near, part, np.sin(part * angle) / safe)
    turned: Floats = left * first + right * second
    return turned


def _angles(first: Floats, second: Floats) -> Floats:
    """Between rotations, in rad; exact for small ones too."""
    off = np.swapaxes(first, 1, 2) @ second
    sine = np.linalg.norm(
        np.stack(
            [
                off[:, 2, 1] - off[:, 1, 2],
                off[:, 0, 2] - off[:, 2, 0],
                off[:, 1, 0] - off[:, 0, 1],
            ],
            -1,
        ),
        axis=1,
    )
    angles: Floats = np.arctan2(sine / 2, (np.trace(off, axis1=1, axis2=2) - 1) / 2)
    return angles
