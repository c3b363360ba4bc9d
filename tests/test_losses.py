"""One device's trouble is that device's: losses, drivers that raise, and what is off at the end."""

import json
import math
import os
import signal
import socket
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from counter import Counter, Options
from inphase import Runner, schedule
from inphase.errors import DeviceError, ScheduleError
from inphase.frame import Frame
from inphase.runtime.run_options import RunOptions
from inphase.runtime.runtime import Runtime
from inphase.runtime.words.notices import Notices
from inphase.runtime.workers import worker_control, worker_thread
from peers import BOUND_S, ROOT, free_port, until
from runtimes import Robot, Run
from test_workers import TURNS, Bench, Device, follow, is_fresh, worker_pid

pytestmark = pytest.mark.real

_HEAD = """
[device.head]
driver = "{driver}"
port = "{port}"
baud = 4_000_000
watchdog_ms = 0
ids = [1]
"""
_COUNTER = """
[device.counter]
driver = "counter:Counter"
home = "process"
port = {port}
[sensor.count]
device = "counter"
trigger_us = 500
every = 4
latency_cycles = 3
max_age_ms = 200
"""
_SENSOR = """
[sensor.neck]
device = "head"
trigger_us = 0
max_age_ms = 60
"""
SERVOS = "inphase_drivers.dynamixel:Servos"


class Mixed:
    """The emulated robot, and beside it a servo that is only read and a device in a worker."""

    def __init__(self, folder: Path) -> None:
        self.head = _HEAD.format(driver=SERVOS, port=folder / "head")
        self.robot = Robot(f"wire_time = true\n{self.head}")
        self.counter = Device(free_port(socket.SOCK_DGRAM))
        self.write()

    def write(self, driver: str = SERVOS) -> None:
        """Write the schedule, with another driver for the servo."""
        counter = _COUNTER.format(port=self.counter.port)
        more = self.head.replace(SERVOS, driver) + counter + _SENSOR
        self.robot.write(("[sensor.wrench]", f"{more}[sensor.wrench]"))

    def lose(self, device: str) -> None:
        """Unplug a device."""
        if device == "counter":
            self.counter.close()
        else:
            self.robot.emulator.control({"device": device, "fault": "close"})

    def bring(self, device: str) -> None:
        """Plug it in again."""
        if device == "counter":
            self.counter = Device(self.counter.port)
        else:
            self.robot.emulator.control({"device": device, "fault": "reopen"})

    def close(self) -> None:
        """End all."""
        self.counter.close()
        self.robot.__exit__()


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mixed]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{tmp_path}")
    made = Mixed(tmp_path)
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{tmp_path}")
    made = Bench(tmp_path)
    yield made
    made.device.close()


SENSORS = {"head": "neck", "wrist": "wrench", "counter": "count", "arm": "joints"}


def others_are_fresh(run: Run, lost: str) -> None:
    for sensor in SENSORS.values():
        if sensor != lost:
            run.status(sensor, "FRESH")


def test_each_device_of_a_mixed_robot_is_lost_in_turn_and_the_run_goes_on(mixed: Mixed) -> None:
    with mixed.robot.run() as run:
        run.moving()
        for device, sensor in SENSORS.items():
            mixed.lose(device)
            run.status(sensor, "OFFLINE")
            others_are_fresh(run, sensor)
            mixed.bring(device)
            run.status(sensor, "FRESH")
            frame = run.frame(lambda _: True)
            assert ("LATCHED" in frame.flags) == (device == "arm")
        until(lambda: "device arm is back" in run.stderr)
        run.signal(signal.SIGUSR1)
        run.frame(lambda frame: "LATCHED" not in frame.flags)
        run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    back = [event for event in summary["events"] if "is back; motion needs" in event]
    assert [event.split()[1] for event in back] == ["arm"], "none depends on the others"
    gone = [event.split()[1] for event in summary["events"] if event.endswith("is gone")]
    assert gone == ["head", "counter", "arm"], "datagrams cannot be unplugged"


_MOODY = '''
"""Drivers that raise what no contract knows, while a file says so."""
import termios
from pathlib import Path

from counter import Counter
from inphase_drivers.dynamixel import Servos

MOOD = Path(__file__).with_suffix(".mood")


def mood(what):
    if MOOD.exists() and what in MOOD.read_text().split():
        raise {"flush": termios.error, "open": ValueError}.get(what, RuntimeError)(5, what)


class MoodyCounter(Counter):
    def open(self):
        mood("open")
        return super().open()

    def flush(self):
        mood("flush")
        return super().flush()

    def close(self):
        super().close()
        mood("close")

    def disable(self):
        mood("disable")
        super().disable()


class MoodyServos(Servos):
    def open(self):
        mood("open")
        return super().open()

    def close(self):
        super().close()
        mood("close")
'''


