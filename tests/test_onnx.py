"""A policy that is an ONNX file: the same numbers as its runtime's own, and no file that harms."""

import contextlib
import io
import json
import os
import pickle
import random
import signal
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import models
from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.episodes.rollout import rollout
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.frames import record_layout, wire
from inphase.models import model_binding, onnx_file
from inphase.models.model_binding import Binding
from inphase.models.protobuf import Refused
from inphase.plan import plan as planning
from inphase.schedule import Schedule
from inphase.world.randomisation import episode_seed
from models import network, node, port, tensor, with_model
from peers import until
from robots import demo_schedule
from runtimes import Robot

onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

from inphase._core import ffi, lib  # noqa: E402
from inphase.policy import model_policy  # noqa: E402 - only with its runtime

JOINTS = 6
SIZES = (2 * JOINTS, 32, 32, JOINTS)
STEADY = network(SIZES, gain=0.002, residual=True)
"""stays near where the robot is, as the first command must"""


def demo(folder: Path, data: bytes, policy: str = "") -> Schedule:
    """The demo robot with a model for its policy."""
    return load(with_model(demo_schedule(folder), data, policy))


def keys(**changed: str) -> str:
    """The keys of [policy] as they are bound here, with some changed or added."""
    own = {
        "model": '"policy.onnx"',
        "inputs": '{ obs = ["joints.position", "joints.velocity"] }',
        "outputs": '{ action = "arm" }',
    }
    return "".join(f"{key} = {value}\n" for key, value in (own | changed).items())


class Asked:
    """A model as C runs it, asked without a robot."""

    def __init__(self, schedule: Schedule, binding: Binding, dtypes: Mapping[str, Any]) -> None:
        self.model = model_policy.NativeModel(schedule, binding)
        self.dtypes = dtypes
        self.values = binding.values

    def __call__(self, statuses: Mapping[str, str] | None = None, **fields: Any) -> Any:
        """The command to these fields of `sensor_field`, or the number of the reason."""
        record = bytearray(record_layout.HEADER.size)
        samples, kept = [], []
        for name, dtype in self.dtypes.items():
            status = record_layout.STATUSES.index((statuses or {}).get(name, "FRESH"))
            record += record_layout.ROW.pack(0, 0, 0, 0, 0, 0, 0, status, 0, 0)
            sample = np.zeros((), dtype)
            for field in dtype.names:
                if f"{name}_{field}" in fields:
                    sample[field] = fields[f"{name}_{field}"]
            kept.append(ffi.from_buffer(sample.tobytes()))
            samples.append(ffi.cast("void *", kept[-1]))
        command = ffi.new("double[]", self.values)
        user = ffi.cast("void *", self.model.native.user)
        reason = lib.inphase_model_call(user, ffi.from_buffer(record), samples, command)
        return int(reason) if reason else np.array(list(command))


def asked(schedule: Schedule) -> Asked:
    """The schedule's model, to be asked."""
    plan = planning.make(schedule)
    assert plan.model is not None
    return Asked(schedule, plan.model, {sensor.name: sensor.dtype for sensor in plan.sensors})


