"""A simulated world in real time: `inphase run --simulate` has one, in a process of its own.

The process is the emulator's, where the schedule has one that can, else this module's:

    python -m inphase.world.realtime_world SCHEDULE CHANNEL_FD

It steps the world to the present in whole physics steps, at each request and otherwise every few
milliseconds. A device that is emulated by its protocol has its part (`world_part`): the numbers of
the world as that device would give them. Every other device has a stand-in in a worker, which asks
over a channel (`stand_in_server`). Time is never stretched: physics that are too slow are reported,
and end the run.
"""

import contextlib
import ctypes
import random
import select
import signal
import sys
import time
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inphase import schedule
from inphase.core.world_seam import Failure, require
from inphase.errors import InphaseError, WorldError
from inphase.host import process
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.world import stand_in_channel
from inphase.world.mujoco import package as mujoco_package
from inphase.world.mujoco.drives import TorqueSwitch, control_of
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.stand_in_channel import State
from inphase.world.stand_in_server import StandInServer

_TICK_NS = 5_000_000  # how often the world moves on when nobody looks
_CHUNK = 64  # physics steps between two looks at the clock
_BEHIND_NS = 50_000_000  # from which on it is said how far the world is behind
_TOO_SLOW_NS = 5_000_000_000  # one catching up that takes longer has no end


class _Effect(NamedTuple):
    """A command on its way to the world; ordered by time, then as they came."""

    at_ns: int
    number: int
    actuator: int
    values: list[float]


