"""The guard, with real processes: a runtime that is killed or frozen in motion, an emulated arm,
and what went over the wire.

Rows 29 and 30 of the catalogue of faults.
"""

import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from inphase import schedule
from inphase.errors import RuntimeFault, ScheduleError
from inphase.frames.record_layout import REASONS
from inphase.host import store_names
from inphase.plan import plan as planning
from inphase.runtime.guarding import guard, guard_supervisor
from inphase.runtime.guarding.own_emulator import is_emulated
from inphase.runtime.run_options import RunOptions
from inphase.runtime.runtime import Runtime
from peers import BOUND_S, until
from runtimes import Robot, Run, give_rights_up, has_ended
from test_servo_modes import CURRENT, VELOCITY, tell

pytestmark = pytest.mark.real
SYNC_WRITE = 0x83
GOAL = struct.pack("<HH", 116, 4)
REST = 0.05  # rad/s: two counts of the servos' velocity
HOLD_MS = 300  # patient: what is tested is what happens, not when, also on a loaded machine
PERIOD_S = 0.008
STEP_COUNTS = 2.0 * PERIOD_S * 4096 / 6.28 + 2  # velocity limit times a period, and rounding
ROUNDS = 20
COMPILER = shutil.which("cc")


@pytest.fixture
def robot() -> Iterator[Robot]:
    """An emulated robot whose guard is not as patient as in other tests."""
    with Robot() as made:
        made.write(HELD)
        yield made


HELD = ("max_hold_ms = 20000", f"max_hold_ms = {HOLD_MS}")


class Heard(NamedTuple):
    """An instruction that the servos heard."""

    at_ns: int
    ident: int
    instruction: int
    parameters: bytes

    @property
    def is_goal(self) -> bool:
        """A sync write of goal positions."""
        return self.instruction == SYNC_WRITE and self.parameters.startswith(GOAL)

    @property
    def goals(self) -> list[int]:
        """Counts, of a sync write."""
        return [struct.unpack_from("<i", self.parameters, at + 1)[0] for at in range(4, 34, 5)]


def heard(robot: Robot) -> list[Heard]:
    """The last instructions on the bus, oldest first."""
    return [Heard(*item[:3], bytes.fromhex(item[3])) for item in robot.arm(heard=True)["heard"]]


def guard_of(run: Run) -> psutil.Process:
    """Its guard."""
    return next(child for child in run.children() if child.name() == "_guard")


def note_of(robot: Robot) -> dict[str, Any]:
    """The one note that lies there."""
    (path,) = notes_of(robot)
    return tomllib.loads(path.read_text())


def notes_of(robot: Robot) -> list[Path]:
    """The notes that lie there."""
    return list(store_names.folder().glob(f"{robot.name}.*.note"))


def stopped(robot: Robot, process: psutil.Process) -> dict[str, Any]:
    """Wait for the guard's end; its note, after what went over the wire was held against it."""
    until(lambda: has_ended(process))
    note = note_of(robot)
    (device,) = note["stopped"]
    assert (device["device"], device["sent"], device["errno"]) == ("arm", 3, 0)
    check_wire(robot, bytes.fromhex(device["bytes"]))
    until(lambda: robot.speed < REST)
    return note


def stops(robot: Robot) -> list[Heard]:
    """The last three instructions on the bus, once the emulator, which may be late, has read three
    that are the same."""
    until(lambda: len({item.parameters for item in heard(robot)[-3:]}) == 1)
    return heard(robot)[-3:]


