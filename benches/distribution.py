"""Blocks in turns, pooled: whole distributions, the ratio with its spread, and A/A.

A round is three blocks: yardstick, ours, yardstick. What drifts within a round falls on both sides
alike, and the yardstick's two blocks against each other (A/A) say how much of a ratio is noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Block = Callable[[], NDArray[np.int64]]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_RESAMPLES = 300
_SEED = 7


@dataclass
class Rounds:
    """One figure's blocks, nanoseconds."""

    name: str
    unit: str = "us"
    goal: float | None = None
    judged: tuple[str, ...] = ("p50",)
    """the quantiles that the goal is about"""
    ours: list[NDArray[np.int64]] = field(default_factory=list)
    first: list[NDArray[np.int64]] = field(default_factory=list)
    second: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, first: NDArray[np.int64], ours: NDArray[np.int64], second: NDArray[np.int64]
    ) -> None:
        """One round."""
        self.first.append(first)
        self.ours.append(ours)
        self.second.append(second)

    def result(self) -> dict[str, Any]:
        """Everything that is printed and recorded."""
        yardstick = self.first + self.second
        ratio, low, high = _ratios(self.ours, self.first, self.second)
        same, same_low, same_high = _ratios(self.first, self.second)
        return {
            "name": self.name,
            "rounds": len(self.ours),
            "ours_ns": quantiles_of(np.concatenate(self.ours)),
            "yardstick_ns": quantiles_of(np.concatenate(yardstick)),
            "samples": [_count(self.ours), _count(yardstick)],
            "ratio": ratio,
            "ratio_90": _spans(low, high),
            "aa": same,
            "aa_90": _spans(same_low, same_high),
            "goal": self.goal,
            "verdict": {q: self._verdict(ratio[q], same_high[q]) for q in self.judged},
        }

    def _verdict(self, ratio: float, noise: float) -> str:
        if self.goal is None:
            return "no goal"
        if ratio <= self.goal:
            return "reached"
        return "inside A/A" if ratio <= noise else "missed"


def _count(blocks: list[NDArray[np.int64]]) -> int:
    return sum(block.size for block in blocks)


def quantiles_of(pooled: NDArray[np.int64]) -> dict[str, int]:
    """The quantiles of samples, nanoseconds."""
    values = np.quantile(pooled, list(QUANTILES.values()), method="higher")
    return {name: int(value) for name, value in zip(QUANTILES, values, strict=True)}


def _ratios(
    above: list[NDArray[np.int64]], *below: list[NDArray[np.int64]]
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Ratio of pooled quantiles, and the middle 90 % of it when whole rounds are drawn again."""
    draws = np.random.default_rng(_SEED)
    picked = [_one_ratio(above, below, np.arange(len(above)))]
    picked += [
        _one_ratio(above, below, draws.integers(0, len(above), len(above)))
        for _ in range(_RESAMPLES)
    ]
    spread = np.quantile(np.array(picked[1:]), [0.05, 0.95], axis=0)
    columns = (picked[0], spread[0], spread[1])
    low, mid, high = (dict(zip(QUANTILES, map(float, column), strict=True)) for column in columns)
    return low, mid, high


def _one_ratio(
    above: list[NDArray[np.int64]],
    below: tuple[list[NDArray[np.int64]], ...],
    rounds: NDArray[np.int64],
) -> NDArray[np.float64]:
    marks = list(QUANTILES.values())
    top = np.concatenate([above[i] for i in rounds])
    bottom = np.concatenate([blocks[i] for blocks in below for i in rounds])
    return np.asarray(np.quantile(top, marks) / np.maximum(np.quantile(bottom, marks), 1))


def _spans(low: dict[str, float], high: dict[str, float]) -> dict[str, list[float]]:
    return {name: [low[name], high[name]] for name in QUANTILES}


def show(result: dict[str, Any]) -> None:
    """Print one figure."""
    ours, yardstick = result["samples"]
    print(f"\n{result['name']}: {result['rounds']} rounds, {ours} and {yardstick} samples, us")
    print(f"  {'':<14}" + "".join(f"{name:>14}" for name in QUANTILES))
    _row("ours", {q: f"{v / 1000:.1f}" for q, v in result["ours_ns"].items()})
    _row("yardstick", {q: f"{v / 1000:.1f}" for q, v in result["yardstick_ns"].items()})
    _row("ratio", {q: f"{v:.2f}" for q, v in result["ratio"].items()})
    _row("  90 %", {q: f"{a:.2f}..{b:.2f}" for q, (a, b) in result["ratio_90"].items()})
    _row("A/A", {q: f"{v:.2f}" for q, v in result["aa"].items()})
    _row("  90 %", {q: f"{a:.2f}..{b:.2f}" for q, (a, b) in result["aa_90"].items()})
    if result["goal"] is not None:
        verdicts = ", ".join(f"{q} {text}" for q, text in result["verdict"].items())
        print(f"  goal {result['goal']}: {verdicts}")


def show_samples(title: str, columns: dict[str, NDArray[np.int64]]) -> None:
    """Print distributions below each other, without a ratio."""
    print(f"\n{title}: {next(iter(columns.values())).size} samples, us")
    print(f"  {'':<18}" + "".join(f"{name:>12}" for name in QUANTILES))
    for name, column in columns.items():
        quantiles = quantiles_of(column)
        cells = "".join(f"{quantiles[q] / 1000:>12.1f}" for q in QUANTILES)
        print(f"  {name:<18}{cells}", flush=True)


def show_throughput(result: dict[str, Any], of: int, what: str, goal: float | None) -> None:
    """Print one figure, and the throughput that follows from its medians, which joins the result.

    A sample is `of` of what is counted ("cycles"); goal: the least ratio of throughputs.
    """
    show(result)
    ours, yardstick = result["ours_ns"]["p50"], result["yardstick_ns"]["p50"]
    low, high = result["ratio_90"]["p50"]
    result["throughput"] = 1 / result["ratio"]["p50"]
    result["throughput_90"] = [1 / high, 1 / low]
    result["throughput_goal"] = goal
    print(
        f"  {what} per second: {of * 1e9 / ours:,.0f}, yardstick {of * 1e9 / yardstick:,.0f}; "
        f"ratio {result['throughput']:.3f} ({1 / high:.3f}..{1 / low:.3f}), "
        f"A/A {1 / result['aa']['p50']:.3f}" + ("" if goal is None else f", goal {goal}"),
        flush=True,
    )


def _row(title: str, cells: dict[str, str]) -> None:
    print(f"  {title:<14}" + "".join(f"{cells[name]:>14}" for name in QUANTILES), flush=True)
