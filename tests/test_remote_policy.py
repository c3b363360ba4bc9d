"""A policy in another process, over ZeroMQ on this host: what it sends, and what becomes of it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from inphase import load, remote
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.policy import remote_listener
from inphase.schedule import Schedule
from peers import BOUND_S, free_port, until
from robots import demo_schedule
from runtimes import SWEEP, Robot

CALL = 'call = "sweep.py:Sweep"'
HOLD = """
import numpy as np

class Hold:
    def __call__(self, frame):
        wave = 0.002 * np.sin(frame.due_ns * 3e-9) * np.ones(6)
        assert frame["wrench"].status in ("FRESH", "HELD", "LATE", "MISSING", "INVALID")
        return frame["joints"].value["position"] + wave
"""


def hold(frame: Any) -> Any:
    """Where the joints are."""
    return frame["joints"].value["position"].copy()


# ---- in lock step ------------------------------------------------------------------------------


def remote_schedule(folder: Path) -> Schedule:
    """The demo robot with a remote policy."""
    path = demo_schedule(folder)
    text = path.read_text()
    text = text[: text.index("[policy]")] + f'[policy]\nremote = "ipc://{folder}/door"\n'
    path.write_text(text)
    return load(path)


@contextlib.contextmanager
def served(described: Schedule, policy: Callable[[remote.Frame], Any]) -> Iterator[None]:
    """A remote in a thread of this process."""
    assert described.policy is not None and described.policy.remote is not None
    thread = threading.Thread(
        target=remote.serve_policy,
        args=(described.policy.remote, policy),
        kwargs={"once": True},
        daemon=True,
    )
    thread.start()
    yield
    thread.join(BOUND_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("isolate", [False, True])
def test_a_remote_policy_gives_the_bytes_of_a_local_one(tmp_path: Path, isolate: bool) -> None:
    tmp_path.joinpath("hold.py").write_text(HOLD)
    with LockStep(load(demo_schedule(tmp_path, policy="hold.py:Hold")), seed=5) as robot:
        robot.run(80)
        local = robot.follower.reader.counts(), robot.follower.frame(79).record
    found: dict[str, Any] = {}
    exec(HOLD, found)
    described = remote_schedule(tmp_path)
    with served(described, found["Hold"]()), LockStep(described, seed=5, isolate=isolate) as robot:
        robot.run(80)
        assert (robot.follower.reader.counts(), robot.follower.frame(79).record) == local
    assert local[0]["commands"] == 80
    assert not tmp_path.joinpath("door").exists()


ANSWERS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "silent"),
    "too few": (np.zeros(5), "shape"),
    "no numbers": (np.full(6, np.nan), "nan"),
    "another actuator": ({"leg": np.zeros(6)}, "shape"),
}


@pytest.mark.parametrize("name", [*ANSWERS, "an exception"])
def test_an_answer_that_is_none_has_its_reason(tmp_path: Path, name: str) -> None:
    answer, reason = ANSWERS.get(name, (None, "raised"))

    def policy(frame: remote.Frame) -> Any:
        if name == "an exception":
            raise ValueError("a bug")
        return answer

    described = remote_schedule(tmp_path)
    with served(described, policy), LockStep(described) as robot:
        robot.run(5)
        assert robot.follower.reader.reasons() == {reason: 5}


def test_a_remote_may_answer_with_a_chunk(tmp_path: Path) -> None:
    described = remote_schedule(tmp_path)
    described.path.write_text(described.path.read_text() + "every = 2\nchunk = 4\n")
    described = load(described.path)

    def policy(frame: remote.Frame) -> Any:
        return np.tile(hold(frame), (4, 1))

    with served(described, policy), LockStep(described) as robot:
        robot.run(20)
        counts = robot.follower.reader.counts()
        assert counts["commands"] > 10 and counts["invalid"] == 0


def test_a_remote_sees_what_a_frame_has(tmp_path: Path) -> None:
    seen: list[remote.Frame] = []

    def policy(frame: remote.Frame) -> Any:
        seen.append(frame)
        return {"arm": hold(frame)}

    described = remote_schedule(tmp_path)
    with served(described, policy), LockStep(described, seed=2) as robot:
        for frame, there in ((robot.step(), seen[-1]) for _ in range(20)):
            assert (there.cycle, there.due_ns, there.latched_ns, there.skew_ns) == (
                frame.cycle, frame.due_ns, frame.latched_ns, frame.skew_ns,
            )  # fmt: skip
            assert (there.flags, there.skipped, there.reason, there.state) == (
                frame.flags, frame.skipped, frame.reason, frame.state,
            )  # fmt: skip
            for name, sample in frame.samples.items():
                other = there[name]
                for key in ("status", "reason", "sequence", "cycle", "acquired_ns", "age_ns"):
                    assert getattr(other, key) == getattr(sample, key), (name, key)
                assert other.value.tobytes() == sample.value.tobytes()
                assert other.value.dtype.names == sample.value.dtype.names
            act, there_act = frame.command["arm"], there.command["arm"]
            assert (there_act.flags, there_act.reason) == (act.flags, act.reason)
            assert np.array_equal(there_act.applied, act.applied, equal_nan=True)


class Odd:
    """A remote that speaks the format by itself, to say what no helper would."""

    def __init__(self, described: Schedule, token: str = "") -> None:
        self.token = token
        assert described.policy is not None and described.policy.remote is not None
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(described.policy.remote)
        self.epoch = 0
        self.link: Any = None
        self.start: Any = None  # where it last wanted the robot to be

    def greet(self) -> None:
        self.send(remote.HELLO, {"token": self.token})
        while True:
            parts = self.receive()
            if parts[0] == remote.GREETING:
                break
            if parts[0] == remote.REFUSED:  # the one before is not yet seen to be gone
                time.sleep(0.01)
                self.send(remote.HELLO, {"token": self.token})
        self.link = remote.Link(msgpack.unpackb(parts[1]))
        self.epoch = self.link.epoch
        self.send(remote.READY, {"epoch": self.epoch})

    def send(self, kind: bytes, what: Any) -> None:
        self.socket.send_multipart([kind, msgpack.packb(what)])

    def receive(self) -> Any:
        assert self.socket.poll(BOUND_S * 1000)
        return self.socket.recv_multipart()

    def good(self, cycle: int) -> dict[str, Any]:
        values = np.zeros(6).tobytes()
        return {"epoch": self.epoch, "cycle": cycle, "shape": [6], "values": values}


def cycle_of(parts: list[bytes]) -> int:
    return int(msgpack.unpackb(parts[1])[5][0])


# what is sent in place of an answer; a good one follows each, and counts or comes too late
MALFORMED: dict[str, tuple[Callable[[Odd, int], list[bytes]], bool]] = {
    "no MessagePack": (lambda odd, n: [remote.COMMAND, b"\xc1"], True),
    "a list": (lambda odd, n: [remote.COMMAND, msgpack.packb([1, 2])], True),
    "a text that is not UTF-8": (
        lambda odd, n: [remote.COMMAND, b"\x81\xa6reason\xa3\xff\xfe\xfd"], True
    ),
    "a text for values": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "values": "x" * 48})], True
    ),
    "a shape that lies": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "shape": [7]})], True
    ),
    "a negative shape": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "shape": [-2, -3]})], True
    ),
    "a huge shape": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "shape": [2**62, 8]})], True
    ),
    "three dimensions": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "shape": [1, 1, 6]})], True
    ),
    "deep nesting": (lambda odd, n: [remote.COMMAND, b"\x91" * 100_000 + b"\x90"], True),
    "another kind": (lambda odd, n: [b"inphase.pickle\0", b"cos\nsystem\n"], True),
    "too few parts": (lambda odd, n: [remote.COMMAND], True),
    "many parts": (lambda odd, n: [remote.COMMAND] * 500, True),
    "another cycle": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "cycle": n + 1})], False
    ),
    "another run": (
        lambda odd, n: [remote.COMMAND, msgpack.packb({**odd.good(n), "epoch": 1})], False
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_answer_is_refused_or_ignored(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, is_refused = MALFORMED[name]
    described = remote_schedule(tmp_path)
    odd = Odd(described)

    def answer() -> None:
        odd.greet()
        for _ in range(3):
            parts = odd.receive()
            odd.socket.send_multipart(make(odd, cycle_of(parts)))
            odd.send(remote.COMMAND, odd.good(cycle_of(parts)))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with LockStep(described) as robot:
        robot.run(3)
        reasons = robot.follower.reader.reasons()
    thread.join(BOUND_S)
    odd.socket.close()
    assert reasons.get("shape", 0) == (3 if is_refused else 0)
    assert ("the remote sent" in capfd.readouterr().err) == is_refused


def test_an_answer_that_is_none_before_the_start_does_not_keep_the_robot_from_starting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    described = remote_schedule(tmp_path)
    odd = Odd(described)

    def answer() -> None:
        for make, _ in MALFORMED.values():
            odd.send(remote.HELLO, {})
            odd.socket.send_multipart(make(odd, 0))
        odd.greet()
        parts = odd.receive()
        while parts[0] != remote.FRAME:
            parts = odd.receive()
        odd.send(remote.COMMAND, odd.good(cycle_of(parts)))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with LockStep(described) as robot:
        robot.run(1)
        assert robot.follower.reader.reasons() == {"start": 1}  # it is elsewhere than at 0
    thread.join(BOUND_S)
    odd.socket.close()
    assert "the remote sent an invalid command" in capfd.readouterr().err


def test_a_message_beyond_the_bound_ends_the_connection_not_the_robot(tmp_path: Path) -> None:
    described = remote_schedule(tmp_path)
    odd = Odd(described)

    def answer() -> None:
        odd.greet()
        odd.receive()
        odd.socket.send_multipart([remote.COMMAND, bytes(2 << 20)])
        other = Odd(described)  # who comes next is served
        other.greet()
        while (parts := other.receive())[0] == remote.FRAME:
            other.send(remote.COMMAND, other.good(cycle_of(parts)))
        odd.socket.close()
        other.socket.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with LockStep(described) as robot:
        counts = robot.follower.reader.counts
        until(lambda: robot.step() is not None and counts()["invalid"] >= 2)
        assert counts()["missed"] >= 1
        assert robot.follower.reader.reasons().keys() == {"silent", "start"}
    thread.join(BOUND_S)


# ---- who is the policy ------------------------------------------------------------------------


def tcp_schedule(folder: Path) -> Schedule:
    """The demo robot with a remote policy on a port."""
    described = remote_schedule(folder)
    text = described.path.read_text().replace(
        f"ipc://{folder}/door", f"tcp://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    )
    described.path.write_text(text)
    return load(described.path)


def test_a_token_that_only_this_user_can_read_proves_a_policy_on_tcp(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    described = tcp_schedule(tmp_path)
    assert described.policy is not None and described.policy.remote is not None
    path = Path(remote.token_file(described.policy.remote) or "")
    refused: list[str] = []
    strangers = [Odd(described, token) for token in ("", "0" * 64)]
    seen: list[Any] = []

    def stand_by() -> None:
        for stranger in strangers:
            stranger.send(remote.HELLO, {"token": stranger.token})
            kind, content = stranger.receive()
            assert kind == remote.REFUSED
            refused.append(msgpack.unpackb(content)["error"])
        seen.append((path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777))
        remote.serve_policy(described.policy.remote, hold, once=True)

    thread = threading.Thread(target=stand_by, daemon=True)
    thread.start()
    with LockStep(described) as robot:
        robot.run(5)
        assert robot.follower.reader.counts()["commands"] == 5
    thread.join(BOUND_S)
    for stranger in strangers:
        stranger.socket.close()
    assert [f"in {path}" in text for text in refused] == [True, True]
    assert seen == [(0o600, 0o711)]
    assert "refused who came from 127.0.0.1:" in capfd.readouterr().err
    assert not path.exists()


def test_each_run_has_a_token_of_its_own(tmp_path: Path) -> None:
    described = tcp_schedule(tmp_path)
    tokens = set()
    for _ in range(2):
        listener = remote_listener.listen(described)
        assert listener is not None
        tokens.add(listener.token)
        listener.close()
    assert len(tokens) == 2 and all(len(token) == 64 for token in tokens)
    assert described.policy is not None and described.policy.remote is not None
    remote_listener.remove_left(described.policy.remote)


def answering(odd: Odd, frames: int, step: float) -> None:
    """Be the policy for so many frames: away from where the robot is, further with each."""
    for _ in range(frames):
        parts = odd.receive()
        assert parts[0] == remote.FRAME
        start = odd.start if odd.start is not None else hold(odd.link.frame(parts))
        odd.start = start + step
        values = odd.start.tobytes()
        odd.send(remote.COMMAND, {**odd.good(cycle_of(parts)), "values": values})


def test_a_second_policy_is_refused_while_the_first_lives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    described = remote_schedule(tmp_path)
    first, second = Odd(described), Odd(described)
    said: list[str] = []

    def talk() -> None:
        first.greet()
        answering(first, 10, 0.001)
        second.send(remote.HELLO, {})
        answering(first, 10, 0.001)
        kind, content = second.receive()
        said.append(msgpack.unpackb(content)["error"] if kind == remote.REFUSED else "greeted")
        answering(first, 10, 0.001)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    with LockStep(described) as robot:
        robot.run(30)
        counts = robot.follower.reader.counts()
        assert (counts["commands"], counts["missed"]) == (30, 0)
    thread.join(BOUND_S)
    first.socket.close()
    second.socket.close()
    assert len(said) == 1
    assert re.fullmatch(
        rf"process {os.getpid()} of user {os.getuid()} serves this robot; end that one first",
        said[0],
    )
    assert f"refused process {os.getpid()}" in capfd.readouterr().err


def test_another_policy_is_asked_first_when_the_robot_has_come_to_rest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    described = remote_schedule(tmp_path)
    first, second = Odd(described), Odd(described)
    gone = threading.Event()
    heads: list[Any] = []

    def talk() -> None:
        first.greet()
        answering(first, 30, 0.002)
        gone.set()

    def follow() -> None:
        second.greet()
        parts = second.receive()
        heads.append(second.link.frame(parts))
        second.start = hold(heads[0])
        while parts[0] == remote.FRAME:
            good = second.good(cycle_of(parts))
            second.send(remote.COMMAND, {**good, "values": second.start.tobytes()})
            parts = second.receive()

    threads = [threading.Thread(target=one, daemon=True) for one in (talk, follow)]
    threads[0].start()
    with LockStep(described) as robot:
        robot.run(30)
        assert robot.follower.frame(29).state == "running"
        assert gone.wait(BOUND_S)
        first.socket.close(linger=0)
        threads[1].start()
        frames = [robot.step()]
        while not heads:
            frames.append(robot.step())
            time.sleep(0.005)  # virtual time would be far on when the other has said hello
        robot.run(20)
        commands = robot.follower.reader.counts()["commands"]
    # it came to rest by a ramp within its limits, and only then the other was given a frame
    assert heads[0].state == "ramping"
    applied = [
        frame.command["arm"].applied.copy() for frame in frames if frame.cycle <= heads[0].cycle
    ]
    assert np.array_equal(applied[-1], applied[-2])
    assert sum(not np.array_equal(a, b) for a, b in pairwise(applied)) > 2
    assert commands > 30
    threads[1].join(BOUND_S)
    second.socket.close()
    assert "is gone: the robot comes to rest first" in capfd.readouterr().err


# ---- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('remote = "tcp://10.0.0.1:5555"', "can be reached from elsewhere"),
        ('remote = "door"', "not an address"),
        ('remote = "ipc:///tmp/door"\ncall = "a.py:b"', "exactly one of call, model, remote and"),
        ('remote = "ipc:///tmp/door"\nargs = { gain = 1 }', "only applies to call"),
        (
            'remote = "ipc:///tmp/door"\ninputs = { obs = ["joints.position"] }',
            "only applies to a model",
        ),
    ],
)
def test_a_remote_is_on_this_host_and_nothing_else_besides(
    tmp_path: Path, keys: str, expected: str
) -> None:
    path = demo_schedule(tmp_path)
    text = path.read_text()
    path.write_text(text[: text.index("[policy]")] + f"[policy]\n{keys}\n")
    with pytest.raises(ScheduleError, match=expected):
        load(path)


def test_a_remote_that_does_not_come_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inphase.policy.remote_policy._WAIT_S", 0.3)
    with pytest.raises(ScheduleError, match=r"policy\.remote: no policy came to .*serve_policy"):
        LockStep(remote_schedule(tmp_path))
    assert not tmp_path.joinpath("door").exists()


# ---- on the wall clock -------------------------------------------------------------------------

SERVE = """
import sys
from remote import serve_policy
from sweep import Sweep

