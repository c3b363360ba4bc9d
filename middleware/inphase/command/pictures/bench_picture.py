"""A comparison with a baseline as a picture: each time's ratio with its interval, each count's
change."""

from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from inphase.errors import RecordingError, install
from inphase.gate.comparison import BaselineComparison, verdict
from inphase.gate.count_comparison import LIMIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = (".png", ".svg")
_COLOURS = {
    "slower": "#c8553d",
    "undecided": "#b8860b",
    "faster": "#3a7d44",
    "the same": "#1b6ca8",
    "changed": "#7b4ea3",
}
_WIDE, _ROW, _HEAD = 7.0, 0.24, 0.9  # inches
_MOST = 0.25  # a change of a count beyond it is drawn at the edge; its number stands beside it


def refuse(path: Path) -> None:
    """Before anything is measured. Raises RecordingError where no picture could be made there."""
    if path.suffix not in _KINDS:
        raise RecordingError(f"{path} is no name of a picture; give one that ends in .png or .svg")
    if util.find_spec("matplotlib") is None:
        raise RecordingError(
            f"a picture needs a package that is not there; {install('matplotlib')}"
        )


def draw(found: BaselineComparison, robot: str, limit: float, path: Path) -> None:
    """Write it. limit: the share by which a time may grow. Raises OSError."""
    from matplotlib.figure import Figure

    times, counts = len(found.compared), len(found.counted)
    figure = Figure(figsize=(_WIDE, 2 * _HEAD + _ROW * (times + counts + 2)), layout="constrained")
    figure.suptitle(f"{robot}: {verdict(found)}", x=0.02, ha="left", fontsize=11)
    above, below = figure.subplots(2, 1, height_ratios=[times + 2, counts + 2])
    _draw_times(above, found, limit)
    _draw_counts(below, found)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_times(axes: "Axes", found: BaselineComparison, limit: float) -> None:
    if not found.compared:
        _say(axes, "no time was compared")
        return
    names = [f"{one.figure}, {one.quantile}" for one in found.compared]
    for row, one in enumerate(found.compared):
        colour = _COLOURS[one.verdict]
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=2)
        axes.plot([one.ratio], [row], "o", color=colour, markersize=5)
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.axvline(1 + limit, color=_COLOURS["slower"], linewidth=0.8, linestyle="--")
    _finish(axes, names, f"time, as a multiple of the baseline; dashed: {1 + limit:.2f}")


def _draw_counts(axes: "Axes", found: BaselineComparison) -> None:
    if not found.counted:
        _say(axes, "nothing was counted in both")
        return
    for row, pair in enumerate(found.counted):
        change = pair.now / pair.before - 1 if pair.before else float(pair.now > 0)
        colour = _COLOURS["slower" if pair.has_grown else "the same"]
        at = min(max(change, -_MOST), _MOST)
        axes.barh(row, at, color=colour, height=0.6)
        text = f" {pair.before:.6g} to {pair.now:.6g} "
        side = "left" if at >= 0 else "right"
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.text(at, row, text, va="center", ha=side, fontsize=7, bbox=white)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.axvline(LIMIT, color=_COLOURS["slower"], linewidth=0.8, linestyle="--")
    axes.set_xlim(-_MOST * 1.4, _MOST * 1.4)
    axes.xaxis.set_major_formatter("{x:+.0%}")
    _finish(axes, [pair.name for pair in found.counted], f"change in a cycle; dashed: {LIMIT:+.0%}")


def _finish(axes: "Axes", names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _say(axes: "Axes", text: str) -> None:
    axes.axis("off")
    axes.text(0, 0.5, text, fontsize=9, transform=axes.transAxes)