def check_wire(robot: Robot, stop: bytes) -> None:
    """The last three instructions are the stop, none came between or after, and it holds the arm
    where it was sent last, or was about to be."""
    first = stops(robot)[0]
    *before, _, _, _ = heard(robot)
    assert first.is_goal
    assert first.parameters in stop, "no goal here needs stuffing"
    last = next(item for item in reversed(before) if item.is_goal)
    # what lay unread in the emulator's line was discarded with the rest
    steps = 2 + (first.at_ns - last.at_ns) * 1e-9 / PERIOD_S
    way = max(abs(a - b) for a, b in zip(first.goals, last.goals, strict=True))
    assert way <= steps * STEP_COUNTS


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_at_any_phase_the_arm_is_sent_its_stop_three_times_and_nothing_after(
    robot: Robot, how: signal.Signals
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for turn in range(ROUNDS):
        with robot.run() as run:
            run.moving()
            process = guard_of(run)
            time.sleep(draw.random() * 2 * PERIOD_S)
            run.signal(how)
            note = stopped(robot, process)
            assert run.process.wait(BOUND_S) == -signal.SIGKILL, "frozen is killed"
            assert note["reason"] == ("died" if how is signal.SIGKILL else "frozen")
            assert note["killed"] == (how is signal.SIGSTOP) and note["ended"]
            assert 0 <= note["dead_ns"] <= note["first_ns"] < note["last_ns"]
            assert ("previous run" in run.stderr) == (turn > 0), "the next start says so, once"
            assert "guard: the runtime" in run.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
@pytest.mark.parametrize("mode", ["velocity", "effort"])
def test_joints_that_would_go_on_for_ever_come_to_rest(
    robot: Robot, mode: str, how: signal.Signals
) -> None:
    """They have no watchdog here: nothing but the guard's stop takes the velocity away."""
    value, changes = (0.3, VELOCITY) if mode == "velocity" else (0.4, CURRENT)
    tell(robot, value, (*changes, HELD))
    with robot.run() as run:
        until(lambda: robot.speed > 0.25)
        process = guard_of(run)
        run.signal(how)
        until(lambda: has_ended(process))
        (device,) = note_of(robot)["stopped"]
        assert device["sent"] == 3
        stop = stops(robot)[0]
        register, size = struct.unpack_from("<HH", stop.parameters)
        assert (register, size) == ((104, 4) if mode == "velocity" else (102, 2))
        values = stop.parameters[4:]
        assert all(
            not any(values[at + 1 : at + 1 + size]) for at in range(0, 6 * (size + 1), size + 1)
        )
        until(lambda: robot.speed < 0.01)


def test_the_next_start_tells_it_and_moves_nothing(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        run.signal(signal.SIGKILL)
        stopped(robot, process)
    rests = robot.arm()["position"]
    robot.write(HELD, ('[policy]\ncall = "sweep.py:Sweep"\n', ""))
    with robot.run("--cycles", "40") as run:
        code, summary = run.end()
    assert code == 0
    told = [event for event in summary["events"] if "previous run died while moving" in event]
    assert len(told) == 1 and "arm was sent its stop 3 times" in told[0]
    assert robot.segments() == [], "the note is read and gone"
    moved = max(abs(a - b) for a, b in zip(robot.arm()["position"], rests, strict=True))
    assert moved < 0.01


def test_a_run_that_ends_in_good_order_leaves_no_note_and_no_guard(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        run.signal(signal.SIGINT)
        assert run.end()[0] == 130
        assert has_ended(process)
    assert robot.segments() == []
    assert "guard" not in run.stderr
    goals = [item for item in heard(robot) if item.is_goal][-3:]
    assert goals[0].parameters != goals[2].parameters or robot.speed < REST


def test_a_run_that_only_observes_has_no_guard(robot: Robot) -> None:
    with robot.run("--observe") as run:
        run.status("joints", "FRESH")
        assert not any(child.name() == "_guard" for child in run.children())


def ports_of(process: psutil.Process) -> list[str]:
    """The terminals that a process has open."""
    places = Path(f"/proc/{process.pid}/fd")
    found = []
    for place in places.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(place.readlink()))
    return [name for name in found if name.startswith("/dev/pts/")]


def test_the_guard_inherits_nothing_that_it_does_not_need(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        places = [str(place.readlink()) for place in Path(f"/proc/{process.pid}/fd").iterdir()]
        kinds = sorted(place.partition(":")[0] for place in places if "stderr" not in place)
        port = str((robot.folder / "ports" / "arm").resolve())
        expected = ["/dev/null", "/dev/null", "anon_inode", "anon_inode", "socket", port]
        assert kinds == sorted(expected)
        assert os.getsid(process.pid) == process.pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        run.status("joints", "FRESH")
        assert process.is_running() and "guard ended" not in run.stderr


def test_a_guard_that_is_held_up_again_and_again_acts_all_the_same(robot: Robot) -> None:
    robot.write((HELD[0], "max_hold_ms = 60"))
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        run.signal(signal.SIGSTOP)
        for _ in range(40):
            if has_ended(process):
                break
            process.suspend()
            time.sleep(0.11)
            process.resume()
            time.sleep(0.02)
        else:
            raise AssertionError("held up 40 times, and nothing stopped the arm")
        assert stopped(robot, process)["reason"] == "frozen"


def test_a_machine_that_stood_still_as_a_whole_is_the_cores_to_notice(robot: Robot) -> None:
    robot.write(HELD, ("resumed_after_ms = 20000", "resumed_after_ms = 400"))
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        process.suspend()
        run.signal(signal.SIGSTOP)
        time.sleep(3 * HOLD_MS * 1e-3)
        process.resume()
        run.signal(signal.SIGCONT)
        resumed = run.frame(lambda frame: "RESUMED" in frame.flags)
        assert (resumed.reason, "LATCHED" in resumed.flags) == ("resumed", True)
        run.frame(lambda frame: frame.state == "faulted")
        assert process.is_running() and "guard: the runtime" not in run.stderr
        run.signal(signal.SIGUSR1)
        run.moving()


def test_what_lies_under_the_notes_name_is_left_alone(robot: Robot) -> None:
    """A pipe there would hold up whoever opens it; the stop goes out, and the guard ends."""
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        note = Path(store_names.note_path(store_names.find(robot.name) or ""))
        os.mkfifo(note)
        run.signal(signal.SIGKILL)
        until(lambda: has_ended(process))
        assert note.is_fifo() and "could not be written" in run.stderr
        until(lambda: robot.speed < REST)
        stops(robot)
        note.unlink()


def test_without_rights_it_guards_all_the_same_and_the_summary_alone_says_so(robot: Robot) -> None:
    robot.write(HELD, ("[policy]\n", "[policy]\npriority = 60\n"))
    with robot.run(preexec_fn=give_rights_up) as run:
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert "refused" not in run.stderr
    assert "SCHED_FIFO" in summary["realtime"]["refused"]
    with robot.run(preexec_fn=give_rights_up) as run:
        run.moving()
        process = guard_of(run)
        run.signal(signal.SIGKILL)
        stopped(robot, process)


def test_a_right_that_the_guard_alone_lacks_is_told_at_the_start(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_supervisor, "is_realtime", lambda _: True)
    refused = guard._ANSWER.pack(guard._READY, 0, errno.EPERM, 0)
    monkeypatch.setattr(guard.GuardProcess, "_answer", lambda _: guard._ANSWER.unpack(refused))
    said: list[str] = []
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(cycles=5), said.append)
    try:
        runtime.prepare()
        with pytest.raises(RuntimeFault, match="the guard refuses device arm"):
            runtime.start()
    finally:
        runtime.close()
    assert "guard: SCHED_FIFO is refused: Operation not permitted; runs on" in said


def test_without_real_time_a_late_thread_is_forgiven_what_the_core_forgives(robot: Robot) -> None:
    robot.write(("[guard]\nmax_hold_ms = 20000\n", ""), ("= 20000\n", "= 150\n"))
    plan = planning.make(schedule.load(robot.schedule))
    assert plan.guard_hold_ns(realtime=True) == 20_000_000
    assert plan.guard_hold_ns(realtime=False) == 150_000_000


def test_a_device_that_is_back_moves_only_after_the_guard_has_it(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        before = ports_of(process)
        assert len(before) == 1
        robot.arm(fault="close")
        run.status("joints", "OFFLINE")
        until(lambda: not ports_of(process))
        robot.arm(fault="reopen")
        until(lambda: "is back" in run.stderr)
        assert len(ports_of(process)) == 1, "the guard has it before it is said to be back"
        run.status("joints", "FRESH")
        run.signal(signal.SIGUSR1)
        run.moving()
        run.signal(signal.SIGKILL)
        stopped(robot, process)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_core_itself_latches_motion_that_nothing_guards(
    robot: Robot, how: signal.Signals
) -> None:
    """Without a supervisor: nobody tends this runtime."""
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(), lambda _: None)
    try:
        runtime.prepare()
        runtime.start()
        reader = runtime.reader
        assert reader is not None and runtime._guard is not None
        until(lambda: robot.speed > 0.1)
        os.kill(runtime._guard.pid, how)
        until(lambda: reader.status()["latched"] != 0)
        assert REASONS[reader.status()["latched"]] == "unguarded"
        until(lambda: robot.speed < REST)
    finally:
        runtime.close()
    assert not Path(f"/proc/{runtime._guard.pid}").exists()


@pytest.mark.parametrize(
    ("how", "told"),
    [(signal.SIGKILL, "signal 9"), (signal.SIGSTOP, "no beat within 2 s")],
    ids=["killed", "frozen"],
)
def test_a_guard_that_is_gone_is_replaced_and_motion_is_armed_again(
    robot: Robot, how: signal.Signals, told: str
) -> None:
    with robot.run() as run:
        run.moving()
        first = guard_of(run)
        first.send_signal(how)
        latched = run.frame(lambda frame: "LATCHED" in frame.flags)
        assert latched.reason == "unguarded"
        until(lambda: f"the guard ended ({told})" in run.stderr)
        until(lambda: any(c.name() == "_guard" and c != first for c in run.children()))
        second = next(c for c in run.children() if c.name() == "_guard" and c != first)
        until(lambda: ports_of(second))
        assert has_ended(first)
        run.frame(lambda frame: frame.state == "faulted")
        run.signal(signal.SIGUSR1)
        run.moving()
        run.signal(signal.SIGKILL)
        stopped(robot, second)


def test_the_program_is_installed_and_refuses_to_be_run_by_hand() -> None:
    assert os.access(guard.PROGRAM, os.X_OK)
    assert subprocess.run([guard.PROGRAM], check=False).returncode == 64


def test_without_a_guard_nothing_is_enabled(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PROGRAM", robot.folder / "nothing")
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(), lambda _: None)
    try:
        runtime.prepare()
        with pytest.raises(RuntimeFault, match="does not start"):
            runtime.start()
        assert robot.arm()["torque"] == [0] * 6
    finally:
        runtime.close()


def test_a_guard_that_does_not_answer_lets_nothing_move(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.GuardProcess, "_answer", lambda _: (guard._READY, 0, 0, 0))
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(cycles=5), lambda _: None)
    try:
        runtime.prepare()
        with pytest.raises(RuntimeFault, match="the guard refuses device arm"):
            runtime.start()
        assert not [item for item in heard(robot) if item.is_goal]
    finally:
        runtime.close()


def test_debug_hold_stops_the_arm_and_leaves_the_runtime_alive(robot: Robot) -> None:
    with robot.run("--debug-hold") as run:
        run.moving()
        process = guard_of(run)
        for turn in range(2):
            run.signal(signal.SIGSTOP)
            until(lambda turn=turn: run.stderr.count("left alive (--debug-hold)") == turn + 1)
            until(lambda: robot.speed < REST)
            note = note_of(robot)
            assert (note["reason"], note["killed"]) == ("frozen", False)
            check_wire(robot, bytes.fromhex(note["stopped"][0]["bytes"]))
            run.signal(signal.SIGCONT)
            resumed = run.frame(lambda frame: "RESUMED" in frame.flags)
            assert "LATCHED" in resumed.flags
            run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
            run.signal(signal.SIGUSR1)
            run.moving()
        run.signal(signal.SIGKILL)
        assert stopped(robot, process)["reason"] == "died"


# ---- an emulated robot --------------------------------------------------------------------------

EMULATED = (
    "[device.arm]\n",
    '[emulator]\nmodule = "inphase_drivers.emulator"\n[device.arm]\n',
)
QUIET = "import time\nfrom inphase.host.process import say_ready\nsay_ready()\ntime.sleep(3600)\n"


def test_a_run_of_an_emulated_robot_that_was_held_up_says_so_and_sums_up(robot: Robot) -> None:
    robot.emulator.stop()  # the run starts its own
    robot.write(HELD, EMULATED)
    with robot.run() as run:
        run.frame(lambda frame: frame.state == "running")
        run.signal(signal.SIGSTOP)
        until(
            lambda: (
                "for its robot is emulated; arm was sent its stop 3 times; the run ends"
                in run.stderr
            )
        )
        run.signal(signal.SIGCONT)
        code, summary = run.end()
    assert code == 11
    assert (summary["stopped"]["reason"], summary["latched"]) == ("guard", "guard")
    assert summary["state"] == "stopped", "it went on to measure that the arm is at rest"
    (told,) = [event for event in summary["events"] if "held the robot's cycle up" in event]
    assert f"for more than {HOLD_MS} ms (max_hold)" in told and "--lockstep" in told
    assert told in run.stderr
    assert robot.segments() == []


def test_a_run_whose_emulator_has_not_made_the_arm_is_killed_as_on_a_robot(robot: Robot) -> None:
    robot.folder.joinpath("quiet.py").write_text(QUIET)
    robot.write(HELD, ("[device.arm]\n", '[emulator]\nmodule = "quiet"\n[device.arm]\n'))
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        run.signal(signal.SIGSTOP)
        assert stopped(robot, process)["killed"]
        assert run.process.wait(BOUND_S) == -signal.SIGKILL


def test_only_what_the_emulators_process_has_the_other_end_of_is_emulated() -> None:
    me = os.getpid()
    with (
        subprocess.Popen(["sleep", "1000"]) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        Path(os.devnull).open("rb") as null,
    ):
        master, slave = os.openpty()
        read_end, write_end = os.pipe()
        server.bind(("127.0.0.1", 0))
        assert not is_emulated(client.fileno(), me), "connected to nobody"
        client.connect(server.getsockname())
        for fd in (slave, client.fileno()):
            assert is_emulated(fd, me)
            assert not is_emulated(fd, other.pid)
        for fd in (master, read_end, write_end, null.fileno(), server.fileno(), 10**6):
            assert not is_emulated(fd, me)
        os.close(master)
        assert not is_emulated(slave, me), "nobody has its other end"
        for fd in (slave, read_end, write_end):
            os.close(fd)
        other.kill()
    assert not is_emulated(0, other.pid)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler for the preloaded trap")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="libasan allocates")
def test_the_guard_allocates_nothing_after_its_start(robot: Robot) -> None:
    library = robot.folder / "trap.so"
    source = Path(__file__).with_name("allocation_trap.c")
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    preload = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), str(library))))
    with robot.run(env={**os.environ, "LD_PRELOAD": preload}) as run:
        run.moving()
        process = guard_of(run)
        assert str(library) in Path(f"/proc/{process.pid}/maps").read_text()
        run.signal(signal.SIGSTOP)
        stopped(robot, process)


