"""Stops while something waits: a terminal that stands still, a pipe that is full, a Runner that is
not asked for its messages, an interpreter that is held, a frozen guard, a driver that enables.

Every way to stop is tried against every cause that can hold the supervisor up, and judged by the
speed that the emulated arm measures. What the C thread does is `native/tests/test_stops.c`.
"""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import psutil
import pytest
import zmq

from inphase import Runner
from inphase.errors import RuntimeFault
from inphase.frames import store
from inphase.frames.record_layout import REASONS
from inphase.host import store_names
from peers import BOUND_S, until
from runtimes import Robot
from terminals import Terminal

pytestmark = pytest.mark.real

REST = 0.005  # rad/s
HELD = '''
"""The arm's driver. The interpreter that opened it is held, and `enable` waits, for as long as the
test has a lock on the file `lock`."""
import ctypes
import fcntl
import threading
import time
from pathlib import Path

from inphase_drivers.dynamixel import Servos

HERE = Path(__file__).parent


def wait(name, flock):
    if HERE.joinpath(name).exists():
        with HERE.joinpath("lock").open("w") as lock:
            HERE.joinpath(name).rename(HERE / f"{name}.now")
            flock(lock.fileno(), fcntl.LOCK_EX)


def hold():
    while True:
        wait("hold", ctypes.PyDLL(None).flock)  # PyDLL keeps the GIL
        time.sleep(0.01)


class Held(Servos):
    def open(self):
        threading.Thread(target=hold, daemon=True).start()
        return super().open()

    def enable(self):
        wait("enable", fcntl.flock)
        super().enable()
'''


