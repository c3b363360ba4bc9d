"""Workers that stay up: every number once, whatever becomes of them, and weights by version."""

import itertools
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import inphase
from arms import arm_schedule
from inphase.episodes.episode import Episode
from inphase.errors import ScheduleError, WorldError

POLICIES = '''
import os
import signal
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


class Shift:
    """Where the arm is, and by its weights further."""

    def __init__(self):
        self.by = 0.0

    def load_weights(self, weights):
        self.by = float(weights["by"][0])
        self.frames = 0

    def __call__(self, frame):
        self.frames = getattr(self, "frames", 0) + 1
        return frame["joints"].value["position"] + self.by


class Dies:
    """In its first episodes, as often as there are files; the file is gone then."""

    def __call__(self, frame):
        for one in HERE.glob("die*"):
            one.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return frame["joints"].value["position"].copy()


class Hangs:
    """In cycle 20 of the episode whose draw is the largest."""

    def __call__(self, frame):
        if frame.cycle == 20 and frame["episode"].value["world.body.block.mass"] > 0.25:
            time.sleep(3600)
        return frame["joints"].value["position"].copy()


def always_dies(frame):
    os.kill(os.getpid(), signal.SIGKILL)


def slow(frame):
    time.sleep(0.05)
    return frame["joints"].value["position"].copy()


def hold(frame):
    return frame["joints"].value["position"].copy()


def gradient(episode, policy):
    rows = episode.recorded["joints.position"]
    return {"sum": rows.sum(axis=0), "frames": np.array([policy.frames])}


def no_number(episode, policy):
    return {"w": np.array([1.0, np.nan if episode.number == 1 else 0.0])}
'''
TASKS = """
def reward(frame):
    if frame.cycle == 13 and frame["episode"].value["world.body.block.mass"] > 0.25:
        raise ZeroDivisionError("no tip")
    return 1.0
"""
RANDOMISE = '[randomise]\n"world.body.block.mass" = { uniform = [0.1, 0.3] }\n'
HEAVY = 0.25
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("error")]


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    tmp_path.joinpath("policies.py").write_text(POLICIES)
    tmp_path.joinpath("tasks.py").write_text(TASKS)
    return arm_schedule(tmp_path, more=RANDOMISE)


def crew(arm: Path, policy: Any = "policies.py:hold", **more: Any) -> inphase.RolloutWorkers:
    return inphase.RolloutWorkers(arm, policy, 4, **{"cycles": 40, "workers": 2} | more)


def digests(episodes: "list[Episode]") -> dict[int, str]:
    assert len({episode.number for episode in episodes}) == len(episodes)
    return {episode.number: episode.digest for episode in episodes}


def alone(arm: Path, policy: Any, episodes: int) -> dict[int, str]:
    found = inphase.rollout(arm, policy, episodes, 4, cycles=40, workers=1)
    return digests(found)


def test_workers_stay_up_from_one_run_to_the_next(arm: Path) -> None:
    with crew(arm) as workers:
        first = list(workers.run(range(4)))
        second = list(workers.run(range(4, 10)))
        pids = {episode.worker for episode in first} | {episode.worker for episode in second}
    assert len(pids) <= 2 and all(name.startswith("process ") for name in pids)
    assert digests(first + second) == alone(arm, "policies.py:hold", 10)
    assert workers.progress.episodes == 10


def test_a_run_that_is_given_up_gives_nothing_to_the_next_one(arm: Path) -> None:
    with crew(arm) as workers:
        some = list(itertools.islice(workers.run(itertools.count()), 3))
        after = list(workers.run([100, 101, 102]))
    assert len(digests(some)) == 3
    assert {episode.number for episode in after} == {100, 101, 102}


def test_weights_are_those_of_their_version(arm: Path) -> None:
    def run(workers: int) -> list[Episode]:
        found: list[Episode] = []
        with crew(arm, "policies.py:Shift", workers=workers) as group:
            for by in (0.0, 0.002):
                version = group.publish({"by": np.array([by])})
                episodes = list(group.run(range(3)))
                assert {episode.version for episode in episodes} == {version}
                found += sorted(episodes, key=lambda episode: episode.number)
        return found

    one, two = run(1), run(2)
    assert one == two
    assert [e.version for e in one] == [1] * 3 + [2] * 3
    assert one[0].digest != one[3].digest


def test_weights_too_old_are_not_given_back(arm: Path) -> None:
    numbers = iter(range(12))
    with crew(arm, "policies.py:Shift", staleness=0) as workers:
        workers.publish({"by": np.zeros(1)})
        found = []
        for episode in workers.run(numbers):
            assert episode.version == workers.version
            found.append(episode)
            workers.publish({"by": np.full(1, 1e-4 * len(found))})
    assert sorted(digests(found)) == list(range(12))
    assert workers.progress.stale > 0


def test_weights_for_a_policy_that_takes_none_are_refused(arm: Path) -> None:
    with crew(arm, workers=1) as workers:
        workers.publish({"by": np.zeros(1)})
        with pytest.raises(ScheduleError, match=r"takes no weights; give it a method load_weights"):
            list(workers.run(range(2)))
    with (
        crew(arm, np.zeros((0, 6))) as workers,
        pytest.raises(ValueError, match="weights are for a policy in Python"),
    ):
        workers.publish({})