BARE = '''
from dataclasses import replace

from inphase_drivers.dynamixel import Servos


class Bare(Servos):
    """It writes by itself, and says no bytes."""

    def actuator(self):
        return replace(super().actuator(), encoding=None)
'''


@pytest.mark.parametrize("home", ["process", "thread"])
def test_an_actuator_that_nothing_would_stop_is_refused(robot: Robot, home: str) -> None:
    robot.folder.joinpath("bare.py").write_text(BARE)
    driver = 'driver = "inphase_drivers.dynamixel:Servos"'
    robot.write(HELD, (driver, f'home = "{home}"\ndriver = "bare:Bare"'))
    with robot.run(env={**os.environ, "PYTHONPATH": str(robot.folder)}) as run:
        assert run.end()[0] == ScheduleError.exit_code
    assert "actuator.arm.device: nothing would stop it when the runtime dies" in run.stderr
    assert robot.arm()["torque"] == [0] * 6


# ---- a device in a worker ---------------------------------------------------------------------

# Python on a loaded machine is late, which is not what is tested here
WORKER = (
    ("[device.arm]\n", '[device.arm]\nhome = "process"\npriority = 20\n'),
    ("max_age_ms = 60\n[sensor.wrench]", "max_age_ms = 1000\n[sensor.wrench]"),
)


