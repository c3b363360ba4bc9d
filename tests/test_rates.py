"""The rates of cameras and data sets run as typed: periods of whole nanoseconds, equal physics
steps, and trajectories of the simulator's own loop."""

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase import schedule as schedules
from inphase.core.world_seam import StepGrid
from inphase.episodes.lockstep import LockStep
from test_world_steps import MODEL, SCHEDULE, Seen, Values, law

mujoco = pytest.importorskip("mujoco", reason="a world needs the package mujoco (extra sim)")

RATES = ["15", "24", "29.97", '"30000/1001"', "30", "60", "90", "120", "240", "1000"]
CYCLES = 100
EFFECT_NS = 1_000_000  # act at 900 us, and a delay of 0.1 ms

Write = Callable[[str, str], tuple[Path, Path]]


def period_ns(rate: str) -> int:
    return round(10**9 / Fraction(rate.strip('"')))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a schedule of a rate, and its model with a step in seconds."""

    def make(rate: str, step: str) -> tuple[Path, Path]:
        model, schedule = tmp_path / "arm.xml", tmp_path / "steps.toml"
        model.write_text(MODEL.format(integrator="implicitfast", step=step, ball="", ball_qpos=""))
        text = SCHEDULE.format(act_us=900, derived="")
        text = text.replace("rate_hz = 1000", f"rate_hz = {rate}")
        schedule.write_text(text.replace("max_age_ms = 10", "max_age_ms = 100"))
        return schedule, model

    return make


@pytest.mark.parametrize("rate", RATES)
def test_the_period_is_the_rate_to_the_nanosecond(write: Write, rate: str) -> None:
    cycle = schedules.load(write(rate, "0.001")[0]).cycle
    assert abs(cycle.period_ns - 10**9 / Fraction(rate.strip('"'))) <= 0.5


@pytest.mark.parametrize("step", ["0.001", "0.002"])
@pytest.mark.parametrize("rate", RATES)
def test_the_world_is_stepped_as_the_simulator_alone_would(
    write: Write, rate: str, step: str
) -> None:
    schedule, model = write(rate, step)
    seen = Seen()
    with LockStep(schedules.load(schedule), call=seen, digest=False) as robot:
        robot.run(CYCLES)
    theirs = bare_rows(model, period_ns(rate), float(step))
    assert np.ptp(np.array(theirs)[:, :3], axis=0).min() > 0.01, "it moves"
    for cycle, (left, right) in enumerate(zip(seen.rows, theirs, strict=True)):
        assert left.tobytes() == right.tobytes(), f"cycle {cycle}: {left - right}"


def bare_rows(path: Path, period: int, step_s: float) -> list[Values]:
    """The simulator's own loop: equal steps, of which one may be parted by the command's effect."""
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    steps = next(n for n in range(1, 1000) if period / n <= step_s * 1e9 * 1.001)
    grid = [k * period // steps for k in range(steps + 1)]
    rows = []
    for _ in range(CYCLES):
        rows.append(np.concatenate([data.qpos[:3], data.qvel[:3], np.zeros(6)]))
        command = law(data.qpos[:3].copy(), data.qvel[:3].copy())
        for begin, end in pairwise(sorted({*grid, EFFECT_NS})):
            if begin == EFFECT_NS:
                data.ctrl[:] = command
            whole = begin in grid and end in grid
            step_ns = Fraction(period, steps) if whole else Fraction(end - begin)
            model.opt.timestep = float(step_ns / 10**9)
            mujoco.mj_step(model, data)
        if period == EFFECT_NS:
            data.ctrl[:] = command
    return rows


@pytest.mark.parametrize(
    ("rate", "step", "steps"),
    [
        ("30", "0.002", 17),
        ("60", "0.002", 9),
        ("240", "0.0041667", 1),  # as people round it: a little too long is no matter
        ("300", "0.003333", 1),
        ("500", "0.0005", 4),
        ("1000", "0.01", 1),
    ],
)
def test_a_cycle_has_as_few_steps_as_the_model_allows(
    write: Write, rate: str, step: str, steps: int
) -> None:
    schedule, _ = write(rate, step)
    command = [sys.executable, "-m", "inphase", "check", "--json", str(schedule)]
    world = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["world"]
    assert world["steps"] == steps
    assert world["step_ns"] * steps == pytest.approx(period_ns(rate), rel=1e-12)


@given(
    st.integers(100_000, 10**9),
    st.fractions(Fraction(1000), Fraction(10**9)),
    st.integers(0, 10**12),
)
def test_every_step_ends_at_a_whole_nanosecond_and_none_is_lost(
    period: int, step_ns: Fraction, number: int
) -> None:
    grid = StepGrid.near(period, step_ns)
    assert grid.step_ns <= step_ns * Fraction(1002, 1000)
    assert grid.steps == 1 or Fraction(period, grid.steps - 1) > step_ns
    assert grid.end_ns(number * grid.steps) == number * period, "a cycle's end is exact"
    assert grid.done(grid.end_ns(number)) == number
    assert grid.done(grid.end_ns(number + 1) - 1) == number
