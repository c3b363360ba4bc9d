"""The pictures of a report, as SVG for its page and as PNG: distributions, courses, statuses and
commands."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from inphase.command.report.measures import (
    ACT,
    AGE,
    COMMAND,
    INFERENCE,
    SAMPLE,
    SEVERITY,
    SKEW,
    WAKE,
    Measures,
)
from inphase.command.report.numbers import Quantity

MADE_BY = "inphase report"
_WIDE, _HIGH = 5.2, 2.5  # inches; its words are of a size to read on a phone
_LINEAR_NS = 1000  # the axis is logarithmic above it, and has room for 0 below
_LINEAR_SHARE = 0.4  # of a decade's room on the axis
_PER_DECADE = 48  # bins
_FEW_DECADES = 2
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4ea3", "#b8860b", "#0f8b8d", "#555555", "#d1495b")
STATUS_COLOURS = {
    "FRESH": "#3a9d5d",
    "HELD": "#a9d8b8",
    "RECOVERING": "#8fa8d8",
    "LATE": "#f0b429",
    "MISSING": "#d64545",
    "INVALID": "#8e44ad",
    "FROZEN": "#2f4b7c",
    "OFFLINE": "#222222",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.fontsize": 8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """One figure."""

    name: str
    """of its file, without an ending"""
    title: str
    figure: Figure

    def svg(self) -> str:
        """As an element of a page; it names nothing outside."""
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.figure.savefig(file, format="svg", metadata=nothing)
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        return text.replace("<svg", f'<svg role="img" aria-label="{self.title}"', 1)

    def png(self) -> bytes:
        """As a file."""
        file = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(file, format="png", dpi=160, metadata={"Software": MADE_BY})
        return file.getvalue()


def pictures(found: Measures) -> Iterator[Drawing]:
    """All that have something to show."""
    for name, title, draw in _drawings(found):
        with matplotlib.rc_context(_STYLE):
            figure = draw()
        yield Drawing(name, title, figure)


def _drawings(found: Measures) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The name, the title and the drawing of each."""
    for name in (WAKE, SAMPLE, SKEW, AGE, COMMAND, INFERENCE, ACT):
        shown = [one for one in found.quantities.values() if one.name == name and one.count]
        if shown:
            key = name.replace(" ", "-")
            yield f"{key}-distribution", f"{name}: distribution", partial(_spread, shown)
            title = f"{name}: over time, largest and median (dotted)"
            yield f"{key}-over-time", title, partial(_course, found, shown)
    if found.statuses:
        title = "worst status in each part of the run"
        yield "statuses-worst", title, partial(_statuses, found)
        title = "share of frames neither FRESH nor HELD"
        yield "statuses-share", title, partial(_shares, found)
    for name, joints in found.joints.items():
        for channel in range(joints.channels):
            title = f"{name}[{channel}]: requested and applied"
            yield f"command-{name}-{channel}", title, partial(_joint, found, name, channel)


def _axes(high: float = _HIGH, left: float = 0.62) -> tuple[Figure, Axes]:
    """left: room for words beside the axis, in inches."""
    figure = Figure(figsize=(_WIDE, high))
    figure.subplots_adjust(left=left / _WIDE, right=0.97, bottom=0.45 / high, top=1 - 0.28 / high)
    return figure, figure.add_subplot()