def test_episodes_of_workers_that_died_are_run_again_and_none_counts_twice(arm: Path) -> None:
    for number in range(2):
        arm.with_name(f"die{number}").touch()
    with crew(arm, "policies.py:Dies") as workers:
        found = list(workers.run(range(12)))
    assert not list(arm.parent.glob("die*"))
    assert digests(found) == alone(arm, "policies.py:hold", 12)
    progress = workers.progress
    assert 1 <= progress.died <= 2 and progress.again == progress.died and progress.errors == 0


def test_workers_killed_from_outside_are_replaced(arm: Path) -> None:
    with crew(arm) as workers:
        found = []
        for episode in workers.run(range(30)):
            found.append(episode)
            if len(found) % 10 == 5:
                os.kill(int(episode.worker.split()[-1]), signal.SIGKILL)
    assert digests(found) == alone(arm, "policies.py:hold", 30)
    assert workers.progress.died == 3


def test_an_episode_that_kills_its_workers_has_an_error(arm: Path) -> None:
    with crew(arm, "policies.py:always_dies") as workers:
        (found,) = workers.run([7])
    assert found.error is not None and found.digest == ""
    assert found.error.startswith("episode 7 of seed 4: 3 workers died with it, the last one: ")
    assert "exit code -9" in found.error and "(process " in found.error


@pytest.mark.long
def test_an_episode_that_does_not_end_is_killed_and_counted(arm: Path) -> None:
    draws = inphase.rollout(arm, None, 4, 4, cycles=1, workers=1)
    heavy = {e.number for e in draws if e.draws["world.body.block.mass"] > HEAVY}  # type: ignore[operator]
    assert 0 < len(heavy) < 4
    with crew(arm, "policies.py:Hangs", timeout_s=2.0) as workers:
        found = list(workers.run(range(4)))
    assert workers.progress.hung == len(heavy)
    assert {e.number for e in found if e.error is not None} == heavy
    assert sorted(digests(found)) == list(range(4))
    for episode in found:
        if episode.error is not None:
            assert f"episode {episode.number} of seed 4: it hung" in episode.error
            assert "(process " in episode.error


def test_an_episode_that_takes_too_long_ends_by_itself(arm: Path) -> None:
    with crew(arm, "policies.py:slow", cycles=10**6, timeout_s=1.0, record=["reward"]) as workers:
        (found,) = workers.run([3])
    assert found.error is not None and workers.progress.hung == 0
    assert "episode 3 of seed 4: stopped after timeout_s = 1 in cycle " in found.error


def test_a_reward_that_raises_costs_its_episode_alone(arm: Path) -> None:
    path = arm.with_name("task.toml")
    path.write_text(arm.read_text() + '[task]\nreward = "tasks.py:reward"\n')
    with crew(path, record=["reward"]) as workers:
        found = list(workers.run(range(8)))
    heavy = {e.number for e in found if e.draws["world.body.block.mass"] > HEAVY}  # type: ignore[operator]
    assert {e.number for e in found if e.error is not None} == heavy != set()
    for episode in found:
        if episode.error is None:
            assert episode.recorded["reward"].tolist() == [0.0] + [1.0] * 39
            continue
        assert (
            f"episode {episode.number} of seed 4: a function of the [task] raised" in episode.error
        )
        assert "ZeroDivisionError('no tip') in cycle 13" in episode.error
        assert "tasks.py, line 4" in episode.error


def test_a_worker_sends_what_reduce_makes_of_an_episode(arm: Path) -> None:
    options: dict[str, Any] = {"record": ["joints.position"]}
    with crew(arm, "policies.py:Shift", reduce="policies.py:gradient", **options) as workers:
        workers.publish({"by": np.zeros(1)})
        reduced = {e.number: e.recorded for e in workers.run(range(3))}
    assert workers.progress.received_bytes == 3 * (6 * 8 + 8)
    with crew(arm, "policies.py:Shift", **options) as workers:
        workers.publish({"by": np.zeros(1)})
        for episode in workers.run(range(3)):
            rows = episode.recorded["joints.position"]
            assert (reduced[episode.number]["sum"] == rows.sum(axis=0)).all()
            assert reduced[episode.number]["frames"] == len(rows)


def test_numbers_that_are_not_finite_do_not_reach_the_learner(arm: Path) -> None:
    with crew(arm, reduce="policies.py:no_number") as workers:
        found = {episode.number: episode for episode in workers.run(range(3))}
    error = found[1].error
    assert error is not None and found[1].recorded == {}
    assert "episode 1 of seed 4: reduce gave numbers that are not finite: 'w' (process " in error
    assert found[0].error is found[2].error is None


def test_progress_says_what_holds_it_up(arm: Path) -> None:
    with crew(arm, "policies.py:slow", cycles=20) as workers:
        list(workers.run(range(6)))
        shares = workers.progress.shares
    assert workers.progress.bottleneck in shares and abs(sum(shares.values()) - 1.0) < 0.2


def test_no_process_is_left(arm: Path) -> None:
    with crew(arm) as workers:
        next(workers.run(range(10)))
        mine = multiprocessing.active_children()
        assert len(mine) == 2
    assert not any(psutil.pid_exists(child.pid) for child in mine)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"workers": 0}, "1 or more"),
        ({"address": "ray://127.0.0.1:1"}, "no Ray cluster|pip install"),
    ],
)
def test_what_cannot_be_had_is_refused(arm: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, WorldError), match=said):
        crew(arm, **more)