def by_its_own(data: bytes, **feeds: NDArray[Any]) -> NDArray[Any]:
    """The first output, by ONNX Runtime's own interface."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    result: NDArray[Any] = session.run(None, feeds)[0]
    return result.reshape(-1)


# ---- the same numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(1,), (), ("batch",)], ids=["one", "none", "open"])
def test_c_gives_the_bits_that_the_runtimes_own_interface_gives(
    tmp_path: Path, kind: str, batch: tuple[int | str, ...]
) -> None:
    if kind == "float64" or batch == ():  # Gemm takes neither: the same layers without it
        data = models.model(
            [node("MatMul", ["obs", "w"], ["sum"]), node("Tanh", ["sum"], ["action"])],
            [port("obs", kind, (*batch, 2 * JOINTS))],
            [port("action", kind, (*batch, JOINTS))],
            [
                tensor(
                    "w", np.random.default_rng(3).standard_normal((2 * JOINTS, JOINTS)).astype(kind)
                )
            ],
        )
    else:
        data = network(SIZES, seed=5, batch=batch)
    model = asked(demo(tmp_path, data))
    generator = np.random.default_rng(11)
    for _ in range(50):
        q, v = generator.standard_normal((2, JOINTS)) * 3
        obs = np.concatenate([q, v]).astype(kind).reshape(*(1 for _ in batch), -1)
        expected = by_its_own(data, obs=obs)
        assert np.array_equal(model(joints_position=q, joints_velocity=v), expected)


def test_numbers_are_normalised_in_float64_on_the_way_in_and_out(tmp_path: Path) -> None:
    data = network(SIZES, seed=5)
    mean, std = [0.1 * i for i in range(2 * JOINTS)], [1.0 + i for i in range(2 * JOINTS)]
    normalise = f"{{ obs = {{ mean = {mean}, std = {std} }}, action = {{ std = 0.3 }} }}"
    model = asked(demo(tmp_path, data, keys(normalise=normalise)))
    q, v = np.random.default_rng(2).standard_normal((2, JOINTS))
    obs = ((np.concatenate([q, v]) - mean) / std).astype(np.float32).reshape(1, -1)
    expected = by_its_own(data, obs=obs).astype(np.float64) * 0.3 + 0.0
    assert np.array_equal(model(joints_position=q, joints_velocity=v), expected)


def test_a_model_may_bring_its_normalisation_and_the_schedule_wins(tmp_path: Path) -> None:
    told = {"inphase.mean.obs": json.dumps([0.5] * 2 * JOINTS), "inphase.std.obs": "2.0"}
    data, plain = network(SIZES, metadata=told), network(SIZES)
    q, v = np.random.default_rng(2).standard_normal((2, JOINTS))
    fields = {"joints_position": q, "joints_velocity": v}
    there = asked(demo(tmp_path, data))(**fields)
    said = keys(normalise="{ obs = { mean = 0.5, std = 2.0 } }")
    assert np.array_equal(there, asked(demo(tmp_path, plain, said))(**fields))
    other = keys(normalise="{ obs = { mean = 0.0 } }")
    assert np.array_equal(
        asked(demo(tmp_path, data, other))(**fields), asked(demo(tmp_path, plain))(**fields)
    )


def test_an_image_goes_in_as_it_is(tmp_path: Path) -> None:
    data = models.model(
        [
            node("Cast", ["image"], ["light"], models.attribute("to", 1)),
            node("Reshape", ["light", "flat"], ["row"]),
            node("MatMul", ["row", "w"], ["action"]),
        ],
        [port("image", "uint8", (4, 5, 3))],
        [port("action", "float32", (1, JOINTS))],
        [
            tensor("flat", np.array([1, -1])),
            tensor("w", np.random.default_rng(1).standard_normal((60, JOINTS)).astype(np.float32)),
        ],
    )
    schedule = demo(tmp_path, data, keys(inputs='{ image = ["joints.image"] }'))
    fields = [("count", (), "<f8"), ("image", (4, 5, 3), "|u1")]
    dtypes = {"joints": wire.sample_dtype(fields), "wrench": wire.sample_dtype(fields[:1])}
    model = Asked(schedule, model_binding.make(schedule, dtypes, {"arm": JOINTS}), dtypes)
    image = np.random.default_rng(4).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    assert np.array_equal(model(joints_image=image), by_its_own(data, image=image))


def test_a_model_runs_on_the_statuses_that_are_accepted_alone(tmp_path: Path) -> None:
    refused = lib.INPHASE_REASON_INPUT
    model = asked(demo(tmp_path, STEADY))
    for status in record_layout.STATUSES:
        answered = not isinstance(model({"joints": status}), int)
        assert answered == (status in ("FRESH", "HELD")), status
        assert not isinstance(model({"wrench": status}), int), "not read: it may have any"
    strict = keys(accepts='{ joints = ["FRESH", "LATE"], wrench = ["FRESH"] }')
    model = asked(demo(tmp_path, STEADY, strict))
    assert model({"joints": "HELD"}) == refused
    assert model({"wrench": "HELD"}) == refused
    assert not isinstance(model({"joints": "LATE"}), int)


# ---- runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", ["0.0", "5.3"], ids=["at once", "over cycles"])
def test_lock_step_gives_the_same_bytes_wherever_the_model_runs(
    tmp_path: Path, inference: str
) -> None:
    timing = f"\n[timing.policy]\ninference_ms = {inference}\n"
    digests = {}
    for runtime in ("c", "python"):
        schedule = demo(tmp_path, STEADY, keys(runtime=f'"{runtime}"') + timing)
        for isolate in (False, True):
            with LockStep(schedule, seed=3, isolate=isolate) as robot:
                assert robot.run(300) == 300
                counts = robot.follower.reader.counts()
                assert counts["commands"] > 290 or inference != "0.0"
                digests[runtime, isolate] = robot.digest()
        with LockStep(schedule, seed=3) as robot:
            for _ in robot.frames(150):
                pass
            robot.run(150)
            digests[runtime, "stepped"] = robot.digest()
    assert len(set(digests.values())) == 1, digests


def test_a_sample_that_is_not_accepted_leaves_its_cycle_without_a_command(tmp_path: Path) -> None:
    with LockStep(demo(tmp_path, STEADY)) as robot:
        robot.core.fault("silent", 0, 100, 4)
        robot.run(200)
        assert robot.follower.reader.reasons()["input"] >= 4


def test_episodes_run_the_schedules_model(tmp_path: Path) -> None:
    schedule = demo(tmp_path, STEADY)
    with LockStep(schedule, seed=episode_seed(3, 1)) as robot:
        robot.run(60)
        expected = robot.digest()
    for workers in (1, 2):
        found = rollout(schedule, None, episodes=2, cycles=60, seed=3, workers=workers)
        assert found[1].digest == expected


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused_by_the_core(tmp_path: Path, wrong: float) -> None:
    random_weights = np.full((2 * JOINTS, JOINTS), wrong, np.float32)
    data = models.model(
        [node("MatMul", ["obs", "w"], ["action"])],
        [port("obs", "float32", (1, 2 * JOINTS))],
        [port("action", "float32", (1, JOINTS))],
        [tensor("w", random_weights)],
    )
    with LockStep(demo(tmp_path, data)) as robot:
        robot.run(50)
        counts = robot.follower.reader.counts()
        assert (counts["commands"], counts["invalid"]) == (0, 50)
        assert robot.follower.reader.reasons() == {"nan": 50}


@pytest.mark.real
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_a_model_moves_a_robot_on_the_wall_clock(runtime: str) -> None:
    with Robot() as robot:
        robot.folder.joinpath("policy.onnx").write_bytes(STEADY)
        robot.write(('call = "sweep.py:Sweep"\n', keys(runtime=f'"{runtime}"')))
        with robot.run("--cycles", "150") as run:
            code, summary = run.end()
        assert code == 0, run.stderr
        assert summary["policy"]["commands"] > 0
        assert not {"raised", "shape", "nan", "died"} & summary["policy"]["reasons"].keys()
        assert summary["latch_to_command_ns"]["count"] > 0
        assert robot.segments() == []


@pytest.mark.real
def test_a_models_process_has_its_core_and_ends_when_it_is_asked_to() -> None:
    with Robot() as robot:
        robot.folder.joinpath("policy.onnx").write_bytes(STEADY)
        robot.write(('call = "sweep.py:Sweep"\n', keys(cpu="0")))
        with robot.run() as run:
            run.frame(lambda frame: frame.state == "running")
            policy = run.child("inphase.policy")
            assert policy.cpu_affinity() == [0]
            status = Path(f"/proc/{policy.pid}/status").read_text()
            assert "Seccomp_filters:\t2" in status, "what its loop needs, and nothing else"
            policy.terminate()
            until(lambda: "policy ended: exit code 0" in run.stderr)
            assert not [name for name in robot.segments() if name.endswith("policy")]
            run.signal(signal.SIGINT)
            _, summary = run.end()
        assert summary["policy"]["reasons"]["died"] > 0
        assert summary["inference_ns"]["count"] >= summary["latch_to_command_ns"]["count"] > 0
        assert robot.segments() == []


@pytest.mark.real
@pytest.mark.parametrize("runtime", ["c", "python"])
def test_a_model_computes_in_as_many_threads_as_the_schedule_says(runtime: str) -> None:
    counts = {}
    with Robot() as robot:
        robot.folder.joinpath("policy.onnx").write_bytes(STEADY)
        for threads in (1, 3):
            robot.write(
                ('call = "sweep.py:Sweep"\n', keys(runtime=f'"{runtime}"', threads=str(threads)))
            )
            with robot.run() as run:
                run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
                counts[threads] = run.child("inphase.policy").num_threads()
                run.signal(signal.SIGINT)
                code, summary = run.end()
                said = run.stderr
            assert code == 128 + signal.SIGINT, said
            assert summary["policy"]["ended"] is None
            assert not {"raised", "shape"} & summary["policy"]["reasons"].keys()
    assert counts[3] >= counts[1] + 2, counts


HOSTILE: dict[str, Callable[[], bytes]] = {
    "cut off": lambda: STEADY[:-40],
    "a pickle": lambda: pickle.dumps({"weights": [1.0]}),
    "a zip archive": lambda: zipped(),  # noqa: PLW0108 - it is defined below
    "weights elsewhere": lambda: BAD["weights elsewhere"][0],
    "code of its own": lambda: relu(more=models.data(25, b"")),
}


@pytest.mark.real
@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_that_is_refused_ends_the_run_before_a_device_is_touched(name: str) -> None:
    with Robot() as robot:
        before = robot.arm()["counters"]
        robot.folder.joinpath("policy.onnx").write_bytes(HOSTILE[name]())
        robot.write(('call = "sweep.py:Sweep"\n', keys()))
        with robot.run("--cycles", "10") as run:
            code, _ = run.end()
        assert code == ScheduleError.exit_code
        assert "policy.model" in run.stderr
        assert robot.arm()["counters"] == before
        assert robot.segments() == []


# ---- files that are no policy ------------------------------------------------------------------


def check(data: bytes) -> onnx_file.Model:
    """The file's own check."""
    return onnx_file.check(Path("policy.onnx"), data)


