"""Many episodes at once: each follows from seed and number, whoever ran it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

import inphase
from arms import arm_schedule
from inphase.core.lockstep_config import NativePolicy
from inphase.episodes.episode import Episode
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from peers import BOUND_S, until

MASS = "world.body.block.mass"
RANDOMISE = f'[randomise]\n"{MASS}" = {{ uniform = [0.1, 0.3] }}\n'
POLICIES = '''
class Count:
    """Its state must not reach the next episode."""

    def __init__(self):
        self.calls = 0

    def __call__(self, frame):
        self.calls += 1
        here = frame["joints"].value["position"].copy()
        return here + 0.001 * (self.calls % 3)


counting = Count()


def hold(frame):
    return frame["joints"].value["position"].copy()
'''
TASKS = """
class Reward:
    def reset(self):
        self.steps = 0

    def __call__(self, frame):
        self.steps += 1
        return self.steps


def over(frame):
    return frame.cycle >= 30
"""
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.joinpath("policies.py").write_text(POLICIES)
    tmp_path.joinpath("tasks.py").write_text(TASKS)
    return tmp_path


def same(a: list[Episode], b: list[Episode]) -> bool:
    """Also what was recorded, to the bit."""

    def plain(episode: Episode) -> Any:
        rows = {key: (r.dtype, r.shape, r.tobytes()) for key, r in episode.recorded.items()}
        return replace(episode, recorded={}), rows

    return [plain(one) for one in a] == [plain(one) for one in b]


def test_a_policy_runs_in_processes_and_their_number_changes_nothing(folder: Path) -> None:
    path = arm_schedule(folder, timing=True, more=RANDOMISE)

    def run(workers: int) -> list[Episode]:
        return inphase.rollout(
            path,
            "policies.py:Count",
            episodes=7,
            seed=3,
            cycles=80,
            workers=workers,
            record=["joints.position", "episode"],
        )

    alone = run(1)
    assert same(alone, run(2)) and same(alone, run(3))
    assert [episode.number for episode in alone] == list(range(7))
    assert len({episode.digest for episode in alone}) == 7
    assert len({episode.draws[MASS] for episode in alone}) == 7
    for episode in alone:
        assert (episode.cycles, episode.error, episode.seed) == (80, None, 3)
        assert episode.statuses["joints"]["FRESH"] > 70
        assert episode.recorded["joints.position"].shape[1:] == (6,)
        assert (episode.recorded[f"episode.{MASS}"] == episode.draws[MASS]).all()


def test_without_python_it_runs_in_threads_and_their_number_changes_nothing(folder: Path) -> None:
    path = arm_schedule(folder, timing=True, more=RANDOMISE)
    loaded = msgspec.structs.replace(inphase.load(path), policy=None)

    def run(workers: int, record: tuple[str, ...] = ()) -> list[Episode]:
        return inphase.rollout(
            loaded, None, episodes=5, seed=3, cycles=300, workers=workers, record=record
        )

    alone = run(1)
    assert same(alone, run(3))
    watched = run(2, ("joints",))
    assert [episode.digest for episode in watched] == [episode.digest for episode in alone]


@pytest.mark.parametrize("more", [RANDOMISE, ""])
def test_an_episode_is_the_run_in_lock_step_of_its_seed_and_number(folder: Path, more: str) -> None:
    path = arm_schedule(folder, timing=True, more=more)
    episodes = inphase.rollout(path, None, episodes=3, seed=11, cycles=200, workers=1)
    for episode in episodes:
        with LockStep(inphase.load(path), seed=11, episode=episode.number) as robot:
            robot.run(200)
            assert (robot.digest(), robot.draws) == (episode.digest, episode.draws)


@pytest.mark.parametrize("policy", ["policies.py:counting", "policies.py:Count"])
def test_a_policy_knows_nothing_of_the_episode_before(folder: Path, policy: str) -> None:
    path = arm_schedule(folder)
    a, b = (inphase.rollout(path, policy, episodes=n, seed=1, cycles=20, workers=1) for n in (2, 4))
    assert same(a, b[:2])
    other = inphase.rollout(path, policy, episodes=4, seed=1, cycles=20, workers=4)
    assert same(b, other)


def test_policies_of_every_kind(folder: Path) -> None:
    path = arm_schedule(folder)
    with LockStep(inphase.load(path), seed=2, call=lambda _: None) as robot:
        home = robot.next()["joints"].value["position"].copy()

    def run(policy: Any, workers: int = 2) -> Episode:
        return inphase.rollout(path, policy, 2, 2, cycles=50, workers=workers)[0]

    assert run("policies.py:hold").invalid == 0
    assert run(lambda frame: home, workers=1).missed == 0
    assert run(np.tile(home, (50, 1))).missed == 0
    short = run(np.tile(home, (30, 1)))
    assert (short.missed, short.reasons) == (20, {"silent": 20})
    assert run(None).missed == run("policies.py:hold").missed == 0  # the schedule's own


def test_a_native_policy_runs_in_threads(folder: Path) -> None:
    from inphase._core import ffi, lib  # noqa: F401

    kept = ffi.callback("uint32_t(void *, const void *, const void *const *, double *)", _silent)
    policy = NativePolicy(int(ffi.cast("uintptr_t", kept)))
    path = arm_schedule(folder)
    episodes = inphase.rollout(path, policy, 3, 2, cycles=40, workers=2)
    assert [episode.reasons for episode in episodes] == [{"raised": 40}] * 3


def _silent(_user: Any, _record: Any, _samples: Any, _command: Any) -> int:
    return 9  # raised


def test_the_task_is_summed_up_and_ends_the_episode(folder: Path) -> None:
    task = '[task]\nreward = "tasks.py:Reward"\nterminated = "tasks.py:over"\ncycles = 60\n'
    path = arm_schedule(folder, more=task)
    for workers in (1, 2):
        episodes = inphase.rollout(path, "policies.py:hold", 3, 2, workers=workers)
        assert [episode.terminated for episode in episodes] == [True] * 3
        assert [episode.reward for episode in episodes] == [sum(range(1, 31))] * 3
    (whole,) = inphase.rollout(path, "policies.py:hold", 1, 2, cycles=20)
    assert (whole.terminated, whole.reward, whole.cycles) == (False, sum(range(1, 20)), 20)


def test_an_episode_whose_world_fails_is_named_and_the_others_are_kept(folder: Path) -> None:
    wild = '[randomise]\n"world.option.gravity" = { set = [0, 0, { values = [-9.81, 1e14] }] }\n'
    path = arm_schedule(folder, more=wild)
    for policy in ("policies.py:hold", np.zeros((0, 6))):
        episodes = inphase.rollout(path, policy, 12, 4, cycles=40, workers=2)
        failed = [episode for episode in episodes if episode.error is not None]
        assert 0 < len(failed) < 12
        for episode in failed:
            assert episode.error is not None
            assert f"episode {episode.number} of seed 4: " in episode.error
            assert "diverged" in episode.error and episode.digest == ""
        assert all(e.cycles == 40 and e.digest for e in episodes if e not in failed)


def test_what_cannot_be_run_is_refused(folder: Path) -> None:
    path = arm_schedule(folder)
    with pytest.raises(ValueError, match="how many cycles"):
        inphase.rollout(path, None, 2, 1)
    with pytest.raises(ValueError, match=r"cannot go to worker processes.*workers=1"):
        inphase.rollout(path, lambda frame: None, 2, 1, cycles=5, workers=2)
    for workers in (1, 2):
        with pytest.raises(ScheduleError, match="has no attribute 'none'"):
            inphase.rollout(path, "policies.py:none", 4, 1, cycles=5, workers=workers)
        with pytest.raises(ScheduleError, match="there is no such knob"):
            inphase.rollout(
                path, None, 4, 1, cycles=5, workers=workers, randomise={"world.body.b.mass": 1.0}
            )


@pytest.mark.real
@pytest.mark.parametrize("policy", ["'policies.py:hold'", "np.zeros((0, 6))"])
def test_an_interrupt_ends_it_and_its_workers(folder: Path, policy: str) -> None:
    path = arm_schedule(folder)
    name = f"t{os.getpid()}"
    path.write_text(path.read_text().replace('name = "arm"', f'name = "{name}"'))
    script = folder / "script.py"
    script.write_text(
        "import signal\nimport inphase\nimport numpy as np\n"
        "if __name__ == '__main__':\n"
        # whoever runs the tests in the background has them ignore it
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    print('start', flush=True)\n"
        f"    inphase.rollout({str(path)!r}, {policy}, 10**4, 1, cycles=10**6, workers=2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "start\n"
    myself = psutil.Process(process.pid)

    def at_work() -> bool:
        """An episode is under way: its store is there."""
        pids = [child.pid for child in myself.children()] if "hold" in policy else [process.pid]
        return any("memfd:inphase" in one.path for pid in pids for one in _mapped(pid))

    until(at_work)
    children = myself.children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert not psutil.wait_procs(children, timeout=BOUND_S)[1]


def _mapped(pid: int) -> list[Any]:
    try:
        return psutil.Process(pid).memory_maps()
    except psutil.Error:
        return []


def test_a_frame_of_an_episode_that_is_over_is_not_whole_and_its_record_stays(folder: Path) -> None:
    frames: list[Any] = []

    def keeps(frame: Any) -> Any:
        frames.append(frame)
        assert frame.intact
        return frame["joints"].value["position"].copy()

    first, second = inphase.rollout(arm_schedule(folder), keeps, 2, 3, cycles=40, workers=1)
    assert first.digest != second.digest or first.draws == second.draws
    old, new = frames[: len(frames) // 2], frames[len(frames) // 2 :]
    assert [frame.cycle for frame in old] == [frame.cycle for frame in new]
    assert {frame.layout.epoch for frame in old}.isdisjoint({one.layout.epoch for one in new})
    assert not any(frame.intact for frame in old)
