"""The task of schedules/press.toml, in numbers: 10 N between the arm's tip and the board."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

WANTED_N = 10.0
TIP_N = 0.25 * 9.81
"""the weight of the tip, which hangs on the sensor as well"""
CONTACT_N = 1.0
SETTLED_CYCLES = 750
"""after which the tip is on the board: 3 s"""


def pressure(force: NDArray[np.float64]) -> NDArray[np.float64]:
    """The force on the board [N] from the reading of the wrist's sensor, with the hand pointing
    down."""
    return np.asarray(force)[..., 2] + TIP_N


def reward(frame: Frame) -> float:
    """0 for the wanted force, and -1 for none at all."""
    return -abs(float(pressure(frame["wrench"].value["force"])) / WANTED_N - 1.0)


@dataclass(frozen=True)
class Score:
    """How well the force was held, after the tip had time to come down."""

    error_n: float
    """RMS of the difference to what was wanted"""
    contact: float
    """share of frames with the tip on the board"""
    peak_n: float
    """largest force, at the first touch, too"""

    def __str__(self) -> str:
        return (
            f"off by {self.error_n:.2f} N RMS, on the board {100 * self.contact:.1f} % of the "
            f"time, at most {self.peak_n:.0f} N"
        )


def score(forces: list[NDArray[np.float64]]) -> Score:
    """Of some episodes, each with a row of the wrist's force per frame, longer than 3 s."""
    pressures = [pressure(force) for force in forces]
    settled = np.concatenate([each[SETTLED_CYCLES:] for each in pressures])
    return Score(
        error_n=float(np.sqrt(np.mean((settled - WANTED_N) ** 2))),
        contact=float(np.mean(settled > CONTACT_N)),
        peak_n=float(max(each.max() for each in pressures)),
    )