class Held:
    """What waits in the runtime until the test lets go."""

    def __init__(self, robot: Robot, what: str) -> None:
        self._now = robot.folder / f"{what}.now"
        self._lock = robot.folder.joinpath("lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        robot.folder.joinpath(what).touch()

    def begun(self) -> bool:
        """Whether it waits now."""
        return self._now.exists()

    def let_go(self) -> None:
        self._lock.close()
        self._now.unlink(missing_ok=True)


@pytest.fixture
def robot() -> Iterator[Robot]:
    """An emulated robot, with a gateway that takes requests and a driver that can be held up."""
    with Robot() as made:
        made.folder.joinpath("held.py").write_text(HELD)
        table = (
            f'[gateway]\nendpoint = "ipc://{made.folder}/f"\ncontrol = "ipc://{made.folder}/c"\n'
        )
        made.write(
            ("[sensor.joints]\n", table + "[sensor.joints]\n"),
            ('"inphase_drivers.dynamixel:Servos"', '"held.py:Held"'),
        )
        yield made


def client_stops(robot: Robot) -> None:
    """The emergency stop by a client of the gateway."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{robot.folder}/c")
        socket.send(msgpack.packb({"do": "estop"}))
        assert socket.poll(1000 * BOUND_S)
        assert msgpack.unpackb(socket.recv())["ok"]


def moving(robot: Robot) -> store.Reader:
    """Wait until it moves; its store."""
    until(lambda: store_names.find(robot.name) is not None)
    reader = store.Reader(str(store_names.find(robot.name)))
    until(lambda: robot.speed > 0.1)
    return reader


def latched(reader: store.Reader) -> str:
    return REASONS[reader.status()["latched"]]


def is_waiting(process: int) -> bool:
    """Whether a thread of a process waits for a terminal or a pipe that takes nothing."""
    for task in Path(f"/proc/{process}/task").iterdir():
        if task.joinpath("wchan").read_text() in ("n_tty_write", "pipe_write", "anon_pipe_write"):
            return True
    return False


# ---- a terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["stopped", "unread", "held"])
def test_a_key_and_a_client_stop_whatever_the_terminal_and_the_interpreter_do(
    robot: Robot, cause: str
) -> None:
    terminal = Terminal(robot.schedule, reads=cause != "unread")
    held: Held | None = None
    try:
        reader = moving(robot)
        for path in (lambda: terminal.press(b" "), lambda: client_stops(robot)):
            until(lambda: robot.speed > 0.1)
            if cause == "stopped":
                terminal.press(b"\x13")
            elif cause == "held":
                held = Held(robot, "hold")
                until(held.begun)
            path()
            until(lambda: robot.speed < REST and latched(reader) == "estop")
            if held is not None:
                held.let_go()
            terminal.press(b"a")
            until(lambda: latched(reader) == "none")
        until(lambda: robot.speed > 0.1)
        if cause == "held":
            held = Held(robot, "hold")
            until(held.begun)
        terminal.process.send_signal(signal.SIGQUIT)
        until(lambda: robot.speed < REST and reader.status()["reason"] == REASONS.index("signal"))
        if held is not None:
            held.let_go()
        assert terminal.process.wait(BOUND_S) == 128 + signal.SIGQUIT
        assert terminal.modes == terminal.before
        reader.close()
    finally:
        terminal.close()


def test_a_terminal_that_is_closed_ramps_the_robot_and_the_run_ends_in_good_order(
    robot: Robot,
) -> None:
    summary = robot.folder / "summary"
    with summary.open("w") as out:
        terminal = Terminal(robot.schedule, "--json", stdout=out)
    try:
        moving(robot).close()
        children = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.hang_up()
        assert terminal.process.wait(BOUND_S) == 128 + signal.SIGHUP
    finally:
        terminal.close()
    assert robot.speed < REST
    result = json.loads(summary.read_text())
    assert (result["stopped"]["reason"], result["stopped"]["detail"]) == ("signal", "SIGHUP")
    assert result["stopping_cycles"] > 0
    assert not any(child.is_running() for child in children)
    assert robot.segments() == [], "nor did the guard leave a note"


def test_a_closed_terminal_with_the_live_view_and_the_summary_on_it_ends_likewise(
    robot: Robot,
) -> None:
    terminal = Terminal(robot.schedule, stdout=None)
    try:
        moving(robot).close()
        terminal.hang_up()
        assert terminal.process.wait(BOUND_S) == 128 + signal.SIGHUP
    finally:
        terminal.close()
    assert robot.speed < REST
    assert robot.segments() == []


# ---- pipes that nobody reads -----------------------------------------------------------------


def test_a_signal_and_a_client_stop_while_nobody_reads_what_is_said(robot: Robot) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.write(theirs, bytes(4096))
    process = subprocess.Popen(
        [sys.executable, "-m", "inphase", "run", str(robot.schedule)],
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        reader = moving(robot)
        until(lambda: is_waiting(process.pid))
        client_stops(robot)
        until(lambda: robot.speed < REST and latched(reader) == "estop")
        process.send_signal(signal.SIGUSR1)
        until(lambda: robot.speed > 0.1)
        process.send_signal(signal.SIGTERM)
        until(lambda: robot.speed < REST and reader.status()["reason"] == REASONS.index("signal"))
        reader.close()
        until(lambda: robot.segments() == [])
        os.set_blocking(ours, True)
        while os.read(ours, 65_536):
            pass
        assert process.wait(BOUND_S) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait(BOUND_S)
        os.close(ours)


# ---- a Runner --------------------------------------------------------------------------------


class FullLog(logging.Handler):
    """Takes nothing until it goes on."""

    def __init__(self, goes_on: threading.Event) -> None:
        super().__init__()
        self._goes_on = goes_on

    def emit(self, record: logging.LogRecord) -> None:
        self._goes_on.wait()


def leave_messages_unread(robot: Robot, runner: Runner) -> Callable[[], None]:
    """The caller's log takes nothing more. Each SIGUSR1 is answered that motion is armed already,
    until nothing more goes out."""
    assert runner.pid is not None
    pid = runner.pid
    goes_on = threading.Event()
    log, handler = logging.getLogger("inphase"), FullLog(goes_on)
    log.addHandler(handler)

    def let_go() -> None:
        log.removeHandler(handler)
        goes_on.set()

    def is_full() -> bool:
        os.kill(pid, signal.SIGUSR1)
        stacks = Path(f"/proc/{pid}/task")
        waits = (task.joinpath("wchan").read_text() for task in stacks.iterdir())
        return any(wait == "sock_alloc_send_pskb" for wait in waits)

    until(is_full)
    return let_go


def hold_the_interpreter(robot: Robot, runner: Runner) -> Callable[[], None]:
    held = Held(robot, "hold")
    until(held.begun)
    return held.let_go


def freeze_the_guard(robot: Robot, runner: Runner) -> Callable[[], None]:
    assert runner.pid is not None
    guard = next(c for c in psutil.Process(runner.pid).children() if c.name() == "_guard")
    guard.suspend()
    return lambda: None


@pytest.mark.parametrize(
    "cause",
    [leave_messages_unread, hold_the_interpreter, freeze_the_guard],
    ids=lambda cause: cause.__name__,
)
def test_a_runner_stops_the_robot_whatever_its_runtime_waits_for(
    robot: Robot, cause: Callable[[Robot, Runner], Callable[[], None]]
) -> None:
    with Runner(robot.schedule) as runner:
        until(lambda: robot.speed > 0.1)
        reader = store.Reader(runner.store_path)  # handed over by the runtime: before it waits
        let_go = cause(robot, runner)
        runner.estop()
        until(lambda: robot.speed < REST and latched(reader) == "estop")
        reader.close()
        let_go()
    assert runner.summary is not None
    assert runner.summary["latched"] == "estop"
    assert robot.segments() == []


def test_the_end_of_a_runners_process_stops_a_robot_whose_interpreter_is_held(
    robot: Robot,
) -> None:
    script = "import sys, time, inphase\nwith inphase.Runner(sys.argv[1]):\n    time.sleep(1000)\n"
    run = subprocess.Popen([sys.executable, "-c", script, str(robot.schedule)])
    try:
        reader = moving(robot)
        held = Held(robot, "hold")
        until(held.begun)
        run.kill()
        until(lambda: robot.speed < REST and reader.status()["reason"] == REASONS.index("parent"))
        held.let_go()
        reader.close()
        until(lambda: robot.segments() == [])
    finally:
        run.kill()
        run.wait(BOUND_S)


# ---- arming takes its time -------------------------------------------------------------------


def test_a_stop_that_comes_while_a_driver_enables_wins_over_the_arming(robot: Robot) -> None:
    with Runner(robot.schedule) as runner, ThreadPoolExecutor(1) as pool:
        until(lambda: robot.speed > 0.1)
        runner.estop()
        until(lambda: robot.speed < REST)
        held = Held(robot, "enable")
        armed = pool.submit(runner.arm)
        until(held.begun)
        runner.estop()
        held.let_go()
        with pytest.raises(RuntimeFault, match="an emergency stop came while it was being armed"):
            armed.result(BOUND_S)
        reader = store.Reader(runner.store_path)
        assert latched(reader) == "estop"
        reader.close()
        assert robot.speed < REST
        runner.arm()
        until(lambda: robot.speed > 0.1)


def test_a_signal_ends_a_run_whose_driver_enables(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        client_stops(robot)
        until(lambda: robot.speed < REST)
        reader = store.Reader(str(store_names.find(robot.name)))
        held = Held(robot, "enable")
        run.signal(signal.SIGUSR1)
        until(held.begun)
        run.signal(signal.SIGTERM)
        until(lambda: reader.status()["reason"] == REASONS.index("signal"))
        reader.close()
        held.let_go()
        code, _ = run.end()
    assert code == 128 + signal.SIGTERM
    assert robot.speed < REST


# ---- the supervisor is watched ---------------------------------------------------------------


def test_a_supervisor_that_is_held_up_latches_motion_until_it_is_armed(robot: Robot) -> None:
    text = robot.schedule.read_text()
    robot.schedule.write_text(text.replace("resumed_after_ms = 20000", "resumed_after_ms = 3000"))
    with robot.run() as run:
        run.moving()
        reader = store.Reader(str(store_names.find(robot.name)))
        held = Held(robot, "hold")
        # in this order: a joint that turns round stands still, too
        until(lambda: latched(reader) == "supervisor" and robot.speed < REST)
        held.let_go()
        until(lambda: "motion is latched: supervisor" in run.stderr)
        assert robot.speed < REST
        run.signal(signal.SIGUSR1)
        run.moving()
        reader.close()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (130, None)


def test_a_gateway_that_dies_takes_the_clients_stop_with_it_and_latches_motion(
    robot: Robot,
) -> None:
    with robot.run() as run:
        run.moving()
        run.child("inphase.runtime.gateway").kill()
        reader = store.Reader(str(store_names.find(robot.name)))
        until(lambda: robot.speed < REST and latched(reader) == "gateway")
        reader.close()
        until(lambda: "no client can stop the robot any more" in run.stderr)
        run.signal(signal.SIGUSR1)
        run.moving()
        run.signal(signal.SIGTERM)
        code, _ = run.end()
    assert code == 128 + signal.SIGTERM
    assert robot.segments() == []
