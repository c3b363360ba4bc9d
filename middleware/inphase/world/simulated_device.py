"""A device of a simulated world, as its stand-in has it: what it measures in a state of the world.

It has a copy of the world of its own, which is set to the states that the world's process gives.
"""

import ctypes
import os
import sys
import time

import numpy as np
from numpy.typing import NDArray

from inphase.core.world_seam import WorldReading
from inphase.driver import ActuatorSpec, Servo, TwinChannel, TwinKind
from inphase.errors import WorldError
from inphase.plan.plan import Plan
from inphase.world.draws import TimingDraws
from inphase.world.mujoco import package as mujoco_package
from inphase.world.mujoco.drives import TorqueSwitch
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.stand_in_channel import State

_NICE = 15  # rendering without a graphics device takes whole cores, which the others need in time
_STEP_NS = 250_000
_STEPS_MAX = 4000  # a second: after a longer pause joints are where they were


class SimulatedDevice:
    """The device itself: what it measures in a state of the world, in its own numbers."""

    def __init__(self, plan: Plan, name: str) -> None:
        at = list(plan.schedule.device).index(name)
        self._name = name
        self._world = MujocoWorld(plan)
        self._index = next(i for i, s in enumerate(plan.sensors) if s.device == at)
        self._sensor = plan.sensors[self._index]
        self._mujoco = mujoco_package.package()
        self._state = int(self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._torque = TorqueSwitch(self._world.model)
        self._step_s = float(self._world.model.opt.timestep)
        self._channels = self._find_channels()
        if self._world.rendered(self._index):
            os.nice(_NICE)
            threads = max(1, (os.cpu_count() or 1) // 4)
            os.environ.setdefault("LP_NUM_THREADS", str(threads))  # of Mesa's software renderer
        self._has_other = any(f.dtype != "<f8" for f in self._sensor.spec.fields)
        self._taken = 0
        self._turns = [(1, 0.0)]
        self._servos: _Servos | None = None
        for number, actuator in enumerate(plan.actuators):
            if actuator.device == at:
                self._turns = actuator.turns
                if self._world.controls[number] is None:
                    self._servos = _Servos(
                        actuator.spec,
                        actuator.schedule.mode,
                        [one.safe for one in actuator.limits],
                    )
        assert self._sensor.spec.calls is not None
        self.calls = self._sensor.spec.calls
        self.runs_free = self._sensor.schedule.free_running
        self.draws = TimingDraws(plan, self._index)
        period_ns = self.calls.interval_ns or plan.schedule.cycle.period_ns
        self.interval_ns = period_ns / (1 + self.draws.drift)
        self.sample = np.zeros((), self._sensor.dtype)
        self.acquired_ns = 0
        """of the sample"""
        self.has_sample = False

    def _find_channels(self) -> list["_Channel"]:
        """The sample's numbers, in the order of its memory."""
        sensor = self._sensor
        twins, turns = sensor.spec.twin, sensor.turns
        readings = self._world.readings[self._index] or [None] * len(twins)
        drawn = self._world.image_field(self._index)
        fields = [f for f in sensor.spec.fields if f.dtype == "<f8" and f.name != drawn]
        return [
            _Channel(item.name, at - first, readings[at], twins[at], turns[at])
            for item in fields
            for first in [sensor.first_channel(item.name)]
            for at in range(first, first + item.channels)
        ]

    def try_out(self, state: State) -> None:
        """Take a sample that nobody gets. It makes everything that is made at the first time, and
        reports a sample that takes longer than the device."""
        self.take(state, state.at_ns)
        began_ns = time.monotonic_ns()
        self.take(state, state.at_ns)
        taken_ns = time.monotonic_ns() - began_ns
        if taken_ns > self.draws.latency_max_ns:
            print(
                f"device {self._name}: a sample takes {taken_ns / 1e6:.1f} ms to compute here, and "
                f"the device is stated to take {self.draws.latency_max_ns / 1e6:.1f} ms: its "
                f"samples come late",
                file=sys.stderr,
            )
        self.has_sample = False

    def take(self, state: State, at_ns: int) -> None:
        """Take the sample of an instant, or of the state where that is later."""
        model, data = self._world.model, self._world.data
        self._torque.set_all(state.loose)
        self._mujoco.mj_setState(model, data, state.numbers, self._state)
        self.acquired_ns = max(at_ns, state.at_ns)
        rest_s = (self.acquired_ns - state.at_ns) * 1e-9
        if 0 < rest_s < self._step_s:
            model.opt.timestep = rest_s
            self._mujoco.mj_step(model, data)
            model.opt.timestep = self._step_s
        self._mujoco.mj_forward(model, data)
        if self._servos is not None:
            self._servos.advance(self.acquired_ns)
        self._fill()
        self.has_sample = True

    def _fill(self) -> None:
        self._taken += 1
        memory = self.sample.reshape(1).view(np.uint8)
        if self._world.rendered(self._index):
            if self._world.render(self._index, memory) != 0:
                trouble = self._world.trouble
                if isinstance(trouble, SystemExit):  # the run ended while it was rendered
                    raise trouble
                raise WorldError(
                    f"device {self._name}: its image cannot be rendered: {trouble!r}; "
                    f"MUJOCO_GL=osmesa renders without a graphics device"
                )
        elif self._has_other:
            memory[:] = np.arange(self._taken, self._taken + memory.size) & 0xFF
        for channel in self._channels:
            value = channel.value(self._servos, self.draws)
            self.sample[channel.field].reshape(-1)[channel.at] = value

    def command(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """A command in the robot's frame; its own servos follow it where the world has none."""
        turned = np.array(
            [sign * v - zero for v, (sign, zero) in zip(values, self._turns, strict=True)]
        )
        if self._servos is not None:
            self._servos.goal = turned.tolist()
        return turned


class _Channel:
    """One number of a sample."""

    def __init__(
        self,
        field: str,
        at: int,
        reading: WorldReading | None,
        twin: TwinChannel,
        turn: tuple[int, float],
    ) -> None:
        self.field = field
        self.at = at
        self._cell = None if reading is None else ctypes.c_double.from_address(reading.address)
        self._twin = twin
        self._base = twin.base if reading is None else reading.zero
        self._gain = twin.gain if reading is None else reading.gain
        self._noise = twin.noise if reading is None else reading.noise
        self._sign, self._zero = turn

    def value(self, servos: "_Servos | None", draws: TimingDraws) -> float:
        """The device's own value: the schedule's sign and zero are undone."""
        if self._cell is not None:
            quantity = self._cell.value
        else:
            quantity = servos.quantity(self._twin) if servos is not None else 0.0
        value = self._base + self._gain * quantity
        if self._noise:
            value += self._noise * draws.noise()
        return self._sign * (value + self._zero)


class _Servos:
    """Joints that the world does not have: they follow commands as in lock step."""

    def __init__(self, spec: ActuatorSpec, mode: str, safe: list[float]) -> None:
        self._spec = spec
        self._mode = mode
        self._now_ns = 0
        self._position = [servo.start for servo in spec.servos]
        self.goal = list(self._position) if mode == "position" else list(safe)
        self._velocity = [0.0] * len(self.goal)
        self._acceleration = [0.0] * len(self.goal)

    def advance(self, to_ns: int) -> None:
        """Move on, with capped acceleration and velocity."""
        self._now_ns = self._now_ns or to_ns
        steps = min((to_ns - self._now_ns) // _STEP_NS, _STEPS_MAX)
        for _ in range(steps):
            self._step(_STEP_NS * 1e-9)
        self._now_ns = max(self._now_ns, to_ns - (to_ns - self._now_ns) % _STEP_NS)

    def _step(self, seconds: float) -> None:
        for joint, servo in enumerate(self._spec.servos):
            wanted = self._pull(joint, servo)
            self._acceleration[joint] = _cap(wanted, servo.acceleration_max)
            velocity = self._velocity[joint] + self._acceleration[joint] * seconds
            self._velocity[joint] = _cap(velocity, servo.velocity_max)
            self._position[joint] += self._velocity[joint] * seconds

    def _pull(self, joint: int, servo: Servo) -> float:
        """The acceleration with which a joint follows its goal; see `pull` in native/src/twin.c."""
        rate, goal, velocity = servo.natural_rad_s, self.goal[joint], self._velocity[joint]
        match self._mode:
            case "position":
                return rate * rate * (goal - self._position[joint]) - 2 * rate * velocity
            case "velocity":
                return rate * (goal - velocity)
            case "effort":
                return (goal - servo.damping * velocity) / servo.inertia
            case _:
                return 0.0

    def quantity(self, twin: TwinChannel) -> float:
        """The quantity that a twin's channel follows."""
        followed = {
            TwinKind.POSITION: self._position,
            TwinKind.VELOCITY: self._velocity,
            TwinKind.ACCELERATION: self._acceleration,
        }.get(twin.kind)
        return followed[twin.joint] if followed and twin.joint < len(followed) else 0.0


def _cap(value: float, most: float) -> float:
    return min(max(value, -most), most)