assert not [name for name in sys.modules if name.startswith("inphase")]
serve_policy(sys.argv[1], Sweep())
"""


class Served:
    """A remote policy as a process of its own, with one file of inphase and nothing else of it."""

    def __init__(self, robot: Robot) -> None:
        shutil.copy(remote.__file__, robot.folder / "remote.py")
        sweep = SWEEP.replace('"arm" in frame.command._acts and ', "")
        robot.folder.joinpath("sweep.py").write_text(sweep)
        robot.folder.joinpath("serve.py").write_text(SERVE)
        self.endpoint = f"ipc://{robot.folder}/door"
        robot.write((CALL, f'remote = "{self.endpoint}"'))
        self._robot = robot
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        self.process = subprocess.Popen(
            [sys.executable, str(self._robot.folder / "serve.py"), self.endpoint]
        )
        return self.process

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def robot() -> Iterator[Robot]:
    """The emulated robot."""
    with Robot() as robot:
        yield robot


@pytest.fixture
def serving(robot: Robot) -> Iterator[Served]:
    """And its policy, in a process of its own."""
    served = Served(robot)
    yield served
    served.close()


@pytest.mark.real
def test_a_remote_moves_a_robot_and_serves_the_next_run_too(robot: Robot, serving: Served) -> None:
    for _ in range(2):
        with robot.run("--cycles", "400") as run:
            code, summary = run.end()
            said = run.stderr
        assert code == 0, said
        assert summary["policy"]["commands"] > 0
        assert summary["inference_ns"]["count"] > 0
        assert summary["policy"]["sandbox"]["seccomp"] and not summary["policy"]["sandbox"]["allow"]
        assert robot.segments() == []
        assert not robot.folder.joinpath("door").exists()
    assert serving.process.poll() is None


@pytest.mark.real
def test_a_remote_that_is_killed_ramps_the_robot_and_another_takes_over(
    robot: Robot, serving: Served
) -> None:
    with robot.run() as run:
        run.moving()
        serving.close()
        run.frame(lambda frame: frame.command["arm"].reason == "silent")
        run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        until(lambda: robot.speed < 0.02)
        serving.start()
        run.frame(lambda frame: frame.command["arm"].reason == "none")
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["ended"] is None


@pytest.mark.real
def test_a_remote_that_is_stopped_is_missed_until_it_goes_on(robot: Robot, serving: Served) -> None:
    with robot.run() as run:
        run.moving()
        serving.process.send_signal(signal.SIGSTOP)
        run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        until(lambda: robot.speed < 0.02)
        serving.process.send_signal(signal.SIGCONT)
        run.frame(lambda frame: frame.command["arm"].reason == "none")
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["missed"] > 0 and summary["policy"]["ended"] is None