class WallWorld:
    """The world of a schedule from now on, in real time. Its maker closes it. Thread: one.

    channel: a socket to the runtime, which hands over the channels of stand-ins. The run ends when
    the runtime ends. Raises ScheduleError, WorldError.
    """

    def __init__(self, path: Path, channel: int = -1) -> None:
        self.plan = _plan(path)
        self.world = MujocoWorld(self.plan)
        self.grid = self.world.grid
        self.steps = 0
        self.behind = 0
        """how often the world was behind"""
        self.behind_max_ns = 0
        self._mujoco = mujoco_package.package()
        self._state = int(self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._numbers = np.zeros(self._mujoco.mj_stateSize(self.world.model, self._state))
        self._torque = TorqueSwitch(self.world.model)
        self._draw = random.Random(self.plan.schedule.name).random
        self._effects: list[_Effect] = []
        self._number = count()
        self._last_effect_ns: dict[int, int] = {}
        self._is_derived = True
        self._told_ns = _BEHIND_NS
        self._warned = self._warnings()
        self._cells = [_cells(self.world, index) for index in range(len(self.plan.sensors))]
        stand_in_channel.check_size(self.world.model.nactuator, len(self._numbers))
        self._stand_ins = StandInServer(self, channel)
        self.start_ns = self.due_ns = self._tick_ns = time.monotonic_ns()

    # ---- time --------------------------------------------------------------------------------

    @property
    def time_ns(self) -> int:
        """The instant of CLOCK_MONOTONIC that the world is at."""
        return self.start_ns + self.grid.end_ns(self.steps)

    def advance(self, to_ns: int) -> None:
        """Step the world up to an instant, in whole steps; an earlier one changes nothing.

        Raises WorldError when it diverges, or cannot keep up with real time.
        """
        target = self.grid.done(to_ns - self.start_ns)
        if target <= self.steps:
            return
        began_ns = time.monotonic_ns()
        while self.steps < target:
            self._take_effect()
            steps = min(target - self.steps, _CHUNK, self._steps_to_effect())
            try:
                self._mujoco.mj_step(self.world.model, self.world.data, steps)
            except self._mujoco.FatalError as error:
                raise self._failure(-1, str(error)) from error
            self.steps += steps
            if time.monotonic_ns() - began_ns > _TOO_SLOW_NS:
                raise self._too_slow(time.monotonic_ns() - began_ns)
        self._is_derived = False
        self._refuse_divergence()
        self._note_behind(time.monotonic_ns() - max(began_ns, to_ns))

    def derive(self) -> None:
        """Compute what follows from the present state: accelerations, forces, places."""
        if not self._is_derived:
            self._mujoco.mj_forward(self.world.model, self.world.data)
            self._is_derived = True

    def _note_behind(self, behind_ns: int) -> None:
        """Count, and say it each time that it has doubled."""
        if behind_ns < _BEHIND_NS:
            return
        self.behind += 1
        self.behind_max_ns = max(self.behind_max_ns, behind_ns)
        if behind_ns >= self._told_ns:
            self._told_ns = 2 * behind_ns
            print(
                f"the simulated world was {behind_ns / 1e6:.0f} ms behind real time: its physics "
                f"or this machine are too slow; samples come late",
                file=sys.stderr,
                flush=True,
            )

    def _too_slow(self, taken_ns: int) -> WorldError:
        return WorldError(
            f"{self.world.path}: the physics cannot keep up with real time: it was "
            f"{taken_ns / 1e9:.1f} s behind; make step_us larger or the model simpler, or use "
            f"--lockstep, which takes the time that it needs"
        )

    def _warnings(self) -> list[int]:
        """How often each of the warnings that mean divergence was given."""
        numbers, fatal = self.world.data.warning.number, self.world.engine.fatal
        return [int(numbers[i]) if fatal >> i & 1 else 0 for i in range(len(numbers))]

    def _refuse_divergence(self) -> None:
        now = self._warnings()
        if now != self._warned:
            what = next(i for i, (a, b) in enumerate(zip(now, self._warned, strict=True)) if a != b)
            raise self._failure(1 + what, "")

    def _failure(self, what: int, message: str) -> WorldError:
        return self.world.explain(Failure(what, -1, self.grid.end_ns(self.steps), message))

    # ---- commands ----------------------------------------------------------------------------

    def command(self, actuator: int, values: list[float], now_ns: int) -> None:
        """Put commands into effect after the schedule's delay; none overtakes another."""
        delay = self.plan.timing.delay(self.plan.actuators[actuator].name)
        at_ns = now_ns + round(delay.quantile(self._draw()))
        at_ns = max(at_ns, self._last_effect_ns.get(actuator, 0))
        self._last_effect_ns[actuator] = at_ns
        heappush(self._effects, _Effect(at_ns, next(self._number), actuator, values))

    def switch(self, actuator: int, channels: Iterable[int], *, on: bool) -> None:
        """Joints follow commands from where they are, or nothing is exerted on them."""
        controls = self.world.controls[actuator]
        assert controls is not None
        self.derive()
        self._effects = [e for e in self._effects if e.actuator != actuator]
        for channel in channels:
            self._torque.set(controls.numbers[channel], loose=not on)
            self.world.rest(controls, [channel])
        self._is_derived = False

    def switch_all(self, actuator: int, *, on: bool) -> None:
        """The same, for all its joints now."""
        self.advance(time.monotonic_ns())
        self.switch(actuator, range(self.plan.actuators[actuator].spec.channels), on=on)

    def _take_effect(self) -> None:
        while self._effects and self._effects[0].at_ns <= self.time_ns:
            effect = heappop(self._effects)
            controls = self.world.controls[effect.actuator]
            assert controls is not None
            for number, gain, zero, value in zip(
                controls.numbers, controls.gains, controls.zeros, effect.values, strict=True
            ):
                place = control_of(self.world.model, number)
                self.world.data.ctrl[place] = gain * value + zero

    def _steps_to_effect(self) -> int:
        if not self._effects:
            return _CHUNK
        before = self.grid.done(self._effects[0].at_ns - 1 - self.start_ns)
        return max(1, before + 1 - self.steps)

    # ---- readings ----------------------------------------------------------------------------

    def read(self, sensor: int) -> list[float | None]:
        """A sensor's channels at the present state, in the robot's frame, without noise; None: of
        what the schedule does not map."""
        readings = self.world.readings[sensor]
        if readings is None:
            return [None] * len(self.plan.sensors[sensor].spec.twin)
        if any(r is not None and r.derived for r in readings):
            self.derive()
        return [
            None if cell is None or reading is None else reading.zero + reading.gain * cell.value
            for cell, reading in zip(self._cells[sensor], readings, strict=True)
        ]

    # ---- stand-ins ---------------------------------------------------------------------------

    def begin(self, answered: Iterable[str]) -> None:
        """Time starts. Tell the runtime which devices are answered for by their protocols."""
        self.start_ns = self.due_ns = time.monotonic_ns()
        self._stand_ins.tell(answered)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._stand_ins.fileno()

    def on_readable(self) -> None:
        """Take what has come. SystemExit when the runtime is gone."""
        self._stand_ins.on_readable()
        self.due_ns = min(self.due_ns, self._stand_ins.due_ns)

    def work(self, now_ns: int) -> None:
        """Answer whoever asked for an instant that has come, and move the world on."""
        self._stand_ins.answer(now_ns)
        if now_ns >= self._tick_ns:
            self.advance(now_ns)
            self._tick_ns = now_ns + _TICK_NS
        self.due_ns = min(self._tick_ns, self._stand_ins.due_ns)

    def state(self, at_ns: int) -> State:
        """The state at an instant: the last whole step before it, or the present where that is
        later."""
        self.advance(at_ns)
        self._mujoco.mj_getState(self.world.model, self.world.data, self._numbers, self._state)
        return State(at_ns, self.time_ns, bytes(self._torque.loose), self._numbers)

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """The emulator's control channel passes requests about the world to this."""
        self.advance(time.monotonic_ns())
        return {
            "time_ns": self.time_ns,
            "qpos": self.world.data.qpos.tolist(),
            "qvel": self.world.data.qvel.tolist(),
            "behind": self.behind,
            "behind_max_ns": self.behind_max_ns,
        }

    def close(self) -> None:
        """Close the lines, and sum up how far the world was behind."""
        if self.behind:
            print(
                f"the simulated world was behind real time {self.behind} times, by "
                f"{self.behind_max_ns / 1e6:.0f} ms at most",
                file=sys.stderr,
                flush=True,
            )
        self._stand_ins.close()
        self.world.close()

    def actuator_of(self, device: str) -> int | None:
        """The number of the actuator that a device moves in the world; None: it moves nothing."""
        at = list(self.plan.schedule.device).index(device)
        numbers = (i for i, a in enumerate(self.plan.actuators) if a.device == at)
        return next((i for i in numbers if self.world.controls[i] is not None), None)

    def sensor_of(self, device: str) -> int | None:
        """The number of the sensor by which a device measures the world; None: it has none."""
        at = list(self.plan.schedule.device).index(device)
        numbers = (i for i, s in enumerate(self.plan.sensors) if s.device == at)
        return next((i for i in numbers if self.world.readings[i] is not None), None)


def _plan(path: Path) -> Plan:
    described = schedule.load(path)
    require(described)
    return planning.make(described)


def _cells(world: MujocoWorld, sensor: int) -> list[Any]:
    """Where the numbers of a sensor's channels lie."""
    return [
        None if reading is None else ctypes.c_double.from_address(reading.address)
        for reading in world.readings[sensor] or []
    ]


def serve(world: WallWorld) -> None:
    """Step the world and answer, for ever; SystemExit ends it."""
    while True:
        wait_s = max(0, world.due_ns - time.monotonic_ns()) * 1e-9
        if select.select([world], [], [], wait_s)[0]:
            world.on_readable()
        world.work(time.monotonic_ns())


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, channel = sys.argv[1:]
    try:
        with contextlib.closing(WallWorld(Path(path), int(channel))) as world:
            world.begin([])
            process.say_ready()
            serve(world)
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
