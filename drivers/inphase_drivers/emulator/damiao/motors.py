"""The Damiao motors of one schedule device, on an emulated CAN bus."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .frame_bus import SocketBus, bus_at
from .motor import MitJoint, MitMotor, OwnJoint, Target

if TYPE_CHECKING:  # only a simulated run needs the middleware's world
    from ..world import WorldJoints

_TICK_NS = 2_000_000


@dataclass(frozen=True)
class MitBusOptions:
    """The schedule's options of one bus of motors."""

    channel: str
    ids: tuple[int, ...]
    feedback_ids: tuple[int, ...]
    ranges: tuple[tuple[float, float, float], ...]
    start_position: tuple[float, ...]


class MitBus:
    """The motors of one schedule device. Opened by whoever makes it."""

    def __init__(
        self, options: MitBusOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        self._bus = bus_at(options.channel)
        self._now_ns = now_ns
        self._due_ns = now_ns
        self._world = world
        self.motors = {
            ident: MitMotor(ident, feedback, ranges, self._joint(index, start))
            for index, (ident, feedback, ranges, start) in enumerate(
                zip(
                    options.ids,
                    options.feedback_ids,
                    options.ranges,
                    options.start_position,
                    strict=True,
                )
            )
        }

    def _joint(self, index: int, start: float) -> MitJoint:
        if self._world is None:
            return OwnJoint(start)
        return WorldMitJoint(self._world, index)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._bus.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        return self._due_ns

    def close(self) -> None:
        """Hang up."""
        self._bus.close()

    def on_readable(self) -> None:
        """Answer what has come."""
        while (frame := self._bus.receive()) is not None:
            now_ns = time.monotonic_ns()
            self._move(now_ns)
            for motor in self.motors.values():
                answer = motor.feed(frame, now_ns)
                if answer is not None:
                    self._bus.send(answer)

    def work(self, now_ns: int) -> None:
        """Move everything on. Frames that have come meanwhile count first."""
        self.on_readable()
        self._move(now_ns)
        self._due_ns = now_ns + _TICK_NS

    def _move(self, now_ns: int) -> None:
        steps_ns = (now_ns - self._now_ns) // 250_000 * 250_000
        if steps_ns <= 0:
            return
        self._now_ns += steps_ns
        for motor in self.motors.values():
            motor.work(now_ns, steps_ns)
        if self._world is not None:
            self._world.advance(now_ns)

    def control(self, request: dict[str, Any]) -> dict[str, object]:
        """Do what the control channel asks. Raises KeyError, ValueError for what makes no sense.

        `motor` (an id; left out: all) with `power` (true, false), `state` (a code), `register`
        ([number, value]), `load` (N m, of a joint of its own), `silent` (true, false), `mute` (a
        question that it does not know, or null); `port` (true, false): the bus is there.
        """
        chosen = list(self.motors.values())
        if "motor" in request:
            chosen = [self.motors[request["motor"]]]
        for motor in chosen:
            self._control_motor(motor, request)
        if "port" in request and isinstance(self._bus, SocketBus):
            if request["port"]:
                self._bus.open()
            else:
                self._bus.close()
        self._move(time.monotonic_ns())
        return {"motors": {ident: motor.status() for ident, motor in self.motors.items()}}

    @staticmethod
    def _control_motor(motor: MitMotor, request: dict[str, Any]) -> None:
        if request.get("power") is True and not motor.present:
            motor.power_on()
        if request.get("power") is False:
            motor.power_off()
        if "state" in request:
            motor.state = int(request["state"])
        if "register" in request:
            number, value = request["register"]
            motor.registers[int(number)] = value
        if "load" in request and isinstance(motor.joint, OwnJoint):
            motor.joint.load = float(request["load"])
        if "silent" in request:
            motor.silent = bool(request["silent"])
        if "mute" in request:
            motor.muted = set() if request["mute"] is None else {int(request["mute"])}


class WorldMitJoint:
    """One joint of a simulated world: its actuator follows the position, or the velocity."""

    def __init__(self, joints: "WorldJoints", index: int) -> None:
        self._joints = joints
        self._index = index

    @property
    def position(self) -> float:
        """[rad]"""
        return self._joints.position[self._index]

    @position.setter
    def position(self, value: float) -> None:
        self._joints.jump(self._index, value)

    @property
    def velocity(self) -> float:
        """[rad/s]"""
        return self._joints.velocity[self._index]

    @property
    def torque(self) -> float:
        """[N m], as the world has it"""
        return self._joints.current[self._index]

    def step(self, target: Target | None, ns: int, most: float) -> None:
        """Follow; without stiffness and damping nothing is exerted."""
        from ..arm import Drive

        position, velocity, kp, kd, _ = target or (0.0, 0.0, 0.0, 0.0, 0.0)
        drive = Drive.POSITION if kp else Drive.VELOCITY if kd else Drive.OFF
        self._joints.drive[self._index] = drive
        if drive is not Drive.OFF:
            self._joints.goal[self._index] = position if kp else velocity
