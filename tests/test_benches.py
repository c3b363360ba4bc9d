"""The benches run, and what is counted of the frame path stays within its budgets."""

import subprocess
import sys
from pathlib import Path

import pytest
from benches import counted, pictures
from benches.__main__ import FIGURES
from benches.stepped import SHORT

from peers import ROOT

LONG = 600.0


@pytest.mark.real
@pytest.mark.long
@pytest.mark.parametrize("figure", FIGURES)
def test_a_bench_runs(figure: str) -> None:
    command = [sys.executable, "-m", "benches", figure, "--smoke", "--no-realtime"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LONG
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@pytest.mark.parametrize(
    "options", [(SHORT,), pytest.param((), marks=pytest.mark.long)], ids=["short", "all"]
)
def test_the_frame_path_stays_within_its_budgets(options: tuple[str, ...]) -> None:
    try:
        counts, budget = counted.count(*options), counted.budgets()
    except PermissionError as refused:
        pytest.skip(f"no process may be stepped here: {refused}")
    assert counts.keys() <= budget["part"].keys()
    assert len(counts) == (7 if options else len(budget["part"]))
    assert all(part["reason"] for part in budget["part"].values())
    if budget["made_by"] != counted.made_by():
        pytest.skip(f"budgets are of {budget['made_by']}, and this is {counted.made_by()}")
    assert counted.verdicts(counts, budget) == []


def test_a_count_beyond_its_budget_is_told() -> None:
    one = {"instructions": 1000, "own": 100, "calls": 2}
    budget = {"part": {"one": one}}
    assert counted.verdicts({"one": counted.Count(1020, 102, 2)}, budget) == []
    (above,) = counted.verdicts({"one": counted.Count(1021, 100, 2)}, budget)
    assert above.startswith("one: 1021 instructions are 2.1% above the budget of 1000; make it")
    (below,) = counted.verdicts({"one": counted.Count(1000, 94, 2)}, budget)
    assert below.startswith("one: 94 own are 6.0% below the budget of 100; write the new count")
    (more,) = counted.verdicts({"one": counted.Count(1000, 100, 3)}, budget)
    assert "3 calls are 50.0% above" in more
    unjudged = {"part": {"one": {"own": 100}}}
    assert counted.verdicts({"one": counted.Count(9000, 100, 3)}, unjudged) == []


def test_each_figure_is_a_row_of_points_beside_its_yardstick() -> None:
    about = {"figure": "wake", "name": "idle"}
    took = {"ours_ns": {"p50": 2000}, "yardstick_ns": {"p50": 1000}}
    lines = [
        {**about, "commit": "a", **took, "goal": 3},
        {**about, "commit": "b", "ours_ns": {"p50": 4000}, "yardstick_ns": {"p50": 5000}},
        {**about, "commit": "c", "name": "calls", "mean": 5.0, "yardstick": 4, "goal": 6},
        {**about, "commit": "d", "name": "words", "verdict": "reached"},
    ]
    assert pictures.figures(lines) == {
        "wake: idle": [
            pictures.Point("a", 2.0, 1.0, 3.0, "us"), pictures.Point("b", 4.0, 5.0, None, "us")
        ],
        "wake: calls": [pictures.Point("c", 5.0, 4, 6, "calls")],
    }  # fmt: skip


def test_the_history_is_drawn_as_a_page(tmp_path: Path) -> None:
    lines = pictures.history()
    first = dict(list(pictures.figures(lines).items())[:2])
    shown = [line for line in lines if f"{line['figure']}: {line['name']}" in first]
    page = pictures.draw(shown, tmp_path / "figures.png")
    assert page.read_bytes().startswith(b"\x89PNG")
    assert len(pictures.figures(lines)) > 60
