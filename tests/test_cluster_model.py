"""The simulated training does what its costs say: known cases, each with a number of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from benches.cluster_model import Cluster, Costs, far, load, predict, save
from benches.instant import choose_cost

NOTHING = Costs("plain", "experience", 100, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
ROUND = 64
ALONE = far(1, 4, 10.0, ROUND)


def test_one_worker_without_any_other_cost_does_an_episode_after_the_other() -> None:
    found = predict(NOTHING, ALONE)
    assert found.cycles_per_s == pytest.approx(100 / 0.5, rel=1e-3)
    assert found.bottleneck == "simulators"
    assert found.shares["simulators"] == pytest.approx(1.0, abs=1e-3)


def test_workers_beside_each_other_are_slower_by_what_was_measured() -> None:
    found = predict(replace(NOTHING, crowded=1.25), far(8, 4, 10.0, 32))
    assert found.cycles_per_s == pytest.approx(8 * 100 / 0.5 / 1.25, rel=1e-2)


def test_the_learner_takes_one_result_after_the_other() -> None:
    costs = replace(NOTHING, receive_s=0.01, learn_each_s=0.03, learn_s=0.64, publish_s=0.64)
    found = predict(costs, far(1000, 10, 10.0, 1))
    whole_s = 1000 * (0.01 + 0.03) + 0.64 + 0.64 + 0.5  # the first result takes an episode
    assert found.cycles_per_s == pytest.approx(1000 * 100 / whole_s, rel=1e-3)
    assert found.bottleneck == "learner"


def test_the_choice_costs_more_the_more_workers_there_are() -> None:
    costs = replace(NOTHING, episode_s=1e-3, choose_s=0.01)
    few, many = (predict(costs, far(workers, 10, 10.0, 10)) for workers in (100, 400))
    assert few.cycles_per_s == pytest.approx(100 / 0.001, rel=0.1)
    assert many.cycles_per_s == pytest.approx(100 / 0.004, rel=0.1)


@pytest.mark.parametrize("gigabits", [1.0, 10.0])
def test_results_pass_one_line(gigabits: float) -> None:
    costs = replace(NOTHING, result_bytes=2e6)
    found = predict(costs, far(2000, 16, gigabits, 4))
    assert found.bottleneck == "network"
    assert found.cycles_per_s == pytest.approx(gigabits * 125e6 / 2e6 * 100, rel=0.1)


def test_weights_go_once_to_each_machine() -> None:
    costs = replace(NOTHING, weights_bytes=1.25e9, episode_s=1e-3)
    found = predict(costs, far(40, 10, 10.0, 1), rounds=1)  # 1 s for each of 4 machines
    assert found.cycles_per_s == pytest.approx(40 * 100 / 4.0, rel=1e-2)


@pytest.mark.parametrize(("workers", "left", "cores"), [(1, 1.0, 1), (2, 1.0, 2), (4, 0.5, 1)])
def test_a_shared_machine_gives_the_cores_that_are_left(
    workers: int, left: float, cores: float
) -> None:
    found = predict(NOTHING, Cluster(workers, 2, ROUND, is_shared=True, left=left))
    assert found.cycles_per_s == pytest.approx(cores * 100 / 0.5, rel=0.02)


def test_the_same_costs_give_the_same_prediction() -> None:
    costs = replace(NOTHING, spread=0.3, receive_s=0.001)
    assert predict(costs, ALONE) == predict(costs, ALONE)
    assert predict(costs, ALONE) != predict(replace(costs, spread=0.2), ALONE)


def test_costs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "made" / "costs.json"
    save(path, [NOTHING, replace(NOTHING, sends="gradients")])
    assert load(path) == [NOTHING, replace(NOTHING, sends="gradients")]


def test_the_choice_of_who_runs_what_is_measured_on_the_workers_own_code() -> None:
    assert 0.0 <= choose_cost(20) < 1.0
