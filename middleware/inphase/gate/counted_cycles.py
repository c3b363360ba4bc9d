"""A schedule's cycles on virtual time, counted instruction by instruction.

    python -m inphase.gate.counted_cycles SCHEDULE

Prints a line of JSON that begins with `counted`. It is a process of its own, whose addresses are
the same in each run; who starts it fixes the hashes.
"""

import ctypes
import gc
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from inphase.episodes.lockstep import LockStep
from inphase.frames.sending import WireShape, Writer, describe
from inphase.frames.store import Reader
from inphase.frames.store_follower import StoreFollower
from inphase.gate.trap import Trap
from inphase.plan.validation import load
from inphase.policy.turn import Turn

_UNCOUNTED = 1  # a turn that is stepped before: what is said once was said
_WARM = 256  # more than a ring has slots; a multiple of the looks at a policy's answers
_FAULTS_OVER = 64  # turns
_PATIENCE_S = 10.0
_LEAST_TURNS, _MOST_TURNS = 4, 24
_NO_RANDOM_ADDRESSES = 0x0040000
_ASKS = 0xFFFFFFFF
_TRIED = "--fixed-addresses"


class Parts:
    """The parts of a turn, by name, each of which is called once a turn, in this order."""

    def __init__(self, robot: LockStep, stack: ExitStack) -> None:
        self._robot = robot
        path = robot.core.segment.path
        self._follower = StoreFollower(path)
        stack.callback(self._follower.close)
        self._reader = Reader(path)
        stack.callback(self._reader.close)
        form = WireShape.of_store(describe(self._reader))
        self._writer = Writer(self._reader, form)
        self._number = -1
        self._frame = robot.next()
        self.faults = 0
        """page faults of the core's turns so far"""

    def cycle(self) -> None:
        """The core: to the frame that the policy takes next."""
        self._frame = self._robot.next()

    def policy(self) -> None:
        """The policy's answer to it, as it is posted."""
        self._robot.take_turn(self._frame)

    def subscriber(self) -> None:
        """A program that reads each sensor's sample."""
        frame = self._follower.next(_PATIENCE_S, newest=True)
        for sample in frame.samples.values():
            if sample.sequence >= 0:
                sample.value  # noqa: B018 - reading it is what costs
        assert frame.intact

    def gateway(self) -> None:
        """A frame's message, without ZeroMQ."""
        self._writer.write(self._number)
        self._writer.sent()

    def turn(self, mark: Callable[[Callable[[], None]], None]) -> None:
        """All of them."""
        mark(self.cycle)
        mark(self.policy)
        mark(self.subscriber)
        self._number += 1 + self._reader.next(0, newest=True)
        mark(self.gateway)

    def watch_faults(self, part: Callable[[], None]) -> None:
        """Run a part; count the page faults of the core's."""
        before = resource.getrusage(resource.RUSAGE_THREAD)
        part()
        after = resource.getrusage(resource.RUSAGE_THREAD)
        if part == self.cycle:
            self.faults += after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt


def _run(part: Callable[[], None]) -> None:
    part()


def _turns_of(robot: LockStep) -> int:
    """Turns after which the sensors' and the policy's rates come round, within bounds."""
    schedule = robot.schedule
    every = schedule.policy.every if schedule.policy is not None else 1
    periods = math.lcm(*(sensor.between for sensor in robot.plan.sensors), every)
    around = min(max(1, periods // every), _MOST_TURNS)
    return around * max(1, -(-_LEAST_TURNS // around))


def count(path: Path) -> dict[str, Any]:
    """Warm up and count. Raises ScheduleError, OSError."""
    Turn.long_ns = sys.maxsize  # traps make each call long: no count may depend on the pace
    with LockStep(load(path), digest=False) as robot, ExitStack() as stack:
        parts = Parts(robot, stack)
        parts.policy()
        for _ in range(_WARM):
            parts.turn(_run)
        gc.collect()
        gc.freeze()
        gc.disable()
        before = robot.cycles
        for _ in range(_FAULTS_OVER):
            parts.turn(parts.watch_faults)
        faults = parts.faults / (robot.cycles - before)
        trap = Trap()
        for _ in range(_UNCOUNTED):
            parts.turn(trap.count)
        trap.ran.clear()
        before, turns = robot.cycles, _turns_of(robot)
        for _ in range(turns):
            parts.turn(trap.count)
        cycles = robot.cycles - before
    return {
        "counted": cycles,
        "faults": faults,
        "parts": {
            name: [sum(numbers) / cycles for numbers in zip(*found, strict=True)]
            for name, found in trap.ran.items()
        },
    }


def main() -> None:
    """Entry of the process."""
    personality = ctypes.CDLL(None).personality
    if not personality(_ASKS) & _NO_RANDOM_ADDRESSES and _TRIED not in sys.argv:
        personality(_NO_RANDOM_ADDRESSES)  # where it is refused, they are random
        module = ["-m", "inphase.gate.counted_cycles", *sys.argv[1:], _TRIED]
        os.execv(sys.executable, [sys.executable, *module])
    print(json.dumps(count(Path(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
