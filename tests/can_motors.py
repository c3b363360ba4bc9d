"""Three motors on a CAN bus, as a driver and as a policy; a subclass opens its bus.

A robot's folder gets a copy of this file: its driver imports it as a neighbour.
"""

from typing import Any, ClassVar

from inphase.driver import (
    ActuatorSpec,
    Check,
    CheckKind,
    Driver,
    Encoding,
    Exchange,
    Field,
    Framing,
    Raw,
    Reply,
    SensorSpec,
    Servo,
    Stop,
    TwinChannel,
    TwinKind,
    Value,
)
from inphase.frame import Frame
from inphase.packets import can_frame, can_id

SYNC, STATE, GOAL, MOTORS = 0x80, 0x181, 0x201, 3
MICRORAD = 1e-6


class CanMotors(Driver):
    """SYNC, and one frame per motor with its position; a frame per motor with its goal."""

    request_ns: ClassVar[int] = 50_000
    reply_ns: ClassVar[int] = 400_000
    reply_max_ns: ClassVar[int] = 2_000_000
    write_ns: ClassVar[int] = 400_000

    def sensor(self) -> SensorSpec:
        """Positions in rad."""
        return SensorSpec(
            fields=(Field("position", "rad", (MOTORS,)),),
            twin=tuple(TwinChannel(TwinKind.POSITION, motor) for motor in range(MOTORS)),
            twin_latency_ns=300_000,
            exchange=Exchange(
                request=can_frame(SYNC),
                framing=Framing(16, 16, can=True),
                replies=tuple(
                    Reply(
                        values=(Value(8, Raw.I32, motor, MICRORAD),),
                        checks=(Check(CheckKind.MATCH, 0, Raw.U32, expect=can_id(STATE + motor)),),
                    )
                    for motor in range(MOTORS)
                ),
                request_ns=self.request_ns,
                reply_ns=self.reply_ns,
                reply_max_ns=self.reply_max_ns,
            ),
        )

    def actuator(self) -> ActuatorSpec:
        """Goals in rad."""
        return ActuatorSpec(
            channels=MOTORS,
            unit="rad",
            servos=tuple(Servo() for _ in range(MOTORS)),
            encoding=Encoding(
                packet=b"".join(can_frame(GOAL + motor, bytes(4)) for motor in range(MOTORS)),
                values=tuple(Value(16 * m + 8, Raw.I32, m, MICRORAD) for m in range(MOTORS)),
                framing=Framing(16, 16, can=True),
                write_ns=self.write_ns,
                chunk=16,
            ),
            stop=self.stop(),
        )

    def stop(self) -> Stop:
        """The last goals again."""
        return Stop()


class Creep:
    """A policy that moves every motor on by a milliradian per frame."""

    def __init__(self) -> None:
        self._goal: Any = None

    def __call__(self, frame: Frame) -> Any:
        motors = frame["motors"]
        if frame.reason != "none":
            self._goal = None
            return None
        if self._goal is None:
            if motors.status != "FRESH":
                return None
            self._goal = motors.value["position"].copy()
        self._goal = self._goal + 0.001
        return self._goal
