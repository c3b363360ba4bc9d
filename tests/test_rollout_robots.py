"""A robot in real time as one of the workers: its episodes are marked, and never run again."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

import inphase
from inphase.errors import WorldError
from simulations import Simulation

pytestmark = pytest.mark.real
WITHOUT = ("device.eye", "sensor.image", "world.sensor.image")
CHANGES = (("sensors.image", "# sensors.image"),)
POLICIES = """
def hold(frame):
    return frame["joints"].value["position"].copy()


def fails(frame):
    return 1 / 0


class Shift:
    def load_weights(self, weights):
        self.by = weights["by"]

    def __call__(self, frame):
        return frame["joints"].value["position"] + self.by
"""
CYCLES = 100


def crew(arm: Simulation, policy: str = "policies.py:hold", **more: Any) -> inphase.RolloutWorkers:
    Path(arm.schedule).with_name("policies.py").write_text(POLICIES)
    robots = [inphase.RobotWorker(arm.schedule, "simulate")]
    options: dict[str, Any] = {"cycles": CYCLES, "workers": 1, "robots": robots} | more
    return inphase.RolloutWorkers(arm.schedule, policy, 5, **options)


def test_a_robot_runs_episodes_beside_simulators_and_they_are_marked() -> None:
    with Simulation(*CHANGES, without=WITHOUT) as arm:
        with crew(arm, "policies.py:Shift", record=["joints.position"]) as workers:
            version = workers.publish({"by": 0.001})
            found = {}
            for number in range(1000):
                for episode in workers.run(range(4 * number, 4 * number + 4)):
                    assert episode.number not in found
                    found[episode.number] = episode
                if sum(episode.real for episode in found.values()) >= 2:
                    break
        simulated = [episode for episode in found.values() if not episode.real]
        real = [episode for episode in found.values() if episode.real]
    assert len(real) >= 2 and simulated
    assert sorted(found) == list(range(len(found)))
    for episode in real:
        assert episode.error is None and episode.digest == "" and episode.version == version
        assert episode.worker.startswith("robot ") and episode.cycles >= CYCLES
        assert len(episode.recorded["joints.position"]) == len(episode.recorded["cycle"]) > 1
    assert all(episode.digest for episode in simulated)


@pytest.mark.long
def test_a_robot_that_is_lost_fails_its_episode_and_gets_no_other() -> None:
    with Simulation(*CHANGES, without=WITHOUT) as arm, crew(arm, cycles=500) as workers:
        found, killed = [], False
        for episode in workers.run(range(60)):
            found.append(episode)
            runtimes = [
                one for one in psutil.Process().children() if "runner_process" in str(one.cmdline())
            ]
            if runtimes and not killed:
                os.kill(runtimes[0].pid, signal.SIGKILL)
                killed = True
        progress = workers.progress
    real = [episode for episode in found if episode.real]
    assert killed and progress.robots_lost == 1
    assert [episode.error is not None for episode in real][-1:] == [True]
    assert real[-1].error is not None
    assert (
        f"episode {real[-1].number} of seed 5: " in real[-1].error and "(robot " in real[-1].error
    )
    assert sorted(episode.number for episode in found) == list(range(60))


def test_what_a_robot_cannot_do_is_refused() -> None:
    refused = pytest.raises(WorldError, match="knobs are randomised in lock step alone")
    with Simulation(*CHANGES, without=WITHOUT) as arm, refused:
        crew(arm, randomise={"world.body.block.mass": 0.2})


@pytest.mark.long
def test_what_a_policy_raises_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with Simulation(*CHANGES, without=WITHOUT) as arm, crew(arm, "policies.py:fails") as workers:
        real = [episode for episode in workers.run(range(6)) if episode.real]
    assert real and all(episode.reasons["raised"] > 0 for episode in real)
    assert "policy raised ZeroDivisionError in cycle" in caplog.text