GROWS = """
import math


class Sweep:
    def __call__(self, frame):
        applied = frame.command["arm"].applied[0]
        return [min(0.3, (applied if math.isfinite(applied) else 0.0) + 0.02)] * 6
"""


def worker_of(run: Run) -> psutil.Process:
    """The arm's."""
    return run.child("inphase.runtime.workers")


def expect_zeros(robot: Robot) -> None:
    """The last three writes on the bus are the same one, of no velocity; a thread that lives may
    have asked for a sample since."""

    def writes() -> list[bytes]:
        return [item.parameters for item in heard(robot) if item.instruction == SYNC_WRITE][-3:]

    until(lambda: len(set(writes())) == 1)
    stop = writes()[0]
    assert struct.unpack_from("<HH", stop) == (104, 4)
    values = stop[4:]
    assert not any(any(values[at + 1 : at + 5]) for at in range(0, 30, 5))


THREAD = (("[device.arm]\n", '[device.arm]\nhome = "thread"\n'), WORKER[1])
RUNNER = """
import sys

from inphase import Runner

with Runner(sys.argv[1]) as robot:
    for frame in robot:
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_an_arm_in_a_thread_of_the_runtime_is_held_when_that_is_gone(
    robot: Robot, how: signal.Signals
) -> None:
    robot.write(HELD, *THREAD)
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        run.signal(how)
        assert stopped(robot, process)["killed"] == (how is signal.SIGSTOP)


@pytest.mark.parametrize("who", ["runtime", "person"])
def test_joints_in_a_thread_of_a_persons_process_come_to_rest_when_either_is_killed(
    robot: Robot, who: str
) -> None:
    """Nothing but the guard's stop takes the velocity away; it kills no process of a person's."""
    robot.folder.joinpath("sweep.py").write_text(GROWS)
    program = robot.folder / "person.py"
    program.write_text(RUNNER)
    robot.write(*VELOCITY, HELD, *THREAD)
    with Run(robot, [str(program), str(robot.schedule)], {}) as run:
        until(lambda: robot.speed > 0.1)
        process, runtime = guard_of(run), run.child("inphase.runtime.runner_process")
        os.kill(run.pid if who == "person" else runtime.pid, signal.SIGKILL)
        until(lambda: robot.speed < 0.01)
        until(lambda: has_ended(process) and has_ended(runtime))
        expect_zeros(robot)
        assert ("the worker of arm ended while it moves" in run.stderr) == (who == "person")
        assert run.process.wait(BOUND_S) == (-signal.SIGKILL if who == "person" else 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_an_arm_in_a_worker_is_held_when_the_runtime_is_gone(
    robot: Robot, how: signal.Signals
) -> None:
    """It has no watchdog; the worker, which would write its last order, is killed before."""
    robot.write(HELD, *WORKER)
    with robot.run() as run:
        run.moving()
        process, worker = guard_of(run), worker_of(run)
        run.signal(how)
        note = stopped(robot, process)
        assert note["reason"] == ("died" if how is signal.SIGKILL else "frozen")
        until(lambda: has_ended(worker))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
@pytest.mark.parametrize("who", ["runtime", "worker"])
def test_joints_of_a_worker_that_would_go_on_for_ever_come_to_rest(
    robot: Robot, who: str, how: signal.Signals
) -> None:
    """Nothing but the guard's stop takes the velocity away."""
    robot.folder.joinpath("sweep.py").write_text(GROWS)
    robot.write(*VELOCITY, HELD, *WORKER)
    with robot.run() as run:
        until(lambda: robot.speed > 0.1)
        process, worker = guard_of(run), worker_of(run)
        os.kill(run.pid if who == "runtime" else worker.pid, how)
        until(lambda: robot.speed < 0.01)
        if who == "runtime":
            until(lambda: has_ended(process))
            expect_zeros(robot)
            return
        until(lambda: "its device was sent its stop 3 times" in run.stderr)
        assert process.is_running(), "the run goes on"
        latched = run.frame(lambda frame: "LATCHED" in frame.flags)
        assert latched.reason in ("offline", "unguarded")
        until(lambda: has_ended(worker))
        until(lambda: len(ports_of(process)) == 1)
        run.status("joints", "OFFLINE")
        run.status("joints", "FRESH")
        run.signal(signal.SIGUSR1)
        until(lambda: robot.speed > 0.1)
        run.signal(signal.SIGKILL)
        until(lambda: has_ended(process))
        expect_zeros(robot)


