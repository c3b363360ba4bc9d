"""The picture of `scale`: throughput over workers, as measured here and as predicted."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_COLOURS = {"experience": "#1b6ca8", "gradients": "#c8553d"}
_MARKS = {"learner": "s", "network": "^", "simulators": "o"}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """As SVG: a panel per observation; the mark of a point is its bottleneck."""
    kinds = list(dict.fromkeys(one["name"].split(", ")[0] for one in results))
    figure = Figure(figsize=(4.2 * len(kinds) + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for one in results:
            if one["name"].split(", ")[0] == kind:
                _curve(axes, one)
        axes.set(title=kind, xscale="log", yscale="log", xlabel="workers")
        axes.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("cycles per second that are learnt from")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in _COLOURS.items()]
    handles += [
        Line2D([], [], color="#555555", marker=mark, linestyle="", label=f"bound by {name}")
        for name, mark in _MARKS.items()
    ]
    handles.append(Line2D([], [], color="black", marker="+", linestyle="", label="measured"))
    panels[-1].legend(handles=handles, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _curve(axes: Axes, result: dict[str, Any]) -> None:
    colour = _COLOURS[result["name"].split(", ")[1]]
    for rows in (result["here"], result["predicted"]):
        axes.plot(
            [row["workers"] for row in rows], [row["cycles_per_s"] for row in rows], color=colour
        )
        for row in rows:
            axes.plot(
                row["workers"], row["cycles_per_s"], color=colour, marker=_MARKS[row["bottleneck"]]
            )
    here = result["here"]
    axes.plot(
        [row["workers"] for row in here],
        [row["measured"] for row in here],
        color="black",
        marker="+",
        linestyle="",
        markersize=10,
    )
