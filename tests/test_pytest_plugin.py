"""The pytest plugin in a user's own project: budgets that hold, budgets that do not, baselines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inphase.command.drafts.project_draft import new_project

pytestmark = pytest.mark.real

IMPORTS = """
import sys
import pytest
pytest.main(["--version"])
import inphase.gate.pytest_plugin
heavy = {"numpy", "inphase._core", "msgspec", "zmq", "click"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    new_project("cell", tmp_path, None)
    return tmp_path / "cell"


def run_pytest(project: Path, tests: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest in a user's repository; nothing of this one is on its path."""
    (project / "test_gate.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "test_gate.py", *options],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_nothing_heavy_is_imported_where_no_test_asks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert "heavy: []" in done.stdout


def test_budgets_that_hold_pass_and_give_their_figures(project: Path) -> None:
    done = run_pytest(
        project,
        """
def test_it(inphase_budget):
    found = inphase_budget("cell.toml", cycles=500, max_skew_us=5000, max_age_ms=50, miss_rate=0.1)
    assert found.cycles == 500 and found.max_age_ms
    again = inphase_budget("cell.toml", cycles=500)
    assert again == found
""",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_each_budget_that_is_not_kept_is_told_with_its_number(project: Path) -> None:
    done = run_pytest(
        project,
        """
def test_it(inphase_budget):
    inphase_budget(
        "cell.toml", cycles=300, seed=4, policy=lambda frame: None,
        max_age_ms={"joints": 0, "x": 1},
        miss_rate=0.01,
    )
""",
    )
    assert done.returncode == 1
    assert "cell, 300 cycles in lock step, seed 4:" in done.stdout
    assert " ms old in cycle " in done.stdout and "the budget is max_age_ms=0" in done.stdout
    assert "x had no sample" in done.stdout
    assert "of 300 cycles had no command of their own" in done.stdout
    assert "the budget is miss_rate=0.01" in done.stdout
    assert "pytest_plugin.py" not in done.stdout  # no traceback into the plugin


@pytest.mark.long
def test_a_baseline_is_asked_for_made_kept_and_held(project: Path) -> None:
    tests = """
def test_it(inphase_bench):
    inphase_bench("cell.toml", "cell-bench.json")
"""
    missing = run_pytest(project, tests)
    assert missing.returncode == 1
    assert "cell-bench.json is not there; make it: pytest --inphase-update" in missing.stdout
    assert run_pytest(project, tests, "--inphase-update").returncode == 0
    path = project / "cell-bench.json"
    made = json.loads(path.read_text())
    if made["counts"] is None:
        pytest.skip(made["uncounted"])
    same = run_pytest(project, tests)
    assert same.returncode == 0 and "1 passed" in same.stdout, same.stdout
    made["counts"]["parts"]["cycle"]["own"] *= 0.9
    path.write_text(json.dumps(made))
    slower = run_pytest(project, tests)
    assert slower.returncode == 1
    assert "**cell: slower than the baseline**" in slower.stdout
    assert "cycle: instructions of the C core, per cycle, were" in slower.stdout
    made["schedule_hash"] = "0" * 16
    path.write_text(json.dumps(made))
    other = run_pytest(project, tests)
    assert other.returncode == 0 and "1 skipped" in other.stdout
    assert "undecided: the baseline is of another schedule" in other.stdout
