"""PyTorch: a module that runs as a policy, and one that is exported to a model that binds."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.schedule import Schedule
from robots import demo_schedule
from runtimes import Robot
from test_safetensors import KEYS, written

torch: Any = pytest.importorskip("torch", reason="the package torch is missing")

JOINTS = 6
NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first = torch.nn.Linear(12, width)
        self.last = torch.nn.Linear(width, 6)

    def forward(self, obs):
        change = self.last(torch.nn.functional.elu(self.first(obs)))
        return obs[:, :6] + 0.001 * change
"""


def made(folder: Path) -> Any:
    """The network, from the file that the schedule names."""
    folder.joinpath("net.py").write_text(NET)
    found: dict[str, Any] = {}
    exec(NET, found)
    torch.manual_seed(3)
    return found["Net"]().eval()


def state(module: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def demo(folder: Path, keys: str = KEYS, data: bytes | None = None) -> Schedule:
    """The demo robot with the module for its policy."""
    module = made(folder)
    folder.joinpath("net.safetensors").write_bytes(data or written(state(module)))
    path = demo_schedule(folder)
    text = path.read_text()
    path.write_text(text[: text.index("[policy]")] + "[policy]\n" + keys)
    return load(path)


def commands(described: Schedule, module: Any) -> Iterator[tuple[Any, Any]]:
    """The command of each of 30 frames, and the module's answer to the frame before."""
    with LockStep(described, seed=2) as robot:
        before = robot.step()
        for _ in range(30):
            frame = robot.step()
            sample = before["joints"].value
            obs = np.concatenate([sample["position"], sample["velocity"]]).astype(np.float32)
            with torch.inference_mode():
                expected = module(torch.from_numpy(obs[None]))[0].numpy()
            yield frame.command["arm"].requested, expected
            before = frame
        assert robot.follower.reader.counts()["commands"] >= 30


def test_a_modules_commands_are_its_own_numbers(tmp_path: Path) -> None:
    described = demo(tmp_path)
    module = made(tmp_path)
    for requested, expected in commands(described, module):
        assert np.array_equal(requested, expected.astype(np.float64))


def test_lock_step_gives_the_same_bytes_where_the_module_is_isolated(tmp_path: Path) -> None:
    described = demo(tmp_path)
    digests = set()
    for isolate in (False, True):
        with LockStep(described, seed=3, isolate=isolate) as robot:
            robot.run(100)
            digests.add(robot.digest())
    assert len(digests) == 1


REFUSED: dict[str, tuple[str, bytes | None, str]] = {
    "weights of another width": (
        KEYS.replace('"net.py:Net"', '"net.py:Net"\nargs = { width = 8 }'), None,
        r"policy\.weights: .*is not of net\.py:Net",
    ),
    "no weights of one layer": (
        KEYS, written({"first.weight": np.zeros((16, 12), np.float32)}), "Missing key",
    ),
    "arguments that it has not": (
        KEYS.replace('"net.py:Net"', '"net.py:Net"\nargs = { depth = 8 }'), None, r"policy\.args",
    ),
    "no module": (KEYS.replace("net.py:Net", "net.py:torch.zeros"), None, r"policy\.(args|call)"),
    "another input": (KEYS.replace("obs =", "state ="), None, "does not run on zeros"),
    "fewer numbers": (
        KEYS.replace(', "joints.velocity"', ""), None, r"does not run on zeros.*obs \[1, 6\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    keys, data, expected = REFUSED[name]
    with pytest.raises(ScheduleError, match=expected):
        LockStep(demo(tmp_path, keys, data))


def test_what_torch_itself_saves_is_refused(tmp_path: Path) -> None:
    described = demo(tmp_path)
    for name, save in (("net.pt", torch.save), ("net.pt2", None)):
        module = made(tmp_path)
        file = tmp_path / name
        if save is None:
            torch.export.save(torch.export.export(module, (torch.zeros(1, 12),)), str(file))
        else:
            save(module.state_dict(), file)
        tmp_path.joinpath("net.safetensors").write_bytes(file.read_bytes())
        with pytest.raises(ScheduleError, match="is a zip archive, which can hold code"):
            LockStep(described)


@pytest.mark.real
def test_a_module_moves_a_robot_in_its_own_process() -> None:
    with Robot() as robot:
        module = made(robot.folder)
        robot.folder.joinpath("net.safetensors").write_bytes(written(state(module)))
        robot.write(('call = "sweep.py:Sweep"\n', KEYS))
        with robot.run() as run:
            run.frame(lambda frame: frame.command.inferred_ns is not None)
            run.signal(signal.SIGINT)
            _, summary = run.end()
            said = run.stderr
    assert summary["policy"]["commands"] > 0, (said, summary["policy"])
    assert summary["policy"]["ended"] is None
    assert summary["inference_ns"]["count"] > 0
    assert summary["policy"]["sandbox"]["allow"] == []


@pytest.mark.parametrize("dynamo", [False, True], ids=["by tracing", "by torch.export"])
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_an_exported_module_binds_and_gives_the_same_numbers(
    tmp_path: Path, dynamo: bool, runtime: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")
    pytest.importorskip("onnx", reason="the package onnx, which torch exports with, is missing")
    if dynamo:
        pytest.importorskip("onnxscript", reason="the package onnxscript is missing")
    module = made(tmp_path)
    torch.onnx.export(
        module,
        (torch.zeros(1, 2 * JOINTS),),
        str(tmp_path / "policy.onnx"),
        input_names=["obs"],
        output_names=["action"],
        external_data=False,
        dynamo=dynamo,
    )
    keys = KEYS.replace('call = "net.py:Net"\nweights = "net.safetensors"', 'model = "policy.onnx"')
    described = demo(tmp_path, f'{keys}runtime = "{runtime}"\n')
    for requested, expected in commands(described, module):
        assert requested == pytest.approx(expected, abs=1e-6)
