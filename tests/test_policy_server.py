"""A policy that a server answers, over real sockets: what it is sent, and what becomes of it."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frames.record_layout import SERVER_COUNTS
from inphase.schedule import Schedule
from peers import BOUND_S, free_port, until
from policy_servers import FAULT_AT, STEP, PolicyServerProcess
from robots import demo_schedule
from runtimes import Robot
from test_import import MAIN, without_extras

SERVER = """[policy]
allow = ["network"]
every = {every}
chunk = {chunk}
{more}
[policy.server]
url = "ws://127.0.0.1:{port}"
{times}
[policy.server.observation]
"observation/state" = {{ fields = ["joints.position"] }}
prompt = {{ text = "sway" }}
"""


def server_text(
    port: int, *, every: int = 4, chunk: int = 8, more: str = "", times: str = ""
) -> str:
    """The tables of a policy that the test's server answers."""
    return SERVER.format(port=port, every=every, chunk=chunk, more=more, times=times)


def server_schedule(folder: Path, port: int, **options: Any) -> Schedule:
    """The demo robot with such a policy, for lock step."""
    path = demo_schedule(folder)
    text = path.read_text()
    path.write_text(text[: text.index("[policy]")] + server_text(port, **options))
    return load(path)


# ---- in lock step ------------------------------------------------------------------------------


@pytest.mark.parametrize("isolate", [False, True])
def test_the_chunks_of_a_server_move_the_robot(tmp_path: Path, isolate: bool) -> None:
    port = free_port(socket.SOCK_STREAM)
    with PolicyServerProcess(port, tmp_path / "log") as server:
        with LockStep(server_schedule(tmp_path, port), isolate=isolate) as robot:
            start = robot.step()["joints"]["position"].copy()
            robot.run(79)
            counts = robot.follower.reader.counts()
            frame = robot.follower.frame(79)
        assert counts["commands"] == 80 and counts["missed"] == 0
        moved = frame["joints"]["position"] - start
        assert (moved > 0.03).all(), moved
        # each chunk begins where the robot was: the next four cycles are its rows
        seen = server.observations()
    assert len(seen) == 20
    assert seen[0]["prompt"] == "sway"
    dtype, shape, total = seen[0]["observation/state"]
    assert (dtype, shape) == ("<f4", [6])
    assert total == pytest.approx(start.sum(), abs=1e-5)


