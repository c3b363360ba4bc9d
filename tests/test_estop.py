"""The emergency stop: what a schedule may say of it, a real key, a real client, and what is off.

`native/tests/test_estop.c` has every kind of input at every phase of a cycle.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import inphase
from inphase import schedule
from inphase.command.pictures import live_picture
from inphase.episodes.lockstep import LockStep
from inphase.episodes.runner import Runner
from inphase.errors import ScheduleError
from inphase.frames import store
from inphase.frames.record_layout import REASONS
from inphase.host import store_names
from inphase.plan import plan as planning
from peers import BOUND_S, until
from robots import demo_schedule
from runtimes import Robot
from terminals import Terminal

WRENCH = 1
PRESSURE = '[estop.force]\nsample = "wrench.force"\nchannel = 2\nhigh = 150.0\n'
BUTTON = '[estop.button]\nline = { chip = "/dev/gpiochip9", line = 17 }\n'


def written(folder: Path, *tables: str) -> Path:
    """The demo's schedule with further tables."""
    path = demo_schedule(folder)
    path.write_text(path.read_text() + "\n" + "\n".join(tables))
    return path


# ---- what a schedule may say ---------------------------------------------------------------

GOOD = {
    "a line": BUTTON,
    "a line that is high when pressed": BUTTON + 'pressed = "high"\n',
    "a bound": PRESSURE,
    "bits": '[estop.b]\nsample = "joints.position"\nmask = 5\npressed = "low"\n',
    "late ones too": PRESSURE + 'accepts = ["FRESH", "LATE"]\n',
}
BAD = {
    "nothing": ("[estop.b]\n", "estop.b", "exactly one of line and sample"),
    "both": (PRESSURE + 'line = { chip = "/dev/g", line = 1 }\n', "estop.force", "exactly one"),
    "no chip": ('[estop.b]\nline = { chip = "g", line = 1 }\n', "estop.b.line.chip", "not a path"),
    "no rule": ('[estop.b]\nsample = "wrench.force"\n', "estop.b", "no condition says when"),
    "a mask on a line": (BUTTON + "mask = 1\n", "estop.button.mask", "belongs to a sample"),
    "statuses on a line": (BUTTON + 'accepts = ["FRESH"]\n', "estop.button.accepts", "belongs to"),
    "pressed without a mask": (PRESSURE + 'pressed = "low"\n', "estop.force.pressed", "a mask"),
    "a mask of nothing": ('[estop.b]\nsample = "wrench.force"\nmask = 0\n', "estop.b.mask", "1"),
    "bounds that cross": (PRESSURE + "low = 200.0\n", "estop.force.low", "not below high"),
    "nan": ('[estop.b]\nsample = "wrench.force"\nlow = nan\n', "estop.b.low", "not finite"),
    "never fresh": (PRESSURE + 'accepts = ["HELD"]\n', "estop.force.accepts", "FRESH is missing"),
    "no such sensor": ('[estop.b]\nsample = "panel.x"\nlow = 1\n', "estop.b.sample", "no such"),
    "no such field": ('[estop.b]\nsample = "wrench.x"\nlow = 1\n', "estop.b.sample", "no float64"),
    "no such channel": (
        '[estop.b]\nsample = "wrench.force"\nchannel = 3\nlow = 1\n',
        "estop.b.sample",
        "channel 3",
    ),
    "a key that is none": (BUTTON + "level = 1\n", "estop.button.level", "unknown"),
    "a name that is none": (PRESSURE.replace("force]", "Force]"), "estop.Force", "not a name"),
    "one line twice": (BUTTON + BUTTON.replace("button", "other"), "estop.other.line", "belongs"),
    "off and on": ("[actuator.arm.x]\n", "actuator.arm.x", "unknown"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_input_that_can_be_is_planned(tmp_path: Path, name: str) -> None:
    plan = planning.make(schedule.load(written(tmp_path, GOOD[name])))
    assert len(plan.estop) == 1


@pytest.mark.parametrize("name", BAD)
def test_an_input_that_cannot_be_is_refused_with_file_key_and_what_to_do(
    tmp_path: Path, name: str
) -> None:
    table, key, text = BAD[name]
    with pytest.raises(ScheduleError, match=rf"robot\.toml:\d+: {key}: .*{text}"):
        planning.make(schedule.load(written(tmp_path, table)))


def test_a_stop_for_a_robot_without_actuators_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, PRESSURE)
    text = path.read_text()
    path.write_text(text[: text.index("[actuator.arm]")] + PRESSURE)
    with pytest.raises(ScheduleError, match=r"estop: it stops nothing"):
        schedule.load(path)


# ---- on virtual time -----------------------------------------------------------------------


@pytest.fixture
def pressing(tmp_path: Path) -> Iterator[LockStep]:
    """A robot in lock step that stops when it is pressed upon."""
    with LockStep(schedule.load(written(tmp_path, PRESSURE, BUTTON)), seed=3) as robot:
        yield robot


def test_a_force_stops_the_arm_in_its_own_cycle_and_frames_say_which(pressing: LockStep) -> None:
    pressing.core.fault("wrong", WRENCH, 200, 1, 160)
    frames = [frame.copy() for frame in pressing.frames(400)]
    before, after = frames[200], frames[201]
    assert (before.state, before.reason) == ("running", "none")
    assert after.command["arm"].flags == ("WRITTEN", "RAMPING")
    assert (after.reason, after.detail, after.reason_cycle) == ("estop", 0, 200)
    assert {"ESTOP", "LATCHED", "RAMPING"} <= set(after.flags)
    assert frames[-1].state == "faulted" and "STOPPED" in frames[-1].flags
    assert pressing.follower.reader.counts()["dropped"] == 1


@pytest.mark.parametrize("offset_us", range(0, 2000, 100))
def test_a_line_stops_the_arm_at_any_phase_of_the_cycle(pressing: LockStep, offset_us: int) -> None:
    pressing.core.fault("estop", 1, 150, 20, offset_us * 1000)
    frames = [frame.copy() for frame in pressing.frames(300)]
    ramped = [f.command.cycle for f in frames if "RAMPING" in f.command["arm"].flags]
    assert ramped[0] == (150 if offset_us <= 1700 else 151)
    assert ramped == list(range(ramped[0], ramped[-1] + 1)), "released, it stays latched"
    assert (frames[-1].reason, frames[-1].detail) == ("estop", 1)


# ---- with real processes -------------------------------------------------------------------


@pytest.fixture
def robot() -> Iterator[Robot]:
    """An emulated robot, with a gateway that takes requests."""
    with Robot() as made:
        table = (
            f'[gateway]\nendpoint = "ipc://{made.folder}/f"\ncontrol = "ipc://{made.folder}/c"\n'
        )
        made.write(("[sensor.joints]\n", table + "[sensor.joints]\n"))
        yield made


def request(robot: Robot, **asked: Any) -> dict[str, Any]:
    """Ask the gateway, as any client does; its reply."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{robot.folder}/c")
        socket.send(msgpack.packb(asked))
        assert socket.poll(1000 * BOUND_S)
        reply: dict[str, Any] = msgpack.unpackb(socket.recv())
        return reply


@pytest.mark.real
def test_any_client_may_stop_and_none_may_arm(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        assert request(robot, do="estop", id=1) == {"id": 1, "ok": True}
        stopped = run.frame(lambda frame: "ESTOP" in frame.flags)
        assert (stopped.reason, stopped.detail) == ("estop", 17)
        run.frame(lambda frame: frame.state == "faulted")
        until(lambda: robot.speed < 0.05)
        for do in ("arm", "reset", "clear", "disarm", "enable", "start", "release", "run"):
            assert request(robot, do=do)["ok"] is False
        cycle = run.frame(lambda _: True).cycle
        later = run.frame(lambda frame: frame.cycle > cycle + 30 and frame.state == "faulted")
        assert later.reason == "estop"
        until(lambda: "emergency stop by a client, in cycle" in run.stderr)
        run.signal(signal.SIGUSR1)
        run.frame(lambda frame: frame.state == "running")
        run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (130, None)
    assert summary["policy"]["dropped"] <= 1
    assert robot.segments() == []


@pytest.mark.real
def test_power_is_taken_away_after_the_ramp_and_comes_back_with_arming(robot: Robot) -> None:
    text = robot.schedule.read_text()
    robot.schedule.write_text(
        text.replace(
            'feedback = "joints.position"', 'feedback = "joints.position"\non_estop = "limp"'
        )
    )
    with Runner(robot.schedule) as runner:
        until(lambda: robot.speed > 0.1)
        runner.estop()
        until(lambda: robot.arm()["torque"] == [0] * 6)
        until(lambda: robot.speed < 0.05)  # what is commanded rests; the joints follow
        cycle = runner.next(BOUND_S, newest=True).cycle
        while (frame := runner.next(BOUND_S)).cycle < cycle + 20:
            assert "WRITTEN" not in frame.command["arm"].flags
        assert (frame.state, frame.reason, frame.detail) == ("faulted", "estop", 16)
        runner.arm()
        until(lambda: robot.arm()["torque"] == [1] * 6)
        until(lambda: robot.speed > 0.1)
    assert runner.summary is not None
    assert any("switched off: arm" in event for event in runner.summary["events"])


@pytest.fixture
def terminal(robot: Robot) -> Iterator[Terminal]:
    """The robot, run in a terminal."""
    made = Terminal(robot.schedule)
    yield made
    made.close()


@pytest.mark.real
@pytest.mark.parametrize("key", [b" ", b"e"], ids=["space", "e"])
def test_a_key_stops_and_another_arms_and_the_terminal_is_as_it_was(
    robot: Robot, terminal: Terminal, key: bytes
) -> None:
    until(lambda: store_names.find(robot.name) is not None)
    until(lambda: robot.speed > 0.1)
    reader = store.Reader(str(store_names.find(robot.name)))
    assert terminal.modes != terminal.before
    terminal.press(key)
    until(lambda: reader.status()["latched"] == REASONS.index("estop"))
    assert reader.status()["latched_detail"] == 16
    until(lambda: robot.speed < 0.05)
    terminal.press(b"x")  # means nothing
    until(lambda: b"emergency stop by a key" in terminal.shown)
    until(lambda: b"; arm again (key a, or SIGUSR1)" in terminal.shown)  # nothing to release
    terminal.press(b"a")
    until(lambda: reader.status()["latched"] == 0)
    until(lambda: robot.speed > 0.1)
    for mark, said in ((b"s", "start one"), (b"b", "episode 1 begins"), (b"f", "1 is failure")):
        terminal.press(mark)
        until(lambda said=said: said.encode() in terminal.shown)
    terminal.press(b"bb")
    until(lambda: b"an episode is running already" in terminal.shown)
    with inphase.subscribe(robot.name) as frames:
        frame = next(iter(frames))
        assert (frame.episode, frame.outcome) == (2, "running")
    terminal.press(b"\x03")
    assert terminal.process.wait(BOUND_S) == 130
    assert terminal.modes == terminal.before
    reader.close()


@pytest.mark.real
def test_what_is_typed_before_the_view_is_up_stops_nothing_and_later_keys_do(
    robot: Robot, terminal: Terminal
) -> None:
    terminal.press(b"clear; make demo\n")  # for the shell that had the terminal before
    until(lambda: terminal.modes != terminal.before)
    terminal.press(b"e")
    until(lambda: robot.speed > 0.1)
    reader = store.Reader(str(store_names.find(robot.name)))
    assert reader.status()["estops"] == 0
    until(lambda: b"frames so far" in terminal.shown)
    until(lambda: live_picture.KEYS.encode() in terminal.shown)
    terminal.press(b"e")
    until(lambda: reader.status()["latched"] == REASONS.index("estop"))
    reader.close()


@pytest.mark.real
def test_a_run_that_is_told_to_end_leaves_the_terminal_as_it_was(
    robot: Robot, terminal: Terminal
) -> None:
    until(lambda: robot.speed > 0.1)
    until(lambda: terminal.modes != terminal.before)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(BOUND_S) == 143
    assert terminal.modes == terminal.before
