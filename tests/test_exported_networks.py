"""Networks as other programs write them: numbers in a second file, unused operator sets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.models import onnx_file
from inphase.models.protobuf import Refused
from inphase.schedule import Schedule
from models import network, port, with_model
from robots import demo_schedule

onnx = pytest.importorskip("onnx", reason="the package onnx is missing")
onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

JOINTS = 6
STEADY = network((2 * JOINTS, 32, 32, JOINTS), gain=0.002, residual=True)


def demo(folder: Path, data: bytes, policy: str = "") -> Schedule:
    """The demo robot with a model for its policy."""
    return load(with_model(demo_schedule(folder), data, policy))


def commanded(schedule: Schedule, cycles: int = 40) -> Any:
    """The commands of a run in lock step, all of which are accepted but the first."""
    with LockStep(schedule, seed=3, digest=False) as robot:
        acts = [robot.step().copy().command["arm"] for _ in range(cycles)]
        assert robot.follower.reader.counts()["commands"] >= cycles - 1
    return np.array([act.requested for act in acts[1:]])


# ---- numbers in a file beside the model --------------------------------------------------------


def split(path: Path, data: bytes = STEADY, name: str = "weights.bin") -> bytes:
    """Write a model with its numbers in a second file, as the package onnx does; its bytes."""
    onnx.save_model(
        onnx.load_model_from_string(data),
        str(path),
        save_as_external_data=True,
        location=name,
        size_threshold=0,
    )
    return path.read_bytes()


def test_numbers_in_a_file_beside_the_model_are_the_models(tmp_path: Path) -> None:
    whole = commanded(demo(tmp_path, STEADY))
    outside = split(tmp_path / "policy.onnx")
    assert len(outside) < len(STEADY) / 4
    assert np.array_equal(commanded(demo(tmp_path, outside)), whole)
    read = onnx_file.read(tmp_path / "policy.onnx")
    assert len(read.data) >= len(STEADY) - 200, "the bytes that run have all numbers in them"


def entry(key: str, value: str) -> bytes:
    """A key and its value, which say where the numbers of a tensor are."""
    return models.data(13, models.data(1, key) + models.data(2, value))


def elsewhere(*entries: tuple[str, str], said: bool = True, more: bytes = b"") -> bytes:
    """A model whose four numbers lie elsewhere."""
    tensor = models.number(1, 4) + models.number(2, 1) + models.data(8, "w")
    tensor += b"".join(entry(*one) for one in entries) + (models.number(14, 1) if said else b"")
    return models.model(
        [models.node("Add", ["x", "w"], ["y"])],
        [port("x", "float32", (4,))],
        [port("y", "float32", (4,))],
        [tensor + more],
    )


BESIDE = ("location", "w.bin")
OUTSIDE: dict[str, tuple[bytes, str]] = {
    "a path": (elsewhere(("location", "more/w.bin")), "no name of a file beside the model"),
    "the folder above": (elsewhere(("location", "../w.bin")), "no name of a file beside"),
    "two dots": (elsewhere(("location", "..")), "no name of a file beside the model"),
    "an absolute path": (elsewhere(("location", "/etc/passwd")), "no name of a file beside"),
    "another system's path": (elsewhere(("location", "..\\w.bin")), "no name of a file beside"),
    "no name": (elsewhere(("offset", "0")), "no name of a file beside the model"),
    "a missing file": (elsewhere(("location", "x.bin")), "copy that file there too, or export"),
    "a link out of the folder": (elsewhere(("location", "link.bin")), "a link to another folder"),
    "a folder": (elsewhere(("location", "folder")), "is no file"),
    "an end beyond the file": (elsewhere(BESIDE, ("offset", "20")), "which has 32"),
    "an offset beyond all files": (elsewhere(BESIDE, ("offset", "9" * 18)), "which has 32"),
    "an offset below 0": (elsewhere(BESIDE, ("offset", "-4")), "offset is '-4', and no number"),
    "an offset that is no number": (elsewhere(BESIDE, ("offset", "1e3")), "and no number"),
    "another length": (elsewhere(BESIDE, ("length", "12")), "type and dims say 16"),
    "an unknown key": (elsewhere(BESIDE, ("url", "http://x")), "has a key 'url'"),
    "a name alone": (elsewhere(BESIDE, said=False), "names a file that data_location does not"),
    "numbers here too": (
        elsewhere(BESIDE, more=models.data(9, bytes(16))), "has numbers here and in a file",
    ),
}  # fmt: skip


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with 32 bytes of numbers, a folder, and a link out of it."""
    (tmp_path / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.bin").symlink_to("/etc/hostname")
    return tmp_path


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_elsewhere_is_not_read(beside: Path, name: str) -> None:
    data, words = OUTSIDE[name]
    with pytest.raises(Refused) as refused:
        onnx_file.check(beside / "policy.onnx", data)
    assert words in str(refused.value), str(refused.value)
    assert str(refused.value).startswith(f"{beside / 'policy.onnx'}: ")


def test_numbers_are_taken_from_their_offset(beside: Path) -> None:
    data = elsewhere(BESIDE, ("offset", "12"), ("length", "16"))
    read = onnx_file.check(beside / "policy.onnx", data)
    session = onnxruntime.InferenceSession(read.data, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.zeros(4, np.float32)})
    assert result.tolist() == [3, 4, 5, 6]


