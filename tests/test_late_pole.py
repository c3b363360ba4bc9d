"""The late pole: worlds with other ideas of time, and the policies that were trained in them."""

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import inphase
from peers import ROOT

pytest.importorskip("mujoco", reason="a simulated world: pip install 'inphase[sim]'")
FOLDER = ROOT / "schedules" / "late_pole"
MODULES = ("judge", "policy", "task", "train")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, whose siblings are imported by their names."""
    monkeypatch.syspath_prepend(FOLDER)
    import train

    yield train
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["polite", "constant", "fitted", "true"])
def test_each_world_has_the_timing_of_its_name(
    train: ModuleType, tmp_path: Path, name: str
) -> None:
    path = train.world(name, tmp_path)
    inphase.load(path)
    timing = tomllib.loads(path.read_text()).get("timing")
    if name == "polite":
        assert timing is None
    elif name == "fitted":
        assert timing == {"file": train.FITTED}
    elif name == "true":
        assert timing["sensors"]["pole"]["dropout"] == 0.02
    else:
        fitted = tomllib.loads((FOLDER / train.FITTED).read_text())
        shares, values = np.array(fitted["sensors"]["pole"]["latency_ms"]["quantiles"]).T
        median = timing["sensors"]["pole"]["latency_ms"]
        assert shares[values <= median].max() <= 0.5 <= shares[values >= median].min()


def test_the_policy_sees_angles_and_its_commands_and_forgets_them(train: ModuleType) -> None:
    import policy

    weights = [0.0] * policy.SIZE
    weights[1], weights[policy.LOOKS + 2] = 1.0, 0.5  # the angle before, the last command
    taken: list[tuple[float, float]] = []

    class Told(policy.Balance):  # type: ignore[misc, name-defined]
        def __call__(self, frame: inphase.Frame) -> object:
            act = super().__call__(frame)
            taken.append((float(frame["pole"].value["angle"]), float(act[0])))
            return act

    path = FOLDER / "late_pole.toml"
    with inphase.Runner(
        path, policy=Told(weights=weights), lockstep=True, cycles=30, seed=3
    ) as robot:
        assert len(list(robot)) >= 30
    assert len(taken) > 20
    before, last = taken[0][0], 0.0
    for angle, act in taken:
        expected = min(1.0, max(-1.0, before / 0.1 + 0.5 * last))
        assert act == pytest.approx(expected * policy.SPEED_M_S)
        before, last = angle, expected
    again = policy.Balance(weights=weights)
    again._acts[:] = 1.0
    again.reset()
    assert not again._acts.any()


@pytest.mark.long
def test_who_was_told_of_the_time_stands_longer(train: ModuleType) -> None:
    import judge

    weights = json.loads((FOLDER / "weights.json").read_text())
    stood = {name: judge.lockstep(weights[name], 100).stood_seconds for name in weights}
    assert stood["polite"] < 3.5
    assert 4.5 < stood["constant"] < stood["fitted"]
