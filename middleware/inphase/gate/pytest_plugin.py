"""The pytest plugin: budgets of a schedule in lock step, and comparisons with a baseline.

pytest loads it wherever inphase is installed. So nothing else of inphase is imported before a test
asks for a fixture.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from inphase.gate.budgets import BudgetFigures
    from inphase.gate.comparison import BaselineComparison
    from inphase.schedule import Schedule

_UPDATE = "--inphase-update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that measures baselines anew."""
    group = parser.getgroup("inphase")
    group.addoption(
        _UPDATE, action="store_true", help="write the baselines of the fixture inphase_bench anew"
    )


class BudgetCheck:
    """Runs a schedule in lock step and holds it to budgets; a test calls it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        schedule: "Path | str | Schedule",
        *,
        cycles: int = 2000,
        seed: int = 0,
        policy: Callable[..., Any] | None = None,
        max_skew_us: float | None = None,
        max_age_ms: float | Mapping[str, float] | None = None,
        miss_rate: float | None = None,
        instructions: float | None = None,
    ) -> "BudgetFigures":
        """Run `cycles` and check; the figures.

        schedule: a path from the test's folder or from where pytest runs, or one that was loaded.
        policy: in place of the schedule's. max_skew_us: of any frame. max_age_ms: of every sensor,
        or by sensor. miss_rate: share of cycles without a command of their own. instructions: of
        the core in a cycle; where they cannot be counted, the test is skipped once all else holds.
        Fails with a line for each budget that is not kept. Raises ScheduleError, WorldError.
        """
        __tracebackhide__ = True
        from inphase.gate.budgets import Budgets, UncountedError, measure

        budgets = Budgets(
            max_skew_us=max_skew_us,
            max_age_ms=max_age_ms,
            miss_rate=miss_rate,
            instructions=instructions,
        )
        loaded = _load(schedule, self._folder)

        def run(*, counts_too: bool) -> "BudgetFigures":
            return measure(loaded, cycles=cycles, seed=seed, policy=policy, counts_too=counts_too)

        why = ""
        try:
            found = run(counts_too=instructions is not None)
        except UncountedError as error:
            why, found = str(error), run(counts_too=False)
        broken = budgets.broken(found)
        if broken:
            head = f"{loaded.name}, {found.cycles} cycles in lock step, seed {seed}:"
            pytest.fail("\n".join([head, *(f"  {line}" for line in broken)]), pytrace=False)
        if why:
            pytest.skip(why)
        return found


class BenchCheck:
    """Measures a schedule and compares it with a baseline; a test calls it."""

    def __init__(self, folder: Path, *, updates: bool) -> None:
        self._folder = folder
        self._updates = updates

    def __call__(
        self,
        schedule: "Path | str | Schedule",
        baseline: Path | str,
        *,
        runs: int = 0,
        seconds: float = 2.0,
        percent: float = 10.0,
        simulate: bool = False,
    ) -> "BaselineComparison | None":
        """Compare; None: the baseline was written, as pytest was asked to.

        runs: rounds of times on this machine; 0 compares counts and virtual time alone. percent: by
        which a time may grow. Fails with the comparison's table where something is slower, and
        skips with the reason where nobody can tell. Raises ScheduleError, RecordingError.
        """
        __tracebackhide__ = True
        from inphase.gate import comparison
        from inphase.gate.measurement import Measurement, run

        path = self._folder / baseline
        loaded = _load(schedule, self._folder)
        if not self._updates and not path.exists():
            pytest.fail(f"{path} is not there; make it: pytest {_UPDATE}", pytrace=False)
        now = run(loaded, runs, seconds, simulate=simulate, watch=lambda *_: None)
        if self._updates:
            now.save(path)
            return None
        found = comparison.compare(Measurement.read(path), now, percent / 100)
        if found.is_slower:
            pytest.fail(comparison.markdown(found, now), pytrace=False)
        if found.is_undecided:
            pytest.skip(f"undecided: {'; '.join(found.notes) or 'the rounds differ too much'}")
        return found


def _load(schedule: "Path | str | Schedule", folder: Path) -> "Schedule":
    from inphase.plan.validation import load
    from inphase.schedule import Schedule

    if isinstance(schedule, Schedule):
        return schedule
    beside = folder / schedule
    return load(beside if beside.exists() else schedule)


@pytest.fixture
def inphase_budget(request: pytest.FixtureRequest) -> BudgetCheck:
    """Holds a schedule to budgets in lock step: `inphase_budget("robot.toml", miss_rate=0)`."""
    return BudgetCheck(request.path.parent)


@pytest.fixture
def inphase_bench(request: pytest.FixtureRequest) -> BenchCheck:
    """Compares a schedule with a baseline: `inphase_bench("robot.toml", "robot-bench.json")`."""
    return BenchCheck(request.path.parent, updates=bool(request.config.getoption(_UPDATE)))