def test_a_link_within_the_folder_is_a_file(beside: Path) -> None:
    (beside / "other.bin").symlink_to("w.bin")
    onnx_file.check(beside / "policy.onnx", elsewhere(("location", "other.bin")))


def test_small_files_that_make_a_large_model_are_refused(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many tensors may name the same bytes."""
    monkeypatch.setattr(onnx_file, "SIZE_MAX", 300)
    data = elsewhere(BESIDE)
    onnx_file.check(beside / "policy.onnx", data)
    monkeypatch.setattr(onnx_file, "SIZE_MAX", len(data) + 15)
    with pytest.raises(Refused, match="is larger than"):
        onnx_file.check(beside / "policy.onnx", data)


def test_two_files_are_refused_and_the_advice_makes_one_that_runs(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(STEADY)
    onnx.save_model(
        model, str(tmp_path / "policy.onnx"), save_as_external_data=True,
        all_tensors_to_one_file=False, size_threshold=0,
    )  # fmt: skip
    with pytest.raises(Refused, match=r"several files.*; export the model in one file"):
        onnx_file.read(tmp_path / "policy.onnx")
    onnx.save_model(onnx.load(str(tmp_path / "policy.onnx")), str(tmp_path / "policy.onnx"))
    onnx_file.read(tmp_path / "policy.onnx")


def test_a_file_that_was_left_behind_is_named_and_runs_once_it_is_there(tmp_path: Path) -> None:
    outside = split(tmp_path / "policy.onnx")
    weights = tmp_path / "weights.bin"
    kept = weights.read_bytes()
    weights.unlink()
    with pytest.raises(Refused, match=r"'weights\.bin', which is not beside the model; copy"):
        onnx_file.read(tmp_path / "policy.onnx")
    weights.write_bytes(kept)
    commanded(demo(tmp_path, outside))


# ---- operator sets -----------------------------------------------------------------------------


def imported(data: bytes, *domains: str) -> bytes:
    """The model with imports of operator sets that no node uses."""
    return data + b"".join(
        models.data(8, models.data(1, domain) + models.number(2, 1)) for domain in domains
    )


def optimised(data: bytes, folder: Path) -> bytes:
    """The model as ONNX Runtime itself saves it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return (folder / "optimised.onnx").read_bytes()


WRITERS: dict[str, Callable[[Path], bytes]] = {
    "by name": lambda _: imported(STEADY, "ai.onnx.ml", "com.microsoft"),
    "of somebody": lambda _: imported(STEADY, "com.somebody", "pkg.onnxscript.torch_lib"),
    "by ONNX Runtime": lambda folder: optimised(STEADY, folder),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_operator_sets_that_nothing_uses_are_no_matter(
    tmp_path: Path, name: str, runtime: str
) -> None:
    data = WRITERS[name](tmp_path)
    assert len(onnx.load_model_from_string(data).opset_import) > 1
    schedule = demo(tmp_path, data)
    path = schedule.path
    path.write_text(path.read_text() + f'runtime = "{runtime}"\n')
    commanded(load(path))


def test_a_pipe_beside_the_model_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(Refused, match="is no file"):
        onnx_file.check(tmp_path / "policy.onnx", elsewhere(BESIDE))
