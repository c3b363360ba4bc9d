"""Feetech servos of the STS and SMS series on one serial bus.

The sensor reads position, velocity and load of all servos with one sync read (0x82), which they
answer one after another. The actuator writes goals of position with one sync write (0x83), which no
servo answers. The servos have no watchdog: after a runtime that dies they hold the last goal.
"""

from typing import ClassVar

import msgspec

from inphase.driver import (
    ActuatorSpec,
    Encoding,
    Field,
    Framing,
    Raw,
    Scan,
    SensorSpec,
    Servo,
    Stop,
    TwinChannel,
    TwinKind,
    Value,
)

from ..servo_driver import ServoDriver
from .control_table import (
    ACCELERATION,
    CENTRE,
    GOAL_POSITION,
    GOAL_VELOCITY,
    LOAD_PER_COUNT,
    PRESENT_POSITION,
    RAD_PER_COUNT,
    RAD_S_PER_COUNT,
    SIGN,
    TORQUE_ENABLE,
)
from .options import FeetechOptions
from .packets import BROADCAST, SUM, SYNC_WRITE, template
from .registers import FeetechRegisters
from .scan import scan
from .setup_check import FeetechSetup, fault_names
from .sync_read import exchange_of

_GOAL_SIZE = 2


class FeetechServos(ServoDriver):
    """Feetech servos on one bus: sensor with position, velocity, load; actuator of positions."""

    Options: ClassVar[type[msgspec.Struct]] = FeetechOptions
    torque_register = TORQUE_ENABLE

    def __init__(self, name: str, options: FeetechOptions) -> None:
        super().__init__(name, options)
        self.options: FeetechOptions = options
        registers = FeetechRegisters(name, options)
        self.registers = registers
        self._check = FeetechSetup(name, options, registers)

    # ---- what the core runs --------------------------------------------------------------

    def sensor(self) -> SensorSpec:
        """Position in rad, velocity in rad/s and load of each servo, in `ids` order. Load is the
        duty of the motor's voltage, -1 to 1."""
        n = len(self.options.ids)
        exchange = exchange_of(self.options)
        return SensorSpec(
            fields=(
                Field("position", "rad", (n,)),
                Field("velocity", "rad/s", (n,)),
                Field("load", "1", (n,)),
            ),
            exchange=exchange,
            twin=(
                *(TwinChannel(TwinKind.POSITION, i, noise=RAD_PER_COUNT / 2) for i in range(n)),
                *(TwinChannel(TwinKind.VELOCITY, i, noise=RAD_S_PER_COUNT / 2) for i in range(n)),
                *(
                    TwinChannel(TwinKind.ACCELERATION, i, gain=0.01, noise=LOAD_PER_COUNT)
                    for i in range(n)
                ),
            ),
            twin_latency_ns=exchange.request_ns + exchange.reply_ns + 100_000,
            twin_jitter_ns=50_000,
            per_joint=("position", "velocity", "load"),
        )

    def actuator(self) -> ActuatorSpec:
        """Goals of position, one per servo in `ids` order, rad."""
        parameters = bytes([GOAL_POSITION, _GOAL_SIZE])
        values = []
        for servo, ident in enumerate(self.options.ids):
            parameters += bytes([ident])
            values.append(
                Value(5 + len(parameters), Raw.SM16, servo, RAD_PER_COUNT, -CENTRE * RAD_PER_COUNT)
            )
            parameters += bytes(_GOAL_SIZE)
        packet = template(BROADCAST, SYNC_WRITE, parameters)
        exchange = exchange_of(self.options)
        return ActuatorSpec(
            channels=len(self.options.ids),
            unit="rad",
            bounds=self._bounds,
            encoding=Encoding(
                packet=packet,
                values=tuple(values),
                framing=Framing(min_size=len(packet) + 1, max_size=len(packet) + 1),
                checksum=SUM,
                write_ns=self.options.wire_ns(len(packet) + 1),
            ),
            servos=tuple(Servo(start=position) for position in self.options.starts),
            # the last goals again, once no reply can be on the one wire any more
            stop=Stop(gap_ns=exchange.request_ns + exchange.reply_ns),
        )

    # ---- off the cycle thread ------------------------------------------------------------

    def examine(self) -> None:
        """Its model and registers, its limits, and the sync read."""
        for ident in self.options.ids:
            self._check.check_setup(ident)
        self._bounds = self._check.bounds()
        if not self.registers.answers(exchange_of(self.options)):
            raise self._check.no_group_answer()

    def check_faults(self, ident: int) -> None:
        """Raise DeviceError where the servo has a fault."""
        self._check.check_faults(ident)

    def prepare(self, holding: set[int]) -> None:
        """`open` has refused servos that hold in another mode."""

    def switch_on(self, holding: set[int]) -> tuple[float, ...]:
        """No profile, goal at the measured position, torque on; read back.

        A servo that holds keeps its goal, which carries its load. A goal that is written switches
        torque on by itself, as the authors of feetech-cli 0.1.8 measured on an STS3215.
        """
        return tuple(self._switch_on(ident, ident in holding) for ident in self.options.ids)

    def _switch_on(self, ident: int, holds: bool) -> float:
        """Switch one servo on; the goal in its register, rad."""
        registers = self.registers
        self.check_faults(ident)
        for register, size in ((ACCELERATION, 1), (GOAL_VELOCITY, 2)):  # 0: no limit of its own
            registers.write(ident, register, 0, size)
        if not holds:
            registers.write(ident, GOAL_POSITION, registers.read(ident, PRESENT_POSITION, 2), 2)
            registers.write(ident, TORQUE_ENABLE, 1, 1)
        registers.expect(ident, "torque enable", TORQUE_ENABLE, 1)
        goal = registers.read(ident, GOAL_POSITION, 2)
        counts = goal & (SIGN - 1)
        return ((-counts if goal & SIGN else counts) - CENTRE) * RAD_PER_COUNT

    def meaning(self, detail: int) -> str:
        """The error byte of an answer."""
        return ", ".join(fault_names(detail))

    @classmethod
    def scan(cls, port: str) -> Scan:
        """Ping all servos at every rate that they have."""
        return scan(port)