def test_a_driver_that_raises_what_it_likes_loses_its_device_and_no_other(mixed: Mixed) -> None:
    folder = Path(tomllib.loads(mixed.head)["device"]["head"]["port"]).parent
    folder.joinpath("moody.py").write_text(_MOODY)
    mood = folder / "moody.mood"
    mixed.write("moody:MoodyServos")
    with mixed.robot.run() as run:
        run.moving()
        mood.write_text("open close")
        mixed.lose("head")
        run.status("neck", "OFFLINE")
        mixed.bring("head")
        until(lambda: "open failed: ValueError: (5, 'open')" in run.stderr)
        others_are_fresh(run, "neck")
        mood.unlink()
        run.status("neck", "FRESH")
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    events = [event for event in summary["events"] if event.startswith("device head")]
    told = ["is gone", "close failed: RuntimeError", "open failed: ValueError", "is back"]
    assert len(events) == len(told), events
    assert all(text in event for text, event in zip(told, events, strict=True)), events


@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_driver_that_raises_what_it_likes_costs_its_worker_a_loss(
    bench: Bench, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(bench.folder)
    bench.folder.joinpath("moody.py").write_text(_MOODY)
    path = bench.schedule(home)
    path.write_text(path.read_text().replace("counter:Counter", "moody:MoodyCounter"))
    mood = bench.folder / "moody.mood"
    with Runner(path) as runner:
        follow(runner, is_fresh)
        pid = worker_pid(runner) if home == "process" else 0
        mood.write_text("flush open close")
        follow(runner, lambda frame: frame["count"].status == "OFFLINE")
        mood.unlink()
        follow(runner, is_fresh)
        assert home == "thread" or worker_pid(runner) == pid


_BAD = '''
"""A driver that does to the store what its process can, once a file says so."""
import ctypes, fcntl, json, os, sys
from pathlib import Path

from counter import Counter

MOOD = Path(__file__).with_suffix(".mood")
LIBC = ctypes.CDLL(None, use_errno=True)
MADV_REMOVE = 9


def refused(call):
    try:
        call()
    except OSError:
        return True
    return False


def segments():
    """Address, size and file of each segment that this process may write to."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if "/memfd:inphase" in line and rights.startswith("rw-s"):
            start, end = (int(number, 16) for number in span.split("-"))
            yield start, end - start, f"/proc/self/map_files/{start:x}-{end:x}"


def resize(path):
    try:
        fd = os.open(path, os.O_RDWR)
    except PermissionError:  # root alone finds it there
        return [True, True]
    try:
        return [refused(lambda size=size: os.ftruncate(fd, size)) for size in (0, 1 << 30)]
    finally:
        os.close(fd)


def do_harm():
    found = list(segments())
    said = {"segments": len(found), "kept": [resize(path) for _, _, path in found]}
    for start, size, _ in found:
        ctypes.memset(start, 0xFF, size)
        LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_REMOVE)
        (ctypes.c_char * size).from_address(start)[:] = os.urandom(size)
    bells = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_eventfd(fd)]
    print("tried", json.dumps({**said, "bells": len(bells)}), file=sys.stderr, flush=True)
    for fd in bells:  # whoever writes to one that is full, or reads an empty one, waits for ever
        os.eventfd_write(fd, 2**64 - 2)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


def is_eventfd(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"
    except OSError:
        return False


class Bad(Counter):
    def flush(self):
        if MOOD.exists() and MOOD.read_text():
            MOOD.write_text("")
            do_harm()
        return super().flush()
'''


def test_a_driver_that_harms_what_it_shares_harms_its_own_device_alone(
    mixed: Mixed,
) -> None:
    """It fills its segment with anything, has pages of it taken away, tries to give it another
    size, and fills the eventfd by which it wakes the core, whose flag it clears."""
    folder = Path(tomllib.loads(mixed.head)["device"]["head"]["port"]).parent
    folder.joinpath("bad.py").write_text(_BAD)
    path = mixed.robot.schedule
    path.write_text(path.read_text().replace("counter:Counter", "bad:Bad"))
    with mixed.robot.run() as run:
        run.moving()
        run.status("count", "FRESH")
        folder.joinpath("bad.mood").write_text("harm")
        until(lambda: "tried {" in run.stderr)
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("tried "))
        tried = json.loads(line.removeprefix("tried "))
        assert tried == {"segments": 1, "kept": [[True, True]], "bells": 1}

        # the core waits for nobody, and believes nothing that cannot be
        begun = run.frame(lambda _: True).cycle
        run.frame(lambda frame: frame.cycle > begun + 250)
        run.frame(lambda frame: frame["count"].status not in ("FRESH", "HELD"))
        others_are_fresh(run, "count")
        frame = run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        assert "LATCHED" not in frame.flags
        run.moving()

        # nor does it wait for the next worker, which refuses such a segment
        os.kill(run.child("inphase.runtime.workers").pid, signal.SIGKILL)
        run.status("count", "OFFLINE")
        until(lambda: "the segment of sensor" in run.stderr)
        others_are_fresh(run, "count")
        run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["state"], summary["latched"]) == (130, "stopped", None)