def zipped() -> bytes:
    """What PyTorch saves: a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps([1.0]))
    return out.getvalue()


def relu(**options: Any) -> bytes:
    """The smallest model: one node."""
    ends = [port("obs", "float32", (1, 4))], [port("action", "float32", (1, 4))]
    return models.model([node("Relu", ["obs"], ["action"])], *ends, **options)


def of_weight(weight: bytes) -> bytes:
    """A model with an initializer as it is given."""
    ends = [port("obs", "float32", (1, 4))], [port("action", "float32", (1, 4))]
    return models.model([node("Add", ["obs", "w"], ["action"])], *ends, [weight])


def of_node(operator: str, **options: Any) -> bytes:
    """A model of one node."""
    ends = [port("obs", "float32", (1, 4))], [port("action", "float32", (1, 4))]
    return models.model([node(operator, ["obs"], ["action"], **options)], *ends)


EDITED = network((12, 4, 6), metadata={"inphase.mean.obs": "0.0"})
ONES = np.ones(4, np.float32)
GRAPH = models.data(5, models.data(1, "body") + models.data(6, models.data(2, "inner")))
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "a pickle": (pickle.dumps({"weights": [1.0]}), "a pickle"),
    "a zip archive": (zipped(), "a zip archive"),
    "a text": (b"weights: 1.0\n" * 100, "file: "),
    "zeros": (bytes(10_000), "byte 1 is not of an ONNX model"),
    "a JSON file": (b'{"ir_version": 8}', "file: "),
    "too large": (bytes(onnx_file.SIZE_MAX + 1), f"larger than {onnx_file.SIZE_MAX}"),
    "no opset": (relu()[:-4], "opset_import"),
    "an old opset": (relu(opset=6), "opset_import[0].version: 6 is not 7"),
    "an opset of the future": (relu(opset=99), "opset_import[0].version: 99 is not"),
    "operators of somebody": (relu(domain="com.microsoft"), "names no operator set of ONNX"),
    "a node of somebody": (
        of_node("Relu", more=models.data(7, "com.somebody")),
        "graph.node[0].domain: 'com.somebody'",
    ),
    "a loop": (of_node("Loop", more=GRAPH), "graph.node[0].attribute[0].g: holds a graph"),
    "a loop without a body": (of_node("Loop"), "graph.node[0].op_type: the operator 'Loop'"),
    "random numbers": (of_node("RandomNormalLike"), "'RandomNormalLike'"),
    "operators of its own": (relu(more=models.data(25, b"")), "functions[0]: defines operators"),
    "training": (relu(more=models.data(20, b"")), "training_info[0]"),
    "a field that nobody knows": (relu(more=models.number(77, 1)), "a field 77"),
    "two graphs": (relu(more=models.data(7, b"")), "graph: stands there twice"),
    "a group": (relu(more=models.varint(9 << 3 | 3)), "is not of an ONNX model"),
    "a number where a text is": (relu(more=models.number(6, 5)), "doc_string: is not encoded"),
    "a number without end": (b"\x08" + b"\xff" * 12, "no number at byte"),
    "weights elsewhere": (
        of_weight(
            models.number(1, 4)
            + models.number(2, 1)
            + models.data(8, "w")
            + models.data(13, models.data(1, "location") + models.data(2, "/etc/passwd"))
            + models.number(14, 1)
        ),
        "graph.initializer[0]: lies in '/etc/passwd', which is no name of a file beside",
    ),
    "weights said to be elsewhere": (
        of_weight(tensor("w", ONES) + models.number(14, 1)),
        "graph.initializer[0]: has numbers here and in a file",
    ),
    "more numbers than bytes": (
        of_weight(tensor("w", ONES, dims=(1 << 20,))),
        "graph.initializer[0].raw_data: 16 where dims [1048576] say 4194304",
    ),
    "huge dimensions": (of_weight(tensor("w", ONES, dims=(1 << 62, 1 << 62))), "dims: ["),
    "a negative dimension": (of_weight(tensor("w", ONES, dims=((1 << 64) - 4,))), "dims: ["),
    "many dimensions": (of_weight(tensor("w", ONES, dims=(1,) * 9)), "dims: are more than 8"),
    "half a number": (
        of_weight(tensor("w", ONES)[:-18] + models.data(4, bytes(15))),
        "in the middle of a number",
    ),
    "numbers twice": (
        of_weight(tensor("w", ONES) + models.data(4, bytes(16))),
        "has its numbers in ['float_data', 'raw_data']",
    ),
    "weights that are texts": (
        of_weight(models.number(1, 1) + models.number(2, 8) + models.data(6, "x")),
        "string_data[0]: is text",
    ),
    "a name that is no text": (relu(more=models.data(2, b"\xff")), "producer_name: is not UTF-8"),
    "a long name": (relu(more=models.data(2, b"x" * 5000)), "more than 1024 bytes"),
    "weights twice": (
        models.model([], [], [], [tensor("w", ONES), tensor("w", ONES)]),
        "initializer[1].name: 'w' stands there twice",
    ),
    "a billion nodes": (models.model([node("Relu", [], [])] * 20_001, [], []), "more than 20000"),
    "a billion pieces": (
        of_weight(models.number(2, 1) + models.number(5, 0) * 1_000_001),
        "in more than 1000000 pieces",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_policy_is_refused_and_the_place_is_named(name: str) -> None:
    data, expected = BAD[name]
    with pytest.raises(Refused) as refused:
        check(data)
    text = str(refused.value)
    assert text.startswith("policy.onnx: ") and expected in text, text
    assert ";" in text, f"says what to do: {text}"


def test_a_file_is_refused_wherever_it_is_cut_off() -> None:
    data = network((12, 4, 6))
    check(data)
    for end in range(len(data)):
        with pytest.raises(Refused):
            check(data[:end])


def test_a_damaged_file_is_refused_or_read_but_never_worse() -> None:
    data = network((12, 4, 6), metadata={"inphase.mean.obs": "0.0"})
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    refusals = 0
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        try:
            check(bytes(damaged))
        except Refused:
            refusals += 1
    assert refusals > 100


_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "double", "insert", "replace"]),
        st.integers(0, 2000),
        st.integers(1, 64),
        st.binary(min_size=1, max_size=64),
    ),
    min_size=1,
    max_size=4,
)


@given(_EDITS)
@settings(deadline=None)
def test_a_file_that_was_edited_anywhere_is_refused_or_read(edits: list[Any]) -> None:
    data = EDITED
    for kind, at, length, more in edits:
        begin = at % (len(data) + 1)
        piece = data[begin : begin + length]
        middle = {"cut": b"", "double": piece * 2, "insert": more + piece, "replace": more}[kind]
        data = data[:begin] + middle + data[begin + length :]
    with contextlib.suppress(Refused):
        read = check(data)
        assert read.data == data and 7 <= read.opset <= 26


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(Refused):
        check(data)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "policy.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # opening it would wait for ever
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(Refused, match="is no file"):
        onnx_file.read(path)


def test_files_that_others_wrote_are_read_as_what_they_are() -> None:
    folder = Path(onnxruntime.__file__).parent / "datasets"
    read = onnx_file.read(folder / "sigmoid.onnx")
    assert [(p.name, p.type, p.shape) for p in read.inputs] == [("x", 1, (3, 4, 5))]
    assert [p.name for p in onnx_file.read(folder / "mul_1.onnx").outputs] == ["Y"]
    with pytest.raises(Refused, match="ONNX's own operators"):
        onnx_file.read(folder / "logreg_iris.onnx")


# ---- models that do not fit their schedule -----------------------------------------------------

NORMALISED = keys(normalise="{ obs = { mean = [1.0, 2.0] } }")
MISFITS: dict[str, tuple[bytes | None, str, str, str]] = {
    "no file": (None, keys(), "policy.model", "No such file"),
    "another input": (
        STEADY, keys(inputs='{ state = ["joints.position", "joints.velocity"] }'),
        "policy.inputs.state", "it has: 'obs'",
    ),
    "another output": (
        STEADY, keys(outputs='{ torque = "arm" }'), "policy.outputs.torque", "it has: 'action'",
    ),
    "an input that is not bound": (
        models.model(
            [node("Add", ["obs", "more"], ["action"])],
            [port("obs", "float32", (1, 6)), port("more", "float32", (1, 6))],
            [port("action", "float32", (1, 6))],
        ),
        keys(inputs='{ obs = ["joints.position"] }'), "policy.model", "does not bind: 'more'",
    ),
    "an integer that is not bound": (
        models.model(
            [
                node("Add", ["obs", "obs"], ["action"]),
                node("Add", ["step", "step"], ["next"]),
            ],
            [port("obs", "float32", (1, 6)), port("step", "int64", (1,))],
            [port("action", "float32", (1, 6)), port("next", "int64", (1,))],
        ),
        keys(inputs='{ obs = ["joints.position"] }'), "policy.model",
        "does not bind: 'step'; 'step' is of int64, and no field is: export the network without it",
    ),
    "fewer numbers": (
        STEADY, keys(inputs='{ obs = ["joints.position"] }'), "policy.model",
        "input 'obs' has the shape [1, 12]",
    ),
    "fewer commands": (
        network((12, 4, 5)), keys(), "policy.model", "output 'action' has the shape [1, 5]",
    ),
    "integers": (
        models.model(
            [node("Identity", ["obs"], ["action"])],
            [port("obs", "int64", (1, 12))],
            [port("action", "int64", (1, 12))],
        ),
        keys(), "policy.model", "input 'obs' is of int64; export it as float32 or float64",
    ),
    "an open dimension": (
        network((12, 4, 6), batch=("a", "b")), keys(), "policy.model", "['a', 'b', 12]",
    ),
    "an unknown field": (
        STEADY, keys(inputs='{ obs = ["joints.colour"] }'), "policy.inputs.obs[0]",
        "no such field",
    ),
    "an unknown sensor": (
        STEADY, keys(inputs='{ obs = ["camera.image"] }'), "policy.inputs.obs[0]",
        "no such sensor",
    ),
    "an unknown actuator": (
        STEADY, keys(outputs='{ action = "leg" }'), "policy.outputs.action", "no such actuator",
    ),
    "an actuator twice": (
        STEADY, keys(outputs='{ action = ["arm", "arm"] }'), "policy.outputs.action", "once",
    ),
    "no outputs": (STEADY, keys(outputs="{}"), "policy.outputs", "0 tensors"),
    "a call too": (STEADY, keys(call='"a.py:b"'), "policy", "exactly one of call, model, remote"),
    "arguments": (STEADY, keys(args="{ gain = 1 }"), "policy.args", "only applies to call"),
    "a path": (STEADY, keys(model='"../policy.onnx"'), "policy.model", "not beside the schedule"),
    "providers in C": (STEADY, keys(providers='["CPU"]'), "policy.providers", 'runtime = "python"'),
    "means of another length": (
        STEADY, NORMALISED, "policy.normalise.obs", "mean has 2 numbers for 12",
    ),
    "a deviation of zero": (
        STEADY, keys(normalise="{ obs = { std = 0.0 } }"), "policy.normalise.obs",
        "std is not above 0",
    ),
    "a mean that is not finite": (
        STEADY, keys(normalise="{ obs = { mean = inf } }"), "policy.normalise.obs", "not finite",
    ),
    "normalisation of nothing": (
        STEADY, keys(normalise="{ image = { mean = 0.0 } }"), "policy.normalise.image",
        "no such tensor",
    ),
    "metadata that are no numbers": (
        network((12, 4, 6), metadata={"inphase.mean.obs": "[[1], true]"}), keys(), "policy.model",
        "metadata inphase.mean.obs is not numbers",
    ),
    "metadata that are not finite": (
        network((12, 4, 6), metadata={"inphase.std.obs": "NaN"}), keys(), "policy.model", "std",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_model_that_does_not_fit_its_schedule_is_refused(tmp_path: Path, name: str) -> None:
    data, policy, key, expected = MISFITS[name]
    path = with_model(demo_schedule(tmp_path), data or b"", policy)
    if data is None:
        path.with_name("policy.onnx").unlink()
    with pytest.raises(ScheduleError) as refused:
        planning.make(load(path))
    text = str(refused.value)
    assert text.startswith(f"{path}:") and f": {key}: " in text and expected in text, text


def greedy(numbers: int) -> bytes:
    """A model of a few bytes that makes so many numbers on its way."""
    return models.model(
        [
            node("Expand", ["obs", "wide"], ["more"]),
            node("ReduceMax", ["more"], ["most"], models.attribute("keepdims", 0)),
            node("Mul", ["most", "ones"], ["action"]),
        ],
        [port("obs", "float32", (1, 12))],
        [port("action", "float32", (1, 6))],
        [
            tensor("wide", np.array([numbers // 12, 12])),
            tensor("ones", np.ones((1, 6), np.float32)),
        ],
    )


GREEDY = "more memory than there is"
LATER: dict[str, tuple[bytes, str]] = {
    "a wrong inner shape": (
        models.model(
            [node("MatMul", ["obs", "w"], ["action"])],
            [port("obs", "float32", (1, 12))],
            [port("action", "float32", (1, 6))],
            [tensor("w", np.ones((5, 6), np.float32))],
        ),
        "ONNX Runtime does not run it",
    ),
    "an input from nowhere": (
        models.model(
            [node("Add", ["obs", "nowhere"], ["action"])],
            [port("obs", "float32", (1, 12))],
            [port("action", "float32", (1, 6))],
        ),
        "ONNX Runtime does not run it",
    ),
    "an output that is longer than it says": (
        models.model(
            [
                node("MatMul", ["obs", "w"], ["one"]),
                node("Concat", ["one", "one"], ["action"], models.attribute("axis", 0)),
            ],
            [port("obs", "float32", (1, 12))],
            [port("action", "float32", ("rows", 6))],
            [tensor("w", np.ones((12, 6), np.float32))],
        ),
        "ONNX Runtime does not run it",
    ),
    GREEDY: (greedy(1 << 33), "ONNX Runtime does not run it"),
}


@pytest.mark.parametrize("runtime", ["c", "python"])
@pytest.mark.parametrize("name", LATER)
def test_what_its_runtime_refuses_is_said_before_anything_moves(
    tmp_path: Path, name: str, runtime: str
) -> None:
    if name == GREEDY and "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("libasan ends a process that asks for more memory than there is")
    data, expected = LATER[name]
    schedule = demo(tmp_path, data, keys(runtime=f'"{runtime}"'))
    with pytest.raises(ScheduleError, match=expected):
        LockStep(schedule)


def test_a_provider_that_is_not_there_is_named(tmp_path: Path) -> None:
    schedule = demo(tmp_path, STEADY, keys(runtime='"python"', providers='["AbacusProvider"]'))
    with pytest.raises(ScheduleError, match=r"policy.providers\[0\].*no 'AbacusProvider'"):
        LockStep(schedule)


def _refuse_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def _find_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_policy, "_package", lambda schedule: Path("/nowhere"))


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [(_refuse_to_find, r"inphase\[onnx\]"), (_find_no_library, "no libonnxruntime.so in /nowhere")],
    ids=["no package", "no library"],
)
def test_a_runtime_that_is_not_installed_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    schedule = demo(tmp_path, STEADY)
    break_it(monkeypatch)
    with pytest.raises(ScheduleError, match=expected):
        LockStep(schedule)


def test_float_data_is_counted_as_the_file_packs_it() -> None:
    packed = models.number(1, 4) + models.number(2, 1) + models.data(8, "w")
    one_by_one = b"".join(models.varint(4 << 3 | 5) + struct.pack("<f", i) for i in range(4))
    check(of_weight(packed + one_by_one))
    check(of_weight(packed + models.data(4, bytes(16))))
    with pytest.raises(Refused, match=r"float_data: 3 where dims \[4\] say 4"):
        check(of_weight(packed + models.data(4, bytes(12))))


# ---- chunks and histories ------------------------------------------------------------------------


def paced(folder: Path, data: bytes, runtime: str = "c", **changed: str) -> Schedule:
    """The demo with a model and more keys of [policy]."""
    return demo(folder, data, keys(runtime=f'"{runtime}"', **changed))


def commanded(schedule: Schedule, cycles: int = 60, *, isolate: bool = False) -> Any:
    """What was requested in every cycle, and the frames before those."""
    requested, frames = [], []
    with LockStep(schedule, seed=3, isolate=isolate) as robot:
        for _ in range(cycles):
            robot.run(1)
            record = robot.follower.reader.past(robot.core.frames - 1)
            assert record is not None
            frame = Frame(robot.follower.layout, record, robot.follower).copy()
            requested.append(frame.command["arm"].requested)
            frames.append(frame)
    return np.array(requested), frames


def chunked(shape: tuple[int, ...], rows: int, width: int = 2 * JOINTS) -> bytes:
    """A network that gives `rows` commands at once, each a little further on."""
    w = np.zeros((width, rows * JOINTS), np.float32)
    for row in range(rows):
        w[:JOINTS, row * JOINTS : (row + 1) * JOINTS] = np.eye(JOINTS) * (1 + 1e-4 * row)
    return models.model(
        [node("MatMul", ["obs", "w"], ["flat"]), node("Reshape", ["flat", "to"], ["action"])],
        [port("obs", "float32", (1, width))],
        [port("action", "float32", shape)],
        [tensor("w", w), tensor("to", np.array(shape))],
    )


@pytest.mark.parametrize("shape", [(1, 8, JOINTS), (8, JOINTS)], ids=str)
def test_a_models_chunk_is_its_rows_from_c_and_from_python(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    runs = [
        commanded(paced(tmp_path, chunked(shape, 8), runtime, every="4", chunk="8"), isolate=apart)[
            0
        ]
        for runtime in ("c", "python")
        for apart in (False, True)
    ]
    assert all(np.array_equal(runs[0], other, equal_nan=True) for other in runs[1:])
    rows = runs[0][21:25]
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(
        rows / rows[0], np.tile(1 + 1e-4 * np.arange(4)[:, None], JOINTS), rtol=1e-5
    )


def test_a_chunk_of_another_length_is_refused_with_both_shapes(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"\[1, 7, 6\].*in each of 8 commands.*\[8, 6\]"):
        planning.make(paced(tmp_path, chunked((1, 7, JOINTS), 7), every="4", chunk="8"))


def stacked(history: int, width: int) -> bytes:
    """A network over a stack of frames: the last one's first numbers, and a little of them all."""
    w = np.random.default_rng(8).standard_normal((history * width, JOINTS)).astype(np.float32)
    w *= 1e-4
    last = (history - 1) * width
    w[last : last + JOINTS] += np.eye(JOINTS, dtype=np.float32)
    return models.model(
        [node("Reshape", ["obs", "flat"], ["row"]), node("MatMul", ["row", "w"], ["action"])],
        [port("obs", "float32", (1, history, width))],
        [port("action", "float32", (1, JOINTS))],
        [tensor("w", w), tensor("flat", np.array([1, -1]))],
    )