def test_a_row_is_the_command_of_its_cycle(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    text = "order = [5, 4, 3, 2, 1, 0]\nscale = 0.5\noffset = [0.1, 0, 0, 0, 0, 0]\nfirst = 1\n"
    with PolicyServerProcess(port, tmp_path / "log", rows=12):
        described = server_schedule(tmp_path, port)
        described.path.write_text(described.path.read_text() + f"[policy.server.actions]\n{text}")
        with LockStep(load(described.path)) as robot:
            at = robot.step()["joints"]["position"].copy()
            robot.run(3)
            for index in range(3):
                requested = robot.follower.frame(index + 1).command["arm"].requested
                wanted = (at + STEP * (index + 2))[::-1] * 0.5 + [0.1, 0, 0, 0, 0, 0]
                assert requested == pytest.approx(wanted, abs=1e-6)


WRONG = {
    "raises": ("raised", "errors"),
    "dies in its answer": ("silent", "lost"),
    "no frame": ("shape", "malformed"),
    "too long": ("shape", "malformed"),
    "too few rows": ("shape", "malformed"),
    "too few columns": ("shape", "malformed"),
    "too many columns": ("shape", "malformed"),
    "three dimensions": ("shape", "malformed"),
    "another key": ("shape", "malformed"),
    "a list": ("shape", "malformed"),
    "booleans": ("shape", "malformed"),
    "texts": ("shape", "malformed"),
    "objects": ("shape", "malformed"),
    "complex": ("shape", "malformed"),
    "records": ("shape", "malformed"),
    "a dtype that is code": ("shape", "malformed"),
    "a pickle": ("shape", "malformed"),
    "a shape that lies": ("shape", "malformed"),
    "a huge shape": ("shape", "malformed"),
    "a negative shape": ("shape", "malformed"),
    "a shape of texts": ("shape", "malformed"),
    "deep nesting": ("shape", "malformed"),
    "a number": ("shape", "malformed"),
    "nothing": ("shape", "malformed"),
    "nan": ("nan", "answers"),
}


def counts_of(robot: LockStep) -> dict[str, int]:
    """What the server did, as its policy counted it."""
    call: Any = robot._turn
    return {name: call._call.counts[name] for name in SERVER_COUNTS}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_answer_has_a_reason_a_count_and_a_message(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, counted = WRONG[fault]
    port = free_port(socket.SOCK_STREAM)
    with PolicyServerProcess(port, tmp_path / "log", fault=fault):
        # the chunk ends with the answer that is wrong
        described = server_schedule(tmp_path, port, every=4, chunk=4)
        with LockStep(described) as robot:
            robot.run(4 * (FAULT_AT + 3))
            reader, counts = robot.follower.reader, counts_of(robot)
            assert reader.reasons() == {reason: 4}
            assert reader.counts()["commands"] == 4 * (FAULT_AT + 2)
    good = FAULT_AT + 2
    again = 2 if counted in ("lost", "errors") or fault in ("no frame", "too long") else 1
    wanted = {"connected": again, "answers": good}
    wanted[counted] = wanted.get(counted, 0) + 1
    assert counts == dict.fromkeys(SERVER_COUNTS, 0) | wanted
    told = [text for text in caplog.messages if f"policy server ws://127.0.0.1:{port}" in text]
    assert len([text for text in told if "answers again" not in text]) == 1, told
    assert len(told) == again


def test_an_answer_that_was_not_asked_for_ends_the_connection(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    serving = PolicyServerProcess(port, tmp_path / "log", fault="answers twice")
    with serving, LockStep(server_schedule(tmp_path, port, chunk=4)) as robot:
        for _ in range(FAULT_AT + 50):  # it may come too late for the next request to see it
            robot.run(4)
            counts = counts_of(robot)
            if counts["connected"] == 2:
                break
    assert (counts["malformed"], counts["connected"]) == (1, 2)


def test_a_server_that_blocks_is_left_and_its_answer_never_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port(socket.SOCK_STREAM)
    serving = PolicyServerProcess(port, tmp_path / "log", fault="blocks", argument=1.5)
    described = server_schedule(tmp_path, port, chunk=4, times="answer_ms = 300")
    with serving, LockStep(described) as robot:
        robot.run(4 * (FAULT_AT + 3))
        counts = counts_of(robot)
        assert robot.follower.reader.reasons() == {"silent": 4}
    assert counts["stalled"] == 1 and counts["connected"] == 2
    assert counts["answers"] == FAULT_AT + 2
    assert "no answer within 0.3 s; it is left, and connected to again" in caplog.text


def test_lock_step_begins_only_with_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inphase.policy.openpi.server_policy._WAIT_S", 0.5)
    port = free_port(socket.SOCK_STREAM)
    with pytest.raises(ScheduleError, match=r"policy\.server\.url: no policy server answers at"):
        LockStep(server_schedule(tmp_path, port))


@pytest.mark.parametrize("isolate", [False, pytest.param(True, marks=pytest.mark.long)])  # 15 s
def test_a_text_for_metadata_is_no_server_of_that_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolate: bool
) -> None:
    if not isolate:
        monkeypatch.setattr("inphase.policy.openpi.server_policy._WAIT_S", 0.5)
    port = free_port(socket.SOCK_STREAM)
    serving = PolicyServerProcess(port, tmp_path / "log", fault="text for metadata")
    with serving, pytest.raises(ScheduleError, match="no policy server answers at"):
        LockStep(server_schedule(tmp_path, port), isolate=isolate)


def test_a_robot_without_the_extra_is_told_its_name(tmp_path: Path) -> None:
    path = server_schedule(tmp_path, free_port(socket.SOCK_STREAM)).path
    done = without_extras(MAIN, "run", str(path), "--lockstep", "--cycles", "5")
    assert done.returncode == ScheduleError.exit_code
    assert "pip install 'inphase[openpi]'" in done.stderr


# ---- on the wall clock -------------------------------------------------------------------------

CALL = '[policy]\ncall = "sweep.py:Sweep"\n'


@pytest.fixture
def robot() -> Iterator[Robot]:
    """The emulated robot."""
    with Robot() as robot:
        yield robot


class Server:
    """The address of a policy server, which may be there."""

    def __init__(self, robot: Robot, **options: Any) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        self.log = robot.folder / "log"
        text = server_text(self.port, every=5, chunk=10, more="latency_cycles = 2", **options)
        robot.write((CALL, text))

    def start(self, **options: Any) -> PolicyServerProcess:
        """Start one there."""
        return PolicyServerProcess(self.port, self.log, rows=10, **options)


@pytest.mark.real
def test_a_server_moves_the_emulated_arm_and_is_counted(robot: Robot) -> None:
    with Server(robot).start() as serving, robot.run("--cycles", "400") as run:
        code, summary = run.end()
        said = run.stderr
        assert code == 0, said
        assert serving.process.poll() is None
    policy = summary["policy"]
    assert policy["commands"] > 100
    assert policy["server"]["answers"] > 20
    assert policy["server"]["connected"] == 1
    assert policy["sandbox"]["allow"] == ["network"]
    assert min(summary["actuators"]["arm"]["measured"]) > 0.1, summary["actuators"]
    assert summary["inference_ns"]["count"] > 20


@pytest.mark.long
@pytest.mark.real
def test_the_robot_is_up_before_its_server_and_moves_once_that_is_there(robot: Robot) -> None:
    server = Server(robot)
    with robot.run() as run:
        run.frame(lambda frame: frame.state == "armed" and frame.cycle > 50)
        assert run.follower.reader.counts()["commands"] == 0
        until(lambda: f"policy server ws://127.0.0.1:{server.port}: " in run.stderr)
        with server.start():
            run.moving()
            until(lambda: "answers again" in run.stderr)
            run.signal(signal.SIGINT)
            _, summary = run.end()
    assert summary["policy"]["server"]["unreached"] >= 1
    assert summary["policy"]["server"]["connected"] == 1
    assert "start it, or correct [policy.server] url; it is tried again" in run.stderr
    assert run.stderr.count("Connection refused") == 1


@pytest.mark.long
@pytest.mark.real
def test_a_first_inference_of_seconds_holds_nothing_up(robot: Robot) -> None:
    server = Server(robot)
    with server.start(fault="slow first", argument=2.0), robot.run() as run:
        up: list[str] = []
        run.frame(lambda frame: up.append(frame.state) or frame.state == "running")  # type: ignore[func-returns-value]
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    # the robot is up while the server compiles, and the late first answer moves nothing
    assert up.count("armed") > 50
    assert summary["policy"]["server"]["stalled"] == 0
    assert "has not answered for" not in run.stderr


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("fault", ["exits", "dies in its answer", "raises"])
def test_a_robot_ramps_without_its_server_and_goes_on_with_the_next(
    robot: Robot, fault: str
) -> None:
    server = Server(robot)
    with robot.run() as run:
        with server.start(fault=fault) as serving:
            run.frame(lambda frame: frame.state == "running")
            run.frame(lambda frame: frame.state == "ramping")
            if fault == "exits":
                assert serving.process.wait(BOUND_S) == 3
        with server.start():
            run.frame(lambda frame: frame.state == "running")
            run.moving()
            run.signal(signal.SIGINT)
            _, summary = run.end()
    counted = summary["policy"]["server"]
    assert counted["connected"] >= 2
    assert counted["errors" if fault == "raises" else "lost"] >= 1
    assert summary["policy"]["dropped"] == 0


@pytest.mark.long
@pytest.mark.real
def test_an_answer_that_comes_after_a_stall_is_late_and_moves_nothing(robot: Robot) -> None:
    server = Server(robot)
    with server.start(fault="blocks", argument=1.5), robot.run() as run:
        run.frame(lambda frame: frame.state == "running")
        ramping = run.frame(lambda frame: frame.state == "ramping")
        back = run.frame(lambda frame: frame.state == "running")
        # the stalled answer is for cycles that are over: the first that counts is of a new frame
        assert back.command.answered_cycle is not None
        assert back.command.answered_cycle > ramping.cycle
        run.signal(signal.SIGINT)
        _, summary = run.end()
    policy = summary["policy"]
    assert policy["refused_answers"] >= 1 and policy["starved"] > 20
    counted = policy["server"]
    assert (counted["connected"], counted["stalled"], counted["lost"]) == (1, 0, 0)


@pytest.mark.long
@pytest.mark.real
def test_a_server_that_never_answers_again_is_left_and_tried_anew(robot: Robot) -> None:
    server = Server(robot, times="answer_ms = 500\nfirst_answer_ms = 5000")
    with robot.run() as run, server.start() as serving:
        run.moving()
        serving.process.send_signal(signal.SIGSTOP)
        until(lambda: "no answer within 0.5 s; it is left" in run.stderr)
        run.frame(lambda frame: frame.state == "ramping")
        serving.process.send_signal(signal.SIGCONT)
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    counted = summary["policy"]["server"]
    assert counted["stalled"] == 1 and counted["connected"] >= 2
