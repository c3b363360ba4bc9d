"""Random faults in random order on a moving robot, judged by the emulator's measured speed.

Each walk starts the robot in a terminal, waits until it moves, lets some faults happen, then what
ends or stops it. Two seconds after that nothing moves, and the next walk can start at once.

INPHASE_FAULTS=200 (`make faults`) asks for that many per mode, INPHASE_SEED repeats them.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from inphase.host import store_names
from peers import BOUND_S, until
from runtimes import Robot
from terminals import Terminal
from test_servo_modes import VELOCITY

pytestmark = pytest.mark.real

FAULTS = int(os.environ.get("INPHASE_FAULTS", "4"))
SEED = int(os.environ.get("INPHASE_SEED", str(time.time_ns() % 2**32)))
PER_WALK = 3
AT_REST = 0.05  # rad/s: two counts of the servos' velocity
STILL_S = 2.0
# ordinary numbers: what the patient schedule of other tests waits for is waited for here
GUARD = (
    ("max_hold_ms = 20000", "max_hold_ms = 150"),
    ("resumed_after_ms = 20000", "resumed_after_ms = 150"),
)
TURNING = '''
"""Turns all joints to and fro at 0.4 rad/s at most."""
import math


class Sweep:
    def __call__(self, frame):
        return [0.4 * math.sin(frame.cycle / 60)] * 6
'''


class Walk:
    """A robot that runs in a terminal, and what may happen to it."""

    def __init__(self, robot: Robot, draw: random.Random) -> None:
        self.robot = robot
        self.draw = draw
        self.reads = draw.random() < 0.8  # else what it says fills the terminal, and stays there
        self.terminal = Terminal(robot.schedule, reads=self.reads)
        self.runtime = psutil.Process(self.terminal.process.pid)
        self.told: list[str] = []

    def child(self, name: str) -> psutil.Process | None:
        """A child of the runtime by a word of its command line."""
        with contextlib.suppress(psutil.Error):
            for child in self.runtime.children(recursive=True):
                if any(name in part for part in child.cmdline()):
                    return child
        return None

    def send(self, name: str, number: signal.Signals) -> None:
        child = self.child(name)
        if child is not None:
            with contextlib.suppress(psutil.Error):
                child.send_signal(number)

    # ---- what may happen, and pass ---------------------------------------------------------

    def unplug_and_replug(self) -> None:
        device = self.draw.choice((self.robot.arm, self.robot.wrist))
        device(fault="close")
        time.sleep(self.draw.choice((0.05, 0.5)))
        device(fault="reopen")

    def spoil_replies(self) -> None:
        kind = self.draw.choice(("silent", "late", "short", "garble"))
        self.robot.arm(fault=kind, count=self.draw.randrange(1, 30), arg=6000)

    def kill_policy(self) -> None:
        self.send("inphase.policy", signal.SIGKILL)

    def stop_policy(self) -> None:
        self.send("inphase.policy", signal.SIGSTOP)

    def kill_gateway(self) -> None:
        self.send("inphase.runtime.gateway", signal.SIGKILL)

    def kill_guard(self) -> None:
        self.send("_guard", signal.SIGKILL)

    def stop_guard_for_a_while(self) -> None:
        self.send("_guard", signal.SIGSTOP)
        time.sleep(0.3)
        self.send("_guard", signal.SIGCONT)

    def stop_terminal(self) -> None:
        self.terminal.press(b"\x13")

    def arm_again(self) -> None:
        self.terminal.press(b"a")

    # ---- what ends it ------------------------------------------------------------------------

    def key(self) -> None:
        self.terminal.press(b" ")

    def interrupt(self) -> None:
        self.terminal.press(b"\x03")

    def terminate(self) -> None:
        self.send_runtime(signal.SIGTERM)

    def hang_up(self) -> None:
        self.send_runtime(signal.SIGHUP)

    def kill(self) -> None:
        self.send_runtime(signal.SIGKILL)

    def freeze(self) -> None:
        self.send_runtime(signal.SIGSTOP)

    def close_terminal(self) -> None:
        self.terminal.hang_up()

    def send_runtime(self, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.Error):
            self.runtime.send_signal(number)

    # ---- one walk ----------------------------------------------------------------------------

    def faults(self) -> list[Callable[[], None]]:
        return [
            self.unplug_and_replug, self.spoil_replies, self.kill_policy, self.stop_policy,
            self.kill_gateway, self.kill_guard, self.stop_guard_for_a_while, self.stop_terminal,
            self.arm_again,
        ]  # fmt: skip

    def ends(self) -> list[Callable[[], None]]:
        return [
            self.key, self.interrupt, self.terminate, self.hang_up, self.kill, self.freeze,
            self.close_terminal,
        ]  # fmt: skip

    def happen(self, what: Callable[[], None]) -> None:
        self.told.append(what.__name__)
        what()

    def go(self) -> None:
        """Faults, then the end of it, then two seconds, then a look."""
        until(lambda: self.robot.speed > 0.1 or self.terminal.process.poll() is not None)
        assert self.terminal.process.poll() is None, self.terminal.shown.decode()
        for _ in range(PER_WALK):
            time.sleep(self.draw.uniform(0, 0.4))
            self.happen(self.draw.choice(self.faults()))
        end = self.draw.choice(self.ends())
        if "kill_guard" in self.told and end in (self.kill, self.freeze):
            time.sleep(1.5)  # the next guard has its devices: nobody stops what both left at once
        self.happen(end)
        time.sleep(STILL_S)
        speed = self.robot.speed
        assert speed < AT_REST, f"seed {SEED}: {speed} rad/s {STILL_S} s after {self.told}"

    def close(self) -> None:
        """End what still runs, as its user would."""
        self.send_runtime(signal.SIGCONT)
        self.send_runtime(signal.SIGTERM)
        with contextlib.suppress(Exception):
            self.terminal.process.wait(BOUND_S)
        self.terminal.close()


@pytest.fixture(params=["position", "velocity"])
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    with Robot() as made:
        if request.param == "velocity":
            made.folder.joinpath("sweep.py").write_text(TURNING)
            made.write(*GUARD, *VELOCITY)
        else:
            made.write(*GUARD)
        yield made


def test_nothing_moves_two_seconds_after_the_last_cause_and_it_starts_again(
    robot: Robot, request: pytest.FixtureRequest
) -> None:
    draw = random.Random(f"{SEED} {request.node.name}")
    print(f"INPHASE_SEED={SEED}")
    for _ in range(-(-FAULTS // (PER_WALK + 1))):
        walk = Walk(robot, draw)
        try:
            walk.go()
        finally:
            walk.close()
            print(" ".join(walk.told))
    left = [path.name for path in store_names.folder().glob(f"{robot.name}.*")]
    assert store_names.find(robot.name) is None, left