def duration(ns: float, _: Any = None) -> str:
    """A time for an axis, in its own unit."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(ns) >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns:.4g} ns" if ns else "0"


def _spread(quantities: list[Quantity]) -> Figure:
    """How many numbers are how large."""
    figure, axes = _axes()
    low, high = np.inf, 0.0
    for colour, one in zip(_COLOURS, quantities, strict=False):
        numbers = one.all()
        edges = bins(int(np.min(numbers)), int(np.max(numbers)))
        counts, _ = np.histogram(numbers, edges)
        assert counts.sum() == len(numbers)
        axes.stairs(counts, edges, color=colour, label=one.part, fill=len(quantities) == 1)
        low, high = min(low, edges[0]), max(high, edges[-1])
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_ylabel("count")
    axes.set_xscale("symlog", linthresh=_LINEAR_NS, linscale=_LINEAR_SHARE)
    axes.set_xlim(low, high)
    _in_time(axes.xaxis, low, high)
    if quantities[0].part:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def bins(smallest: int, largest: int) -> NDArray[np.float64]:
    """Edges of bins that look equally wide on the axis, around all numbers."""
    high = max(largest, 2 * _LINEAR_NS) * 1.02
    low = smallest * 0.98 if smallest > _LINEAR_NS else float(_LINEAR_NS)
    count = max(80, round(_PER_DECADE * float(np.log10(high / low))))
    edges = np.geomspace(low, high, count + 1)
    if smallest > _LINEAR_NS:
        return edges
    linear = np.linspace(min(0, smallest), _LINEAR_NS, round(_PER_DECADE * _LINEAR_SHARE) + 1)
    return np.concatenate([linear[:-1], edges])


def _in_time(axis: Any, low: float, high: float) -> None:
    """Ticks at round times: decades, and between them where there are few."""
    first = int(np.floor(np.log10(max(low, _LINEAR_NS))))
    last = int(np.ceil(np.log10(max(high, 2 * _LINEAR_NS))))
    parts = (1, 2, 5) if last - first <= _FEW_DECADES else (1,)
    ticks = [part * 10.0**power for power in range(first, last + 1) for part in parts]
    shown = [tick for tick in (0.0, *ticks) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(duration))


def _course(found: Measures, quantities: list[Quantity]) -> Figure:
    """The median and the largest in each part of the run."""
    figure, axes = _axes()
    for colour, one in zip(_COLOURS, quantities, strict=False):
        axes.plot(found.slot_s, one.largest, color=colour, lw=0.8, label=one.part)
        axes.plot(found.slot_s, one.median, color=colour, lw=0.9, ls=":")
    low = min(float(np.nanmin(one.median)) for one in quantities) / 1.5
    high = max(float(np.nanmax(one.largest)) for one in quantities) * 1.2
    low, high = (low if low > _LINEAR_NS else 0.0), max(high, 2.0 * _LINEAR_NS)
    axes.set_yscale("symlog", linthresh=_LINEAR_NS, linscale=_LINEAR_SHARE)
    axes.set_ylim(low, high)
    axes.set_xlabel("s")
    axes.set_xlim(0, found.seconds)
    _in_time(axes.yaxis, low, high)
    if quantities[0].part:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def _statuses(found: Measures) -> Figure:
    """A band per sensor: the worst status in each part of the run."""
    names = list(found.worst_status)
    figure, axes = _axes(0.8 + 0.34 * len(names), 0.15 + 0.075 * max(map(len, names)))
    ends = np.append(found.slot_s[1:], found.seconds)
    seen: set[int] = set()
    for row, name in enumerate(names):
        worst = found.worst_status[name]
        starts = np.flatnonzero(np.diff(worst, prepend=-1))
        stops = np.append(starts[1:], len(worst)) - 1
        seen |= set(worst.tolist())
        axes.broken_barh(
            [
                (found.slot_s[a], ends[b] - found.slot_s[a])
                for a, b in zip(starts, stops, strict=True)
            ],
            (row - 0.35, 0.7),
            facecolors=[STATUS_COLOURS[SEVERITY[worst[a]]] for a in starts],
        )
    for number in sorted(seen):
        axes.barh(0, 0, color=STATUS_COLOURS[SEVERITY[number]], label=SEVERITY[number])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("s")
    axes.set_xlim(0, found.seconds)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)
    return figure


def _shares(found: Measures) -> Figure:
    """How many frames of each part of the run had no sample in time."""
    figure, axes = _axes()
    for colour, (name, share) in zip(_COLOURS, found.not_in_time.items(), strict=False):
        axes.plot(found.slot_s, 100 * share, color=colour, lw=0.9, label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("%")
    axes.set_xlabel("s")
    axes.set_xlim(0, found.seconds)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def _joint(found: Measures, name: str, channel: int) -> Figure:
    """The span of a channel's commands in each part of the run."""
    joints = found.joints[name]
    figure, axes = _axes()
    for colour, label, low, high in (
        (_COLOURS[1], "requested", joints.requested_min, joints.requested_max),
        (_COLOURS[0], "applied", joints.applied_min, joints.applied_max),
    ):
        axes.fill_between(found.slot_s, low[channel], high[channel], color=colour, alpha=0.35, lw=0)
        axes.plot(found.slot_s, high[channel], color=colour, lw=0.8, label=label)
        axes.plot(found.slot_s, low[channel], color=colour, lw=0.8)
    units = {one["name"]: one.get("unit", "") for one in found.recording.description["actuators"]}
    axes.set_ylabel(units[name])
    axes.set_xlabel("s")
    axes.set_xlim(0, found.seconds)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
