"""The cable of schedules/cable: it is plugged in by who looks, and every episode is its own."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import inphase
from inphase.episodes.lockstep import LockStep
from peers import ROOT

pytest.importorskip("mujoco", reason="pip install mujoco")
FOLDER = ROOT / "schedules" / "cable"


@pytest.fixture
def show() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    try:
        import show_cable

        yield show_cable
    finally:
        sys.path.remove(str(FOLDER))


def test_who_looks_at_the_tip_plugs_it_in_and_who_does_not_fails(show: Any) -> None:
    assert all(took < 6.0 for took in show.plugged("Plug", 2, 1000, workers=1))
    assert show.plugged("Blind", 1, 1000, workers=1) == [float("inf")]


def test_the_socket_of_each_episode_is_elsewhere_and_the_same_again() -> None:
    def rolled() -> list[Any]:
        return inphase.rollout(FOLDER / "cable.toml", None, 2, 7, cycles=50, workers=1)

    first, again = rolled(), rolled()
    assert [one.digest for one in first] == [one.digest for one in again]
    sockets = [tuple(one.draws["world.body.socket.pos"]) for one in first]
    assert sockets[0] != sockets[1]


def test_the_cable_hangs_between_post_and_plug() -> None:
    with LockStep(inphase.schedule.load(FOLDER / "cable.toml"), seed=1, digest=False) as robot:
        for _ in robot.frames(100):
            pass
        data: Any = robot.world.data  # type: ignore[union-attr]
        heights = [data.body(f"cable_{number}").xpos[2] for number in range(13)]
    assert max(heights) < 0.3
    assert min(heights) < heights[0] - 0.05 and min(heights) < heights[-1] - 0.05


def test_success_is_depth_within_the_socket(show: Any) -> None:
    import cable_policy as policy

    class Places:
        sequence = 0

        def __init__(self, tip: list[float]) -> None:
            self.value = {"tip": np.array(tip), "socket": np.zeros(3)}

    def depth(*tip: float) -> float:
        return float(policy.depth({"places": Places(list(tip))}))

    assert depth(-0.01, 0, 0) == 0
    assert depth(0.041, 0.001, 0) == pytest.approx(0.041)
    assert depth(0.041, 0.02, 0) == 0  # above the socket, or beside it
    assert policy.is_plugged({"places": Places([0.041, 0, 0])})
    assert not policy.is_plugged({"places": Places([0.039, 0, 0])})
