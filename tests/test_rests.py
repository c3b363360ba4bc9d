"""Every exit of a run ends in the declared rest, and says in which one."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from inphase import Runner
from inphase.command import check
from inphase.frames.store_follower import StoreFollower
from inphase.plan.validation import load
from inphase.runtime.words import rest_words
from inphase.service.unit import unit_of
from peers import BOUND_S, until
from runtimes import Robot, Run, has_ended
from serving import Served
from test_guard import guard_of, notes_of

pytestmark = pytest.mark.real

PATH = [[0.3] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
LIMITS = "[actuator.arm.limits]"
PARK = (LIMITS, f"[actuator.arm.park]\npath = {PATH}\nvelocity = 2.0\n{LIMITS}")
SLOW = (LIMITS, f"[actuator.arm.park]\npath = {PATH}\nvelocity = 0.3\n{LIMITS}")
LIMP = (LIMITS, f'on_stop = "limp"\n{LIMITS}')
NEAR = 0.02  # rad: how far a servo of the emulator may stand beside its goal


@pytest.fixture
def robot() -> Iterator[Robot]:
    with Robot() as made:
        yield made


def torque(robot: Robot) -> list[int]:
    found: list[int] = robot.arm()["torque"]
    return found


def rest_of(summary: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = summary["actuators"]["arm"]["rest"]
    return found


def is_parked(robot: Robot) -> bool:
    pairs = zip(robot.arm()["position"], PATH[-1], strict=True)
    return all(abs(here - there) < NEAR for here, there in pairs)


def parking(run: Run) -> Run:
    """Wait until it is on its way along its path: it ramps, and moves away from its rest."""
    run.frame(lambda frame: "STOPPING" in frame.flags)
    first = run.frame(lambda frame: "STOPPING" in frame.flags).command["arm"].applied.copy()
    run.frame(lambda frame: bool(abs(frame.command["arm"].applied - first).max() > 0.05))
    return run


def declared(park: str | None, reached: str, torque: str) -> dict[str, Any]:
    stated = "limp" if reached == "limp" else "hold"
    return {"declared": stated, "reached": reached, "park": park, "torque": torque}


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)],
    ids=["^C", "SIGTERM"],
)
def test_a_signal_parks_the_arm_and_then_lets_it_go(robot: Robot, number: signal.Signals) -> None:
    robot.write(LIMP, PARK)
    with robot.run() as run:
        run.moving().signal(number)
        code, summary = run.end()
    assert (code, rest_of(summary)) == (128 + number, declared("done", "limp", "off"))
    assert is_parked(robot)
    assert torque(robot) == [0] * 6
    assert rest_words.line(summary) == "rest: arm parked, limp, torque off"


def test_an_arm_without_a_path_holds_and_its_torque_is_read_back(robot: Robot) -> None:
    with robot.run() as run:
        run.moving().signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, rest_of(summary)) == (130, declared(None, "hold", "on"))
    assert torque(robot) == [1] * 6


def test_a_second_signal_in_a_park_holds_and_leaves_nothing_limp(robot: Robot) -> None:
    robot.write(LIMP, SLOW)
    with robot.run() as run:
        run.moving().signal(signal.SIGINT)
        parking(run).signal(signal.SIGINT)
        code, summary = run.end()
    rest = rest_of(summary)
    assert code == 130
    assert (rest["declared"], rest["reached"], rest["park"]) == ("limp", "hold", "hurried")
    assert torque(robot) == [1] * 6
    assert not is_parked(robot)
    assert any("a second signal shortened its park" in text for text in summary["events"])


HANGS = """
import threading

from inphase_drivers.dynamixel import Servos


class Hangs(Servos):
    switching_max_ns = 200_000_000

    def {what}(self):
        threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("disable", "actuator arm may still be powered, switch it off by hand: device arm "),
        pytest.param("close", "device arm ", marks=pytest.mark.long),
        ("torque", "device arm "),
    ],
)
def test_a_driver_that_never_returns_holds_up_no_end(
    robot: Robot, what: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(robot.folder))
    robot.folder.joinpath("hangs.py").write_text(HANGS.format(what=what))
    driver = 'driver = "inphase_drivers.dynamixel:Servos"'
    robot.write((driver, 'driver = "hangs:Hangs"'), *([LIMP] if what == "disable" else []))
    with robot.run("--cycles", "50") as run:
        code, summary = run.end()
    assert summary, run.stderr
    rest = rest_of(summary)
    stuck = f"its driver does not return from {what} within 1.2 s; give its own calls a time-out"
    assert stuck in run.stderr and told in run.stderr
    found = {"close": "on", "torque": "unknown", "disable": "refused"}[what]
    assert (rest["torque"], torque(robot)) == (found, [1] * 6)
    assert code == (8 if what == "disable" else 0)


