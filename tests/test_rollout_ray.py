"""Rollouts on a Ray cluster: the same bytes, every number once; make ray-test."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inphase
from arms import arm_schedule
from inphase.episodes.episode import Episode
from inphase.episodes.rollouts.crew import WorkerError
from test_rollout_workers import POLICIES, RANDOMISE, digests

ray = pytest.importorskip("ray", reason="Ray is not installed: make ray-test")
pytestmark = pytest.mark.real
EPISODES = int(os.environ.get("INPHASE_EPISODES", "100"))
EVERY = EPISODES // 10


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose nodes are processes of this machine; the first one has no worker."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray keeps a token there
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        connect(made)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def connect(cluster: Any, **more: Any) -> None:
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error", **more)


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    tmp_path.joinpath("policies.py").write_text(POLICIES)
    return arm_schedule(tmp_path, timing=True, more=RANDOMISE)


def crew(arm: Path, policy: Any = "policies.py:hold", **more: Any) -> inphase.RolloutWorkers:
    options = {"cycles": 40, "workers": 2, "address": "auto"} | more
    return inphase.RolloutWorkers(arm, policy, 4, **options)


def local(arm: Path, policy: Any, episodes: int) -> list[Episode]:
    return inphase.rollout(arm, policy, episodes, 4, cycles=40, workers=2)


def pid(episode: Episode) -> int:
    return int(episode.worker.split()[-1])


def test_the_same_bytes_as_on_one_machine(cluster: Any, arm: Path) -> None:
    options: dict[str, Any] = {"cycles": 40, "workers": 2, "record": ["joints.position"]}
    here = inphase.rollout(arm, "policies.py:hold", 6, 4, **options)
    there = inphase.rollout(arm, "policies.py:hold", 6, 4, address="auto", **options)
    assert [one.digest for one in here] == [one.digest for one in there]
    for one, other in zip(here, there, strict=True):
        assert one.recorded.keys() == other.recorded.keys()
        assert all(
            one.recorded[key].tobytes() == rows.tobytes() for key, rows in other.recorded.items()
        )
        assert other.worker.startswith("node ")
    network = inphase.rollout(arm, None, 4, 4, cycles=40, workers=2, address="auto")
    assert [one.digest for one in network] == [one.digest for one in local(arm, None, 4)]


def test_a_function_of_the_script_goes_along(cluster: Any, arm: Path) -> None:
    offset = 0.001
    found = inphase.rollout(
        arm,
        lambda frame: frame["joints"].value["position"] + offset,
        2,
        4,
        cycles=40,
        workers=1,
        address="auto",
    )
    assert [one.invalid + one.missed for one in found] == [0, 0]


def test_weights_go_out_by_version_and_are_the_same_there(cluster: Any, arm: Path) -> None:
    def run(**where: Any) -> list[Episode]:
        found: list[Episode] = []
        with crew(arm, "policies.py:Shift", **where) as workers:
            for by in (0.0, 0.002):
                version = workers.publish({"by": np.full(100_000, by)})
                episodes = list(workers.run(range(3)))
                assert {episode.version for episode in episodes} == {version}
                found += sorted(episodes, key=lambda episode: episode.number)
        return found

    assert run() == run(address=None)


def test_workers_are_killed_all_the_time_and_no_episode_is_lost_or_counted_twice(
    cluster: Any, arm: Path
) -> None:
    killed = 0
    with crew(arm, "policies.py:hold") as workers:
        found = []
        for episode in workers.run(range(EPISODES)):
            found.append(episode)
            if len(found) % EVERY == EVERY // 2:
                os.kill(pid(episode), signal.SIGKILL)
                killed += 1
        progress = workers.progress
    assert digests(found) == digests(local(arm, "policies.py:hold", EPISODES))
    assert progress.episodes == EPISODES and progress.errors == 0
    assert killed >= 10 and progress.died >= killed - 1  # the last one may not be missed any more
    print(f"{EPISODES} episodes, {killed} workers killed, {progress.again} run again")


def test_a_node_that_goes_away_is_done_without(cluster: Any, arm: Path) -> None:
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    with crew(arm, workers=4) as workers:
        found = []
        for episode in workers.run(range(60)):
            found.append(episode)
            if len(found) == 20:
                cluster.remove_node(node, allow_graceful=False)
        progress = workers.progress
    assert digests(found) == digests(local(arm, "policies.py:hold", 60))
    assert progress.died >= 1 and progress.errors == 0


def test_an_actor_that_hangs_is_killed_and_its_node_episode_and_seed_are_named(
    cluster: Any, arm: Path
) -> None:
    with crew(arm, "policies.py:Hangs", timeout_s=2.0) as workers:
        found = {episode.number: episode for episode in workers.run(range(3))}
    assert workers.progress.hung == 1 and found[0].error is found[1].error is None
    error = found[2].error
    assert (
        error is not None and error.startswith("episode 2 of seed 4: it hung") and "(node " in error
    )


def test_a_worker_with_another_version_of_the_package_is_refused(
    cluster: Any, arm: Path, tmp_path: Path
) -> None:
    from inphase import _core

    other = tmp_path / "other" / "inphase"
    shutil.copytree(Path(inphase.__file__).parent, other, ignore=shutil.ignore_patterns("*.pyc"))
    binary = Path(_core.__file__ or "")
    if not other.joinpath(binary.name).exists():
        shutil.copy(binary, other)
    with other.joinpath("errors.py").open("a") as file:
        file.write("\n# another version\n")
    ray.shutdown()
    connect(cluster, runtime_env={"env_vars": {"PYTHONPATH": str(other.parent)}})
    try:
        with (
            crew(arm) as workers,
            pytest.raises(WorkerError, match=r"node .*: it has inphase .*, and the learner has "),
        ):
            list(workers.run(range(3)))
    finally:
        ray.shutdown()
        connect(cluster)


def test_a_worker_without_the_files_of_the_schedule_is_refused(
    cluster: Any, arm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = next(line for line in arm.read_text().splitlines() if "arm.xml" in line)
    shutil.copy(model.split('"')[1], tmp_path / "mine.xml")
    here = arm.read_text().replace(model.split('"')[1], "/proc/self/cwd/mine.xml")
    arm.write_text(here)
    monkeypatch.chdir(tmp_path)
    with (
        crew(arm) as workers,
        pytest.raises(WorkerError, match=r"node .*: it has no file /proc/self/cwd/mine.xml; put "),
    ):
        list(workers.run(range(3)))
