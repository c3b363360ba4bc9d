"""A policy's mistake is told once, where it is made, with its remedy."""

import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase import Runner, load
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.errors import ScheduleError
from inphase.frames.frame import Frame
from inphase.policy.words_line import WordsLine, say_to
from inphase.runtime.summary import exit_code
from inphase.runtime.words import policy_notices
from inphase.testing.fixtures import MakeLockStep
from peers import BOUND_S
from robots import demo_schedule

CYCLES = 300
POLICIES = """\
import tempfile
from pathlib import Path


def here(frame):
    return frame["joints"]["position"]


def five(frame):
    return [0.0] * 5


def word(frame):
    return "up"


def other(frame):
    return {"leg": [0.0] * 6}


def part(frame):
    return {"arm": [0.0] * 5}


def none(frame):
    return None


def not_a_number(frame):
    return here(frame) * float("nan")


def far(frame):
    return here(frame) + 0.3


def sensor(frame):
    return frame["joint"]["position"]


def field(frame):
    return frame["joints"]["pos"]


def member(frame):
    return frame["joints"].value["pos"]


def actuator(frame):
    return frame.command["arms"].applied


def module(frame):
    import no_such_module


def log(frame):
    open(Path(tempfile.gettempdir()).parent / "a.log", "a")


def connect(frame):
    import urllib.request

    urllib.request.urlopen("http://127.0.0.1:9")


def start(frame):
    import subprocess

    subprocess.run(["true"])


def device(frame):
    open("/dev/ptmx", "r+b")


def infinite(frame):
    return here(frame) + float("inf")


def leaves(frame):
    import sys

    sys.exit(0)


class Driver:
    def drive(self, frame):
        return here(frame)


gain = 0.5


class Maker(Driver):
    def __init__(self):
        (Path(tempfile.gettempdir()).parent / "made").mkdir(exist_ok=True)

    __call__ = Driver.drive


def harmless(frame):
    import socket

    for one in socket.socketpair():
        one.close()
    folder = Path(tempfile.gettempdir())
    (folder / "own").write_text(str(frame.cycle + 1))
    (folder / "made").mkdir()
    (folder / "made").rmdir()
    open("/dev/null", "w").close()
    open(__file__).close()
    return here(frame)


class Leaver:
    def __init__(self):
        raise SystemExit
"""
SAID = {
    "five": ["an array of shape (5,) in cycle 0", "an array of shape (6,), arm 6 [rad]", '{"arm"'],
    "word": ["a str ('up')", "shape (6,)"],
    "other": ["a dict {'leg': an array of shape (6,)}", '{"arm": ...}'],
    "part": ["a dict {'arm': an array of shape (5,)}"],
    "none": ["returned None", "shape (6,)", 'frame["joints"]["position"] to stay'],
    "not_a_number": ["NaN or infinity for channel 0 of actuator arm", "return finite numbers"],
    "infinite": ["NaN or infinity for channel 0 of actuator arm", "return finite numbers"],
    "leaves": ["SystemExit in cycle 0", "return a command or None, and exit nowhere"],
    "far": [
        "channel 0 of actuator arm",
        "0.004 rad away",
        'start from frame["joints"]["position"]',
    ],
    "sensor": [
        "KeyError",
        "no sensor 'joint' (did you mean 'joints'?)",
        "joints, wrench",
        "policies.py, line 38",
    ],
    "field": ["no field 'pos' (did you mean 'position'?)", "position, velocity, current"],
    "member": ["no field 'pos' (did you mean 'position'?)", "position, velocity, current"],
    "actuator": ["no actuator 'arms' (did you mean 'arm'?)"],
    "module": ["No module named 'no_such_module'", "install it: pip install no_such_module"],
}
"""by policy: parts of the one remark on it"""
CONFINED = {
    "log": ["PermissionError", 'allow = ["files"]', "tempfile.gettempdir()"],
    "connect": ["URLError", 'allow = ["network"]', "policies.py, line 64"],
    "start": ["PermissionError", 'allow = ["processes"]', "policies.py, line 70"],
    "device": ["PermissionError", 'allow = ["devices"]'],
}
"""likewise, in its sandbox"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """A schedule with one of the policies."""

    def make(name: str, **options: Any) -> Path:
        (tmp_path / "policies.py").write_text(POLICIES)
        return demo_schedule(tmp_path, policy=f"policies.py:{name}", **options)

    return make


def one_with(messages: list[str], parts: list[str]) -> str:
    """The only message on the policy, which has all the parts."""
    told = [text for text in messages if text.startswith("policy ")]
    found = [text for text in told if all(part in text for part in parts)]
    assert len(found) == 1, told
    return found[0]


@pytest.mark.parametrize("name", SAID)
def test_in_lock_step_a_mistake_is_told_once(
    make: Callable[..., Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with LockStep(load(make(name))) as robot:
        robot.run(CYCLES)
        text = one_with(robot.messages, SAID[name])
        assert text in sum_up(robot)["events"]
    assert [record.getMessage() for record in caplog.records if record.name == "inphase"] == [text]


FORESEEN = {
    "log": ["policy calls open('", "a.log')", "policies.py, line 58", 'allow = ["files"]'],
    "connect": ["policy calls socket.__new__()", "policies.py, line 64", 'allow = ["network"]'],
    "start": ["policy calls subprocess.Popen(", "policies.py, line 70", 'allow = ["processes"]'],
    "device": ["policy calls open('/dev/ptmx')", 'allow = ["devices"]'],
    "Maker": ["policy calls os.mkdir('", "policies.py, line 97", 'allow = ["files"]'],
}
"""by policy: what is told of it in lock step, where nothing refuses it"""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, in one where nothing else is."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("name", FORESEEN)
def test_in_lock_step_it_is_told_once_what_a_run_would_refuse(
    make: Callable[..., Path], scratch: Path, name: str
) -> None:
    with LockStep(load(make(name))) as robot:
        robot.run(CYCLES)
        told = [text for text in robot.messages if text.startswith("policy calls")]
    assert len(told) == 1
    assert [part for part in FORESEEN[name] if part not in told[0]] == []


@pytest.mark.parametrize("name", FORESEEN)
def test_nothing_is_foreseen_of_a_right_that_a_policy_has(
    make: Callable[..., Path], scratch: Path, name: str
) -> None:
    path = make(name)
    rights = '[policy]\nallow = ["files", "network", "processes", "devices"]'
    path.write_text(path.read_text().replace("[policy]", rights))
    with LockStep(load(path)) as robot:
        robot.run(CYCLES)
        assert not [text for text in robot.messages if text.startswith("policy calls")]


def test_what_a_sandbox_lets_pass_is_not_remarked_upon(
    make: Callable[..., Path], scratch: Path
) -> None:
    with LockStep(load(make("harmless"))) as robot:
        robot.run(5)
        (scratch.parent / "mine").touch()  # not the policy's
        assert robot.messages == []
    assert (scratch / "own").read_text() == "5" and not (scratch / "made").exists()


@pytest.mark.parametrize("name", ["five", "sensor", "leaves", *CONFINED])
def test_a_confined_policy_is_told_the_right_that_it_lacks(
    make: Callable[..., Path], name: str
) -> None:
    with LockStep(load(make(name)), isolate=True) as robot:
        robot.run(20)
        one_with(robot.messages, {**SAID, **CONFINED}[name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Driver", r"is an object of Driver.*; give Driver a method __call__\(self, frame\)"),
        ("gain", "is of type float, .*; name a function of a frame"),
        ("Leaver", r"cannot be constructed: SystemExit\(\)"),
    ],
)
def test_what_is_no_policy_is_refused_with_what_it_is(
    make: Callable[..., Path], name: str, words: str
) -> None:
    with pytest.raises(ScheduleError, match=words):
        LockStep(load(make(name)))


def test_a_policy_that_exits_ends_no_run_with_0(make: Callable[..., Path]) -> None:
    with LockStep(load(make("leaves"))) as robot:
        robot.run(CYCLES)
        result = sum_up(robot)
    assert result["policy"]["reasons"] == {"raised": CYCLES}
    assert exit_code(result) == 7


def test_a_good_policy_is_not_remarked_upon(make: Callable[..., Path]) -> None:
    with LockStep(load(make("here"))) as robot:
        robot.run(CYCLES)
        assert robot.messages == []


def test_two_mistakes_are_two_remarks_and_many_are_few(make: Callable[..., Path]) -> None:
    def policy(frame: Frame) -> Any:
        if frame.cycle % 2:
            return [0.0]
        exec(compile("\n" * frame.cycle + "raise ValueError('broken')", "many.py", "exec"))
        return None

    with LockStep(load(make("here")), call=policy) as robot:
        robot.run(50)
        raised = [text for text in robot.messages if "raised" in text]
        shape = [text for text in robot.messages if "shape (1,)" in text]
    assert len(shape) == 1
    assert 1 < len(raised) <= 3


def test_a_policy_that_is_called_before_there_are_samples_is_told_so(
    make: Callable[..., Path], lockstep: MakeLockStep
) -> None:
    from inphase.testing import Fault

    silent = [Fault("silent", "joints", 0, 5)]
    robot = lockstep(make("here"), faults=silent, raises=False)
    assert len(list(robot.frames(20))) == 20
    one_with(
        robot.messages, ["before there were samples", 'accepts = { joints = ["FRESH", "HELD"]']
    )


# ---- time --------------------------------------------------------------------------------------


def test_a_policy_that_only_virtual_time_waits_for_is_told(make: Callable[..., Path]) -> None:
    def slow(frame: Frame) -> Any:
        time.sleep(0.005)
        return frame["joints"]["position"]

    with LockStep(load(make("here")), call=slow) as robot:
        robot.run(20)
        result = sum_up(robot)
    assert result["policy"]["missed"] == 0
    overall, text = result["verdict"]
    assert overall.startswith("not good")
    assert "its command is due 0.4 ms after its frame" in text and "on this machine" in text
    assert "latency_cycles = " in text


def test_a_long_call_in_lock_step_is_told_at_once(make: Callable[..., Path]) -> None:
    told: list[list[str]] = []

    def waits(frame: Frame) -> Any:
        if frame.cycle == 4:
            time.sleep(0.7)
        told.append(list(robot.messages))
        return frame["joints"]["position"]

    with LockStep(load(make("here")), call=waits) as robot:
        robot.run(8)
    assert told[4] == [], "the call that lasts"
    one_with(told[5], ["in cycle 4", "virtual time waited", "warm_up(frame)"])
    assert told[5] == told[7], "once"


PACES: dict[str, dict[str, Any]] = {
    "every cycle": {},
    "a chunk": {"chunk": 8, "chunk_every": 1, "every": 4, "latency_cycles": 1},
    "knots": {"interpolate": "linear", "every": 2, "latency_cycles": 2},
}


@pytest.mark.parametrize("keys", PACES.values(), ids=PACES)
@pytest.mark.parametrize("took_ms", [0.5, 3.0, 25.0, 300.0])
def test_the_keys_that_are_advised_are_valid_and_enough(
    make: Callable[..., Path], tmp_path: Path, keys: dict[str, Any], took_ms: float
) -> None:
    path = make("here")
    before = path.read_text()

    def write(keys: dict[str, Any]) -> Path:
        lines = "".join(
            f"{key} = {value if isinstance(value, int) else repr(value)}\n"
            for key, value in keys.items()
        )
        path.write_text(before.replace("[policy]\n", f"[policy]\n{lines}"))
        return path

    took_ns = round(took_ms * 1e6)
    said = policy_notices.advice(load(write(keys)), took_ns)
    pairs = said.partition("[policy] ")[2].partition(" (")[0].split(", ")
    advised = {key: int(value) for key, _, value in (pair.partition(" = ") for pair in pairs)}
    assert not policy_notices.is_slow(load(write(keys | advised)), took_ns)


# ---- the line from the policy's process --------------------------------------------------------


def test_texts_of_a_policy_are_bounded_and_have_no_control_characters() -> None:
    line = WordsLine()
    say = say_to(line.theirs)
    say("\x1b[2Jred\0\x07\nnext")
    say("x" * 10_000)
    first, second = line.read()
    assert first == " [2Jred  \nnext"
    assert len(second) == 4000
    for _ in range(1000):
        say("y" * 3000)  # finds no room at some time, and does not wait
    while line.read():
        pass
    say("last")
    assert line.read()[-1].endswith("last")
    line.close()


# ---- in the process that a test or a notebook is ----------------------------------------------


def test_frames_of_a_test_raise_what_the_policy_raised(
    make: Callable[..., Path], lockstep: MakeLockStep
) -> None:
    def late(frame: Frame) -> Any:
        if frame.cycle == 30:
            raise RuntimeError("in cycle 30")
        return frame["joints"]["position"]

    robot = lockstep(make("here"), policy=late)
    seen = []
    with pytest.raises(RuntimeError, match="in cycle 30"):
        seen += [frame.cycle for frame in robot.frames(100)]
    with pytest.raises(KeyError, match="did you mean 'joints'"):
        lockstep(make("sensor")).frames(100)  # at the call: nobody has to iterate
    with pytest.raises(KeyError, match="did you mean 'joints'"):
        lockstep(make("sensor")).run(100)
    assert len(list(lockstep(make("sensor"), raises=False).frames(100))) == 100


def test_a_runner_in_lock_step_raises_it_too(make: Callable[..., Path]) -> None:
    def policy(frame: Frame) -> Any:
        raise RuntimeError("broken")

    with (
        pytest.raises(RuntimeError, match="broken"),
        Runner(make("here"), policy=policy, lockstep=True, cycles=20) as runner,
    ):
        for _ in runner:
            pass


class Counts:
    """A policy as an object."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def warm_up(self, frame: Frame) -> None:
        self.calls.append(f"warm_up {frame['joints']['position'].sum():g}")

    def reset(self) -> None:
        self.calls.append("reset")

    def __call__(self, frame: Frame) -> Any:
        self.calls.append("call")
        return frame["joints"]["position"]