def test_a_workers_device_that_is_back_moves_only_after_the_guard_has_it(robot: Robot) -> None:
    robot.write(HELD, *WORKER)
    with robot.run() as run:
        run.moving()
        process = guard_of(run)
        assert len(ports_of(process)) == 1
        robot.arm(fault="close")
        run.status("joints", "OFFLINE")
        until(lambda: not ports_of(process))
        robot.arm(fault="reopen")
        until(lambda: len(ports_of(process)) == 1)
        run.status("joints", "FRESH")
        run.signal(signal.SIGUSR1)
        run.moving()
        guard_of(run).kill()
        until(lambda: "the guard ended (signal 9)" in run.stderr)
        until(lambda: any(c.name() == "_guard" and c != process for c in run.children()))
        second = next(c for c in run.children() if c.name() == "_guard" and c != process)
        until(lambda: len(ports_of(second)) == 1)
        run.frame(lambda frame: frame.state == "faulted")
        run.signal(signal.SIGUSR1)
        run.moving()
        run.signal(signal.SIGKILL)
        stopped(robot, second)


def test_a_hold_of_less_than_two_cycles_is_refused(robot: Robot) -> None:
    robot.write(("max_hold_ms = 20000", "max_hold_ms = 15"))
    with pytest.raises(ScheduleError, match=r"guard.max_hold_ms: 15 ms are less than two cycles"):
        schedule.load(robot.schedule)