@pytest.mark.parametrize("start", ["wait", "repeat"])
def test_a_models_history_is_the_frames_in_the_store_from_c_and_from_python(
    tmp_path: Path, start: str
) -> None:
    data = stacked(3, 3 * JOINTS)
    changed = {
        "every": "2",
        "history": "3",
        "history_start": f'"{start}"',
        "inputs": '{ obs = ["joints.position", "joints.velocity", "arm.applied"] }',
        "normalise": "{ obs = { mean = 0.25 } }",
    }
    runs = [
        commanded(paced(tmp_path, data, runtime, **changed), isolate=apart)
        for runtime in ("c", "python")
        for apart in (False, True)
    ]
    assert all(np.array_equal(runs[0][0], other[0], equal_nan=True) for other in runs[1:])

    # and what the runtime's own interface makes of the same frames
    requested, frames = runs[0]
    for cycle in range(20, 50, 2):
        rows = [
            [
                *f["joints"].value["position"],
                *f["joints"].value["velocity"],
                *f.command["arm"].applied,
            ]
            for f in (frames[cycle - 4], frames[cycle - 2], frames[cycle])
        ]
        obs = (np.array(rows) - 0.25).astype(np.float32)[None]
        assert np.array_equal(requested[cycle + 1], by_its_own(data, obs=obs))
    first = next(cycle for cycle, row in enumerate(requested) if np.isfinite(row).all())
    assert first == {"repeat": 3, "wait": 7}[start]


def test_a_model_in_c_is_not_aligned_and_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r'policy\.align.*give runtime = "python"'):
        paced(tmp_path, STEADY, align='"wrench"')
    with LockStep(paced(tmp_path, STEADY, "python", align='"wrench"')) as robot:
        robot.run(40)
        assert robot.follower.reader.counts()["commands"] > 30


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ('["joints.position", "arm.velocity"]', "give requested or applied"),
        ('["joints.position", "leg.applied"]', "no such sensor.*arm"),
    ],
)
def test_an_act_that_is_none_is_refused(tmp_path: Path, inputs: str, what: str) -> None:
    with pytest.raises(ScheduleError, match=what):
        demo(tmp_path, STEADY, keys(inputs=f"{{ obs = {inputs} }}"))
