"""A recurrent network: its state goes from run to run, and is zeros after a reset or a stop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frames import record_layout
from inphase.plan import plan as planning
from inphase.policy import model_policy
from inphase.schedule import Schedule
from models import with_model
from robots import demo_schedule
from runtimes import Robot

onnx = pytest.importorskip("onnx", reason="the package onnx is missing")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

JOINTS, HIDDEN = 6, 8
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
BOUND = {
    "GRU": '{ h_in = "h_out" }',
    "RNN": '{ h_in = "h_out" }',
    "LSTM": '{ h_in = "h_out", c_in = "c_out" }',
}


def recurrent(cell: str, batch: int | str = 1) -> bytes:
    """A network with one recurrent layer, as the usual exporters write it: the action is the pose
    that goes in, and a little that the state says."""
    random = np.random.default_rng(7)
    gates = GATES[cell] * HIDDEN
    shapes = {
        "W": (1, gates, 2 * JOINTS), "R": (1, gates, HIDDEN), "B": (1, 2 * gates),
        "out": (HIDDEN, JOINTS), "here": (2 * JOINTS, JOINTS),
    }  # fmt: skip
    weights = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    weights["out"] *= 0.01
    weights["R"] *= 0.2
    weights["here"] = np.eye(2 * JOINTS, JOINTS, dtype=np.float32)
    states = ["h", "c"] if cell == "LSTM" else ["h"]
    inner = [f"{one}_in" for one in states]
    nodes = [
        helper.make_node("Unsqueeze", ["obs", "first"], ["sequence"]),
        helper.make_node(
            cell, ["sequence", "W", "R", "B", "", *inner],
            ["", *[f"{one}_out" for one in states]], hidden_size=HIDDEN,
        ),
        helper.make_node("Squeeze", ["h_out", "first"], ["flat"]),
        helper.make_node("MatMul", ["flat", "out"], ["change"]),
        helper.make_node("MatMul", ["obs", "here"], ["pose"]),
        helper.make_node("Add", ["pose", "change"], ["action"]),
    ]  # fmt: skip

    def port(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    held.append(numpy_helper.from_array(np.array([0]), "first"))
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [port("obs", batch, 2 * JOINTS), *[port(name, 1, batch, HIDDEN) for name in inner]],
        [port("action", batch, JOINTS), *[port(f"{s}_out", 1, batch, HIDDEN) for s in states]],
        held,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data


def demo(folder: Path, cell: str, state: str | None = None, more: str = "", **changed: Any) -> Path:
    """The demo robot with that network."""
    keys = (
        'model = "policy.onnx"\n'
        'inputs = { obs = ["joints.position", "joints.velocity"] }\n'
        'outputs = { action = "arm" }\n'
    )
    bound = BOUND[cell] if state is None else state
    keys += f"state = {bound}\n" if bound else ""
    path = demo_schedule(folder)
    return with_model(path, recurrent(cell, **changed), keys + more)


class ByHand:
    """The same network, stepped by ONNX's own reference."""

    def __init__(self, cell: str) -> None:
        self.network = ReferenceEvaluator(onnx.load_model_from_string(recurrent(cell)))
        self.names = ["h", "c"] if cell == "LSTM" else ["h"]
        self.reset()

    def reset(self) -> None:
        """Zeros."""
        self.state = {f"{s}_in": np.zeros((1, 1, HIDDEN), np.float32) for s in self.names}

    def __call__(self, frame: Any) -> NDArray[np.float64]:
        """The command to a frame."""
        value = frame["joints"].value
        obs = np.concatenate([value["position"], value["velocity"]]).astype(np.float32)
        outputs = ["action", *[f"{s}_out" for s in self.names]]
        results: Any = self.network.run(outputs, {"obs": obs.reshape(1, -1), **self.state})
        action, *states = results
        self.state = {f"{s}_in": next_ for s, next_ in zip(self.names, states, strict=True)}
        result: NDArray[np.float64] = action.reshape(-1).astype(np.float64)
        return result


def stepped(schedule: Schedule, cycles: int, **options: Any) -> tuple[list[Any], NDArray[Any]]:
    """Frames, and the command that was requested as an answer to each."""
    with LockStep(schedule, seed=3, digest=False, **options) as robot:
        frames = [robot.step().copy() for _ in range(cycles + 1)]
    return frames[:-1], np.array([frame.command["arm"].requested for frame in frames[1:]])