@pytest.mark.long
def test_a_run_of_so_many_cycles_parks_too(robot: Robot) -> None:
    robot.write(PARK)
    with robot.run("--cycles", "100") as run:
        code, summary = run.end()
    print(summary["events"])
    assert (code, rest_of(summary)) == (0, declared("done", "hold", "on"))
    assert is_parked(robot)


@pytest.mark.long
def test_a_runner_waits_for_the_park_of_its_robot(robot: Robot) -> None:
    robot.write(LIMP, PARK)
    with Runner(robot.schedule) as runner:
        until(lambda: robot.speed > 0.1)
    assert runner.summary is not None
    assert rest_of(runner.summary) == declared("done", "limp", "off")
    assert is_parked(robot)


def test_the_last_line_of_a_run_names_the_rest(robot: Robot) -> None:
    arguments = ["-m", "inphase", "run", str(robot.schedule), "--cycles", "50"]
    with Run(robot, arguments, {}) as run:
        out, _ = run.process.communicate(timeout=BOUND_S)
    assert out.decode().splitlines()[-1] == "rest: arm held, torque on"


def test_the_longest_stop_is_stated_and_waited_for(robot: Robot) -> None:
    robot.write(SLOW)
    stop_s = check.make(robot.schedule).facts()["longest_stop_ns"] / 1e9
    ramps_s, cycles_s = 2 * 1.3, 2 * 10 / 125
    ways_s = 1.875 * (3.3 + 0.3) / 0.9 / 0.3  # from the far end of the range, then to the end
    assert stop_s == pytest.approx(ramps_s + cycles_s + 1.25 * ways_s, abs=1e-3)
    for speed in (1.0, 0.1):  # the path at 0.2 rad/s takes half as long again as at 0.3
        unit = unit_of([load(robot.schedule)], [], speed)
        longest_s = stop_s + 1.25 * ways_s * 0.5 * (speed < 1.0)
        assert int(unit.partition("TimeoutStopSec=")[2].split()[0]) > longest_s + 10


SCRIPT = """
import sys

from inphase import Runner

with Runner(sys.argv[1]) as robot:
    for frame in robot:
        pass
"""


@pytest.mark.long
def test_a_second_interrupt_of_a_program_ends_the_park_of_its_robot(robot: Robot) -> None:
    robot.write(LIMP, SLOW)
    with Run(robot, ["-c", SCRIPT, str(robot.schedule)], {}) as run:
        run.moving().signal(signal.SIGINT)
        parking(run).signal(signal.SIGINT)
        last = run.frame(lambda frame: "STOPPED" in frame.flags)
        run.process.wait(BOUND_S)
    assert last.state == "stopped"
    assert torque(robot) == [1] * 6
    assert not is_parked(robot)


@pytest.mark.long
def test_a_service_that_is_told_to_end_parks_its_robot(robot: Robot) -> None:
    robot.write(LIMP, PARK)
    with Served(robot) as served:
        follower = StoreFollower.of_robot(robot.name)
        until(lambda: follower.next(BOUND_S).state == "armed")
        follower.close()
        assert served.end() == 0
    assert is_parked(robot)
    assert torque(robot) == [0] * 6


@pytest.mark.long
def test_an_exception_of_the_policy_ends_in_the_park_of_the_stop_after_it(robot: Robot) -> None:
    robot.write(LIMP, PARK)
    sweep = robot.folder / "sweep.py"
    lines = "        if frame.cycle > 150:\n            raise ValueError('lost')\n"
    head = "    def __call__(self, frame):\n"
    sweep.write_text(sweep.read_text().replace(head, head + lines))
    with robot.run() as run:
        run.frame(lambda frame: frame.command["arm"].reason == "raised")
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert rest_of(summary) == declared("done", "limp", "off")
    assert is_parked(robot)


@pytest.mark.long
def test_a_killed_runtime_leaves_the_arm_held_by_the_guard_and_says_that_nobody_looked(
    robot: Robot,
) -> None:
    robot.write(LIMP, SLOW)
    with robot.run() as run:
        run.moving().signal(signal.SIGINT)
        guard = guard_of(parking(run))
        run.signal(signal.SIGKILL)
        until(lambda: has_ended(guard))
    assert torque(robot) == [1] * 6
    assert not is_parked(robot)
    assert notes_of(robot)
    with robot.run("--cycles", "1") as run:
        _, summary = run.end()
    (told,) = [text for text in summary["events"] if "previous run died" in text]
    assert "its torque was not read back" in told


@pytest.mark.long
def test_a_fault_of_a_servo_parks_nothing(robot: Robot) -> None:
    robot.write(LIMP, PARK)
    with robot.run() as run:
        run.moving()
        robot.arm(fault="close")
        until(lambda: "is gone" in run.stderr)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    rest = rest_of(summary)
    assert code == 8
    assert (rest["park"], rest["reached"], rest["torque"]) == ("refused", "unknown", "unknown")
    assert torque(robot) == [1] * 6
    assert "torque not read back" in rest_words.line(summary)
