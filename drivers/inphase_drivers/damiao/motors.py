"""Damiao motors in MIT mode on one CAN bus (`DamiaoMotors`).

The sensor asks each motor for its state, which moves nothing. The actuator sends each a frame with
a position, a velocity or a torque, and the gains of the schedule. In between a motor's own
controller follows the last frame. Its time-out (register 9) is the watchdog: it lets go then.
"""

import math
from typing import ClassVar

import msgspec

from inphase.driver import (
    ActuatorSpec,
    Bound,
    DeviceError,
    Driver,
    Field,
    SensorSpec,
    Servo,
    Stop,
    TwinChannel,
    TwinKind,
    Watchdog,
    WrongOption,
)

from .mit import decode, encoding_of, exchange_of, frame_of
from .options import DamiaoOptions
from .registers import (
    CONTROL_MODE,
    ENABLED,
    LOST,
    MIT_MODE,
    P_MAX,
    TIMEOUT,
    TIMEOUT_UNITS_PER_MS,
    Motors,
    State,
    fault_of,
    special,
)

_UNITS = {"position": "rad", "velocity": "rad/s", "effort": "N m"}
_SAME = 1e-3  # a range in a motor's register, a 32-bit float, is the schedule's
_NOISE = 0.5  # of the twin, in steps of a field


