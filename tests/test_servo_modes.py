"""Servos that are told velocities and currents: what goes over the wire, and what they do then."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inphase.driver import DeviceError
from inphase.frame import Frame
from inphase_drivers.dynamixel import ServoOptions, Servos
from inphase_drivers.dynamixel.registers import Registers
from peers import until
from runtimes import Robot

pytestmark = pytest.mark.real

LIMITS = "position = [-3.0, 3.0]\nvelocity = 2.0\nacceleration = 4.0\nstep = 0.5\n"
FEEDBACK = 'feedback = "joints.position"\n'
VELOCITY = (
    (FEEDBACK, FEEDBACK + 'mode = "velocity"\n'),
    (LIMITS, "position = [-3.0, 3.0]\nvelocity = 2.0\nacceleration = 4.0\n"),
)
CURRENT = (
    (FEEDBACK, FEEDBACK + 'mode = "effort"\nfeedback_velocity = "joints.velocity"\n'),
    (LIMITS, "effort = 0.5\neffort_rate = 2.0\nvelocity = 2.0\n"),
)
POLICY = """
import numpy as np


class Sweep:
    def __call__(self, frame):
        part = min(1.0, max(0, frame.cycle - 20) / 100)
        return [{value} * part] * 6
"""
RAD_S = 0.229 * 2 * math.pi / 60


@pytest.fixture
def robot() -> Iterator[Robot]:
    with Robot() as made:
        yield made


def tell(robot: Robot, value: float, changes: tuple[tuple[str, str], ...]) -> None:
    """All joints are to be told this value, which grows within 100 cycles."""
    robot.folder.joinpath("sweep.py").write_text(POLICY.format(value=value))
    robot.write(*changes)


def speeds(frame: Frame) -> Any:
    """The joints' velocities as measured; 0 before there are any."""
    joints = frame["joints"]
    return joints.value["velocity"] if joints.sequence >= 0 else np.zeros(6)


def written(journal: list[Any], address: int) -> list[str]:
    """What was written to a register of the first servo, in hex."""
    return [data for ident, at, data in journal if ident == 1 and at == address]


def test_servos_in_velocity_mode_turn_at_what_they_are_told_and_end_at_rest(robot: Robot) -> None:
    tell(robot, 0.3, VELOCITY)
    run = robot.run()
    run.frame(lambda frame: speeds(frame).min() > 0.25)
    told = pytest.approx([round(0.3 / RAD_S) * RAD_S] * 6, abs=1e-9)
    until(lambda: bool(robot.arm()["goal"] == told))
    assert robot.speed == pytest.approx(0.3, abs=2 * RAD_S)
    run.process.terminate()
    assert run.process.wait(40) == 143, run.stderr
    assert robot.arm()["velocity"] == pytest.approx([0.0] * 6, abs=RAD_S)
    journal = robot.arm()["journal"]
    assert written(journal, 11) == ["01"]
    assert written(journal, 104)[0] == "00000000"
    order = [at for ident, at, _ in journal if ident == 1 and at in (11, 64, 104)]
    order = order[order.index(11) :]
    assert order[:3] == [11, 104, 64], "mode without torque, the goal before torque"


def test_servos_in_current_mode_are_driven_no_faster_than_they_may(robot: Robot) -> None:
    tell(robot, 0.4, CURRENT)
    run = robot.run()
    frame = run.frame(lambda frame: speeds(frame).max() > 1.9)
    assert frame.layout.actuators[0][2] == "A"
    run.frame(lambda f: f.cycle > frame.cycle + 100)
    assert robot.speed < 4.0
    run.process.terminate()
    assert run.process.wait(40) == 143, run.stderr
    journal = robot.arm()["journal"]
    assert written(journal, 11) == ["00"]
    assert written(journal, 102)[0] == "0000"


def test_limits_beyond_what_a_servo_is_set_to_take_are_refused(robot: Robot) -> None:
    changes = (*VELOCITY[:1], (LIMITS, "velocity = 9.0\nacceleration = 20.0\n"))
    tell(robot, 0.3, changes)
    run = robot.run()
    assert run.process.wait(40) == 3
    assert "limits.velocity: -9 to 9 rad/s on channel 0 is beyond what" in run.stderr
    assert "register 44 is 350" in run.stderr
    assert robot.arm()["torque"] == [0] * 6


# ---- servos that hold already ----------------------------------------------------------------


def servos(robot: Robot, mode: str, kind: type[Servos] = Servos) -> Servos:
    """The arm's driver, opened."""
    options = ServoOptions(port=f"{robot.folder}/ports/arm", ids=[1, 2, 3, 4, 5, 6], watchdog_ms=0)
    driver = kind("arm", options)
    driver.mode = mode
    driver.open()
    return driver


def test_a_run_that_cannot_start_leaves_the_arm_holding(robot: Robot) -> None:
    other = servos(robot, "velocity")
    other.enable()
    other.close()
    robot.write((FEEDBACK, FEEDBACK + 'on_stop = "limp"\n'))
    run = robot.run()
    assert run.process.wait(40) != 0
    assert "holds with its torque on in operating mode 1" in run.stderr
    assert robot.arm()["torque"] == [1] * 6
    # whoever asks for it by itself gets it
    other = servos(robot, "position")
    other.disable()
    other.close()
    assert robot.arm()["torque"] == [0] * 6


