"""A task that is shown: the demonstrator, the network that comes along, and the way between."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import inphase
from peers import ROOT

pytest.importorskip("mujoco", reason="a simulated world: pip install 'inphase[sim]'")
FOLDER = ROOT / "schedules" / "imitate"
MODULES = ("demonstrate", "demonstrator", "judge", "task", "train")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, whose siblings are imported by their names."""
    monkeypatch.syspath_prepend(FOLDER)
    import judge

    yield judge
    for name in MODULES:
        sys.modules.pop(name, None)


def test_the_network_that_comes_along_does_what_it_was_shown(judge: ModuleType) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'inphase[onnx]'")
    found = judge.lockstep(FOLDER / "push.toml", None, 12)
    assert found.episodes == 12
    assert found.done >= 10, str(found)


def test_the_demonstrator_brings_the_puck_to_the_mark_and_begins_where_the_arm_is(
    judge: ModuleType, tmp_path: Path
) -> None:
    import demonstrate
    import task

    path = demonstrate.schedule(tmp_path)
    done = 0
    for episode in range(4):
        with inphase.Runner(path, lockstep=True, cycles=300, seed=3, episode=episode) as robot:
            frames = [frame.copy() for frame in robot]
        acts = [frame.command["arm"].applied for frame in frames]
        first = next(k for k, one in enumerate(acts) if np.isfinite(one).all())
        assert np.abs(acts[first] - frames[first - 1]["joints"].value["position"]).max() < 0.03
        done += any(task.is_done(frame) for frame in frames)
    assert done >= 3


def test_the_puck_is_nowhere_before_somebody_has_seen_it(judge: ModuleType) -> None:
    import task

    sample = SimpleNamespace(sequence=-1, value={"puck": np.zeros(2), "mark": np.zeros(2)})
    assert not task.is_done({"scene": sample})
    sample.sequence = 0
    assert task.is_done({"scene": sample})


@pytest.mark.long
@pytest.mark.real
def test_a_few_demonstrations_make_a_network_that_a_robot_runs(
    judge: ModuleType, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make trainers-test")
    pytest.importorskip("onnx", reason="make trainers-test installs it")
    import demonstrate
    import train

    demonstrate.main([str(tmp_path), "--episodes", "8", "--cycles", "250"])
    files = sorted(tmp_path.glob("*.mcap"))
    assert len(files) == 8
    inputs, steps, count = train.load(files[:7])
    assert 3 <= count <= 7 and len(inputs) > 200 * count
    network = train.fit(inputs, steps, 30, 1)
    others, wanted, _ = train.load(files[7:])
    import torch

    with torch.no_grad():
        said = train.STEP_RAD * network.step(torch.tensor(others)).numpy()
    assert ((said - wanted) ** 2).mean() < 0.7 * (wanted**2).mean()
    train.save(network, tmp_path / "push.onnx")
    shutil.copy(FOLDER / "push.toml", tmp_path)
    with inphase.Runner(tmp_path / "push.toml", lockstep=True, cycles=100) as robot:
        acts = [frame.command["arm"].requested.copy() for frame in robot]
    assert sum(np.isfinite(one).all() for one in acts) > 50


@pytest.mark.long
@pytest.mark.real
def test_only_marked_successes_are_learned_from(judge: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: make trainers-test")
    import demonstrate
    import train

    path = demonstrate.schedule(tmp_path)
    text = path.read_text().replace("/tmp/inphase-push", str(tmp_path))
    name = tmp_path.name.lower()
    path.write_text(text.replace('name = "push"', f'name = "{name}"').replace("[page]", ""))
    recording = tmp_path / "run.mcap"
    command = ["-m", "inphase", "run", "--simulate", str(path), "--record", str(recording)]
    with subprocess.Popen([sys.executable, *command], env=os.environ) as run:
        frames = iter(inphase.subscribe(name))
        for outcome in ("running", "discarded", "running", "success"):
            for _ in range(25):
                next(frames)
            inphase.mark_episode(name, outcome)
        for _ in range(25):
            next(frames)
        run.send_signal(2)
        run.wait(60)
    with inphase.Recording(recording) as found:
        assert [one.outcome for one in found.episodes] == ["discarded", "success"]
        (frames_of,) = train.episodes(found)
        assert len(frames_of) == len(found.episodes[1])
        assert frames_of[0].cycle == found[found.episodes[1].first].cycle