# what it is told last it goes on with; a file ends it for as long as it lies there
_LOSABLE = """
from pathlib import Path

from counter import Counter
from inphase.driver import DeviceError

AWAY = Path(__file__).with_suffix(".away")


class Losable(Counter):
    def open(self):
        if AWAY.exists():
            raise DeviceError("it is away")
        return super().open()

    def flush(self):
        if AWAY.exists():
            raise DeviceError("it is away")
        return super().flush()
"""


@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_device_that_moved_when_it_went_is_told_to_stop_when_it_is_back(
    bench: Bench, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device keeps the velocity that it was told last, and gives it as its value."""
    monkeypatch.syspath_prepend(bench.folder)
    bench.folder.joinpath("losable.py").write_text(_LOSABLE)
    away = bench.folder / "losable.away"
    path = bench.schedule(home, "moves = true\nwatchdog_ms = 1000", rest=TURNS)
    path.write_text(path.read_text().replace("counter:Counter", "losable:Losable"))

    def policy(frame: Frame) -> list[float]:
        return [min(0.5, 0.02 * frame.cycle)]

    with Runner(path, policy=policy) as runner:
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] == 0.5)
        away.touch()
        gone = follow(runner, lambda f: f["count"].status == "OFFLINE")
        gone = follow(runner, lambda f: f.cycle > gone.cycle + 2)
        assert (gone.state, gone.reason) == ("uncontrolled", "offline")
        away.unlink()
        told = follow(runner, lambda f: "WRITTEN" in f.command["joint"].flags)
        assert (told.command["joint"].reason, told.state) == ("rest", "uncontrolled")
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] == 0.0)
        assert "STOPPED" in follow(runner, lambda f: f.state == "faulted").flags


# ---- power ---------------------------------------------------------------------------------

OFF = ("[actuator.arm.limits]", 'on_stop = "limp"\n[actuator.arm.limits]')
ESTOP_OFF = ("[actuator.arm.limits]", 'on_estop = "limp"\n[actuator.arm.limits]')
STAYS = "actuator arm may still be powered, switch it off by hand: "


@pytest.fixture
def robot() -> Iterator[Robot]:
    with Robot() as made:
        yield made


def torque(robot: Robot) -> list[int]:
    found: list[int] = robot.arm()["torque"]
    return found


def test_a_servo_that_is_silent_keeps_no_other_on_and_is_told(robot: Robot) -> None:
    robot.write(OFF)
    with robot.run() as run:
        run.moving()
        robot.arm(fault="off", servo=1)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    # one of them is not known to be at rest
    assert (code, torque(robot)) == (8, [0, 1, 0, 0, 0, 0])
    assert [event for event in summary["events"] if event.startswith(f"{STAYS}device arm: servo 2")]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_device_that_is_away_at_the_end_is_switched_off_or_told(
    robot: Robot, comes_back: bool
) -> None:
    robot.write(OFF)
    with robot.run() as run:
        run.moving()
        robot.arm(fault="close")
        until(lambda: "is gone" in run.stderr)
        if comes_back:
            robot.arm(fault="reopen")
        run.signal(signal.SIGINT)
        code, summary = run.end()
    is_loose = summary["state"] == "uncontrolled"
    assert comes_back or is_loose
    assert (code, torque(robot)) == (8 if is_loose else 130, [int(not comes_back)] * 6)
    assert any(event.startswith(STAYS) for event in summary["events"]) == (not comes_back)


@pytest.mark.parametrize("where", ["guard", "tend"])
def test_what_was_enabled_is_switched_off_after_a_failed_start_and_an_exception(
    robot: Robot, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    robot.write(OFF)

    def fail(*_: object) -> None:
        raise RuntimeError("not foreseen")

    if where == "guard":
        monkeypatch.setattr("inphase.runtime.guarding.guard.GuardProcess.give", fail)
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(), print)
    try:
        runtime.prepare()
        if where == "tend":
            runtime.start()
            assert torque(robot) == [1] * 6
            monkeypatch.setattr(Notices, "latch", fail)
        with pytest.raises(RuntimeError, match="not foreseen"):
            if where == "tend":
                runtime.tend()
            else:
                runtime.start()
    finally:
        runtime.close()
    assert any(address == 64 and value == "01" for _, address, value in robot.arm()["journal"])
    assert torque(robot) == [0] * 6


def test_an_emergency_stop_that_is_to_switch_off_tries_until_it_is(robot: Robot) -> None:
    robot.write(ESTOP_OFF)
    with Runner(robot.schedule) as runner:
        until(lambda: robot.speed > 0.1)
        robot.arm(fault="off", servo=1)
        runner.estop()
        until(lambda: any("is not switched off yet" in text for text in runner.messages))
        assert torque(robot) == [0, 1, 0, 0, 0, 0]
        assert "switched off: arm" not in runner.messages
        robot.arm(fault="clear")
        until(lambda: "switched off: arm" in runner.messages)
        assert torque(robot) == [0] * 6


class Slow:
    """What a worker does: it enables late, and refuses to disable."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def enable(self) -> tuple[float, ...]:
        self.goes_on.wait(BOUND_S)
        return ()

    def disable(self) -> None:
        raise DeviceError("it will not")


def test_an_answer_that_comes_late_is_none_to_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_thread, "_TURN_S", 0.1)
    driver = Counter("counter", Options(port=1))
    monkeypatch.setattr(Counter, "switching_max_ns", 0)
    asking, slow = worker_thread.Asking(driver), Slow()
    control = worker_control.WorkerControl(asking.theirs.detach())
    thread = threading.Thread(target=control.obey_to_the_end, args=(slow,))
    thread.start()
    with pytest.raises(DeviceError, match="does not answer to enable"):
        asking.ask("enable")
    asking._bound_s = BOUND_S
    slow.goes_on.set()
    with pytest.raises(DeviceError, match="it will not"):
        asking.ask("disable")
    asking.ask("nothing")
    asking.close()
    thread.join()