class DamiaoMotors(Driver):
    """Sensor with position, velocity, torque, temperature, state; actuator of one of the first."""

    Options: ClassVar[type[msgspec.Struct]] = DamiaoOptions
    modes = ("position", "velocity", "effort")

    def __init__(self, name: str, options: DamiaoOptions) -> None:
        super().__init__(name, options)
        self.options: DamiaoOptions = options
        self._motors = Motors(name, options)
        self._goals: tuple[float, ...] = ()
        self._ours: set[int] = set()  # enabled by us, and not known to be off since
        self._spared: set[int] = set()  # held before an `enable` that failed

    @property
    def address(self) -> str:
        """The bus, and the motors on it that are this device's."""
        return f"can:{self.options.channel}:{','.join(map(str, self.options.ids))}"

    @property
    def bus(self) -> str:
        """The wire."""
        return f"can:{self.options.channel}"

    # ---- what the core runs --------------------------------------------------------------

    def sensor(self) -> SensorSpec:
        """Of each motor, in `ids` order: rad, rad/s, N m, degC of the winding, and its state."""
        options, n = self.options, len(self.options.ids)
        exchange = exchange_of(options)
        steps = [
            (2 * span / (2**bits - 1))
            for field, bits in (("position", 16), ("velocity", 12), ("torque", 12))
            for span in (getattr(ranges, field) for ranges in options.spans)
        ]
        kinds = (TwinKind.POSITION, TwinKind.VELOCITY, TwinKind.ACCELERATION)
        return SensorSpec(
            fields=(
                Field("position", "rad", (n,)),
                Field("velocity", "rad/s", (n,)),
                Field("torque", "N m", (n,)),
                Field("temperature", "degC", (n,)),
                Field("state", "1", (n,)),
            ),
            exchange=exchange,
            twin=(
                *(
                    TwinChannel(
                        kinds[at // n],
                        at % n,
                        gain=1.0 if at < 2 * n else 0.01,
                        noise=_NOISE * step,
                    )
                    for at, step in enumerate(steps)
                ),
                *(TwinChannel(base=30.0) for _ in range(n)),
                *(TwinChannel(base=float(ENABLED)) for _ in range(n)),
            ),
            twin_latency_ns=exchange.request_ns + exchange.reply_ns,
            twin_jitter_ns=50_000,
            per_joint=("position", "velocity", "torque"),
        )

    def actuator(self) -> ActuatorSpec:
        """One command per motor in `ids` order: rad, rad/s or N m, by the mode."""
        options = self.options
        self._check_gains()
        exchange = exchange_of(options)
        return ActuatorSpec(
            channels=len(options.ids),
            unit=_UNITS[self.mode],
            bounds=tuple(self._bound(motor) for motor in range(len(options.ids))),
            encoding=encoding_of(options, self.mode),
            servos=tuple(Servo(start=position) for position in options.starts),
            # nobody says if a question for its state feeds it, too
            watchdog=Watchdog(options.watchdog_ms * 1_000_000, fed_by_reads=True, verified=True)
            if options.watchdog_ms
            else None,
            stop=Stop(gap_ns=exchange.request_ns),
        )

    def _check_gains(self) -> None:
        """That the mode's command moves the joints. Raises WrongOption."""
        for key, needed, why in (
            ("kp", self.mode == "position", "a position moves nothing without stiffness"),
            ("kd", self.mode != "effort", "a joint swings, or does not follow, without damping"),
        ):
            gains = self.options.gains(key)
            if needed and not (gains and all(gains)):
                found = f"it is {getattr(self.options, key)}" if gains else "it is missing"
                raise WrongOption(
                    key,
                    f"{found}, and {why}; give {key} above 0 for each motor, small at first",
                )

    # ---- off the cycle thread ------------------------------------------------------------

    def open(self) -> int:
        """Open the bus and examine the motors. Raises DeviceError, with the bus closed."""
        bus = self._motors.open()
        try:
            for ident in self.options.ids:
                self._examine(ident)
            bus.listen_only_to(self.options.feedbacks)
            return bus.fileno()
        except BaseException:
            self.close()
            raise

    def _examine(self, ident: int) -> None:
        """Its feedback id, its ranges, and its state."""
        motor = self.options.ids.index(ident)
        wanted, found = self.options.feedbacks[motor], self._motors.feedback_id(ident)
        if found != wanted:
            raise self._motors.refusal(
                ident,
                f"it answers under {found:#05x} (register 7), and the schedule says {wanted:#05x}; "
                f"set register 7 to {wanted:#x}, or give it in feedback_ids",
            )
        ranges = self.options.spans[motor]
        found_ranges = [self._motors.real(ident, P_MAX + field) for field in range(3)]
        for number, (is_, said) in enumerate(zip(found_ranges, ranges, strict=True), P_MAX):
            if not math.isclose(is_, said, rel_tol=_SAME):
                raise self._motors.refusal(
                    ident,
                    f"register {number} is {is_:g}, and the schedule's model has {said:g}: every "
                    f"value would be in a wrong scale. Give its model in models, or for it "
                    f"ranges = [{', '.join(f'{one:g}' for one in found_ranges)}]",
                )
        self._motors.check_fault(ident, self._state_of(ident))

    def _bound(self, motor: int) -> Bound:
        """The range of the mode's field in a frame."""
        number = ("position", "velocity", "effort").index(self.mode)
        most = self.options.spans[motor][number]
        where = (
            f"motor {self.options.ids[motor]}: its model's range, register {P_MAX + number}, is "
            f"{most:g}"
        )
        return Bound(-most, most, where)

    def enable(self) -> None:
        """MIT mode and watchdog, then each motor on where it is; a motor that holds goes on so.

        If it fails, motors that held go on holding, and the others are off.
        """
        idents, motors = self.options.ids, self._motors
        states = {ident: self._state_of(ident) for ident in idents}
        holding = {ident for ident in idents if states[ident].code == ENABLED}
        self._spared = holding - self._ours
        for ident in idents:
            motors.check_fault(ident, states[ident])
            self._check_mode(ident, holds=ident in holding)
        try:
            goals = [self._switch_on(ident, ident in holding) for ident in idents]
            for ident in idents:
                motors.set(
                    ident, "time-out", TIMEOUT, self.options.watchdog_ms * TIMEOUT_UNITS_PER_MS
                )
        except BaseException:
            self._switch_off([ident for ident in idents if ident not in holding])
            raise
        self._goals = tuple(goals)
        self._ours = set(idents)
        self._spared.clear()

    def _state_of(self, ident: int) -> State:
        """Its state, once a time-out is cleared: its load is down, and nothing is wrong with it."""
        found = self._motors.state(ident)
        if found.code == LOST:
            self._motors.command(ident, special(ident, "clear"))
            found = self._motors.state(ident)
        return found

    def _check_mode(self, ident: int, *, holds: bool) -> None:
        """MIT mode, which a motor that holds is in already. Raises DeviceError."""
        found = self._motors.number(ident, CONTROL_MODE)
        if holds and self.mode != "position":
            raise self._motors.refusal(
                ident,
                f"it holds, and {self.mode} mode begins without its torque: it would let go. "
                f"Support the arm, and switch its power off and on",
            )
        if found != MIT_MODE and holds:
            raise self._motors.refusal(
                ident,
                f"it holds in control mode {found} (register {CONTROL_MODE}), and MIT mode is "
                f"{MIT_MODE}: it would let go on the way. Support the arm, and switch its power "
                f"off and on",
            )
        self._motors.set(ident, "control mode", CONTROL_MODE, MIT_MODE)

    def _switch_on(self, ident: int, holds: bool) -> float:
        """Switch one motor on; its goal in position mode, rad.

        A goal cannot be read. A motor that holds gets the one at which our stiffness gives the
        torque that it has: the load stays where it is.
        """
        motors = self._motors
        motor = self.options.ids.index(ident)
        ranges, data = self.options.spans[motor], motors.state(ident).data
        goal, _, torque = decode(ident, ranges, data)
        if holds:
            goal += torque / self.options.gains("kp")[motor]
        gains = self.options.mode_gains(self.mode)[motor]
        target = {"position": goal} if self.mode == "position" else {}
        frame = frame_of(ident, ranges, **target, **gains)
        motors.command(ident, frame)
        if not holds:
            motors.command(ident, special(ident, "enable"))
            motors.command(ident, frame)
        after = motors.state(ident)
        motors.check_fault(ident, after)
        if after.code != ENABLED:
            raise motors.refusal(
                ident,
                f"its state is {after.code} after it was enabled; set it up with the maker's tool",
            )
        return goal

    def goals(self) -> tuple[float, ...]:
        """In position mode the goals at which the motors hold, rad."""
        return self._goals if self.mode == "position" else ()

    def torque(self) -> tuple[bool | None, ...]:
        """By the motors' states. None of one that is on now: its time-out will end that after
        `close`, unless `watchdog_ms` is 0."""
        return tuple(self._has_torque(ident) for ident in self.options.ids)

    def _has_torque(self, ident: int) -> bool | None:
        try:
            if self._motors.state(ident).code != ENABLED:
                return False
        except DeviceError:
            return None
        return None if self.options.watchdog_ms else True

    def disable(self) -> None:
        """Each motor off; its state is read back.

        A motor that does not answer keeps no other on: all are tried, then all errors are raised.
        One that held before a failed `enable` goes on holding.
        """
        troubles = self._switch_off([i for i in self.options.ids if i not in self._spared])
        if troubles:
            raise DeviceError("; ".join(troubles))

    def _switch_off(self, idents: list[int]) -> list[str]:
        """Try all; the troubles."""
        troubles = []
        for ident in idents:
            try:
                self._motors.command(ident, special(ident, "disable"))
                code = self._motors.state(ident).code
                if code == ENABLED:
                    raise self._motors.refusal(
                        ident, "it is still enabled after it was disabled; switch its power off"
                    )
                self._ours.discard(ident)
            except DeviceError as error:
                troubles.append(str(error))
        return troubles

    def meaning(self, detail: int) -> str:
        """The first byte of a reply."""
        return fault_of(detail)

    def faults(self) -> list[str]:
        """The motors' faults, by name."""
        found = []
        for ident in self.options.ids:
            try:
                self._motors.check_fault(ident, self._motors.state(ident))
            except DeviceError as error:
                found.append(str(error))
        return found

    def close(self) -> None:
        """Close the bus. Motors that hold do so until their time-out."""
        self._motors.close()
