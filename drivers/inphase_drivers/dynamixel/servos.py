"""DYNAMIXEL X-series servos on one serial bus, Protocol 2.0 (ROBOTIS e-manual, Protocol 2.0).

The sensor reads position, velocity and current of all servos with one fast sync read (0x8A, one
packet, cumulative CRC per servo, not stuffed) or sync read (0x82, one stuffed packet per servo).
The actuator writes goals of position, velocity or current (e-manual, XM430-W350, Operating Mode 3,
1, 0) with one sync write (0x83), which no servo answers.
"""

from typing import ClassVar

import msgspec

from inphase.driver import (
    ActuatorSpec,
    DeviceError,
    Encoding,
    Field,
    Scan,
    SensorSpec,
    Servo,
    Stop,
    TwinChannel,
    TwinKind,
    Value,
    Watchdog,
)

from ..servo_driver import ServoDriver
from .control_table import (
    BUS_WATCHDOG,
    GOAL_CURRENT,
    GOALS,
    OPERATING_MODE,
    PRESENT_POSITION,
    RAD_PER_COUNT,
    RAD_S_PER_COUNT,
    TORQUE_ENABLE,
    WATCHDOG_UNIT_MS,
    Goal,
)
from .models import BY_NAME, LOAD_PER_COUNT, USUAL
from .options import ServoOptions
from .packets import BROADCAST, CRC, INSTRUCTION, SYNC_WRITE, template, word
from .registers import Registers
from .scan import scan
from .setup_check import SetupCheck
from .sync_read import exchange_of

_TURN_NS = 50_000  # what a servo may take to begin its reply, beside its return delay of 0


