"""A page of pictures: every figure over the commits of history.jsonl, ours beside the yardstick.

    python -m benches.pictures [FILE]    draws the history alone; `make bench` adds what it measured

A panel is a figure. Its points stand in the order in which they were measured, an equal step apart,
above their commits. They come from several machines: the yardstick tells how fast each one was.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benches.machine import HISTORY

PAGE = Path(__file__).parent.parent / "build" / "benches" / "figures.png"
_COLUMNS = 5
_WIDTH, _HEIGHT = 3.6, 2.0
"""inches of a panel"""
_OURS, _YARDSTICK, _GOAL = "#1f6fb4", "#8a8a8a", "#c0392b"
_LABELS = 6
"""commits below a panel, at most"""


class Point(NamedTuple):
    """One measurement of a figure."""

    commit: str
    ours: float
    yardstick: float | None
    goal: float | None
    """the most that ours is to be"""
    unit: str


def point(line: dict[str, Any]) -> Point | None:
    """Of a line of the history; None: it has no number that a later one could be held against."""
    ours: Any
    for key, other, unit, share in (
        ("ours_ns", "yardstick_ns", "us", 1e-3),
        ("instructions", "yardstick_instructions", "instructions", 1),
        ("ours", "yardstick", "", 1),
        ("mean", "yardstick", "calls", 1),
        ("cycles_per_s", "", "cycles per s", 1),
    ):
        ours, yardstick = line.get(key), line.get(other)
        if isinstance(ours, dict):
            ours, yardstick = ours.get("p50"), (yardstick or {}).get("p50")
        if not isinstance(ours, int | float):
            continue
        beside = yardstick * share if isinstance(yardstick, int | float) else None
        goal = line.get("goal")
        if key != "mean" and isinstance(goal, int | float):  # calls have a goal of their own
            goal = None if beside is None else goal * beside
        if not isinstance(goal, int | float):
            goal = None
        return Point(line["commit"], ours * share, beside, goal, unit)
    return None


def figures(lines: Iterable[dict[str, Any]]) -> dict[str, list[Point]]:
    """The points of each figure, by its name."""
    found: dict[str, list[Point]] = {}
    for line in lines:
        one = point(line)
        if one is not None:
            found.setdefault(f"{line['figure']}: {line['name']}", []).append(one)
    return found


def history() -> list[dict[str, Any]]:
    """The lines of the file, oldest first."""
    lines = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    return sorted(lines, key=lambda line: str(line["date"]))


def _draw(axes: Axes, name: str, points: list[Point]) -> None:
    at = range(len(points))
    beside = [(i, one.yardstick) for i, one in enumerate(points) if one.yardstick is not None]
    if beside:
        axes.plot(*zip(*beside, strict=True), color=_YARDSTICK, marker="o", mfc="white", ms=4, lw=1)
    goals = [(i, one.goal) for i, one in enumerate(points) if one.goal is not None]
    if goals:
        axes.plot(*zip(*goals, strict=True), color=_GOAL, ls=":", marker="_", ms=7, lw=0.8)
    axes.plot(at, [one.ours for one in points], color=_OURS, marker="o", ms=4, lw=1.2)
    axes.set_title(name if len(name) < 58 else f"{name[:56]}...", fontsize=6.5, loc="left")
    axes.set_ylim(0, 1.15 * max(axes.get_ylim()))
    axes.yaxis.get_offset_text().set_fontsize(5)
    axes.set_xlim(-0.5, max(len(points) - 0.5, 1.5))
    shown = range(0, len(points), -(-len(points) // _LABELS))
    axes.set_xticks(list(shown), [points[i].commit for i in shown], fontsize=5, rotation=25)
    axes.tick_params(axis="y", labelsize=5.5)
    axes.set_ylabel(points[-1].unit, fontsize=5.5)
    axes.spines[["top", "right"]].set_visible(False)
    last = points[-1]
    if last.yardstick:
        text = f"{last.ours / last.yardstick:.2f} of the yardstick"
        text += f", goal {last.goal / last.yardstick:.2f}" if last.goal is not None else ""
        axes.text(0.99, 0.03, text, fontsize=5.5, ha="right", transform=axes.transAxes)


def draw(lines: Iterable[dict[str, Any]], to: Path = PAGE) -> Path:
    """Draw the page; where it is."""
    found = figures(lines)
    rows = -(-len(found) // _COLUMNS)
    head = 0.5 / (rows * _HEIGHT + 0.5)
    page = Figure(figsize=(_COLUMNS * _WIDTH, rows * _HEIGHT + 0.5), layout="constrained")
    page.get_layout_engine().set(rect=(0, 0, 1, 1 - head))  # type: ignore[union-attr, call-arg]
    for axes, (name, points) in zip(
        page.subplots(rows, _COLUMNS, squeeze=False).flat, found.items(), strict=False
    ):
        _draw(axes, name, points)
    for axes in page.axes[len(found) :]:
        axes.set_visible(False)
    for x, color, text in ((0.01, _OURS, "ours"), (0.05, _YARDSTICK, "yardstick"),
                           (0.11, _GOAL, "goal")):  # fmt: skip
        page.text(x, 1 - head / 2, f"\u25cf {text}", color=color, fontsize=10, va="center")
    to.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(to, dpi=110)
    return to


def main() -> None:
    """Draw the history."""
    print(draw(history(), *map(Path, sys.argv[1:2])))


if __name__ == "__main__":
    main()