# ---- what holds already --------------------------------------------------------------------

_STILL = "class Still:\n    def __call__(self, frame):\n        return None\n"
TORQUE, MODE, PROFILE_VELOCITY, GOAL = 64, 11, 112, 116


def hold(robot: Robot, values: dict[int, int]) -> None:
    """Put registers of all servos as somebody else left them."""
    for servo in range(6):
        for address, value in values.items():
            robot.arm(set={"register": {"servo": servo, "address": address, "value": value}})


def test_an_arm_that_holds_in_another_mode_is_refused_and_goes_on_holding(robot: Robot) -> None:
    hold(robot, {MODE: 5, TORQUE: 1})
    with robot.run() as run:
        code, _ = run.end()
        assert "holds with its torque on in operating mode 5" in run.stderr
        assert "support the arm" in run.stderr
    assert code == DeviceError.exit_code
    assert torque(robot) == [1] * 6
    assert robot.arm()["journal"] == [], "nothing was written"


FEEDBACK = 'feedback = "joints.position"\n'


def hold_beside(robot: Robot) -> list[int]:
    """The goals [counts] of an arm that holds. They are not reached, as under a load: it is so slow
    that they stay for the test."""
    goals = [2108 + round(one / (2 * math.pi) * 4096) for one in robot.arm()["position"]]
    hold(robot, {PROFILE_VELOCITY: 1, MODE: 3})
    for servo, goal in enumerate(goals):
        robot.arm(set={"register": {"servo": servo, "address": GOAL, "value": goal}})
    hold(robot, {TORQUE: 1})
    return goals