def compare(by_hand: ByHand, frames: Sequence[Any], commands: NDArray[Any]) -> None:
    """Equal to the rounding of float32."""
    expected = np.array([by_hand(frame) for frame in frames])
    np.testing.assert_allclose(commands, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_the_state_of_a_run_is_that_which_the_run_before_gave(
    tmp_path: Path, cell: str, runtime: str
) -> None:
    schedule = load(demo(tmp_path, cell, more=f'runtime = "{runtime}"\n'))
    frames, commands = stepped(schedule, 60)
    compare(ByHand(cell), frames, commands)
    forgetful = ByHand(cell)
    last = []
    for frame in frames:
        forgetful.reset()
        last.append(forgetful(frame))
    assert np.abs(commands - last)[5:].max() > 1e-3, "the state says something"


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    frames, commands = stepped(load(demo(tmp_path, "LSTM", batch="batch")), 30)
    compare(ByHand("LSTM"), frames, commands)


def test_the_bytes_are_the_same_wherever_the_network_runs(tmp_path: Path) -> None:
    digests = set()
    for runtime in ("c", "python"):
        schedule = load(demo(tmp_path, "LSTM", more=f'runtime = "{runtime}"\n'))
        for isolate in (False, True):
            with LockStep(schedule, seed=3, isolate=isolate) as robot:
                assert robot.run(100) == 100
                digests.add(robot.digest())
    assert len(digests) == 1


def test_every_run_of_one_network_begins_with_a_state_of_zeros(tmp_path: Path) -> None:
    """Rollouts give all episodes of a worker the same network."""
    schedule = load(demo(tmp_path, "GRU"))
    plan = planning.make(schedule)
    assert plan.model is not None
    fresh = []
    with model_policy.NativeModel(schedule, plan.model) as model:
        for episode in (0, 1, 0):
            with LockStep(schedule, seed=5, episode=episode, native=model.native) as robot:
                robot.run(40)
                fresh.append(robot.digest())
    assert fresh[0] == fresh[2] != fresh[1]
    with LockStep(schedule, seed=5, episode=1) as robot:
        robot.run(40)
        assert robot.digest() == fresh[1]


def test_a_frame_that_is_not_accepted_changes_no_state(tmp_path: Path) -> None:
    schedule = load(demo(tmp_path, "GRU"))
    with LockStep(schedule, seed=3, digest=False) as robot:
        robot.core.fault("silent", 0, 20, 6)
        frames = [robot.step().copy() for _ in range(61)]
    answered = [i for i, f in enumerate(frames[:-1]) if f["joints"].status in ("FRESH", "HELD")]
    assert 50 < len(answered) < 60
    commands = np.array([frames[i + 1].command["arm"].requested for i in answered])
    compare(ByHand("GRU"), [frames[i] for i in answered], commands)


def test_after_a_stop_and_an_arming_the_state_is_zeros_again(tmp_path: Path) -> None:
    schedule = load(demo(tmp_path, "LSTM"))
    with LockStep(schedule, seed=3, digest=False) as robot:
        frames = [robot.step().copy() for _ in range(40)]
        robot.core.latch(record_layout.REASONS.index("device"))
        while frames[-1].state != "faulted":
            frames.append(robot.step().copy())
        robot.core.arm()
        begin = len(frames)
        frames += [robot.step().copy() for _ in range(40)]
    commands = np.array([frame.command["arm"].requested for frame in frames[1:]])
    found = []
    for at in range(begin - 2, begin + 3):
        by_hand = ByHand("LSTM")
        expected = np.array([by_hand(frame) for frame in frames[at:-1]])
        found += [at] if np.abs(commands[at:] - expected).max() < 2e-6 else []
    assert len(found) == 1, found
    assert frames[found[0]].state in ("armed", "faulted")


WRONG: dict[str, tuple[str, str, str]] = {
    "an input that there is not": ('{ k_in = "h_out" }', "policy.state.k_in", "it has: 'obs'"),
    "an output that there is not": ('{ h_in = "k" }', "policy.state.h_in", "it has: 'action'"),
    "a command": ('{ h_in = "action" }', "policy.state.h_in", "moves an actuator already"),
    "a field": ('{ obs = "h_out" }', "policy.state.obs", "is bound to fields already"),
    "the same twice": (
        '{ h_in = "h_out", c_in = "h_out" }', "policy.state.h_in", "the next value of two inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_does_not_fit_is_refused_at_its_key(tmp_path: Path, name: str) -> None:
    state, key, words = WRONG[name]
    with pytest.raises(ScheduleError) as refused:
        planning.make(load(demo(tmp_path, "GRU", state)))
    assert f": {key}: " in str(refused.value) and words in str(refused.value)


@pytest.mark.parametrize("cell", GATES)
def test_the_advice_for_a_state_that_is_not_bound_makes_a_policy_that_runs(
    tmp_path: Path, cell: str
) -> None:
    path = demo(tmp_path, cell, "")
    with pytest.raises(ScheduleError, match=r"add state = (\{.*?\}) to") as refused:
        planning.make(load(path))
    advice = str(refused.value).partition("add ")[2].partition(" to [policy]")[0]
    assert advice == f"state = {BOUND[cell]}"
    path.write_text(path.read_text() + advice + "\n")
    stepped(load(path), 5)


def test_an_input_beside_the_state_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    """As of an exporter that also wants to be told of every first step."""
    made = onnx.load_model_from_string(recurrent("GRU"))
    begins = helper.make_tensor_value_info("episode_starts", TensorProto.FLOAT, (1,))
    made.graph.input.append(begins)
    path = demo(tmp_path, "GRU", "")
    path.with_name("policy.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ScheduleError) as refused:
        planning.make(load(path))
    text = str(refused.value)
    assert text.endswith(
        '; add state = { h_in = "h_out" } to [policy], and say what goes in: inputs = '
        '{ episode_starts = ["sensor.field"] }, or export the network without it'
    ), text


@pytest.mark.real
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_a_recurrent_network_moves_a_robot_on_the_wall_clock(runtime: str) -> None:
    with Robot() as robot:
        robot.folder.joinpath("policy.onnx").write_bytes(recurrent("LSTM"))
        keys = (
            'model = "policy.onnx"\n'
            'inputs = { obs = ["joints.position", "joints.velocity"] }\n'
            f'outputs = {{ action = "arm" }}\nstate = {BOUND["LSTM"]}\nruntime = "{runtime}"\n'
        )
        robot.write(('call = "sweep.py:Sweep"\n', keys))
        with robot.run("--cycles", "150") as run:
            code, summary = run.end()
        assert code == 0, run.stderr
        assert summary["policy"]["commands"] > 0
        assert not {"raised", "shape", "nan", "died"} & summary["policy"]["reasons"].keys()