def test_an_object_is_warmed_up_and_reset_before_its_first_frame(
    make: Callable[..., Path], lockstep: MakeLockStep
) -> None:
    first, second = Counts(), Counts()
    list(lockstep(make("here"), policy=first).frames(2))
    with Runner(make("here"), policy=second, lockstep=True, cycles=2) as runner:
        list(runner)
    assert first.calls == second.calls == ["warm_up 0", "reset", "call", "call"]


# ---- on the wall clock ---------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("name", ["five", "none", "far", "not_a_number", "sensor", "log"])
def test_a_runner_has_the_mistake_among_its_messages(
    make: Callable[..., Path], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with Runner(make(name, emulator=True), cycles=200) as runner:
        for _ in runner:
            pass
    text = one_with(runner.messages, [part.replace(" in cycle 0", "") for part in
                                      {**SAID, **CONFINED}[name]])  # fmt: skip
    assert text in [record.getMessage() for record in caplog.records]
    assert runner.summary is not None and text in runner.summary["events"]


@pytest.mark.real
def test_a_runner_is_told_of_its_own_policy_and_of_its_time(make: Callable[..., Path]) -> None:
    def slow(frame: Frame) -> Any:
        time.sleep(0.02)
        return frame["wrenches"]["force"] if frame.cycle % 3 == 0 else frame["joints"]["position"]

    path = make("here", emulator=True)
    with Runner(path, policy=slow, cycles=400) as runner:
        for _ in runner:
            pass
    said = "\n".join(runner.messages)
    assert "did you mean 'wrench'?" in said
    assert "its command is due 0.4 ms after its frame" in said and "every = " in said


@pytest.mark.real
def test_a_policy_that_never_returns_is_told_while_it_hangs(make: Callable[..., Path]) -> None:
    path = make("here", emulator=True)
    path.with_name("policies.py").write_text(
        "import time\ndef here(frame):\n    if frame.cycle > 100:\n        time.sleep(600)\n"
        '    return frame["joints"]["position"]\n'
    )
    with Runner(path) as runner:
        deadline_s = time.monotonic() + BOUND_S
        for _ in runner:
            if runner.messages or time.monotonic() > deadline_s:
                break
        said = list(runner.messages)
    one_with(said, ["has been in one call for", "was due 0.4 ms", "warm_up(frame)"])


@pytest.mark.real
def test_a_policy_that_cannot_be_imported_is_told_by_the_exception(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    path = make("here", emulator=True)
    (tmp_path / "policies.py").write_text("import no_such_module\n")
    with (
        pytest.raises(ScheduleError, match=r"policy\.call: .*No module named 'no_such_module'"),
        Runner(path),
    ):
        pass


# ---- in a notebook -------------------------------------------------------------------------------


@pytest.fixture
def kernel() -> Iterator[Any]:
    """A Jupyter kernel, as a notebook has it."""
    pytest.importorskip("ipykernel", reason="a notebook needs ipykernel")
    manager = pytest.importorskip("jupyter_client.manager", reason="needs jupyter_client")
    started, client = manager.start_new_kernel(startup_timeout=BOUND_S)
    yield client
    client.stop_channels()
    started.shutdown_kernel(now=True)


def shown(client: Any, cell: str) -> str:
    """Everything that a notebook shows below a cell."""
    request = client.execute(cell)
    parts = []
    while True:
        try:
            message = client.get_iopub_msg(timeout=BOUND_S)
        except queue.Empty:  # pragma: no cover
            raise AssertionError("".join(parts)) from None
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        parts.append(content.get("text", "") + "\n".join(content.get("traceback", [])))
        if content.get("execution_state") == "idle":
            return "".join(parts)


@pytest.mark.real
def test_a_notebook_shows_the_mistake_below_its_cell(
    make: Callable[..., Path], kernel: Any
) -> None:
    paths = {name: str(make(name, emulator=True)) for name in ("five",)}
    begin = "import inphase\n"
    cell = (
        f"{begin}with inphase.Runner({paths['five']!r}, cycles=100) as robot:\n"
        f"    for frame in robot: pass\n"
    )
    assert shown(kernel, cell).count("policy returned an array of shape (5,)") == 1
    lockstep = cell.replace("cycles=100", "cycles=100, lockstep=True")
    assert shown(kernel, lockstep).count("policy returned an array of shape (5,)") == 1
    own = cell.replace("cycles=100", 'cycles=100, policy=lambda frame: frame["joint"]')
    assert "did you mean 'joints'?" in shown(kernel, own)