class RefusingRegisters(Registers):
    """The last servo takes no torque."""

    def write(self, ident: int, register: int, value: int, size: int) -> None:
        if (ident, register, value) == (6, 64, 1):
            raise DeviceError("servo 6 refuses")
        super().write(ident, register, value, size)


class Refused(Servos):
    """Servos with such registers."""

    def __init__(self, name: str, options: ServoOptions) -> None:
        super().__init__(name, options)
        self.registers = RefusingRegisters(name, options)


def test_enable_that_fails_switches_off_what_it_switched_on_and_nothing_else(
    robot: Robot,
) -> None:
    driver = servos(robot, "position", Refused)
    driver.registers.write(2, 64, 1, 1)  # somebody else did
    for _ in range(2):
        with pytest.raises(DeviceError, match="servo 6 refuses"):
            driver.enable()
        assert robot.arm()["torque"] == [0, 1, 0, 0, 0, 0]
        driver.disable()
        assert robot.arm()["torque"] == [0, 1, 0, 0, 0, 0]
    # one that does not answer is no reason to let go of another
    robot.arm(fault="off", servo=5)
    with pytest.raises(DeviceError, match="servo 6"):
        driver.enable()
    with pytest.raises(DeviceError, match="servo 6"):
        driver.disable()
    assert robot.arm()["torque"] == [0, 1, 0, 0, 0, 0]
    driver.close()


# ---- a link that is lost in motion -----------------------------------------------------------

FREE = (
    "position = [-3.0, 3.0]\nvelocity = 2.0\nacceleration = 4.0\n",
    "velocity = 2.0\nacceleration = 4.0\n",
)
PUSHED = (
    "effort = 0.5\neffort_rate = 2.0\nvelocity = 2.0\n",
    "effort = 0.5\neffort_rate = 2.0\n",
)


def lose(run: Any, robot: Robot) -> Frame:
    """Draw the cable of the moving arm; the frame that says so."""
    until(lambda: robot.speed > 0.1)  # a policy that is held up lets it ramp now and then
    robot.arm(fault="close")
    gone = run.status("joints", "OFFLINE")
    assert robot.speed > 0.1, "no watchdog: the servos turn on"
    return gone


def bring_back(run: Any, robot: Robot) -> None:
    """Plug it in again: it is told to stop, and no frame says before that it has stopped."""
    robot.arm(fault="reopen")
    until(lambda: robot.speed < 2 * RAD_S)
    frame = run.frame(lambda frame: frame.state != "uncontrolled")
    assert frame.state == "faulted" and "STOPPED" in frame.flags
    assert robot.speed < 2 * RAD_S


@pytest.mark.parametrize(
    ("value", "changes"),
    [(0.3, (*VELOCITY, FREE)), (0.2, (*CURRENT, PUSHED))],
    ids=["velocity", "current"],
)
def test_servos_whose_link_comes_back_are_stopped_before_anything_else(
    robot: Robot, value: float, changes: tuple[tuple[str, str], ...]
) -> None:
    tell(robot, value, changes)
    run = robot.run()
    run.frame(lambda frame: abs(speeds(frame)).min() > 0.2)
    gone = lose(run, robot)
    later = run.frame(lambda frame: frame.cycle > gone.cycle + 60)
    assert later.state == "uncontrolled" and "STOPPED" not in later.flags
    bring_back(run, robot)
    run.process.terminate()
    assert run.process.wait(40) == 143, run.stderr
    assert robot.speed < 2 * RAD_S


def test_a_run_that_ends_while_a_link_is_gone_says_that_rest_is_not_known(robot: Robot) -> None:
    tell(robot, 0.3, (*VELOCITY, FREE))
    run = robot.run()
    run.frame(lambda frame: speeds(frame).min() > 0.25)
    lose(run, robot)
    run.process.terminate()
    code, summary = run.end()
    assert (code, summary["state"]) == (8, "uncontrolled"), run.stderr
    assert "arm: not known to be at rest at the end" in run.stderr
    assert robot.speed > 0.1
    robot.arm(fault="reopen")
    again = robot.run("--cycles", "5")
    again.end()
    assert "and arm was not known to be at rest" in again.stderr


def test_a_link_that_comes_back_while_the_run_ends_is_stopped_before_the_end(robot: Robot) -> None:
    tell(robot, 0.3, (*VELOCITY, FREE))
    run = robot.run()
    run.frame(lambda frame: speeds(frame).min() > 0.25)
    lose(run, robot)
    run.process.terminate()
    run.frame(lambda frame: "STOPPING" in frame.flags)
    robot.arm(fault="reopen")
    code, summary = run.end()
    assert (code, summary["state"]) == (143, "stopped"), run.stderr
    assert robot.speed < 2 * RAD_S