class Servos(ServoDriver):
    """Servos on one bus: sensor with position, velocity, current; actuator in three modes."""

    Options: ClassVar[type[msgspec.Struct]] = ServoOptions
    torque_register = TORQUE_ENABLE
    modes = ("position", "velocity", "effort")

    def __init__(self, name: str, options: ServoOptions) -> None:
        super().__init__(name, options)
        self.options: ServoOptions = options
        self.registers = Registers(name, options)
        self._models = tuple(
            BY_NAME[one] for one in options.models or [USUAL.name] * len(options.ids)
        )

    @property
    def _check(self) -> SetupCheck:
        return SetupCheck(self.name, self.options, self.registers)

    # ---- what the core runs --------------------------------------------------------------

    def sensor(self) -> SensorSpec:
        """Position in rad and velocity in rad/s of each servo, in `ids` order. Then current in A of
        those that measure it, and load of the others, as a part of their largest torque."""
        n = len(self.options.ids)
        loads = [i for i, model in enumerate(self._models) if model.a_per_count is None]
        currents = [i for i in range(n) if i not in loads]
        effort = {"current": ("A", currents), "load": ("1", loads)}
        fields = (
            Field("position", "rad", (n,)),
            Field("velocity", "rad/s", (n,)),
            *(Field(name, unit, (len(of),)) for name, (unit, of) in effort.items() if of),
        )
        twin = (
            *(TwinChannel(TwinKind.POSITION, i, noise=RAD_PER_COUNT / 2) for i in range(n)),
            *(TwinChannel(TwinKind.VELOCITY, i, noise=RAD_S_PER_COUNT / 2) for i in range(n)),
            *(
                TwinChannel(
                    TwinKind.ACCELERATION,
                    i,
                    gain=0.01,
                    noise=self._models[i].a_per_count or LOAD_PER_COUNT,
                )
                for i in (*currents, *loads)
            ),
        )
        exchange = exchange_of(self.options, self._models)
        return SensorSpec(
            fields=fields,
            exchange=exchange,
            twin=twin,
            twin_latency_ns=exchange.request_ns + exchange.reply_ns + 100_000,
            twin_jitter_ns=50_000,
            per_joint=tuple(field.name for field in fields),
            joints={name: tuple(of) for name, (_, of) in effort.items() if 0 < len(of) < n},
        )

    @property
    def _goal(self) -> Goal:
        return GOALS[self.mode]

    @property
    def _unit(self) -> str:
        if self.mode == "effort":
            return "A" if self.options.torque_n_m_per_a is None else "N m"
        return {"position": "rad", "velocity": "rad/s"}[self.mode]

    @property
    def _scales(self) -> list[float]:
        """The actuator's unit per count of each servo's goal."""
        if self._goal.scale is not None:
            return [self._goal.scale] * len(self._models)
        per_a = self.options.torque_n_m_per_a or 1.0
        return [per_a * (model.a_per_count or 0.0) for model in self._models]

    def actuator(self) -> ActuatorSpec:
        """Goals of the mode, one per servo in `ids` order: rad, rad/s, or A (N m)."""
        goal = self._goal
        parameters = word(goal.register) + word(goal.size)
        values = []
        scales = self._scales
        for servo, ident in enumerate(self.options.ids):
            parameters += bytes([ident])
            values.append(Value(8 + len(parameters), goal.type, servo, scales[servo], goal.zero))
            parameters += bytes(goal.size)
        packet = template(BROADCAST, SYNC_WRITE, parameters)
        exchange = exchange_of(self.options, self._models)
        return ActuatorSpec(
            channels=len(self.options.ids),
            unit=self._unit,
            bounds=self._bounds,
            encoding=Encoding(
                packet=packet,
                values=tuple(values),
                framing=INSTRUCTION,
                checksum=CRC,
                write_ns=self.options.wire_ns(len(packet) + 2),
            ),
            servos=tuple(Servo(start=position) for position in self.options.starts),
            # fed by every instruction on the bus, whichever servo it is for
            watchdog=Watchdog(
                self.options.watchdog_ms * 1_000_000, fed_by_reads=True, verified=True
            )
            if self.options.watchdog_ms
            else None,
            # the last goals again, once no reply can be on the one pair of wires any more; a packet
            # that was flushed in the middle swallows the first of them, at most
            stop=Stop(gap_ns=exchange.request_ns + exchange.reply_ns + _TURN_NS),
        )

    # ---- off the cycle thread ------------------------------------------------------------

    def examine(self) -> None:
        """Its model and registers, its limits, and the group read."""
        for ident in self.options.ids:
            self._check.check_setup(ident)
        self._models = self._check.find_models()
        self._refuse_effort()
        self._bounds = self._check.bounds(self._goal, self._scales)
        if not self.registers.answers(exchange_of(self.options, self._models)):
            raise self._check.no_group_answer()

    def _refuse_effort(self) -> None:
        for ident, model in zip(self.options.ids, self._models, strict=True):
            if self.mode == "effort" and model.a_per_count is None:
                raise DeviceError(
                    f"device {self.name}: servo {ident} on {self.options.port} is a {model.name}, "
                    f'which follows no current; use mode "position" or "velocity"'
                )

    def check_faults(self, ident: int) -> None:
        """Raise DeviceError where the servo has a hardware error."""
        self._check.check_faults(ident)

    def prepare(self, holding: set[int]) -> None:
        """Raise DeviceError where a servo that holds would have to let go for this mode."""
        for ident in holding:
            self._refuse_to_let_go(ident)

    def switch_on(self, holding: set[int]) -> tuple[float, ...]:
        """Operating mode, goal at the measured position or at none, torque on, watchdog; read back.

        One in position mode keeps its goal, which carries its load. A watchdog that has expired
        refuses goals and every value but 0 (e-manual, Bus Watchdog).
        """
        goal = self._goal
        for ident in self.options.ids:
            self._check.check_faults(ident)
            self.registers.write(ident, BUS_WATCHDOG, 0, 1)
            self.registers.expect(ident, "bus watchdog", BUS_WATCHDOG, 0)
            if self.registers.read(ident, OPERATING_MODE, 1) != goal.operating_mode:
                self.registers.write(ident, OPERATING_MODE, goal.operating_mode, 1)
                self.registers.expect(ident, "operating mode", OPERATING_MODE, goal.operating_mode)
        goals = []
        for ident in self.options.ids:
            if ident in holding and self.mode == "position":
                goals.append(self.registers.read(ident, goal.register, goal.size))
                continue
            begin = 0
            if self.mode == "position":
                begin = self.registers.read(ident, PRESENT_POSITION, 4)
            self.registers.write(ident, goal.register, begin, goal.size)
            found = self.registers.read(ident, goal.register, goal.size)
            if found != begin:
                raise self.registers.refusal(
                    ident, f"goal {self.mode}", goal.register, found, begin
                )
            goals.append(begin)
        for ident in self.options.ids:
            if ident not in holding:
                self.registers.write(ident, TORQUE_ENABLE, 1, 1)
            self.registers.expect(ident, "torque enable", TORQUE_ENABLE, 1)
        units = self.options.watchdog_ms // WATCHDOG_UNIT_MS
        for ident in self.options.ids if units else ():
            self.registers.write(ident, BUS_WATCHDOG, units, 1)
            self.registers.expect(ident, "bus watchdog", BUS_WATCHDOG, units)
        return tuple(
            raw * scale + goal.zero for raw, scale in zip(goals, self._scales, strict=True)
        )

    def _refuse_to_let_go(self, ident: int) -> None:
        """Raises DeviceError where a servo that holds would have to be let go for this mode."""
        mode = self.registers.read(ident, OPERATING_MODE, 1)
        current = self.mode == "effort" and self.registers.read(ident, GOAL_CURRENT, 2)
        if mode == self._goal.operating_mode and not current:
            return
        found = f"goal current {current}" if current else f"operating mode {mode}"
        raise DeviceError(
            f"device {self.name}: servo {ident} on {self.options.port} holds with its torque on in "
            f"{found}, and would have to let go to be used for {self.mode}; support the arm, "
            f"switch its torque off (register {TORQUE_ENABLE} to 0), start again"
        )

    def after_torque_off(self, ident: int) -> None:
        """No watchdog."""
        self.registers.write(ident, BUS_WATCHDOG, 0, 1)

    def meaning(self, detail: int) -> str:
        """The error field of a status packet."""
        return self._check.meaning(detail)

    @classmethod
    def scan(cls, port: str) -> Scan:
        """Ping all servos at every rate that they have; it takes ten seconds or so."""
        return scan(port)