@pytest.mark.long
def test_an_arm_that_a_runners_own_thread_drives_keeps_its_goal_too(robot: Robot) -> None:
    goals = hold_beside(robot)
    robot.folder.joinpath("sweep.py").write_text(_STILL)
    robot.write(
        ("sweep.py:Sweep", "sweep.py:Still"),
        ("[device.arm]", '[device.arm]\nhome = "thread"'),
        ("watchdog_ms = 0", "watchdog_ms = 2_540"),
    )
    with Runner(robot.schedule) as runner:
        for _ in range(2):
            follow(runner, lambda frame: "WRITTEN" in frame.command["arm"].flags)
            runner.estop()
            follow(runner, lambda frame: frame.state == "faulted")
            runner.arm()
        journal = robot.arm()["journal"]
    kept = {(1 + servo, goal.to_bytes(4, "little").hex()) for servo, goal in enumerate(goals)}
    assert {(ident, data) for ident, address, data in journal if address == GOAL} == kept
    assert torque(robot) == [1] * 6


@pytest.mark.parametrize(
    ("home", "feedback"),
    [("cycle", FEEDBACK), ("process", FEEDBACK), ("process", ""), ("cycle", "")],
)
def test_an_arm_that_holds_keeps_its_goal_until_it_is_commanded(
    robot: Robot, home: str, feedback: str
) -> None:
    goals = hold_beside(robot)
    robot.folder.joinpath("sweep.py").write_text(_STILL)
    robot.write(
        ("sweep.py:Sweep", "sweep.py:Still"),
        ("[device.arm]", f'[device.arm]\nhome = "{home}"'),
        ("watchdog_ms = 0", "watchdog_ms = 2_540"),
        (FEEDBACK, feedback),
    )
    with robot.run() as run:
        for _ in range(5):
            run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        journal = robot.arm()["journal"]
        written = {(ident, data) for ident, address, data in journal if address == GOAL}
        run.signal(signal.SIGINT)
        assert run.end()[0] == 130
    assert not [entry for entry in journal if entry[1] == TORQUE], "no torque was switched"
    kept = {(1 + servo, goal.to_bytes(4, "little").hex()) for servo, goal in enumerate(goals)}
    assert written == kept
    assert torque(robot) == [1] * 6


_UNSAID = """
from inphase.driver import Driver
from inphase_drivers.dynamixel import Servos


class Mute(Servos):
    goals = Driver.goals


class Lost(Servos):
    def goals(self):
        return ()
"""


@pytest.mark.parametrize(
    ("driver", "said", "code"),
    [
        (
            "Mute",
            "actuator.arm.feedback: the place of its joints is unknown",
            ScheduleError.exit_code,
        ),
        (
            "Lost",
            "actuator arm has no feedback, and the driver of its device arm",
            DeviceError.exit_code,
        ),
    ],
)
def test_an_arm_that_nobody_knows_the_place_of_is_refused(
    robot: Robot, driver: str, said: str, code: int
) -> None:
    robot.folder.joinpath("unsaid.py").write_text(_UNSAID)
    robot.write((FEEDBACK, ""), ("inphase_drivers.dynamixel:Servos", f"unsaid:{driver}"))
    with robot.run(env={**os.environ, "PYTHONPATH": str(robot.folder)}) as run:
        assert run.end()[0] == code
    assert said in run.stderr and 'add feedback = "SENSOR.FIELD"' in run.stderr
    assert not [entry for entry in robot.arm()["journal"] if entry[1] == GOAL][6:], "no command"


_HERE = """
class Here:
    def __call__(self, frame):
        joints = frame["joints"]
        return joints.value["position"].copy() if joints.status == "FRESH" else None
"""


def test_an_arm_that_is_found_outside_of_its_range_stands_and_it_is_said_why(robot: Robot) -> None:
    before = robot.arm()["position"]
    robot.folder.joinpath("sweep.py").write_text(_HERE)
    robot.write(("sweep.py:Sweep", "sweep.py:Here"), ("[-3.0, 3.0]", "[2.0, 3.0]"))
    with robot.run() as run:
        act = run.frame(lambda frame: frame.command["arm"].reason == "start").command["arm"]
        assert "HOLDING" in act.flags
        until(lambda: "takes no command (start)" in run.stderr)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert f"its joint {act.detail} stands at {before[act.detail]:.2g}"[:-1] in run.stderr
    assert "outside of its range of 2 to 3 by more than its step of 0.5" in run.stderr
    assert (code, run.stderr.count("takes no command")) == (130, 1)
    assert summary["commands"]["limited"] == 0
    assert robot.arm()["position"] == pytest.approx(before, abs=0.01)
