"""The picture of a score: errors over time, and where both were."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from inphase.command.score.alignment import Score

_STYLE: Any = {"font.size": 9, "axes.grid": True, "grid.color": "#e4e4e4", "svg.fonttype": "none"}
_AXES = ("#1b6ca8", "#c8553d", "#3a7d44")


def draw(score: Score, names: tuple[str, str], path: Path) -> None:
    """Write it; the ending says as what, PNG or SVG. names: of estimate and truth."""
    seconds = (score.truth.times_ns - score.truth.times_ns[0]) * 1e-9
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(seconds, score.errors_m * 1000, color=_AXES[0], linewidth=1, label="position")
        above.set_ylabel("error of position, mm")
        above.set_title(
            f"{names[0]} against {names[1]}: {score.rmse_m * 1000:.3g} mm RMSE, lag "
            f"{score.lag_ns * 1e-6:.3g} ms"
        )
        if score.errors_rad is not None:
            turned = above.twinx()
            turned.plot(seconds, np.degrees(score.errors_rad), color=_AXES[1], linewidth=1)
            turned.set_ylabel("error of orientation, deg", color=_AXES[1])
            turned.grid(visible=False)
        for axis, colour in enumerate(_AXES):
            true, found = score.truth.positions[:, axis], score.positions[:, axis]
            below.plot(seconds, true, color=colour, linewidth=2, alpha=0.4)
            below.plot(seconds, found, color=colour, linewidth=1, label="xyz"[axis])
        below.set_ylabel("position, m (thick: truth)")
        below.set_xlabel("time, s")
        below.legend(ncols=3, frameon=False)
        figure.savefig(path, dpi=120)
